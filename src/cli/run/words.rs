//! What the words themselves give: completions for a shell, and manual pages. Neither asks a daemon.

use std::path::Path;
use std::{fs, io};

use clap::builder::Resettable;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::super::args::{Cli, CompletionsArgs, ManArgs};
use super::super::error::CliError;
use super::super::render::Console;

/// Prints the completions for a shell.
pub(super) fn completions(console: Console, args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "envol", &mut script);
    console.text(&String::from_utf8_lossy(&script))
}

/// Prints one manual page, or writes them all.
pub(super) fn man(console: Console, args: &ManArgs) -> Result<(), CliError> {
    let mut root = Cli::command().disable_help_subcommand(true);
    // Gives each command its whole name.
    root.build();
    if let Some(dir) = &args.dir {
        let written = fs::create_dir_all(dir).and_then(|()| write_pages(&root, dir));
        let count = written.map_err(|source| CliError::File { path: dir.clone(), source })?;
        console.hint(&format!("{count} pages written into {}", dir.display()));
        return Ok(());
    }
    let command = args.command.iter().try_fold(&root, |command, word| command.find_subcommand(word));
    let command = command.ok_or_else(|| CliError::NoSuchCommand(args.command.join(" ")))?;
    console.text(&page(command).map_err(CliError::Output)?.1)
}

/// Writes the page of `command` and of each below it; how many these are.
fn write_pages(command: &Command, dir: &Path) -> io::Result<usize> {
    let (name, text) = page(command)?;
    fs::write(dir.join(name), text)?;
    command.get_subcommands().try_fold(1, |count, below| Ok(count + write_pages(below, dir)?))
}

/// The file name and the text of a page. The lines behind the options stand as `--help` shows them: examples and tables.
fn page(command: &Command) -> io::Result<(String, String)> {
    let notes = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.clone().after_help(Resettable::Reset));
    let mut page = Vec::new();
    man.render(&mut page)?;
    if let Some(notes) = notes {
        let mut section = Roff::new();
        section.control("SH", ["NOTES"]).control("nf", []);
        for line in notes.lines() {
            section.text([roman(line)]);
        }
        section.control("fi", []).to_writer(&mut page)?;
    }
    Ok((man.get_filename(), String::from_utf8_lossy(&page).into_owned()))
}
