//! The routes, in one table: what is served and what is documented are both made of it.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::openapi::{self, Shape};
use super::problem::{Fault, Refused};
use super::{Operated, access_keys, api, audit, events, hsm, identities, keys, status, volumes};
use crate::sync::Arc;

/// What an answer is made of.
pub(super) enum Answer {
    /// Nothing: status 204.
    Empty,
    /// One JSON document.
    Document(Shape),
    /// JSON documents, one a line, as they come.
    Lines(Shape),
}

/// One operation of the API.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// What it does, in a line.
    pub(super) summary: &'static str,
    /// What the request carries; nothing where `None`.
    pub(super) takes: Option<Shape>,
    pub(super) answers: Answer,
    /// A query parameter that is true or false.
    pub(super) flag: Option<&'static str>,
    /// Query parameters that are text.
    pub(super) words: &'static [&'static str],
    serve: MethodRouter<Shared>,
}

type Shared = Arc<Operated>;

impl Route {
    fn new<T: 'static>(
        method: Method,
        path: &'static str,
        summary: &'static str,
        handler: impl Handler<T, Shared>,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).expect("the table holds standard methods");
        let serve = on(filter, handler);
        Self { method, path, summary, takes: None, answers: Answer::Empty, flag: None, words: &[], serve }
    }

    fn get<T: 'static>(path: &'static str, summary: &'static str, handler: impl Handler<T, Shared>) -> Self {
        Self::new(Method::GET, path, summary, handler)
    }

    fn post<T: 'static>(path: &'static str, summary: &'static str, handler: impl Handler<T, Shared>) -> Self {
        Self::new(Method::POST, path, summary, handler)
    }

    fn delete<T: 'static>(path: &'static str, summary: &'static str, handler: impl Handler<T, Shared>) -> Self {
        Self::new(Method::DELETE, path, summary, handler)
    }

    fn takes(mut self, body: Shape) -> Self {
        self.takes = Some(body);
        self
    }

    fn answers(mut self, document: Shape) -> Self {
        self.answers = Answer::Document(document);
        self
    }

    fn answers_lines(mut self, line: Shape) -> Self {
        self.answers = Answer::Lines(line);
        self
    }

    fn words(mut self, names: &'static [&'static str]) -> Self {
        self.words = names;
        self
    }

    fn flag(mut self, name: &'static str) -> Self {
        self.flag = Some(name);
        self
    }
}

/// Everything that is served.
pub(super) fn table() -> Vec<Route> {
    let mut table = of_volumes();
    table.extend(of_attachments());
    table.extend(of_keys());
    table.extend(of_aliases());
    table.extend(of_access_keys());
    table.extend(of_identities());
    table.extend(of_audit());
    table.extend(of_hsm());
    table.extend([
        Route::get("/v1/status", "Everything at a glance.", status::status).answers(Shape::of::<api::Status>()),
        Route::get("/v1/events", "The event log from its start; with follow, what is added to it too.", events::events)
            .flag("follow")
            .answers_lines(Shape::any()),
        Route::get("/openapi.json", "This document.", openapi::serve).answers(Shape::any()),
    ]);
    table
}

fn of_volumes() -> Vec<Route> {
    let volume = Shape::of::<api::Volume>;
    let steps = Shape::of::<api::Step<api::Volume>>;
    // A volume may be called `add`; its name is then where taking in has its word.
    let called_add = "As for any volume: one may be called `add`.";
    vec![
        Route::get("/v1/volumes", "All volumes, by name.", volumes::list).answers(Shape::list_of::<api::Volume>()),
        Route::post("/v1/volumes", "Makes a volume, telling how far it has come.", volumes::create)
            .takes(Shape::of::<api::CreateVolume>())
            .answers_lines(steps()),
        Route::post("/v1/volumes/add", "Takes in a volume made elsewhere, or says what it holds.", volumes::add)
            .takes(Shape::of::<api::AddVolume>())
            .answers(volume()),
        Route::get("/v1/volumes/add", called_add, volumes::show).answers(volume()),
        Route::delete("/v1/volumes/add", called_add, volumes::delete),
        Route::get("/v1/volumes/{volume}", "One volume, by name or id.", volumes::show).answers(volume()),
        Route::delete(
            "/v1/volumes/{volume}",
            "Destroys a volume's header, and its file where envol made it.",
            volumes::delete,
        ),
        Route::post("/v1/volumes/{volume}/forget", "Drops what is remembered of a volume.", volumes::forget),
        Route::post("/v1/volumes/{volume}/fill", "Writes encrypted zeros into every hole.", volumes::fill)
            .answers_lines(steps()),
        Route::post("/v1/volumes/{volume}/rewrap", "Has the KMS seal the data key under another key.", volumes::rewrap)
            .takes(Shape::of::<api::Rewrap>())
            .answers(volume()),
        Route::get("/v1/volumes/{volume}/header", "The header, to be kept elsewhere.", volumes::back_up_header)
            .answers(Shape::of::<api::HeaderBackup>()),
        Route::post("/v1/volumes/{volume}/header", "Puts a header back.", volumes::restore_header)
            .takes(Shape::of::<api::RestoreHeader>())
            .answers(volume()),
        Route::post("/v1/volumes/{volume}/export-key", "The dmsetup table, with the sector keys.", volumes::export_key)
            .answers(Shape::of::<api::ExportedKey>()),
    ]
}

fn of_attachments() -> Vec<Route> {
    vec![
        Route::post("/v1/volumes/{volume}/attach", "Attaches; a dry run answers the volume instead.", volumes::attach)
            .takes(Shape::of::<api::Attach>())
            .answers(Shape::either::<api::Attachment, api::Volume>()),
        Route::post("/v1/volumes/{volume}/detach", "Drains, flushes and wipes.", volumes::detach)
            .takes(Shape::of::<api::Detach>())
            .answers(Shape::of::<api::Volume>()),
    ]
}

fn of_keys() -> Vec<Route> {
    let key = Shape::of::<api::Key>;
    vec![
        Route::get("/v1/keys", "All keys of the embedded KMS.", keys::list).answers(Shape::list_of::<api::Key>()),
        Route::post("/v1/keys", "CreateKey, with an alias where one is given.", keys::create)
            .takes(Shape::of::<api::CreateKey>())
            .answers(key()),
        Route::get("/v1/keys/{key}", "DescribeKey, by id, ARN or alias.", keys::show).answers(key()),
        Route::post("/v1/keys/{key}/enable", "EnableKey.", keys::enable).answers(key()),
        Route::post("/v1/keys/{key}/disable", "DisableKey.", keys::disable).answers(key()),
        Route::post("/v1/keys/{key}/schedule-deletion", "ScheduleKeyDeletion.", keys::schedule_deletion)
            .takes(Shape::of::<api::ScheduleDeletion>())
            .answers(key()),
        Route::post("/v1/keys/{key}/cancel-deletion", "CancelKeyDeletion.", keys::cancel_deletion).answers(key()),
        Route::post("/v1/keys/{key}/rotate", "RotateKeyOnDemand.", keys::rotate).answers(key()),
        Route::post("/v1/keys/{key}/rotation", "EnableKeyRotation, or DisableKeyRotation.", keys::rotate_every)
            .takes(Shape::of::<api::RotateEvery>())
            .answers(key()),
        Route::post("/v1/keys/{key}/tag", "TagResource.", keys::tag).takes(Shape::of::<api::TagKey>()).answers(key()),
        Route::post("/v1/keys/{key}/untag", "UntagResource.", keys::untag)
            .takes(Shape::of::<api::UntagKey>())
            .answers(key()),
    ]
}

fn of_aliases() -> Vec<Route> {
    let (alias, put) = (Shape::of::<api::Alias>, Shape::of::<api::PutAlias>);
    vec![
        Route::get("/v1/aliases", "ListAliases.", keys::list_aliases).answers(Shape::list_of::<api::Alias>()),
        Route::post("/v1/aliases", "CreateAlias.", keys::create_alias).takes(put()).answers(alias()),
        Route::new(Method::PUT, "/v1/aliases/{name}", "UpdateAlias.", keys::update_alias).takes(put()).answers(alias()),
        Route::delete("/v1/aliases/{name}", "DeleteAlias.", keys::delete_alias),
    ]
}

fn of_hsm() -> Vec<Route> {
    let hsm = Shape::of::<api::Hsm>;
    vec![
        Route::post(
            "/v1/kms/snapshot",
            "Copies the store of the embedded KMS into the state directory.",
            hsm::snapshot,
        )
        .answers(Shape::of::<api::Snapshot>()),
        Route::post("/v1/kms/zeroize", "Ends the HSM; a domain key in a file is destroyed.", hsm::zeroize)
            .answers(hsm()),
        Route::post("/v1/kms/initialise", "Has the domain key of a zeroized HSM read again.", hsm::initialise)
            .answers(hsm()),
    ]
}

fn of_access_keys() -> Vec<Route> {
    vec![
        Route::get("/v1/access-keys", "All access keys, without their secrets.", access_keys::list)
            .answers(Shape::list_of::<api::AccessKey>()),
        Route::post("/v1/access-keys", "Makes an access key; its secret is told this once.", access_keys::create)
            .takes(Shape::of::<api::CreateAccessKey>())
            .answers(Shape::of::<api::NewAccessKey>()),
        Route::delete("/v1/access-keys/{access_key}", "Deletes an access key.", access_keys::delete),
    ]
}

fn of_identities() -> Vec<Route> {
    vec![
        Route::get("/v1/identities", "Users, groups and roles with their policies, as one document.", identities::show)
            .answers(Shape::of::<api::Identities>()),
        Route::post("/v1/identities", "Replaces that document; it is judged as a whole.", identities::put)
            .takes(Shape::of::<api::Identities>()),
        Route::get("/v1/keys/{key}/policy", "GetKeyPolicy.", identities::key_policy)
            .answers(Shape::of::<api::KeyPolicy>()),
        Route::post("/v1/keys/{key}/policy", "PutKeyPolicy.", identities::put_key_policy)
            .takes(Shape::of::<api::PutKeyPolicy>()),
        Route::post("/v1/keys/{key}/explain", "Whether somebody would be allowed, and why.", identities::explain)
            .takes(Shape::of::<api::ExplainRight>())
            .answers(Shape::of::<api::ExplainedRight>()),
    ]
}

fn of_audit() -> Vec<Route> {
    let found = "The newest records of the audit log that pass, oldest first. The header `envol-unreadable-lines` counts lines \
                 that are no record.";
    vec![
        Route::get("/v1/audit", found, audit::list).words(audit::PARAMETERS).answers(Shape::list_of_any()),
        Route::post(
            "/v1/audit/verify-key",
            "The key that verifies the audit log, until it is forgotten.",
            audit::verify_key,
        )
        .answers(Shape::of::<api::AuditVerifyKey>()),
        Route::delete("/v1/audit/verify-key", "Forgets it, once somebody has it.", audit::forget_verify_key)
            .takes(Shape::of::<api::ForgetAuditVerifyKey>()),
        Route::get("/v1/audit/{event}", "One record of the audit log, by its event id.", audit::show)
            .answers(Shape::any()),
    ]
}

/// Whether a KMS alone serves the route too.
fn is_of_kms(route: &Route) -> bool {
    let first = route.path.strip_prefix("/v1/").and_then(|path| path.split('/').next());
    first.is_some_and(|first| {
        ["keys", "aliases", "access-keys", "identities", "audit", "kms", "status"].contains(&first)
    })
}

/// The table, served.
pub(super) fn router(operated: Shared) -> Router {
    let alone = operated.kms_alone;
    let table = table().into_iter().filter(|route| !alone || is_of_kms(route));
    let served = table.fold(Router::new(), |router, route| router.route(route.path, route.serve));
    served
        .fallback(async move || {
            let without = "the API has no such path here: this is a KMS alone (envol kms serve), without volumes";
            let message = if alone { without } else { "the API has no such path" };
            Refused::new(Fault::NotFound, "request.no_such_path", message)
        })
        .method_not_allowed_fallback(async || {
            Refused::new(Fault::Method, "request.no_such_method", "the API has no such method at this path")
        })
        .with_state(operated)
}
