//! The words of the control API: what requests carry and what answers hold. Field names are relied upon by scripts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `key create`, `key show` and a row of `key list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// The key id, a UUID.
    pub key_id: String,
    /// Its ARN.
    pub arn: String,
    /// `Enabled`, `Disabled`, `PendingDeletion`, ... as AWS spells them.
    pub state: String,
    /// Alias names that point to it (`alias/NAME`).
    pub aliases: Vec<String>,
    /// What its maker wrote about it.
    pub description: String,
    /// `CUSTOMER`, or `AWS` for a managed key.
    pub manager: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When it will be deleted, RFC 3339; null unless pending deletion.
    pub deletion_date: Option<String>,
    /// How often its material was rotated.
    pub rotations: u32,
    /// Days between two automatic rotations; null where there are none.
    pub rotation_period_days: Option<u32>,
    /// When it is rotated automatically next, RFC 3339; null where it is not.
    pub next_rotation_date: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The id of the material that encrypts now; empty of key pairs, which have one for good.
    pub current_key_material_id: String,
    /// What kind of key it is, as AWS spells it: `SYMMETRIC_DEFAULT`, `HMAC_256`, ...
    #[serde(default)]
    pub key_spec: String,
    /// What it is for, as AWS spells it: `ENCRYPT_DECRYPT`, `SIGN_VERIFY`, ...
    #[serde(default)]
    pub key_usage: String,
    /// The algorithms that it has for that, as AWS spells them.
    #[serde(default)]
    pub algorithms: Vec<String>,
    /// Where its material comes from: `AWS_KMS` or `EXTERNAL`.
    #[serde(default)]
    pub origin: String,
    /// When it was last used with success, RFC 3339; null where it never was.
    #[serde(default)]
    pub last_used: Option<String>,
    /// The operation that this was, as AWS spells it.
    #[serde(default)]
    pub last_operation: Option<String>,
    /// Ids of the volumes whose data key it wraps, as far as this daemon knows.
    pub volumes: Vec<String>,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alias {
    /// `alias/NAME`.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The key it points to.
    pub target_key_id: String,
}

/// `POST /v1/keys`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// An alias to make with it: `alias/NAME`, or `NAME` alone.
    pub alias: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// What kind of key, as AWS spells it; `SYMMETRIC_DEFAULT` unless given. Volumes take no other.
    #[serde(default)]
    pub spec: Option<String>,
    /// What it is for, as AWS spells it; needed where keys of that kind can be for several things.
    #[serde(default)]
    pub usage: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Its policy, as text; the default one unless given.
    #[serde(default)]
    pub policy: Option<String>,
    /// Whether the policy may be one under which its maker cannot put another.
    #[serde(default)]
    pub bypass_lockout_check: bool,
}

/// `GET /v1/keys/{key}/policy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyPolicy {
    /// The policy, as text.
    pub policy: String,
}

/// `POST /v1/keys/{key}/policy`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutKeyPolicy {
    /// The policy, as text.
    pub policy: String,
    /// Whether it may be one under which the caller cannot put another.
    #[serde(default)]
    pub bypass_lockout_check: bool,
}

/// `POST /v1/keys/{key}/explain`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRight {
    /// The ARN of a user, a role's session or an account's root.
    pub principal: String,
    /// `kms:Decrypt`, or `Decrypt`.
    pub action: String,
    /// The encryption context.
    #[serde(default)]
    pub context: BTreeMap<String, String>,
    /// The alias by which the request would name the key.
    #[serde(default)]
    pub alias: Option<String>,
}

/// What would be decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedRight {
    /// Whether it would be allowed.
    pub allowed: bool,
    /// Whose right.
    pub principal: String,
    /// To what.
    pub action: String,
    /// On which key.
    pub key: String,
    /// Who or what decides.
    pub reason: String,
    /// What would have to change for the opposite.
    pub change: String,
}

/// `/v1/identities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Identities {
    /// The document, as text.
    pub document: String,
}

/// `POST /v1/keys/{key}/tag`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TagKey {
    /// Tags to put over those that are there.
    pub tags: BTreeMap<String, String>,
}

/// `POST /v1/keys/{key}/untag`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UntagKey {
    /// Names of tags to remove; those that are not there are no error.
    pub tags: Vec<String>,
}

/// `POST /v1/keys/{key}/rotation`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateEvery {
    /// Days between two automatic rotations, 90 to 2560; null ends them, and no word of it is refused.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    pub days: Option<u32>,
}

/// `POST /v1/access-keys`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccessKey {
    /// Whose it is to be; `root` is the account's administrator.
    pub user: String,
}

/// `kms access-key create`. Not `Debug`: it holds a secret.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct NewAccessKey {
    /// The id, `AKIA...`.
    pub access_key_id: String,
    /// The secret, which nobody is told again.
    pub secret_access_key: String,
    /// Whose it is.
    pub user: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// A row of `kms access-key list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessKey {
    /// The id, `AKIA...`.
    pub access_key_id: String,
    /// Whose it is.
    pub user: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// `POST /v1/keys/{key}/schedule-deletion`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleDeletion {
    /// 7 to 30; 30 unless given.
    pub days: Option<u32>,
}

/// `PUT /v1/aliases/{name}` and `POST /v1/aliases`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAlias {
    /// `alias/NAME`, or `NAME` alone.
    pub name: String,
    /// The key, by id or ARN.
    pub target: String,
}

/// `volume create`, `volume show` and a row of `volume list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// `vol-` and 17 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Usable bytes.
    pub size: u64,
    /// `creating`, `available`, `attaching`, `in-use`, `detaching`, `error`.
    pub state: String,
    /// The KMS section's name.
    pub kms: String,
    /// ARN of the KMS key.
    pub kms_key: String,
    /// Path of the backing.
    pub backing: String,
    /// 512 or 4096.
    pub sector_size: u32,
    /// Whether it is strict about zeros (`--thick`).
    pub thick: bool,
    /// Bytes that its backing takes now; null where it cannot be read.
    pub allocated: Option<u64>,
    /// Where it is attached: none or one.
    pub attachments: Vec<Attachment>,
    /// Why the last attach failed; null once one succeeds.
    pub last_refusal: Option<LastRefusal>,
}

/// What `attach` answers, and an entry of a volume's `attachments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// The volume's id.
    pub volume: String,
    /// Its name.
    pub name: String,
    /// The NBD URI.
    pub uri: String,
    /// A kernel device, or null.
    pub device: Option<String>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether its bytes go around the page cache.
    pub direct: bool,
    /// Clients connected now, as people are told of them.
    pub clients: Vec<String>,
    /// When it was attached, RFC 3339.
    pub since: String,
}

/// A failed attach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastRefusal {
    /// When, RFC 3339.
    pub time: String,
    /// Why: the KMS's own text where it was the KMS.
    pub cause: String,
    /// The KMS's exception, or null.
    pub kms_exception: Option<String>,
    /// Whether the daemon goes on trying.
    pub retrying: bool,
}

/// `POST /v1/volumes`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// Its name.
    pub name: String,
    /// Usable bytes; may be left out for a device.
    pub size: Option<u64>,
    /// The KMS key; `alias/aws/ebs` unless given.
    pub key: Option<String>,
    /// The KMS section; the default one unless given.
    pub kms: Option<String>,
    /// An existing file or device, or where to make the file; under `<state dir>/volumes/` unless given.
    pub backing: Option<String>,
    /// 4096 unless given.
    pub sector_size: Option<u32>,
    /// Bytes under one XTS key; 1 TiB unless given.
    pub scope: Option<u64>,
    /// Encrypted zeros everywhere.
    #[serde(default)]
    pub thick: bool,
    /// Take a backing that holds other data (never one with an envol header).
    #[serde(default)]
    pub force: bool,
}

/// `POST /v1/volumes/add`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddVolume {
    /// The backing.
    pub path: String,
    /// Only say what it holds.
    #[serde(default)]
    pub dry_run: bool,
}

/// `POST /v1/volumes/{name}/attach`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Refuse writes; the backing is opened read-only and nothing is written to it.
    #[serde(default)]
    pub read_only: bool,
    /// Read and write the backing around the page cache (O_DIRECT), in re-attaches too.
    #[serde(default)]
    pub direct: bool,
    /// Only say whether the KMS would open it now.
    #[serde(default)]
    pub dry_run: bool,
    /// Take a header older than the one remembered.
    #[serde(default)]
    pub accept_rollback: bool,
}

/// `POST /v1/volumes/{name}/detach`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// Even while clients are connected.
    #[serde(default)]
    pub force: bool,
}

/// `POST /v1/volumes/{name}/export-key`: what `dmsetup create` reads.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ExportedKey {
    /// The table, with the sector keys in hex.
    pub table: String,
    /// What to be warned of.
    pub warnings: Vec<String>,
}

/// `POST /v1/volumes/{name}/rewrap`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrap {
    /// The KMS key that is to seal the data key.
    pub key: String,
    /// The section of the KMS whose key it is; the one that seals it now unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms: Option<String>,
}

/// `GET /v1/volumes/{name}/header`: what `volume header backup` keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeaderBackup {
    /// The volume's id.
    pub volume: String,
    /// Its name.
    pub name: String,
    /// How often its header had been written.
    pub generation: u64,
    /// One copy of the header, in base64.
    pub header: String,
}

/// `POST /v1/volumes/{name}/header`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreHeader {
    /// What a backup gave, in base64.
    pub header: String,
    /// Take one that is older than the one remembered.
    #[serde(default)]
    pub accept_rollback: bool,
}

/// A line of the answer to long work (`application/x-ndjson`): any number of `progress`, then `done` or `error`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step<T> {
    /// Bytes done, of bytes in all.
    Progress {
        /// So far.
        done: u64,
        /// In all.
        total: u64,
    },
    /// The result.
    Done(T),
    /// The failure.
    Error(Problem),
}

/// The body of every failed answer, and what `--json` prints on stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The failure.
    pub error: Problem,
}

/// A failure, as people and scripts are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable word, such as `attach.kms.disabled` or `volume.not_found`.
    pub code: String,
    /// What failed and why.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The KMS's exception, or null.
    pub kms_exception: Option<String>,
    /// The exit code of the CLI, 1 to 10 (product.md).
    pub exit_code: u8,
}

/// How the HSM part of the embedded KMS runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Hsm {
    /// `running`, `zeroized` or `failed`.
    pub state: String,
    /// The id of its process, while it runs.
    pub pid: Option<u32>,
    /// Why there is none, where it failed.
    pub reason: Option<String>,
    /// Where its domain key comes from.
    pub domain_key: String,
}

/// Confinement: what was asked for, and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hardening {
    /// `require`, `prefer` or `off`.
    pub asked: String,
    /// What holds.
    pub reached: Vec<String>,
    /// What does not, and why.
    pub missing: Vec<String>,
}

/// The key that verifies the audit log. Not `Debug`: it is a secret.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AuditVerifyKey {
    /// As it is written to a file.
    pub key: String,
    /// By this it can be told from others; no secret.
    pub fingerprint: String,
}

/// `DELETE /v1/audit/verify-key`: says that somebody has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetAuditVerifyKey {
    /// Of the key.
    pub fingerprint: String,
}

/// The header of `GET /v1/audit`'s answer that counts lines of the log that are no record, and were passed over.
pub const UNREADABLE_LINES: &str = "envol-unreadable-lines";

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// When it started, RFC 3339.
    pub since: String,
    /// Its state directory.
    pub state_dir: String,
    /// Where NBD clients connect: URIs without an export name.
    pub listeners: Vec<String>,
    /// Where the embedded KMS is served in AWS's protocol: URLs, and paths of unix sockets.
    #[serde(default)]
    pub kms_endpoints: Vec<String>,
    /// What keys lie in: `memfd_secret` (pages that only the daemon can read), `mlock` (locked, left out of cores; root can
    /// read them) or `insecure_unlocked` (can be swapped).
    pub key_memory: String,
    /// The KMSs that volumes can be under, the default one first.
    #[serde(default)]
    pub kms: Vec<Kms>,
    /// The HSM part of the embedded KMS.
    #[serde(default)]
    pub hsm: Hsm,
    /// Whether the audit log's verify key is still on this machine: nobody has taken it (`envol audit verify-key FILE`).
    #[serde(default)]
    pub verify_key_here: bool,
    /// What carries out reads that wait for a disk: `io_uring` or `threads`.
    pub io: String,
    /// What the daemon is confined to.
    #[serde(default)]
    pub hardening: Hardening,
    /// Live NBD connections.
    pub connections: u64,
    /// All volumes.
    pub volumes: Vec<Volume>,
    /// All keys of the embedded KMS, managed ones too.
    pub keys: Vec<Key>,
    /// Traffic of each attached volume since it was attached.
    pub traffic: Vec<Traffic>,
}

/// `POST /v1/kms/snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// A directory with a copy of the embedded KMS's store, for whoever asked to use and remove.
    pub path: String,
}

/// A KMS that volumes can be under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kms {
    /// The name of its section in the configuration, which volumes remember.
    pub name: String,
    /// `embedded` or `aws`.
    pub kind: String,
    /// Where it is, in words.
    pub place: String,
    /// As whom the daemon calls it, in words; null for the embedded one.
    pub identity: Option<String>,
}

/// What one attached volume has carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// The volume's id.
    pub volume: String,
    /// READs answered.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// WRITEs answered.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// FLUSHes answered.
    pub flushes: u64,
}
