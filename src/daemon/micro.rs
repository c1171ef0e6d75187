//! What the fuzz target of the configuration may reach: its judgement, without a file.
//!
//! Nothing here is part of the library's interface; nothing else uses it.

use super::Options;
use super::config::Config;

/// What the configuration `text` comes to, or the line and the words of what is wrong with it.
///
/// # Errors
/// The line that is wrong, if one is, and why.
pub fn configured(text: &str) -> Result<String, (Option<usize>, String)> {
    let options =
        Options { state_dir: Some("/state".into()), socket: Some("/run/socket".into()), ..Options::default() };
    match Config::read(text, options) {
        Ok(config) => Ok(format!("{config:?}")),
        Err(error) => Err((error.line(), error.to_string())),
    }
}
