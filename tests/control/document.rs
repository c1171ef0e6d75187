//! The OpenAPI document against what is really served.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Daemon, ask, code};

/// The API, as its users were promised it.
const PROMISED: [(&str, &str); 50] = [
    ("get", "/openapi.json"),
    ("get", "/v1/status"),
    ("get", "/v1/events"),
    ("get", "/v1/volumes"),
    ("post", "/v1/volumes"),
    ("post", "/v1/volumes/add"),
    ("get", "/v1/volumes/add"),
    ("delete", "/v1/volumes/add"),
    ("get", "/v1/volumes/{volume}"),
    ("delete", "/v1/volumes/{volume}"),
    ("post", "/v1/volumes/{volume}/attach"),
    ("post", "/v1/volumes/{volume}/detach"),
    ("post", "/v1/volumes/{volume}/forget"),
    ("post", "/v1/volumes/{volume}/fill"),
    ("post", "/v1/volumes/{volume}/rewrap"),
    ("get", "/v1/volumes/{volume}/header"),
    ("post", "/v1/volumes/{volume}/header"),
    ("post", "/v1/volumes/{volume}/export-key"),
    ("get", "/v1/keys"),
    ("post", "/v1/keys"),
    ("get", "/v1/keys/{key}"),
    ("post", "/v1/keys/{key}/enable"),
    ("post", "/v1/keys/{key}/disable"),
    ("post", "/v1/keys/{key}/schedule-deletion"),
    ("post", "/v1/keys/{key}/cancel-deletion"),
    ("post", "/v1/keys/{key}/rotate"),
    ("post", "/v1/keys/{key}/rotation"),
    ("post", "/v1/keys/{key}/tag"),
    ("post", "/v1/keys/{key}/untag"),
    ("get", "/v1/aliases"),
    ("post", "/v1/aliases"),
    ("put", "/v1/aliases/{name}"),
    ("delete", "/v1/aliases/{name}"),
    ("post", "/v1/kms/zeroize"),
    ("post", "/v1/kms/initialise"),
    ("post", "/v1/kms/snapshot"),
    ("get", "/v1/keys/{key}/policy"),
    ("post", "/v1/keys/{key}/policy"),
    ("post", "/v1/keys/{key}/explain"),
    ("get", "/v1/identities"),
    ("post", "/v1/identities"),
    ("get", "/v1/access-keys"),
    ("post", "/v1/access-keys"),
    ("delete", "/v1/access-keys/{access_key}"),
    ("get", "/v1/audit"),
    ("get", "/v1/audit/{event}"),
    ("post", "/v1/audit/verify-key"),
    ("delete", "/v1/audit/verify-key"),
    ("get", "/v1/volumes/{volume}/nowhere"),
    ("patch", "/v1/status"),
];

/// The last two of [`PROMISED`] are no promises: they show that the comparison tells served from unserved.
const REAL: usize = PROMISED.len() - 2;

fn documented(daemon: &Daemon) -> BTreeSet<(String, String)> {
    let document: Value = daemon.client().get("/openapi.json").expect("the document");
    let paths = document["paths"].as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().expect("operations").keys();
        methods.map(|method| (method.clone(), path.clone())).collect::<Vec<_>>()
    });
    operations.collect()
}

/// Whether the daemon has a route for it, whatever it makes of the request.
fn is_served(daemon: &Daemon, method: &str, path: &str) -> bool {
    let path = path.replace("{volume}", "absent").replace("{key}", "absent").replace("{name}", "absent");
    let path = path.replace("{access_key}", "absent");
    let (status, body) = ask(daemon, &method.to_uppercase(), &path, "");
    assert_ne!(status, 500, "{method} {path}: {body}");
    !["request.no_such_path", "request.no_such_method"].contains(&code(&body))
}

#[test]
fn the_document_holds_what_was_promised_and_no_more() {
    let daemon = Daemon::start();
    let promised = PROMISED[..REAL].iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(documented(&daemon), promised.collect());
}

#[test]
fn every_documented_operation_is_served_and_no_other_method_is() {
    let daemon = Daemon::start();
    let documented = documented(&daemon);
    for (_, path) in &documented {
        for method in ["get", "post", "put", "delete", "patch"] {
            let written = documented.contains(&(method.to_owned(), path.clone()));
            assert_eq!(is_served(&daemon, method, path), written, "{method} {path}");
        }
    }
    for (method, path) in &PROMISED[REAL..] {
        assert!(!is_served(&daemon, method, path), "{method} {path}");
    }
}
