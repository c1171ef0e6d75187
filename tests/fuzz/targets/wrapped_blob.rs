//! A ciphertext blob of the embedded KMS: it opens unchanged, under its own context, by the HSM that sealed it.

use std::sync::LazyLock;

use envol::kms::EncryptionContext;
use envol::kms::embedded::hsm::micro::Sealer;

use super::{Input, edit};

static SEALERS: LazyLock<[Sealer; 2]> = LazyLock::new(|| [1, 2].map(|key| Sealer::new(key).expect("locks")));

fn contexts() -> [EncryptionContext; 4] {
    [
        EncryptionContext::default(),
        EncryptionContext::new([("aws:ebs:id", "vol-1")]),
        EncryptionContext::new([("aws:ebs:id", "vol-1"), ("a", "b")]),
        EncryptionContext::new([("a", "b"), ("aws:ebs:id", "vol-1")]),
    ]
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let (sealed_for, opened_for, length) = (input.byte() % 4, input.byte() % 4, 1 + input.byte() % 64);
    let contexts = contexts();
    let [sealed_for, opened_for] = [sealed_for, opened_for].map(|number| &contexts[usize::from(number)]);
    let plaintext: Vec<u8> = (0..length).collect();
    let blob = SEALERS[0].seal(&plaintext, sealed_for).expect("sealed");
    let mut changed = blob.clone();
    edit(&mut changed, &mut input);
    let opened = SEALERS[0].open(&changed, opened_for);
    let same = |one: &EncryptionContext, other: &EncryptionContext| {
        let sorted = |context: &EncryptionContext| {
            let mut pairs: Vec<(String, String)> =
                context.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            pairs.sort();
            pairs
        };
        sorted(one) == sorted(other)
    };
    let genuine = changed == blob && same(sealed_for, opened_for);
    assert_eq!(opened, genuine.then_some(plaintext), "only what was sealed, for what it was sealed for, opens");
    assert_eq!(SEALERS[1].open(&changed, opened_for), None, "and by no other domain key");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let contexts = (0..16).map(|both| vec![both & 3, both >> 2, 31]);
    let edits = [0_u8, 1, 17, 49, 65, 77, 80, 100]
        .into_iter()
        .flat_map(|at| [2_u8, 3, 4, 5].map(|what| vec![1, 1, 31, what, 0, 0, 0, at, 1]));
    contexts.chain(edits).collect()
}
