//! The embedded KMS as its callers meet it: states, texts, aliases, rotation, the audit log, and what survives a
//! SIGKILL.

mod access;
mod aliases;
mod audit;
mod audit_failures;
mod chain;
mod ciphertext;
mod copy;
mod domain_key;
mod explained;
mod grants;
mod hsm;
mod imported;
mod keys;
mod kill;
mod last_use;
mod lists;
mod mac;
mod managed;
mod owned;
mod pair;
mod regions;
mod rotation;
mod store;
mod tags;
mod world;
