//! Volumes and keys in the words of the API.

use std::time::SystemTime;

use jiff::Timestamp;

use super::{About, NbdListener, api};
use crate::attach::{AttachmentView, Caching, LastRefusal, State, VolumeView};
use crate::kms::embedded::{Alias, Embedded, HsmState, KeyMetadata};
use crate::names::VolumeName;
use crate::units::ByteCount;
use crate::volume::Header;

/// `time` as RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let stamp = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl NbdListener {
    /// The NBD URI of `export` here; of the server itself where it is empty.
    pub(crate) fn uri(&self, export: &str) -> String {
        match self {
            Self::Unix(path) => format!("nbd+unix:///{export}?socket={}", query_value(&path.to_string_lossy())),
            Self::Tcp(address) => format!("nbd://{address}/{export}"),
        }
    }
}

/// A path in a query: everything that would end it or be read otherwise is percent-encoded.
fn query_value(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The HSM part, as it is.
pub(super) fn hsm(about: &About, state: HsmState) -> api::Hsm {
    let (state, pid, reason) = match state {
        HsmState::Running { pid } => ("running", pid, None),
        HsmState::Zeroized => ("zeroized", None, None),
        HsmState::Failed(reason) => ("failed", None, Some(reason)),
    };
    api::Hsm { state: state.to_owned(), pid, reason, domain_key: about.domain_key.clone() }
}

fn state(state: State) -> &'static str {
    match state {
        State::Creating => "creating",
        State::Available => "available",
        State::Attaching => "attaching",
        State::InUse => "in-use",
        State::Detaching => "detaching",
        State::Error => "error",
    }
}

/// A volume.
pub(super) fn volume(about: &About, view: &VolumeView) -> api::Volume {
    let record = &view.record;
    api::Volume {
        id: record.id.to_string(),
        name: record.name.to_string(),
        size: record.size.get(),
        state: state(view.state).to_owned(),
        kms: record.kms.clone(),
        kms_key: record.key.to_string(),
        backing: record.backing.to_string_lossy().into_owned(),
        sector_size: record.sector_size.into(),
        thick: view.header.as_ref().is_some_and(|header| header.thick),
        allocated: view.allocated.map(ByteCount::get),
        attachments: attachment(about, view).into_iter().collect(),
        last_refusal: view.last_refusal.as_ref().map(last_refusal),
    }
}

/// A volume's attachment, while there is one.
pub(super) fn attachment(about: &About, view: &VolumeView) -> Option<api::Attachment> {
    let AttachmentView { read_only, caching, since, clients, .. } = view.attachment.as_ref()?;
    Some(api::Attachment {
        volume: view.record.id.to_string(),
        name: view.record.name.to_string(),
        uri: uri(about, &view.record.name),
        device: None,
        read_only: *read_only,
        direct: *caching == Caching::Direct,
        clients: clients.clone(),
        since: rfc3339(*since),
    })
}

fn uri(about: &About, name: &VolumeName) -> String {
    about.listeners.first().map(|listener| listener.uri(name.as_str())).unwrap_or_default()
}

fn last_refusal(refusal: &LastRefusal) -> api::LastRefusal {
    api::LastRefusal {
        time: rfc3339(refusal.time),
        cause: refusal.cause.clone(),
        kms_exception: refusal.kms_exception.clone(),
        retrying: refusal.retrying,
    }
}

/// What a volume has carried, while it is attached.
pub(super) fn traffic(view: &VolumeView) -> Option<api::Traffic> {
    let traffic = view.attachment.as_ref()?.traffic;
    Some(api::Traffic {
        volume: view.record.id.to_string(),
        reads: traffic.reads,
        read_bytes: traffic.read_bytes.get(),
        writes: traffic.writes,
        written_bytes: traffic.written_bytes.get(),
        flushes: traffic.flushes,
    })
}

/// What the unverified `header` of the backing at `path` says, in the form of the volume it may become.
pub(super) fn claimed(path: &str, header: &Header) -> api::Volume {
    api::Volume {
        id: header.id.to_string(),
        name: header.name.to_string(),
        size: header.size.get(),
        state: state(State::Available).to_owned(),
        kms: header.kms.clone(),
        kms_key: header.key.to_string(),
        backing: path.to_owned(),
        sector_size: header.sector_size.into(),
        thick: header.thick,
        allocated: None,
        attachments: Vec::new(),
        last_refusal: None,
    }
}

/// A key, and which of `volumes` hang on it.
pub(super) fn key(keys: &Embedded, key: KeyMetadata, volumes: &[VolumeView]) -> api::Key {
    let (last_used, last_operation) =
        keys.last_use(&key.key_id).map(|used| (used.time.to_string(), used.operation)).unzip();
    let (rotation_period_days, next_rotation_date) = key.automatic_rotation.unzip();
    let hang_on_it = volumes.iter().filter(|volume| volume.record.key == key.arn);
    api::Key {
        volumes: hang_on_it.map(|volume| volume.record.id.to_string()).collect(),
        key_id: key.key_id,
        arn: key.arn.to_string(),
        state: key.state.name().to_owned(),
        aliases: key.aliases,
        description: key.description,
        manager: key.manager.name().to_owned(),
        created: rfc3339(key.created),
        deletion_date: key.deletion_date.map(rfc3339),
        rotations: key.rotations,
        rotation_period_days,
        next_rotation_date: next_rotation_date.map(rfc3339),
        tags: key.tags,
        current_key_material_id: key.current_key_material_id,
        key_spec: key.spec.name().to_owned(),
        key_usage: key.usage.name().to_owned(),
        algorithms: key.spec.algorithms(key.usage).into_iter().map(str::to_owned).collect(),
        origin: key.origin.name().to_owned(),
        last_used,
        last_operation,
    }
}

/// An alias.
pub(super) fn alias(alias: Alias) -> api::Alias {
    api::Alias { name: alias.name, arn: alias.arn, target_key_id: alias.target_key_id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_unix_uri_survives_an_odd_path() {
        let listener = NbdListener::Unix("/run/a b&c/nbd.sock".into());
        assert_eq!(listener.uri("db"), "nbd+unix:///db?socket=/run/a%20b%26c/nbd.sock");
        let tcp = NbdListener::Tcp("[::1]:10809".parse().expect("an address"));
        assert_eq!(tcp.uri("db"), "nbd://[::1]:10809/db");
    }

    #[test]
    fn times_are_rfc_3339_to_the_second() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_471_803_900);
        assert_eq!(rfc3339(time), "2026-11-23T22:10:03Z");
    }
}
