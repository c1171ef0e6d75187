//! Completions as shells take them, and manual pages as their reader takes them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::CommandFactory;
use envol::cli::Cli;

use super::program::envol;
use super::support::{have, must};

fn script(dir: &Path, shell: &str) -> String {
    let said = envol(&["completions", shell]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{shell}");
    let path = dir.join(format!("_envol.{shell}"));
    fs::write(&path, said.stdout).expect("written");
    path.to_str().expect("text").to_owned()
}

#[test]
fn bash_completes_commands_their_commands_and_options() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = script(dir.path(), "bash");
    let complete = |words: &str| {
        let last = words.split(' ').count() - 1;
        let order = format!(
            "source {source}; COMP_WORDS=({words}); [[ '{words}' == *' ' ]] && COMP_WORDS+=(''); COMP_CWORD={last}; \
             _envol envol \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[*]}}\""
        );
        must(Command::new("bash").args(["--norc", "-c", &order])).trim().to_owned()
    };
    assert_eq!(complete("envol vol"), "volume");
    assert_eq!(complete("envol volume header b"), "backup");
    assert_eq!(complete("envol attach --acc"), "--accept-rollback");
    assert_eq!(complete("envol xyz"), "");
}

#[test]
fn fish_and_zsh_take_theirs() {
    if !have(&["fish", "zsh"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let order = format!("source {}; complete -C 'envol key sch'", script(dir.path(), "fish"));
    let completed = must(Command::new("fish").arg("--no-config").args(["-c", &order]).env("HOME", dir.path()));
    assert!(completed.starts_with("schedule-deletion\t"), "{completed}");
    must(Command::new("zsh").arg("-n").arg(script(dir.path(), "zsh")));
}

#[test]
fn every_command_has_a_manual_page_that_its_reader_takes() {
    if !have(&["mandoc"]) {
        return;
    }
    fn count(command: &clap::Command) -> usize {
        1 + command.get_subcommands().map(count).sum::<usize>()
    }
    let dir = tempfile::tempdir().expect("a directory");
    let pages = dir.path().join("share/man1");
    assert_eq!(envol(&["man", "--dir", pages.to_str().expect("text")]).code, Some(0));
    let written: Vec<_> = fs::read_dir(&pages).expect("listed").map(|page| page.expect("a page").path()).collect();
    assert_eq!(written.len(), count(&Cli::command()));
    for page in &written {
        must(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(page));
    }
    let one = envol(&["man", "volume", "header", "backup"]).stdout;
    assert_eq!(one, fs::read_to_string(pages.join("envol-volume-header-backup.1")).expect("read"));
}

#[test]
fn a_page_shows_examples_line_by_line_and_an_unknown_command_is_a_usage_error() {
    if !have(&["mandoc"]) {
        return;
    }
    let mut mandoc =
        Command::new("mandoc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("mandoc starts");
    mandoc.stdin.take().expect("piped").write_all(envol(&["man"]).stdout.as_bytes()).expect("written");
    let shown = String::from_utf8(mandoc.wait_with_output().expect("ended").stdout).expect("text");
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    assert!(lines.contains(&"envol volume create db --size 10G --key alias/backups"), "{shown}");
    assert!(lines.iter().any(|line| line.starts_with("3 not found") && line.ends_with("7 integrity")), "{shown}");
    let unknown = envol(&["man", "volume", "eat"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("there is no command volume eat"), "{}", unknown.stderr);
}
