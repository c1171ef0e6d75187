//! Who calls, and what is known of how they came to: in person through a door of the daemon, or with a signed request.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::kms::Principal;
use crate::policy::Document;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Who makes a call.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub(super) principal: &'a Principal,
    /// The signed request that the call came with; without one, the caller was admitted by a door of the daemon's own.
    pub(super) request: Option<&'a SignedRequest>,
}

/// A request whose signature has been verified.
#[derive(Debug)]
pub struct SignedRequest {
    /// Who signed it.
    pub principal: Principal,
    /// The id that its answer carries.
    pub id: Uuid,
    /// The id of the access key that signed it.
    pub access_key_id: String,
    /// Where it came from: an address, or the user of a unix socket.
    pub source: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The members that may be shown, named as in an audit record.
    pub shown: Map<String, Value>,
    /// The algorithm that it asks for, where it names one.
    pub algorithm: Option<String>,
    /// Whether it only asks if it would succeed.
    pub dry_run: bool,
    /// Whether nobody on the way could read it.
    pub secure: bool,
    /// What limits the session of the role that signed it.
    pub session_policy: Option<Document>,
    /// Whether a line of the audit log tells of it.
    recorded: AtomicBool,
}

impl SignedRequest {
    /// A request of `principal`, of which no more is known.
    pub fn new(principal: Principal, access_key_id: String) -> Self {
        Self {
            principal,
            id: Uuid::new_v4(),
            access_key_id,
            source: String::new(),
            user_agent: None,
            shown: Map::new(),
            algorithm: None,
            dry_run: false,
            secure: false,
            session_policy: None,
            recorded: AtomicBool::new(false),
        }
    }

    /// Whether a line of the audit log tells of it.
    pub fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Relaxed)
    }

    pub(super) fn session_policy(&self) -> Option<&Document> {
        self.session_policy.as_ref()
    }

    pub(super) fn set_recorded(&self) {
        self.recorded.store(true, Ordering::Relaxed);
    }
}

impl<'a> From<&'a Principal> for Caller<'a> {
    fn from(principal: &'a Principal) -> Self {
        Self { principal, request: None }
    }
}

impl<'a> From<&'a SignedRequest> for Caller<'a> {
    fn from(request: &'a SignedRequest) -> Self {
        Self { principal: &request.principal, request: Some(request) }
    }
}
