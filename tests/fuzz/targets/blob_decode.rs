//! The header of a ciphertext blob: what is read is what is written.

use envol::kms::embedded::hsm::micro;

pub(crate) fn run(data: &[u8]) {
    match micro::claimed(data) {
        Some(head) => assert!(data.starts_with(&head) && data.len() > 93, "the head is written as it was read"),
        None => assert!(data.len() <= 93 || data[0] != 1, "what has the form of a blob is read"),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let lengths = [0, 1, 92, 93, 94, 125, 157, 4096];
    lengths
        .into_iter()
        .flat_map(|length| {
            [1_u8, 2].map(|first| {
                let mut blob = vec![7; length];
                blob.iter_mut().take(1).for_each(|byte| *byte = first);
                blob
            })
        })
        .collect()
}
