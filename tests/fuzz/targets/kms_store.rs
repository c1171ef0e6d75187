//! The embedded KMS opened on a store that is damaged: it opens with keys that were made, or says why it does not.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use envol::kms::embedded::{Embedded, Identity, OpenError};
use envol::kms::{KeyName, Principal};

use super::{Input, edit};

/// The store's bytes, the domain key, and the keys that are in it.
static STORE: LazyLock<(Vec<u8>, Vec<u8>, Vec<String>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let kms = open(dir.path()).expect("opens");
    let root = Principal::root("000000000000");
    for alias in ["alias/a", "alias/b"] {
        kms.create_key(&root, "a key", Some(alias)).expect("made");
    }
    kms.disable_key(&root, &KeyName::new("alias/b")).expect("disabled");
    let keys = listed(&kms);
    drop(kms);
    let read = |path: &str| fs::read(dir.path().join(path)).expect("there");
    (read("kms/keys.redb"), read("domain.key"), keys)
});

fn open(place: &Path) -> Result<Embedded, OpenError> {
    let identity = Identity { account: "000000000000".to_owned(), region: "us-east-1".to_owned() };
    let clock = Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    Embedded::open(&place.join("kms"), &place.join("domain.key"), identity, clock)
}

fn listed(kms: &Embedded) -> Vec<String> {
    kms.all_keys()
        .expect("told")
        .into_iter()
        .map(|key| format!("{} {:?} {:?}", key.arn.as_str(), key.state, key.aliases))
        .collect()
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let (store, domain_key, keys) = &*STORE;
    let mut changed = store.clone();
    // Where there is something: the rest of the file is zeros.
    let pages: Vec<usize> =
        (0..store.len()).step_by(512).filter(|at| store[*at..].iter().take(512).any(|byte| *byte != 0)).collect();
    for _ in 0..4 {
        if input.is_empty() {
            break;
        }
        if input.byte().is_multiple_of(4) {
            edit(&mut changed, &mut input);
        } else if changed.len() == store.len() {
            let page = pages[input.within(pages.len())];
            let at = page + input.within(512);
            changed[at] ^= input.byte();
        }
    }
    let place = tempfile::tempdir().expect("a directory");
    fs::create_dir(place.path().join("kms")).expect("made");
    fs::write(place.path().join("kms/keys.redb"), &changed).expect("written");
    fs::write(place.path().join("domain.key"), domain_key).expect("written");
    fs::set_permissions(place.path().join("domain.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("ours");
    match open(place.path()) {
        Ok(kms) => assert!(listed(&kms).iter().all(|key| keys.contains(key)), "a key that nobody made"),
        Err(error) => assert!(changed != *store, "an undamaged store opens: {error:?}"),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let bytes = (0..24).map(|page| vec![1, 0, 0, 0, page, 0, 0, 0, 7 * page, 1]);
    let edits = (0..8).map(|what| vec![0, what, 0, 0, 16, what, 1, 0, 0, 0]);
    bytes.chain(edits).chain([vec![]]).collect()
}
