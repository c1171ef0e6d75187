//! The HSM part: the only code that holds root key material, behind a boundary of bytes.
//!
//! What comes in is a `protocol::Request`, what goes out a `protocol::Reply`, both encoded by hand; the boundary is
//! the same whether the two sides share a process ([`Client::in_process`], for tests and benchmarks), a socketpair
//! ([`Client::over`] and [`serve`]), or are two processes ([`Client::separate`], as the daemon has it: `process`). Root material is made here and leaves only as a token, sealed under the domain key (`token`); clear
//! data keys leave only as the plaintext of a reply. Nothing here touches a file, and nothing outlives a request but
//! the domain key.

mod again;
mod cipher;
mod client;
mod import;
mod kept;
#[doc(hidden)]
pub mod micro;
mod pair;
mod pair_client;
mod parent;
mod process;
mod protocol;
mod separate;
mod server;
mod slow;
mod source;
mod spawner;
mod streams;
mod token;

pub use client::{Client, HsmError};
pub use parent::Parent;
pub use process::run_as_named;
pub use server::{Hsm, ServeError, serve};
pub use source::{DomainKeySource, NamedBy};

pub use protocol::Failure;

pub(super) use again::{Side, Way};
pub(super) use client::{ImportedMaterial, Material};
pub(super) use pair::public_key;
pub(super) use pair_client::DataKeyPairReply;
pub(super) use source::read_domain_key;

use std::fmt;

use serde::{Deserialize, Serialize};

/// The id of a KMS key: the bytes of its UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyId(pub(super) [u8; 16]);

/// The id of one material of a key; random, no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct MaterialId(pub(super) [u8; 32]);

/// Bytes of a token, as the store keeps it.
pub(super) use token::TOKEN_BYTES;

/// A material id that is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key material id is 64 hex digits")]
pub(super) struct BadMaterialId;

impl fmt::Display for MaterialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MaterialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaterialId({self})")
    }
}

impl From<MaterialId> for String {
    fn from(id: MaterialId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MaterialId {
    type Error = BadMaterialId;

    fn try_from(text: String) -> Result<Self, BadMaterialId> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadMaterialId);
        }
        let mut id = [0; 32];
        for (byte, at) in id.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| BadMaterialId)?;
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::protocol::{Reply, Request, Token};
    use super::token::DomainKeys;
    use super::*;
    use crate::crypto::digest::Sha2;
    use crate::kms::embedded::blob::OVERHEAD;
    use crate::secret::Secret;

    const ACCOUNT: &[u8] = b"000000000000";
    const KEY: KeyId = KeyId([5; 16]);

    /// An HSM and every byte that crossed its boundary.
    struct Recorded {
        hsm: Hsm,
        crossed: Vec<u8>,
    }

    impl Recorded {
        fn new() -> Self {
            let hsm = Hsm::new(domain_key()).expect("locks");
            Self { hsm, crossed: Vec::new() }
        }

        fn ask<T>(&mut self, request: &Request<'_>, read: impl FnOnce(Reply<'_>) -> T) -> T {
            let request = request.encode().expect("locks");
            let reply = self.hsm.answer(request.bytes()).expect("locks");
            self.crossed.extend_from_slice(request.bytes());
            self.crossed.extend_from_slice(reply.bytes());
            read(Reply::decode(reply.bytes()).expect("a reply"))
        }

        fn new_material(&mut self) -> (MaterialId, Vec<u8>) {
            self.ask(&Request::NewMaterial { account: ACCOUNT, key: KEY }, |reply| match reply {
                Reply::Material { id, token } => (id, token.to_vec()),
                _ => panic!("not a material"),
            })
        }

        fn has(&self, bytes: &[u8]) -> bool {
            self.crossed.windows(bytes.len()).any(|window| window == bytes)
        }
    }

    fn domain_key() -> Secret<32> {
        Secret::filled_by(|key| key.fill(0xd0)).expect("locks")
    }

    fn bytes(reply: Reply<'_>) -> Vec<u8> {
        match reply {
            Reply::Blob(bytes) | Reply::Plaintext(bytes) | Reply::DataKey { blob: bytes, .. } => bytes.to_vec(),
            _ => panic!("no bytes in this reply"),
        }
    }

    fn failure(reply: Reply<'_>) -> Failure {
        match reply {
            Reply::Failed(failure) => failure,
            _ => panic!("not a failure"),
        }
    }

    #[test]
    fn root_material_and_domain_key_never_cross_the_boundary() {
        let mut hsm = Recorded::new();
        let (material, sealed) = hsm.new_material();
        let token = Token { account: ACCOUNT, key: KEY, material, sealed: &sealed };
        let context = b"context".as_slice();
        let plaintext = b"a plaintext that must cross".as_slice();
        hsm.ask(&Request::CheckValue, |reply| assert!(matches!(reply, Reply::CheckValue(_))));
        let blob = hsm.ask(&Request::Encrypt { token, context, plaintext }, bytes);
        let opened = hsm.ask(&Request::Decrypt { token, context, blob: &blob }, bytes);
        assert_eq!(opened, plaintext);
        hsm.ask(&Request::GenerateDataKey { token, context, bytes: 64 }, bytes);
        let unseen = hsm.ask(&Request::GenerateDataKeyWithoutPlaintext { token, context, bytes: 64 }, bytes);
        assert_eq!(unseen.len(), OVERHEAD + 64);
        let to = hsm.new_material();
        let to = Token { material: to.0, sealed: &to.1, ..token };
        let anew = Request::ReEncrypt { token, context, blob: &blob, to, to_context: b"other" };
        let anew = hsm.ask(&anew, bytes);
        assert_eq!(hsm.ask(&Request::Decrypt { token: to, context: b"other", blob: &anew }, bytes), plaintext);
        assert_eq!(hsm.ask(&Request::Random { bytes: 32 }, bytes).len(), 32);
        let root = DomainKeys::derive(&domain_key()).expect("locks").open(&token).expect("opened");
        assert!(hsm.has(plaintext), "the record is of what crossed");
        for half in root.expose().chunks(16).chain(domain_key().expose().chunks(16)) {
            assert!(!hsm.has(half));
        }
    }

    #[test]
    fn a_token_opens_only_under_its_domain_key_for_its_account_key_and_material() {
        let mut hsm = Recorded::new();
        let (material, sealed) = hsm.new_material();
        let token = Token { account: ACCOUNT, key: KEY, material, sealed: &sealed };
        let mut flipped = sealed.clone();
        flipped[20] ^= 1;
        let others = [
            Token { account: b"111122223333", ..token },
            Token { key: KeyId([6; 16]), ..token },
            Token { material: MaterialId([6; 32]), ..token },
            Token { sealed: &flipped, ..token },
            Token { sealed: &sealed[1..], ..token },
            Token { sealed: &[], ..token },
        ];
        for token in others {
            let request = Request::Encrypt { token, context: &[], plaintext: b"p" };
            assert_eq!(hsm.ask(&request, failure), Failure::Token);
        }
        let other = Secret::filled_by(|key| key.fill(0xd1)).expect("locks");
        hsm.hsm = Hsm::new(other).expect("locks");
        assert_eq!(hsm.ask(&Request::Encrypt { token, context: &[], plaintext: b"p" }, failure), Failure::Token);
    }

    #[test]
    fn requests_that_ask_for_nothing_or_are_none_fail() {
        let mut hsm = Recorded::new();
        let (material, sealed) = hsm.new_material();
        let token = Token { account: ACCOUNT, key: KEY, material, sealed: &sealed };
        let empty = [
            Request::Encrypt { token, context: &[], plaintext: &[] },
            Request::GenerateDataKey { token, context: &[], bytes: 0 },
            Request::GenerateDataKeyWithoutPlaintext { token, context: &[], bytes: 0 },
        ];
        for request in empty {
            assert_eq!(hsm.ask(&request, failure), Failure::Malformed);
        }
        let reply = hsm.hsm.answer(b"\xffnonsense").expect("locks");
        assert_eq!(failure(Reply::decode(reply.bytes()).expect("a reply")), Failure::Malformed);
        let short = Request::Decrypt { token, context: &[], blob: &[1; OVERHEAD] };
        assert_eq!(hsm.ask(&short, failure), Failure::Ciphertext);
    }

    #[test]
    fn material_of_one_kind_is_not_used_as_the_other_and_keys_of_macs_do_not_cross_either() {
        let mut hsm = Recorded::new();
        let (material, sealed) = hsm.new_material();
        let cipher = Token { account: ACCOUNT, key: KEY, material, sealed: &sealed };
        let new = Request::NewMacKey { account: ACCOUNT, key: KEY, digest: Sha2::Sha512 };
        let (material, sealed) = hsm.ask(&new, |reply| match reply {
            Reply::Material { id, token } => (id, token.to_vec()),
            _ => panic!("not a material"),
        });
        let mac = Token { account: ACCOUNT, key: KEY, material, sealed: &sealed };
        let (digest, message) = (Sha2::Sha512, b"message".as_slice());
        assert_eq!(hsm.ask(&Request::Mac { token: mac, digest, message }, bytes).len(), 64);
        assert_eq!(hsm.ask(&Request::Mac { token: cipher, digest, message }, failure), Failure::Token);
        let encrypt = Request::Encrypt { token: mac, context: &[], plaintext: b"p" };
        assert_eq!(hsm.ask(&encrypt, failure), Failure::Token);
        let root = DomainKeys::derive(&domain_key()).expect("locks").open_mac_key(&mac).expect("opened");
        assert_eq!(root.bytes().len(), 64);
        assert!(root.bytes().chunks(16).all(|part| !hsm.has(part)));
        for cut in 0..sealed.len() {
            let token = Token { sealed: &sealed[..cut], ..mac };
            assert_eq!(hsm.ask(&Request::Mac { token, digest, message }, failure), Failure::Token);
        }
    }

    #[test]
    fn two_blobs_of_one_plaintext_have_nothing_in_common() {
        let mut hsm = Recorded::new();
        let (material, sealed) = hsm.new_material();
        let token = Token { account: ACCOUNT, key: KEY, material, sealed: &sealed };
        let request = Request::Encrypt { token, context: &[], plaintext: &[0; 64] };
        let (one, other) = (hsm.ask(&request, bytes), hsm.ask(&request, bytes));
        assert_eq!(one[..49], other[..49], "version and ids");
        for (one, other) in one[49..].chunks(12).zip(other[49..].chunks(12)) {
            assert_ne!(one, other);
        }
    }
}
