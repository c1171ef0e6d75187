//! The operator's door: HTTP and JSON over the unix control socket.
//!
//! [`serve`] admits callers by their credentials, bounds what they send, and hands each request to a handler; handlers
//! run the synchronous operations of `attach` and `kms` on threads of their own, which go on to their end even where the
//! caller has gone. The words are in [`api`], the routes in one table (`routes`), from which the router and the OpenAPI
//! document are both made. The other end is [`client`].

mod access_keys;
mod admission;
pub mod api;
mod audit;
pub mod client;
mod events;
mod extract;
mod hsm;
mod identities;
mod keys;
mod openapi;
mod problem;
mod routes;
mod server;
mod status;
mod view;
mod volumes;
mod wiped;
mod work;

use std::path::PathBuf;
use std::time::SystemTime;

use crate::attach::{EventLog, Registry};
use crate::block::engine::Engine;
use crate::kms::Principal;
use crate::kms::embedded::Embedded;
use crate::sync::Arc;

pub(crate) use admission::Admission;
pub(crate) use hsm::SNAPSHOT;
pub(crate) use server::{Stop, serve};
pub(crate) use view::rfc3339;

/// Everything that an operator can reach.
pub(crate) struct Operated {
    /// The volumes.
    pub(crate) registry: Arc<Registry>,
    /// The embedded KMS.
    pub(crate) keys: Arc<Embedded>,
    /// What happened.
    pub(crate) events: Arc<EventLog>,
    /// Who runs here, and where.
    pub(crate) about: About,
    /// Live NBD connections.
    pub(crate) connections: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Whether this is a KMS and nothing else: no volumes are served then.
    pub(crate) kms_alone: bool,
    /// Turns true when the daemon stops.
    pub(crate) stop: Stop,
}

/// What `status` says of the daemon itself.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// When it started.
    pub(crate) since: SystemTime,
    /// Its state directory.
    pub(crate) state_dir: PathBuf,
    /// Account in the ARNs of callers.
    pub(crate) account: String,
    /// The user it runs as.
    pub(crate) own_uid: u32,
    /// Where NBD is served; the first one is what `attach` prints.
    pub(crate) listeners: Vec<NbdListener>,
    /// The KMSs that volumes can be under, the default one first.
    pub(crate) kms: Vec<api::Kms>,
    /// Where the embedded KMS is served in AWS's protocol.
    pub(crate) kms_endpoints: Vec<String>,
    /// Where the embedded KMS's domain key comes from, in words.
    pub(crate) domain_key: String,
    /// What carries out reads that wait for a disk.
    pub(crate) io: Engine,
    /// What the daemon is confined to.
    pub(crate) hardening: api::Hardening,
}

/// An address at which NBD is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NbdListener {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(std::net::SocketAddr),
}

impl About {
    /// The principal as whom the user `uid` calls the KMS: root and the daemon's own user are the account's root.
    fn principal(&self, uid: u32) -> Principal {
        let account = &self.account;
        if uid == 0 || uid == self.own_uid {
            Principal::new(format!("arn:aws:iam::{account}:root"))
        } else {
            Principal::new(format!("arn:aws:iam::{account}:user/uid-{uid}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemons_user_are_the_accounts_root() {
        let about = About {
            since: SystemTime::UNIX_EPOCH,
            state_dir: PathBuf::new(),
            account: "000000000000".to_owned(),
            own_uid: 990,
            listeners: Vec::new(),
            kms: Vec::new(),
            kms_endpoints: Vec::new(),
            domain_key: String::new(),
            io: Engine::Threads,
            hardening: api::Hardening::default(),
        };
        for root in [0, 990] {
            assert_eq!(about.principal(root).as_str(), "arn:aws:iam::000000000000:root");
        }
        assert_eq!(about.principal(1000).as_str(), "arn:aws:iam::000000000000:user/uid-1000");
    }
}
