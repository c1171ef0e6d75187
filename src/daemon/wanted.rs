//! What a daemon that is started now would be told, for `envol doctor`. Nothing is started, made or settled.

use super::config::Config;
use super::run::domain_key;
use super::{DaemonError, Options};
use crate::doctor::Wanted;
use crate::sys::hardening::Hardening;

/// What `options` and the configuration that they name come to. One that cannot be used is told, and left out.
///
/// # Errors
/// Without a configuration, too, there is something that cannot be used.
pub fn wanted(options: Options) -> Result<Wanted, DaemonError> {
    let named = options.config.clone();
    let without = Options { config: None, ..options.clone() };
    let (config, configuration) = match Config::load(options) {
        Ok(config) => (config, Ok(named)),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            (Config::load(without)?, Err(format!("{error}{cause}")))
        }
    };
    Ok(Wanted {
        configuration,
        domain_key: domain_key(&config),
        key_memory: config.key_memory,
        hardening_required: config.hardening == Hardening::Require,
        io: config.io,
        cipher: config.cipher,
        kmses: config.aws.into_iter().collect(),
        listeners: 1 + config.listen.len() + config.insecure_listen.len(),
        state_dir: config.state_dir,
        socket: config.socket,
        volume_dirs: config.volume_dirs,
    })
}
