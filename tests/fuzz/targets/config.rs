//! The configuration: judged the same whenever it is, with the line of what is wrong; a word that is not known is refused
//! wherever a text is read.

use envol::daemon::micro::configured;

const EXAMPLE: &str = r#"state_dir = "/var/lib/envol"
socket = "/run/envol/control.sock"
volume_dirs = ["/srv/volumes"]
account = "000000000000"
region = "us-east-1"
log_format = "human"
hardening = "prefer"
key_memory = "auto"

[nbd]
listen = ["127.0.0.1:10809"]
insecure_listen = []
in_flight = "256M"

[data_path]
cipher = "auto"
io = "auto"

[timings]
dead_connection_window_s = 60
detach_grace_ms = 500
drain_deadline_s = 30
attach_deadline_s = 30

[kms.embedded]
kind = "embedded"
passphrase_file = "/run/keys/envol"
"#;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let judged = configured(text);
    assert_eq!(judged, configured(text));
    match judged {
        Ok(_) => {
            let more = format!("{text}\n[nobody.knows]\nthis = 1\n");
            assert!(configured(&more).is_err(), "an unknown section is refused");
            // What stands before everything belongs to no section, and may not stand there twice.
            let more = format!("nobody_knows = 1\n{text}");
            assert!(configured(&more).is_err(), "an unknown word is refused");
        }
        Err((line, said)) => {
            assert!(!said.is_empty());
            let lines = 1 + text.bytes().filter(|byte| *byte == b'\n').count();
            assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "line {line:?} of {lines}: {said}");
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let lines = EXAMPLE.lines().map(|line| line.as_bytes().to_vec()).filter(|line| !line.is_empty());
    let sections = EXAMPLE.split("\n\n").map(|section| section.as_bytes().to_vec());
    sections.chain(lines).chain([EXAMPLE.into(), Vec::new(), b"[kms.a]\nkind = \"aws\"\n".to_vec()]).collect()
}
