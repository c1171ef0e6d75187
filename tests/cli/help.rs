//! Every help text, found by walking the commands, so that none can be missing.

use clap::CommandFactory;
use envol::cli::Cli;

use super::program::envol;

fn paths(command: &clap::Command, before: &[String], into: &mut Vec<Vec<String>>) {
    into.push(before.to_vec());
    for sub in command.get_subcommands() {
        let path = [before, &[sub.get_name().to_owned()]].concat();
        paths(sub, &path, into);
    }
}

#[test]
fn every_help_text_is_as_agreed() {
    let mut all = Vec::new();
    paths(&Cli::command(), &[], &mut all);
    assert!(all.len() >= 30, "the walk found the commands: {all:?}");
    for path in all {
        let words: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let said = envol(&words);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{path:?}");
        insta::assert_snapshot!(format!("help {}", path.join(" ")).trim().replace(' ', "-"), said.stdout);
    }
}

#[test]
fn the_words_of_other_issues_are_absent() {
    for words in [&["volume", "resize"][..], &["key", "grant"]] {
        assert_eq!(envol(words).code, Some(2), "{words:?}");
    }
}

#[test]
fn no_command_at_all_is_a_usage_error_that_shows_the_help() {
    let said = envol(&[]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("Usage: envol"));
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(envol(&["--version"]).stdout, format!("envol {}\n", env!("CARGO_PKG_VERSION")));
}
