//! The house rules that no compiler checks: which layer may name which, how long files and functions grow, which words are
//! banned, where `unsafe` may be, and that every file says what it owns.
//!
//! The rules are the tables on top. Sources are read as text, with comments and literals blanked out where a rule is about
//! code; that is enough for paths and braces, and needs no parser of the whole language. Each check is a function from
//! sources to findings, and is shown to find something by a test of its own at the end.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const LEAVES: &[&str] = &["units", "limits", "names", "places", "secret", "sync", "sys"];

/// What each top-level module may name, beside itself and (where it is none) the leaves. `a::b` allows only that part.
const LAYERS: &[(&str, &[&str])] = &[
    ("units", LEAVES),
    ("limits", LEAVES),
    ("names", LEAVES),
    ("places", LEAVES),
    ("secret", LEAVES),
    ("sync", LEAVES),
    ("sys", LEAVES),
    ("crypto", &[]),
    ("block", &[]),
    ("chain", &["crypto"]),
    ("policy", &[]),
    ("kms", &["chain", "crypto", "policy"]),
    ("volume", &["block", "kms", "crypto"]),
    ("attach", &["volume", "block", "kms", "crypto"]),
    ("nbd", &["block"]),
    ("control", &["attach", "kms", "volume", "block"]),
    ("doctor", &["kms", "block", "crypto"]),
    ("daemon", &["control", "doctor", "nbd", "attach", "volume", "kms", "block", "crypto"]),
    ("bench", &["nbd::client", "volume", "kms", "block", "crypto"]),
    ("cli", &["control::client", "control::api", "nbd::client", "bench", "doctor", "chain", "crypto::digest"]),
    ("main", &["cli", "daemon", "control::api"]),
    ("lib", &[]),
];

/// What the code of a layer, tests aside, may not name although the layer is below it: it is given one as an argument.
const GIVEN_AS_ARGUMENTS: &[(&str, &str)] =
    &[("volume", "block::file"), ("volume", "block::memory"), ("volume", "kms::embedded"), ("nbd", "block::file")];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const BANNED_WORDS: &[&str] = &["TODO", "FIXME", "XXX"];
const UNFINISHED: &[&str] = &["todo!", "unimplemented!"];
const UNSAFE_LAYERS: &[&str] = &["sys", "crypto"];

/// One file under `src/`.
struct Source {
    /// Below `src/`.
    path: PathBuf,
    text: String,
    /// The text with comments and literals blanked out; as long, and with the same lines.
    code: String,
}

impl Source {
    fn new(path: impl Into<PathBuf>, text: &str) -> Self {
        Self { path: path.into(), text: text.to_owned(), code: blanked(text) }
    }

    /// Its module path: `["kms", "embedded"]` for `kms/embedded/mod.rs`, and `["lib"]` and `["main"]` for the roots.
    fn module(&self) -> Vec<&str> {
        let parts = self.path.iter().filter_map(|part| part.to_str());
        parts.map(|part| part.strip_suffix(".rs").unwrap_or(part)).filter(|part| *part != "mod").collect()
    }

    fn layer(&self) -> &str {
        self.module().first().copied().unwrap_or_default()
    }

    fn at(&self, index: usize) -> String {
        format!("src/{}:{}", self.path.display(), line_of(&self.text, index))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src is readable").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                found.push(Source::new(path.strip_prefix(&root).expect("below src"), &text));
            }
        }
    }
    assert!(found.len() > 10, "the sources were found");
    found
}

fn line_of(text: &str, index: usize) -> usize {
    text[..index].matches('\n').count() + 1
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands in `text`, not as a part of a longer word.
fn words<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(index, _)| index).filter(move |index| {
        let after = index + word.len();
        let joined_before = *index > 0 && is_word(bytes[index - 1]);
        let joined_after = word.as_bytes().last().is_some_and(|last| is_word(*last))
            && bytes.get(after).is_some_and(|next| is_word(*next));
        !joined_before && !joined_after
    })
}

/// `text` with comments and literals turned to blanks, line ends kept.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = end_of_blank(bytes, at);
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("literals and comments were blanked as a whole")
}

/// Where the comment or literal that starts at `at` ends; `at` itself where none does.
fn end_of_blank(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let inside_word = at > 0 && is_word(bytes[at - 1]);
    let line = || rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let length = match rest {
        [b'/', b'/', ..] => line(),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, 1),
        [b'r', b'"' | b'#', ..] if !inside_word => raw(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !inside_word => raw(rest, 2),
        [b'\'', b'\\', ..] => 3 + rest.iter().skip(3).position(|byte| *byte == b'\'').map_or(0, |index| index + 1),
        [b'\'', ..] => character(rest),
        _ => 0,
    };
    (at + length).min(bytes.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let step = match &rest[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string whose content starts at `from`.
fn quoted(rest: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The length of a raw string whose hashes start at `from`; 0 where it is a raw identifier.
fn raw(rest: &[u8], from: usize) -> usize {
    let hashes = rest[from..].iter().take_while(|byte| **byte == b'#').count();
    let content = from + hashes + 1;
    if rest.get(content - 1) != Some(&b'"') {
        return 0;
    }
    let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let found = rest[content..].windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |index| content + index + end.len())
}

/// The length of a character; 0 where the quote starts a lifetime.
fn character(rest: &[u8]) -> usize {
    let end = rest.iter().skip(1).take(5).position(|byte| *byte == b'\'');
    match end {
        Some(1) => 3,
        Some(length) if length > 1 && !rest[1].is_ascii() => length + 2,
        _ => 0,
    }
}

/// Where the bracket that opens at `open` closes, its own place included.
fn closed(code: &str, open: usize) -> Range<usize> {
    let mut depth = 0_usize;
    for (index, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ => (),
        }
        if depth == 0 {
            return open..index + 1;
        }
    }
    open..code.len()
}

/// The paths that start behind `start` in `code`, as far as two names deep; a group gives one for each of its parts.
fn paths_from(code: &str, start: usize) -> Vec<String> {
    let rest = code[start..].trim_start();
    let offset = code.len() - rest.len();
    if rest.starts_with('{') {
        let group = closed(code, offset);
        return parts_of(&code[group.start + 1..group.end - 1])
            .into_iter()
            .flat_map(|part| paths_from(part, 0))
            .collect();
    }
    let name: String = rest.bytes().take_while(|byte| is_word(*byte)).map(char::from).collect();
    let Some(behind) = rest[name.len()..].trim_start().strip_prefix("::") else { return vec![name] };
    let inner = paths_from(behind, 0).into_iter();
    inner.map(|path| format!("{name}::{}", path.split("::").next().unwrap_or_default())).collect()
}

/// A group's content, cut at the commas that are not inside an inner group.
fn parts_of(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (index, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&group[start..index]);
                start = index + 1;
            }
            _ => (),
        }
    }
    parts.push(&group[start..]);
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// Every path in `code` that starts at the root of the crate, and where.
fn edges(source: &Source, code: &str) -> Vec<(usize, String)> {
    let root = if source.layer() == "main" { "envol" } else { "crate" };
    let depth = source.module().len();
    let up = ["super"].repeat(depth).join("::");
    let mut found = Vec::new();
    for start in [root, &up] {
        for index in words(code, start).filter(|index| !code[..*index].trim_end().ends_with("::")) {
            if let Some(behind) = code[index + start.len()..].trim_start().strip_prefix("::") {
                let paths = paths_from(behind, 0).into_iter();
                found.extend(paths.filter(|path| !path.starts_with("super")).map(|path| (index, path)));
            }
        }
    }
    found
}

fn wrong_edges(source: &Source) -> Vec<String> {
    let layer = source.layer();
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("src/{}: the layer {layer} is not in the table", source.path.display())];
    };
    let allows = |path: &str| {
        let first = path.split("::").next().unwrap_or_default();
        let known = LAYERS.iter().any(|(name, _)| *name == first);
        let below = |entry: &&str| *entry == first || *entry == path;
        !known || first == layer || LEAVES.contains(&first) || allowed.iter().any(below)
    };
    let wrong = edges(source, &source.code).into_iter().filter(|(_, path)| !allows(path));
    wrong.map(|(index, path)| format!("{}: {layer} may not use {path}", source.at(index))).collect()
}

/// The code without its test modules, as long as before.
fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    let mut from = 0;
    while let Some(start) = code[from..].find("#[cfg(test)]").map(|index| from + index) {
        let open = code[start..].find(['{', ';']).map_or(code.len() - 1, |index| start + index);
        let end = if code.as_bytes()[open] == b'{' { closed(&code, open).end } else { open + 1 };
        let blank: String = code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
        from = end;
    }
    code
}

fn concrete_kinds(source: &Source) -> Vec<String> {
    let code = without_tests(&source.code);
    let denied = |path: &str| GIVEN_AS_ARGUMENTS.iter().any(|(layer, kind)| *layer == source.layer() && *kind == path);
    let wrong = edges(source, &code).into_iter().filter(|(_, path)| denied(path));
    wrong.map(|(index, path)| format!("{}: {path} is given as an argument, never named", source.at(index))).collect()
}

fn long_file(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > FILE_LINES_MAX).then(|| format!("src/{}: {lines} lines", source.path.display()))
}

fn long_functions(source: &Source) -> Vec<String> {
    let lengths = words(&source.code, "fn").filter_map(|index| Some((index, function_lines(&source.code, index)?)));
    let long = lengths.filter(|(_, lines)| *lines > FUNCTION_LINES_MAX);
    long.map(|(index, lines)| format!("{}: a function of {lines} lines", source.at(index))).collect()
}

/// How many lines the function takes whose `fn` is at `index`; `None` where it is a type or has no body.
fn function_lines(code: &str, index: usize) -> Option<usize> {
    code[index + 2..].trim_start().bytes().next().filter(|byte| is_word(*byte))?;
    let mut at = index;
    loop {
        at += code[at..].find(['{', '(', '[', ';'])?;
        match code.as_bytes()[at] {
            b'{' => return Some(code[index..closed(code, at).end].matches('\n').count() + 1),
            b';' => return None,
            _ => at = closed(code, at).end,
        }
    }
}

fn banned_words(source: &Source) -> Vec<String> {
    let found = BANNED_WORDS.iter().flat_map(|word| words(&source.text, word).map(move |index| (index, word)));
    found.map(|(index, word)| format!("{}: {word}", source.at(index))).collect()
}

fn unfinished_code(source: &Source) -> Vec<String> {
    let found = UNFINISHED.iter().flat_map(|name| words(&source.code, name).map(move |index| (index, name)));
    found.map(|(index, name)| format!("{}: {name}", source.at(index))).collect()
}

fn misplaced_unsafe(source: &Source) -> Vec<String> {
    if UNSAFE_LAYERS.contains(&source.layer()) {
        return Vec::new();
    }
    words(&source.code, "unsafe").map(|index| format!("{}: unsafe", source.at(index))).collect()
}

fn missing_opening(source: &Source) -> Option<String> {
    let opens = source.text.starts_with("//! ");
    (!opens).then(|| format!("src/{}: does not open with //!", source.path.display()))
}

/// Fails with all that `check` finds in the sources.
fn nothing_found<I: IntoIterator<Item = String>>(check: impl Fn(&Source) -> I) {
    let findings: Vec<String> = sources().iter().flat_map(check).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn layers_name_only_what_is_below_them() {
    nothing_found(wrong_edges);
}

#[test]
fn layers_name_no_concrete_kind_of_what_they_are_given() {
    nothing_found(concrete_kinds);
}

#[test]
fn files_are_short() {
    nothing_found(long_file);
}

#[test]
fn functions_are_short() {
    nothing_found(long_functions);
}

#[test]
fn no_note_of_work_left_is_kept() {
    nothing_found(banned_words);
}

#[test]
fn nothing_is_unfinished() {
    nothing_found(unfinished_code);
}

#[test]
fn unsafe_code_keeps_to_its_layers() {
    nothing_found(misplaced_unsafe);
}

#[test]
fn every_file_says_what_it_owns() {
    nothing_found(missing_opening);
}

mod the_checks {
    use super::*;

    fn edges_of(path: &str, text: &str) -> Vec<String> {
        let source = Source::new(path, text);
        edges(&source, &source.code).into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn comments_and_literals_are_blanked_and_nothing_else() {
        for (text, expected) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a "b\"c" d"#, "a        d"),
            (r##"a r#"b"c"# d"##, "a          d"),
            (r##"a br#"b"# d"##, "a         d"),
            ("a r#type b", "a r#type b"),
            ("a 'b' c 'd", "a     c 'd"),
            (r"a '\'' b '\u{7f}' c", "a      b          c"),
            ("a 'é' b", "a      b"),
            ("for<'a> 'a, 'b", "for<'a> 'a, 'b"),
            ("\"a\nb\" c", "  \n   c"),
        ] {
            assert_eq!(blanked(text), expected, "{text:?}");
        }
    }

    #[test]
    fn paths_are_found_in_every_form() {
        for (text, expected) in [
            ("use crate::block::memory::MemoryDevice;", &["block::memory"][..]),
            ("use crate::{block::{self, file}, kms};", &["block::self", "block::file", "kms"]),
            ("let a: crate :: units::ByteCount = b;", &["units::ByteCount"]),
            ("use crate::block::{BlockDevice, Io};", &["block::BlockDevice", "block::Io"]),
            ("use\n  crate::{\n    kms::Kms,\n    nbd,\n  };", &["kms::Kms", "nbd"]),
            ("// use crate::attach;\nlet a = \"crate::attach\";", &[]),
            ("use mycrate::attach; use other::crate::x;", &[]),
        ] {
            assert_eq!(edges_of("nbd/wire.rs", text), expected, "{text:?}");
        }
    }

    #[test]
    fn paths_upwards_are_followed_to_the_root() {
        assert_eq!(edges_of("nbd/mod.rs", "use super::attach::Registry;"), ["attach::Registry"]);
        assert_eq!(edges_of("nbd/wire.rs", "use super::super::attach::X;"), ["attach::X"]);
        assert_eq!(edges_of("nbd/wire.rs", "use super::errno::X;"), [""; 0]);
        assert_eq!(edges_of("main.rs", "use envol::cli::run;"), ["cli::run"]);
    }

    #[test]
    fn an_edge_outside_the_table_is_found_and_one_inside_is_not() {
        for (path, text, wrong) in [
            ("nbd/server.rs", "use crate::attach::Registry;", 1),
            ("nbd/server.rs", "use crate::{block::Io, control, units};", 1),
            ("nbd/server.rs", "use crate::block::Io; use crate::nbd::wire; use crate::sync::Arc;", 0),
            ("kms/mod.rs", "use crate::block::BlockDevice;", 1),
            ("kms/embedded/hsm.rs", "use crate::crypto::aead;", 0),
            ("units.rs", "use crate::crypto::aead;", 1),
            ("cli/run.rs", "use crate::control::client::Client; use crate::control::api;", 0),
            ("cli/run.rs", "use crate::control::server;", 1),
            ("cli/run.rs", "use crate::control;", 1),
            ("cli/run.rs", "crate::daemon::run();", 1),
            ("daemon/mod.rs", "use crate::cli;", 1),
            ("main.rs", "envol::cli::run(); envol::attach::open();", 1),
            ("volume/mod.rs", "use super::attach;", 1),
            ("util.rs", "", 1),
        ] {
            assert_eq!(wrong_edges(&Source::new(path, text)).len(), wrong, "{path}: {text}");
        }
    }

    #[test]
    fn the_table_names_only_layers_that_it_has() {
        let allowed = LAYERS.iter().flat_map(|(_, allowed)| allowed.iter());
        for name in allowed.chain(LEAVES).map(|entry| entry.split("::").next()) {
            assert!(LAYERS.iter().any(|(layer, _)| Some(*layer) == name), "{name:?}");
        }
    }

    #[test]
    fn a_concrete_kind_is_found_outside_tests_only() {
        let named = "use crate::block::memory::MemoryDevice;";
        let tested = format!("#[cfg(test)]\nmod tests {{ {named} }}");
        assert_eq!(concrete_kinds(&Source::new("volume/mod.rs", named)).len(), 1);
        assert_eq!(concrete_kinds(&Source::new("volume/mod.rs", &tested)).len(), 0);
        assert_eq!(concrete_kinds(&Source::new("volume/mod.rs", &format!("{tested}\n{named}"))).len(), 1);
        assert_eq!(concrete_kinds(&Source::new("attach/mod.rs", named)).len(), 0);
    }

    #[test]
    fn functions_are_measured_to_their_last_brace() {
        let lines = |code: &str| function_lines(code, code.find("fn").expect("a function"));
        assert_eq!(lines("fn a() { if b { c } }"), Some(1));
        assert_eq!(lines("fn a(\n b: [u8; 3],\n) -> fn(u8) -> [u8; 2]\n{\n}\n\n"), Some(5));
        assert_eq!(lines("fn a(b: u8) -> u8;\nfn c() {}"), None);
        assert_eq!(lines("x: fn(u8) -> u8, y: {}"), None);
        let body = "    a;\n".repeat(FUNCTION_LINES_MAX - 2);
        assert_eq!(long_functions(&Source::new("a.rs", &format!("fn a() {{\n{body}}}"))).len(), 0);
        assert_eq!(long_functions(&Source::new("a.rs", &format!("fn a() {{\n{body}\n}}"))).len(), 1);
    }

    #[test]
    fn each_simple_check_finds_what_it_is_for_and_passes_the_rest() {
        let one = |text: &str| Source::new("block/a.rs", text);
        assert!(long_file(&one(&"\n".repeat(FILE_LINES_MAX + 1))).is_some());
        assert!(long_file(&one(&"\n".repeat(FILE_LINES_MAX))).is_none());
        assert_eq!(banned_words(&one("// FIXME: a\n\"XXX\"")).len(), 2);
        assert_eq!(banned_words(&one("mkstemp(\"XXXXXX\"), TODOS")).len(), 0);
        assert_eq!(unfinished_code(&one("todo!(); unimplemented!()")).len(), 2);
        assert_eq!(unfinished_code(&one("// todo!()\nunimplemented(); autodo!()")).len(), 0);
        assert_eq!(misplaced_unsafe(&one("unsafe { a }")).len(), 1);
        assert_eq!(misplaced_unsafe(&one("#![allow(unsafe_code)] // unsafe")).len(), 0);
        assert_eq!(misplaced_unsafe(&Source::new("sys/a.rs", "unsafe { a }")).len(), 0);
        assert!(missing_opening(&one("// a")).is_some());
        assert!(missing_opening(&one("//! A.\n")).is_none());
    }

    #[test]
    fn a_finding_says_where() {
        let source = Source::new("nbd/a.rs", "//! A.\nuse crate::attach;\n");
        assert_eq!(wrong_edges(&source), ["src/nbd/a.rs:2: nbd may not use attach"]);
    }
}
