//! ReEncrypt where a key pair is on one side or on both: what was opened is sealed anew here, and never seen outside.

use crate::crypto::pair::{Oaep, PairError, Private, Public};
use crate::kms::embedded::blob::Claim;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::cipher;
use super::client::{Client, HsmError, Material};
use super::pair::{PairRequest, code, coded, open, public_key};
use super::protocol::{Failure, Fields, Malformed, Reply, Request, Token, message, token_fields};
use super::token::DomainKeys;

/// A key, and how it seals: `K` is a material in the front, and a token in a message.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(in crate::kms::embedded) struct Side<'a, K> {
    pub(in crate::kms::embedded) key: K,
    pub(in crate::kms::embedded) way: Way<'a>,
}

/// How a key seals.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(in crate::kms::embedded) enum Way<'a> {
    /// As symmetric keys do, with this context.
    Symmetric(&'a [u8]),
    /// As the public key of a pair does.
    Pair(Oaep),
}

/// What is to be opened by one key, and sealed by another.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(super) struct Again<'a> {
    pub(super) from: Side<'a, Token<'a>>,
    pub(super) blob: &'a [u8],
    pub(super) to: Side<'a, Token<'a>>,
}

impl<'a> Way<'a> {
    fn fields(self) -> ([u8; 1], &'a [u8]) {
        match self {
            Self::Symmetric(context) => ([0], context),
            Self::Pair(oaep) => ([1 + code(&Oaep::ALL, oaep)], &[]),
        }
    }

    fn of(way: u8, context: &'a [u8]) -> Result<Self, Malformed> {
        match way.checked_sub(1) {
            None => Ok(Self::Symmetric(context)),
            Some(oaep) if context.is_empty() => Ok(Self::Pair(coded(&Oaep::ALL, oaep)?)),
            Some(_) => Err(Malformed),
        }
    }
}

impl<'a> Again<'a> {
    pub(super) fn encode(&self) -> Result<LockedMemory, LockingFailed> {
        let ((from_way, from_context), (to_way, to_context)) = (self.from.way.fields(), self.to.way.fields());
        let (from, to) = (token_fields(&self.from.key), token_fields(&self.to.key));
        let from = [&[from_way.as_slice()][..], &from, &[from_context, self.blob]].concat();
        message(PairRequest::AGAIN, &[&from[..], &[to_way.as_slice()], &to, &[to_context]].concat())
    }

    pub(super) fn decode(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        let from = side(fields)?;
        Ok(Self { from, blob: fields.next()?, to: side(fields)? })
    }

    /// The encoded reply.
    pub(super) fn carry_out(&self, domain: &DomainKeys) -> Result<LockedMemory, Failure> {
        let Self { from, blob, to } = self;
        let plaintext = match from.way {
            Way::Symmetric(context) => cipher::open(&domain.open(&from.key)?, context, blob)?,
            Way::Pair(oaep) => {
                let (spec, private) = open(domain, &from.key)?;
                Private { spec, der: private.bytes() }.decrypt(oaep, blob)?
            }
        };
        match to.way {
            Way::Symmetric(context) => {
                let claim = Claim { key: to.key.key, material: to.key.material };
                let blob = cipher::seal(&domain.open(&to.key)?, &claim, context, plaintext.bytes())?;
                Ok(Reply::Blob(blob.bytes()).encode()?)
            }
            Way::Pair(oaep) => {
                // Opened although only its public half is needed: then that one is known to belong to the key.
                let (spec, _) = open(domain, &to.key)?;
                let der = public_key(to.key.sealed).ok_or(Failure::Token)?;
                let blob = Public { spec, der }.encrypt(oaep, plaintext.bytes()).map_err(|error| match error {
                    PairError::Input => Failure::Length,
                    error => error.into(),
                })?;
                Ok(Reply::Blob(&blob).encode()?)
            }
        }
    }
}

fn side<'a>(fields: &mut Fields<'a>) -> Result<Side<'a, Token<'a>>, Malformed> {
    let [way] = fields.array()?;
    let key = fields.token()?;
    Ok(Side { key, way: Way::of(way, fields.next()?)? })
}

impl Client {
    /// What is sealed in `blob` by one side, sealed anew by the other; it is never seen outside the HSM.
    pub(in crate::kms::embedded) fn re_encrypt_pairs(
        &self,
        from: Side<'_, Material<'_>>,
        blob: &[u8],
        to: Side<'_, Material<'_>>,
    ) -> Result<Vec<u8>, HsmError> {
        let from = Side { key: from.key.into(), way: from.way };
        let to = Side { key: to.key.into(), way: to.way };
        self.blob(&Request::Pair(PairRequest::Again(Again { from, blob, to })))
    }
}
