//! What to do about an [`AttachError`]: one line, with the command where there is one.

use super::AttachError;
use crate::block::BlockError;
use crate::block::file::OpenError;
use crate::kms::{KeyName, KmsError};
use crate::limits;
use crate::names::VolumeName;
use crate::units::ByteCount;
use crate::volume::VolumeError;

impl AttachError {
    /// One line.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotFound(_) => "`envol volume list` shows the volumes; `envol volume add PATH` takes one in".into(),
            Self::NameTaken(name) => {
                format!("choose another name, or delete the old one: `envol volume delete {name}`")
            }
            Self::IdTaken(id) => format!("`envol volume show {id}` shows it; drop it with `envol volume forget {id}`"),
            Self::TooManyVolumes => "delete or forget volumes that are not needed".into(),
            Self::Busy { name, .. } => format!("wait and try again; `envol volume show {name}` shows how far it is"),
            Self::Attached(name) => format!("detach it first: `envol detach {name}`"),
            Self::NotAttached(_) => "nothing is left to do; `envol status` shows what is attached".into(),
            Self::Detaching(name) | Self::StillDetaching(name) => {
                format!("wait until its backing answers; `envol volume show {name}` shows its state")
            }
            Self::Connected { name, .. } => {
                format!("disconnect (umount, `nbd-client -d`), or cut it off: `envol detach {name} --force`")
            }
            Self::Stopping => "start the daemon again: `envol daemon`".into(),
            Self::NoSuchKms(kms) => format!("add a section [kms.{kms}] to the daemon's configuration"),
            Self::SizeMissing => {
                "say how large: `--size 10G` (it may be left out for an existing file or device)".into()
            }
            Self::ImpossibleSize(_) => {
                format!("choose a size from one sector to {}", ByteCount::new(limits::VOLUME_SIZE_MAX))
            }
            Self::Outside(path) => format!(
                "add its directory (or, for a device, {} itself) to `volume_dirs` in the daemon's configuration",
                path.display()
            ),
            Self::HoldsVolume(_) => "delete that volume first; `--force` never overwrites one".into(),
            Self::HoldsData { .. } => "choose another backing, or overwrite what is there with `--force`".into(),
            Self::BadPath { .. } => "give the absolute path of a file or device".into(),
            Self::Kms { name, key, source, elsewhere: false } => of_kms(name, key, source),
            Self::Kms { name, key, source, elsewhere: true } => of_another_kms(name, key, source),
            Self::NoSuchKey { elsewhere: true, .. } => {
                "name a key of that KMS with `--key`: `aws kms list-aliases` shows what it has".into()
            }
            Self::NoSuchKey { .. } => "`envol key list` shows the keys, `envol key create` makes one".into(),
            Self::KmsTimeout { name, kms, .. } => {
                format!("check that KMS {kms} can be reached, then `envol attach {name}`")
            }
            Self::NoLockedMemory { .. } => {
                "raise the limit on locked memory: `ulimit -l`, LimitMEMLOCK= in the unit".into()
            }
            Self::Volume { name, source } => of_volume(name, source),
            Self::Unreadable { .. } => "give the path of a backing that `envol volume create` made".into(),
            Self::BackingGone { name, path } => {
                format!("put {} back in its place, or `envol volume forget {name}`", path.display())
            }
            Self::Backing(source) => of_open(source).into(),
            Self::Storage { source, .. } => of_storage(*source).into(),
            Self::File { .. } => "check the permissions of the file and its directory".into(),
            Self::TimedOut { name, .. } => format!("check the disk; volume {name} is free again once it answers"),
            Self::FlushFailed { .. } => "check the disk; then attach, and check what is on the volume".into(),
            Self::Unrecorded { .. } | Self::State { .. } => {
                "check the state directory: space, permissions, disk".into()
            }
            Self::Lost(_) => "report it, with the daemon's log".into(),
        }
    }
}

fn of_kms(name: &VolumeName, key: &KeyName, error: &KmsError) -> String {
    let KmsError::Refused { exception, message } = error else {
        return match error {
            KmsError::BadAnswer(_) => "do not trust this KMS's answers before it is known why".into(),
            KmsError::Misconfigured { file: Some(file), .. } => {
                format!("put {} right, then try again: `envol doctor` looks at it", file.display())
            }
            KmsError::Misconfigured { .. } => {
                "correct the daemon's configuration (`envol doctor` looks at it), or have the role that it names allowed".into()
            }
            KmsError::NoCaller(_) => "restart the daemon".into(),
            KmsError::NoLockedMemory(_) => "raise the limit on locked memory: `ulimit -l`, LimitMEMLOCK=".into(),
            _ => format!("try again later: `envol attach {name}`"),
        };
    };
    match exception.as_str() {
        "DisabledException" => format!("enable the key, then attach: `envol key enable {key}`"),
        "KMSInvalidStateException" if message.contains("pending deletion") => format!(
            "`envol key cancel-deletion {key}`, then `envol key enable {key}`, then attach: past its date the data is lost"
        ),
        "KMSInvalidStateException" if message.contains("pending import") => format!("import the material of {key}"),
        "KMSInvalidStateException" => format!("`envol key show {key}` shows its state; bring it back to Enabled"),
        "AccessDeniedException" => format!("allow kms:Decrypt on {key} to whoever attaches"),
        "InvalidCiphertextException" | "IncorrectKeyException" => {
            "the sealed key does not belong to this volume or this key: restore the volume's own header".into()
        }
        "NotFoundException" => "`envol key list` shows the keys; without its key a volume cannot be opened".into(),
        _ => format!("`envol key show {key}` shows the key's state"),
    }
}

/// A KMS that is not envol's own is mended with its own tools.
fn of_another_kms(name: &VolumeName, key: &KeyName, error: &KmsError) -> String {
    let KmsError::Refused { exception, message } = error else { return of_kms(name, key, error) };
    match exception.as_str() {
        "DisabledException" => {
            format!(
                "enable the key where it is, then attach: `aws kms enable-key --key-id {key}`, `envol attach {name}`"
            )
        }
        "KMSInvalidStateException" if message.contains("pending deletion") => format!(
            "`aws kms cancel-key-deletion --key-id {key}`, then enable-key, then attach: past its date the data is lost"
        ),
        "AccessDeniedException" => {
            let action = action_in(message).unwrap_or("kms:Decrypt");
            format!("allow {action} on {key} to whom the KMS's section in the configuration names")
        }
        "InvalidSignatureException" | "RequestExpired" => {
            "set this machine's clock (`timedatectl`), and check the secret of the access key".into()
        }
        "UnrecognizedClientException" | "ExpiredTokenException" | "MissingAuthenticationTokenException" => {
            "check the credentials that the KMS's section names: it does not know them, or no longer".into()
        }
        "InvalidCiphertextException" | "IncorrectKeyException" => of_kms(name, key, error),
        _ => format!("`aws kms describe-key --key-id {key}` shows the key's state there"),
    }
}

/// The action that AWS says was denied: `... is not authorized to perform: kms:Encrypt on ...`.
fn action_in(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("to perform: ")?;
    let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != ':').unwrap_or(rest.len());
    Some(&rest[..end]).filter(|action| action.starts_with("kms:"))
}

fn of_volume(name: &VolumeName, error: &VolumeError) -> String {
    match error {
        VolumeError::Shape(_) => "choose other sizes: see `envol volume create --help`".into(),
        VolumeError::HeaderExists => "delete that volume first; `--force` never overwrites one".into(),
        VolumeError::Stopped => "start it again when you want it done".into(),
        VolumeError::Rollback { .. } | VolumeError::Forked(_) => format!(
            "if the older state was put back on purpose: `envol attach {name} --accept-rollback`; else find out who did it"
        ),
        VolumeError::AnotherVolume { .. } | VolumeError::ForeignKey { .. } | VolumeError::KmsKeyChanged { .. } => {
            "somebody replaced the header: put the volume's own back; never use what is there".into()
        }
        VolumeError::UnsupportedVersion(_) | VolumeError::UnsupportedFeatures(_) | VolumeError::ReadOnlyFeatures(_) => {
            "open it with the version of envol that made it, or a later one".into()
        }
        VolumeError::BadBackup(_) => "give a file that `envol volume header backup` made".into(),
        VolumeError::HeaderKept => {
            "check the disk; where something else lies in the header's place, see what it is before it is wiped".into()
        }
        VolumeError::BackingTooSmall { .. } => "give it a larger backing, or restore the part that is missing".into(),
        VolumeError::NotAVolume | VolumeError::Damaged { .. } | VolumeError::MacMismatch => {
            format!("put a header back that was kept: `envol volume header restore {name} FILE`")
        }
        VolumeError::Storage(source) => of_storage(*source).into(),
        _ => "do not trust this KMS's answers before it is known why".into(),
    }
}

fn of_open(error: &OpenError) -> &'static str {
    match error {
        OpenError::NotFound(_) => "check the path",
        OpenError::Exists(_) => "choose another path",
        OpenError::NotStorage(_) => "give a regular file or a block device",
        OpenError::NotDirect { .. } => "attach without `--direct`, or move the backing to another file system",
        OpenError::InUse { .. } => "stop whatever uses it, then try again",
        OpenError::ReadOnly(_) => "make it writable, or attach with `--read-only`",
        OpenError::NotPermitted(_) => "give the daemon's user permission to read and write it",
        OpenError::HiddenBacking(_) => "give the file itself instead of the loop device",
        OpenError::NoSpace { .. } => "make room on the file system, or ask for less than its largest file",
        OpenError::System { .. } => "check the disk and its file system",
    }
}

fn of_storage(error: BlockError) -> &'static str {
    match error {
        BlockError::NoSpace(_) => "make room on the file system",
        BlockError::ReadOnly => "make it writable, or attach with `--read-only`",
        _ => "check the disk and its file system (`dmesg`)",
    }
}
