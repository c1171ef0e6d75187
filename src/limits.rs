//! Every maximum that envol imposes, each with its reason. A limit that a standard imposes says so.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A volume name is a file name, an NBD export name and a word in logs: short enough for all three.
pub const VOLUME_NAME_MAX: usize = 64;

/// How long whoever asks about a volume waits for what its disk says of the backing; without it, the rest is told.
pub const LOOK_DEADLINE: Duration = Duration::from_millis(500);

/// Looks at backings that are under way at once, each a thread that a disk which does not answer keeps; further ones wait.
pub const LOOKS_MAX: usize = 16;

/// One daemon keeps at most this many volumes: each costs a record in memory and a file in the state directory.
pub const VOLUMES_MAX: usize = 10_000;

/// The largest volume: 256 key scopes of 1 TiB (FORMAT.md, Key scopes); EBS stops at 64 TiB.
pub const VOLUME_SIZE_MAX: u64 = 256 << 40;

/// A volume has at most this many key scopes, so that its expanded keys stay within a few hundred KiB of locked memory.
pub const SCOPES_MAX: u64 = 256;

/// A header copy is read and written within this bound, whatever its length field says.
pub const HEADER_COPY_MAX: usize = 16 << 10;

/// A wrapped key as the KMS gives it (CiphertextBlob is at most 6,144 bytes in the AWS model).
pub const WRAPPED_KEY_MAX: usize = 6_144;

/// An encryption context, serialised; the bound that the XKS specification sets for AAD.
pub const ENCRYPTION_CONTEXT_MAX: usize = 8_192;

/// A key's name in a request to the KMS, by the AWS model.
pub const KEY_NAME_MAX: usize = 2_048;

/// A KMS key's description, by the AWS model.
pub const KEY_DESCRIPTION_MAX: usize = 8_192;

/// What Encrypt takes at the most, by the AWS model.
pub const ENCRYPT_PLAINTEXT_MAX: usize = 4_096;

/// What GenerateDataKey gives at the most, by the AWS model.
pub const GENERATED_DATA_KEY_MAX: u16 = 1_024;

/// On-demand rotations of one KMS key, as AWS allows.
pub const KEY_ROTATIONS_MAX: usize = 25;

/// An alias with its prefix, by the AWS model.
pub const ALIAS_MAX: usize = 256;

/// Aliases of one KMS key, as AWS allows.
pub const ALIASES_PER_KEY_MAX: usize = 50;

/// Tags of one KMS key, as AWS allows.
pub const TAGS_PER_KEY_MAX: usize = 50;

/// Characters of a tag's name, as AWS allows.
pub const TAG_KEY_MAX: usize = 128;

/// Characters of a tag's value, as AWS allows.
pub const TAG_VALUE_MAX: usize = 256;

/// Regions in which there are keys: each has a store of its own. AWS has fewer.
pub const REGIONS_MAX: usize = 64;

/// The name of a region, by the AWS model.
pub const REGION_NAME_MAX: usize = 32;

/// Access keys of one user, as IAM allows: one in use, and the one that takes its place.
pub const ACCESS_KEYS_PER_USER: usize = 2;

/// The name of a user, as IAM allows.
pub const USER_NAME_MAX: usize = 64;

/// Bytes of a policy, as AWS allows for keys.
pub const POLICY_MAX: usize = 32 << 10;

/// Bytes of the document that holds the identities: hundreds of users with policies of their own, more with groups.
pub const IDENTITIES_MAX: usize = 256 << 10;

/// Seconds that the sessions of a role may be allowed to last, as IAM has it.
pub const SESSION_SECONDS_MOST: RangeInclusive<u32> = 3_600..=43_200;

/// The least seconds of a session, as STS has it.
pub const SESSION_SECONDS_LEAST: u32 = 900;

/// Bytes of a session's policy, as STS has it.
pub const SESSION_POLICY_MAX: usize = 2_048;

/// Grants of one key, as AWS allows.
pub const GRANTS_PER_KEY_MAX: u64 = 50_000;

/// Grants that are read at once where a list is made of some of them.
pub const GRANTS_READ_AT_ONCE: usize = 1_000;

/// Pairs of the encryption context in one constraint of a grant, as AWS allows.
pub const GRANT_PAIRS_MAX: usize = 8;

/// Characters of a name or a value there, as AWS allows.
pub const GRANT_PAIR_TEXT_MAX: usize = 384;

/// Key policies that are kept read: one of 32 KiB takes a tenth of a millisecond to read.
pub const POLICIES_READ_MAX: usize = 1_024;

/// Conditions of one statement: each is looked at in every decision that comes to it.
pub const POLICY_CONDITIONS_MAX: usize = 64;

/// Values of one condition: a policy of [`POLICY_MAX`] bytes has room for more that are empty.
pub const POLICY_VALUES_MAX: usize = 1_000;

/// Bytes of a value or a resource in a policy: how long a comparison takes is their product with the request's.
pub const POLICY_VALUE_MAX: usize = 2_048;

/// Days that a KMS key is pending deletion before it is gone, as AWS allows.
pub const DELETION_WINDOW_DAYS: RangeInclusive<u32> = 7..=30;

/// Days between two automatic rotations of a key, as AWS has it.
pub const ROTATION_PERIOD_DAYS: RangeInclusive<u32> = 90..=2560;

/// How far the clock of whoever signs a request to the KMS may be off, as AWS allows.
pub const SIGNATURE_SKEW: Duration = Duration::from_secs(300);

/// A request to the KMS over its wire: an attestation document of 256 KiB as base64, and room.
pub const KMS_BODY_MAX: usize = 512 << 10;

/// Constraints that one `ValidationException` of the KMS tells of; those behind are counted. An honest request breaks few.
pub const VIOLATIONS_TOLD_MAX: usize = 32;

/// The head of a request to the KMS, which is held for everybody who connects, before any signature: the SDKs send about a KiB.
pub const KMS_HEAD_MAX: usize = 16 << 10;

/// Bytes of an error's text and of a client's name in a line of the audit log, as CloudTrail has it.
pub const AUDIT_TEXT_MAX: usize = 1 << 10;

/// Growth of the audit log after which the last uses of keys are written into the store: so much of the log is read when it is
/// opened, and what came while they were written.
pub const AUDIT_LOG_REREAD_MAX: u64 = 16 << 20;

/// Records of the audit log after which it is made sure that no key but the next record's is on the disk. In between, the
/// system writes keys back when it gets to it, as a rule within half a minute.
pub const AUDIT_KEY_SETTLED_RECORDS: u64 = 1024;

/// For how long nothing has come for the audit log when the same is made sure of: a log that is at rest keeps no key of old,
/// and whoever calls again and again does not wait for it.
pub const AUDIT_KEY_SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How long an import token is good for, as AWS has it.
pub const IMPORT_TOKEN_SECONDS: i64 = 24 * 3600;

/// Days after which imported key material expires at the latest, where it does, as AWS allows.
pub const IMPORT_DAYS_MAX: i64 = 365;

/// Records of the audit log in one answer, unless the caller says.
pub const AUDIT_RECORDS_USUAL: usize = 100;

/// Records of the audit log in one answer: some 20 MiB of memory while it is made.
pub const AUDIT_RECORDS_MAX: usize = 10_000;

/// The head of a request to the KMS must have arrived by then, and then its body.
pub const KMS_READ_DEADLINE: Duration = Duration::from_secs(10);

/// How long an answer of the KMS may wait for a client that does not read.
pub const KMS_WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Connections to the KMS at once.
pub const KMS_CONNECTIONS_MAX: usize = 128;

/// A message between the KMS and its HSM part: a context of 8 KiB, a blob of 6 KiB and the rest fit well within.
pub const HSM_MESSAGE_MAX: usize = 32 << 10;

/// How long the HSM may take over one request other than for an RSA key. It computes for microseconds, with an RSA key for ten
/// milliseconds; one that has not answered by then is stuck.
pub const HSM_ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// How long it may take over making an RSA key: 4,096 bits take up to seconds where the machine is busy. Only who asks for
/// another RSA key waits for as long.
pub const HSM_RSA_DEADLINE: Duration = Duration::from_secs(20);

/// RSA keys that are asked of the HSM at once: one is made, the others wait for it, some seconds each. Past it, AWS's
/// `ThrottlingException`: no queue is longer than a client's patience.
pub const HSM_RSA_KEYS_AT_ONCE: usize = 4;

/// How long automatic rotations wait that the HSM did not answer, before it is asked for them again: looking for what is due
/// reads all keys and syncs the store.
pub const ROTATION_RETRY: Duration = Duration::from_secs(60);

/// Memory for keys that the HSM has from its start, since it can get no other of the best kind later: requests and answers of
/// the longest, and what lies between, for each of its two threads.
pub const HSM_KEY_MEMORY_BYTES: usize = 16 * HSM_MESSAGE_MAX;

/// Bytes of a passphrase; a key file of any usual kind fits.
pub const PASSPHRASE_MAX: usize = 4096;

/// Bytes of the text that says how a passphrase is stretched; it has less than a hundred.
pub const STRETCHING_TEXT_MAX: u64 = 256;

/// How long the HSM may take to start, on a busy machine.
pub const HSM_START_DEADLINE: Duration = Duration::from_secs(30);

/// How long the HSM's parent may take to end once the daemon stops, before it is killed.
pub const HSM_STOP_DEADLINE: Duration = Duration::from_secs(1);

/// What the embedded KMS's store keeps in memory of its file; redb's default is 1 GiB, and the store is small.
pub const KEY_STORE_CACHE_BYTES: usize = 4 << 20;

/// The largest READ or WRITE: what the NBD protocol tells clients to count on without asking.
pub const REQUEST_MAX: u32 = 32 << 20;

/// One total deadline for the whole NBD handshake, not restarted by a byte.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Option data of one NBD option: a 4,096-byte export name and every information request that exists fit well within.
pub const OPTION_DATA_MAX: u32 = 64 << 10;

/// NBD options in one handshake, beside four for each visible export (`qemu-nbd --list` sends three an export).
pub const OPTIONS_BASE: usize = 32;

/// An export name, by the NBD protocol.
pub const EXPORT_NAME_MAX: usize = 4_096;

/// How much of a name that we do not know is repeated in an error text.
pub const ECHOED_NAME_MAX: usize = 80;

/// An option error text. nbd-client mishandles texts of 4,096 bytes and more; kept far below.
pub const OPTION_ERROR_TEXT_MAX: usize = 1_000;

/// What nbd-client shows of a refusal's text: it cuts its message to 149 bytes, of which 54 are its own.
pub const NBD_CLIENT_TEXT_MAX: usize = 95;

/// NBD connections of one listener at once.
pub const CONNECTIONS_PER_LISTENER: usize = 400;

/// NBD connections still in the handshake, of one listener at once: the half-open never crowd out the live.
pub const HANDSHAKES_PER_LISTENER: usize = 100;

/// Of those, from one user or one address: a single peer cannot keep all others out.
pub const HANDSHAKES_PER_PEER: usize = 50;

/// How long a reply may wait for a client that does not read.
pub const SEND_DEADLINE: Duration = Duration::from_secs(60);

/// Bytes of READ and WRITE payload in flight for one connection; past it, the connection is not read from.
pub const IN_FLIGHT_BYTES_PER_CONNECTION: usize = 64 << 20;

/// Buffers of READs and WRITEs in flight, over all connections, unless configured; past it, connections are not read from.
pub const IN_FLIGHT_BYTES: u64 = 256 << 20;

/// The least that may be configured for it: the largest request, with as much again for everybody else.
pub const IN_FLIGHT_BYTES_LEAST: u64 = 2 * REQUEST_MAX as u64;

/// Connections that receive and answer through large buffers of their own at once, 1 MiB each; the others have 256 KiB.
pub const ROOMY_CONNECTIONS: usize = 32;

/// How long the payload of a large WRITE may wait for a client that stopped sending it: its buffer is everybody's memory.
pub const PAYLOAD_DEADLINE: Duration = Duration::from_secs(60);

/// Requests in flight for one connection; past it, the connection is not read from.
pub const IN_FLIGHT_REQUESTS_PER_CONNECTION: usize = 1_024;

/// READs of one connection under way on its ring: as deep as disks gain by, and 32 MiB of the bound above at the most.
pub const RING_READS_MAX: usize = 128;

/// Runs in one answer to BLOCK_STATUS: 32 KiB of reply; the client asks again for the rest.
pub const STATUS_RUNS_MAX: usize = 4_096;

/// A TRIM or WRITE_ZEROES is carried out in steps of this size, so that a long one holds no lock for long.
pub const ZERO_STEP: u64 = 64 << 20;

/// A control request's body: identities of [`IDENTITIES_MAX`] as a text in JSON, and room.
pub const CONTROL_BODY_MAX: usize = 576 << 10;

/// The head of a control request must have arrived by then, and then its body.
pub const CONTROL_READ_DEADLINE: Duration = Duration::from_secs(10);

/// How long a control answer may wait for a caller that does not read.
pub const CONTROL_WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Control connections at once.
pub const CONTROL_CONNECTIONS_MAX: usize = 64;

/// Control connections of one user (root excepted) at once, so that no user locks the others out.
pub const CONTROL_CONNECTIONS_PER_USER: usize = 32;

/// An attach ends, one way or the other, by then (the bound on the KMS's answer included).
pub const ATTACH_DEADLINE: Duration = Duration::from_secs(30);

/// A detach waits this long for requests in flight before it answers ESHUTDOWN to the rest.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// A clean stop of the whole daemon ends by then.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// How long `detach` waits for a client that has just closed its connection before it calls the volume busy.
pub const DETACH_GRACE: Duration = Duration::from_millis(500);

/// The dead-connection window after a restart, unless configured: as long as a kernel client waits.
pub const DEAD_CONNECTION_WINDOW: Duration = Duration::from_secs(60);

/// Calls to one KMS at once: a thousand attaches at boot ask in turn.
pub const KMS_CALLS_AT_ONCE: usize = 8;

/// Calls to one KMS that were given up and have not returned: each is a thread. Past it, nothing more is asked of it.
pub const KMS_CALLS_LEFT_BEHIND: isize = 64;

/// Bytes that a process which makes one call to a KMS may have written into its memory: what STS, instance metadata or the KMS
/// itself answers, however long, fills no machine.
pub const KMS_CALL_MEMORY: u64 = 256 << 20;

/// Bytes of a KMS's own words that are told on, and of what else is said of a failure: in JSON they are six times that at the
/// most, and have to go into [`HSM_MESSAGE_MAX`].
pub const KMS_TEXT_MAX: usize = 4096;

/// One call to a KMS is given up by then, and tried again while the attach's own deadline lasts.
pub const KMS_CALL_DEADLINE: Duration = Duration::from_secs(10);

/// A connection to a KMS, its TLS included, is there by then.
pub const KMS_CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// The answer of a KMS: a wrapped key of 6 KiB in base64 and the rest fit well within.
pub const KMS_ANSWER_MAX: usize = 64 << 10;

/// States of the KMS's store that are kept to rehearse a late view of changes; each holds pages of the store back.
pub const KMS_PAST_VIEWS_MAX: usize = 1_024;

/// A file of credentials or certificates for a KMS: the system's whole store of certificates is a quarter of it.
pub const KMS_FILE_MAX: u64 = 1 << 20;

/// How often one attach asks a KMS that throttles or cannot be reached.
pub const KMS_TRIES_MAX: u32 = 16;

/// The first pause between two tries; doubles each time.
pub const KMS_BACK_OFF_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two tries of one attach.
pub const KMS_BACK_OFF_MOST: Duration = Duration::from_secs(3);

/// Volumes of one KMS attached again at once after a restart.
pub const REATTACH_AT_ONCE: usize = 8;

/// The first pause before a re-attach that the KMS did not answer is tried again; doubles each time.
pub const REATTACH_BACK_OFF_FIRST: Duration = Duration::from_millis(500);

/// The longest pause before a re-attach is tried again: how late a KMS's return is noticed.
pub const REATTACH_BACK_OFF_MOST: Duration = Duration::from_secs(15);

/// How much of the event log one read gives.
pub const EVENT_READ_MAX: usize = 1 << 20;
