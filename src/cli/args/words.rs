//! The words of `envol completions` and `envol man`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use clap_complete::Shell;

/// `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  envol completions bash > ~/.local/share/bash-completion/completions/envol
  envol completions zsh > /usr/local/share/zsh/site-functions/_envol
  envol completions fish > ~/.config/fish/completions/envol.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  envol man | man -l -
  envol man volume create | man -l -
  envol man --dir /usr/local/share/man/man1")]
pub struct ManArgs {
    /// The command whose page to print [default: envol itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    pub(crate) command: Vec<String>,
    /// Write the page of every command into this directory, which is made where it is not there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}
