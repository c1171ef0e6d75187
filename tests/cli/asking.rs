//! What asks does nothing where nobody can answer.

use super::answers::{key, volume};
use super::program::envol_at;
use super::scripted::Scripted;

const ASKING: [&str; 6] = [
    "volume delete db",
    "volume forget db",
    "volume add /srv/db.envol",
    "volume export-key db",
    "key schedule-deletion alias/backups",
    "kms zeroize",
];

#[test]
fn without_yes_and_without_a_terminal_nothing_is_done() {
    let daemon = Scripted::serve(&[
        ("GET /v1/volumes/db", 200, volume("available")),
        ("GET /v1/keys/alias%2Fbackups", 200, key("Enabled")),
    ]);
    for words in ASKING {
        let said = envol_at(&daemon.socket(), &words.split(' ').collect::<Vec<_>>());
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{words}");
        assert_eq!(said.stderr.lines().count(), 2, "{words}: {}", said.stderr);
        assert_eq!(daemon.asked(), [], "{words}: the daemon is not even asked");
    }
}
