//! What scripts are told of an [`AttachError`]: the exit code, which is the sort of its fault, and a word. Each is one
//! exhaustive match for each error that it may carry, so that a new variant is sorted before it compiles.

use std::io;

use super::AttachError;
use crate::block::BlockError;
use crate::block::file::OpenError;
use crate::kms::KmsError;
use crate::volume::VolumeError;

impl AttachError {
    /// The exit code of the CLI (product.md's list): the sort of the fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Lost(_) => 1,
            Self::NoSuchKms(_) | Self::SizeMissing | Self::ImpossibleSize(_) | Self::NoLockedMemory { .. } => 2,
            Self::NotFound(_) | Self::NoSuchKey { .. } => 3,
            Self::NameTaken(_)
            | Self::IdTaken(_)
            | Self::TooManyVolumes
            | Self::Busy { .. }
            | Self::Attached(_)
            | Self::NotAttached(_)
            | Self::Detaching(_)
            | Self::Connected { .. }
            | Self::Stopping
            | Self::HoldsVolume(_)
            | Self::HoldsData { .. }
            | Self::StillDetaching(_) => 4,
            Self::KmsTimeout { .. } => 6,
            Self::Kms { source, .. } => kms_exit_code(source),
            Self::Volume { source, .. } | Self::Unreadable { source, .. } => volume_exit_code(source),
            Self::Backing(source) => open_exit_code(source),
            Self::BadPath { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => 3,
                io::ErrorKind::PermissionDenied => 9,
                io::ErrorKind::InvalidInput => 2,
                _ => 8,
            },
            Self::Outside(_) => 9,
            Self::BackingGone { .. }
            | Self::Storage { .. }
            | Self::File { .. }
            | Self::TimedOut { .. }
            | Self::FlushFailed { .. }
            | Self::Unrecorded { .. }
            | Self::State { .. } => 8,
        }
    }

    /// A word that scripts may rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "volume.not_found",
            Self::NameTaken(_) | Self::IdTaken(_) => "volume.exists",
            Self::TooManyVolumes => "volume.too_many",
            Self::Busy { .. } => "volume.busy",
            Self::Attached(_) => "volume.attached",
            Self::NotAttached(_) => "volume.not_attached",
            Self::Detaching(_) | Self::StillDetaching(_) => "volume.detaching",
            Self::Connected { .. } => "volume.in_use",
            Self::Stopping => "daemon.stopping",
            Self::NoSuchKms(_) => "kms.not_configured",
            Self::SizeMissing => "volume.size_missing",
            Self::ImpossibleSize(_) => "volume.shape",
            Self::Outside(_) => "backing.outside",
            Self::HoldsVolume(_) => "backing.holds_volume",
            Self::HoldsData { .. } => "backing.holds_data",
            Self::BadPath { .. } => "backing.bad_path",
            Self::NoSuchKey { .. } => "kms.not_found",
            Self::Kms { source, .. } => kms_code(source),
            Self::KmsTimeout { .. } => "attach.kms.timeout",
            Self::NoLockedMemory { .. } => "memory.locked",
            Self::Volume { source, .. } | Self::Unreadable { source, .. } => volume_code(source),
            Self::BackingGone { .. } => "backing.missing",
            Self::Backing(source) => open_code(source),
            Self::Storage { source: BlockError::NoSpace(_), .. } => "storage.no_space",
            Self::Storage { .. } | Self::File { .. } => "storage.failed",
            Self::TimedOut { .. } => "storage.timeout",
            Self::FlushFailed { .. } => "storage.flush_failed",
            Self::Unrecorded { .. } | Self::State { .. } => "state.failed",
            Self::Lost(_) => "internal",
        }
    }
}

fn kms_exit_code(error: &KmsError) -> u8 {
    match error {
        KmsError::Refused { .. } => 5,
        KmsError::Throttled { .. } | KmsError::Unreachable(_) => 6,
        KmsError::BadAnswer(_) => 7,
        KmsError::Misconfigured { .. } | KmsError::NoLockedMemory(_) => 2,
        KmsError::NoCaller(_) => 1,
    }
}

fn kms_code(error: &KmsError) -> &'static str {
    match error {
        KmsError::Refused { exception, message } => match exception.as_str() {
            "DisabledException" => "attach.kms.disabled",
            "AccessDeniedException" => "attach.kms.access_denied",
            "InvalidCiphertextException" => "attach.kms.invalid_ciphertext",
            "IncorrectKeyException" => "attach.kms.incorrect_key",
            "NotFoundException" => "attach.kms.not_found",
            "KMSInvalidStateException" if message.contains("pending deletion") => "attach.kms.pending_deletion",
            "KMSInvalidStateException" if message.contains("pending import") => "attach.kms.pending_import",
            "KMSInvalidStateException" if message.contains("unavailable") => "attach.kms.unavailable",
            _ => "attach.kms.refused",
        },
        KmsError::Throttled { .. } => "attach.kms.throttled",
        KmsError::Unreachable(_) => "attach.kms.unreachable",
        KmsError::BadAnswer(_) => "attach.kms.bad_answer",
        KmsError::Misconfigured { .. } => "attach.kms.misconfigured",
        KmsError::NoCaller(_) => "attach.kms.no_caller",
        KmsError::NoLockedMemory(_) => "memory.locked",
    }
}

fn volume_exit_code(error: &VolumeError) -> u8 {
    match error {
        VolumeError::Shape(_) => 2,
        VolumeError::HeaderExists | VolumeError::Stopped => 4,
        VolumeError::Kms(source) => kms_exit_code(source),
        VolumeError::NoLockedMemory(_) => 2,
        VolumeError::BackingTooSmall { .. } | VolumeError::HeaderKept | VolumeError::Storage(_) => 8,
        VolumeError::NotAVolume
        | VolumeError::UnsupportedVersion(_)
        | VolumeError::UnsupportedFeatures(_)
        | VolumeError::ReadOnlyFeatures(_)
        | VolumeError::Damaged { .. }
        | VolumeError::BadBackup(_)
        | VolumeError::MacMismatch
        | VolumeError::AnotherVolume { .. }
        | VolumeError::ForeignKey { .. }
        | VolumeError::KmsKeyChanged { .. }
        | VolumeError::Rollback { .. }
        | VolumeError::Forked(_)
        | VolumeError::AnotherKmsKey { .. }
        | VolumeError::WrongDataKey { .. }
        | VolumeError::WeakKey(_) => 7,
    }
}

fn volume_code(error: &VolumeError) -> &'static str {
    match error {
        VolumeError::Shape(_) => "volume.shape",
        VolumeError::HeaderExists => "backing.holds_volume",
        VolumeError::Stopped => "volume.stopped",
        VolumeError::NotAVolume => "volume.not_a_volume",
        VolumeError::UnsupportedVersion(_) | VolumeError::UnsupportedFeatures(_) | VolumeError::ReadOnlyFeatures(_) => {
            "volume.unsupported"
        }
        VolumeError::BackingTooSmall { .. } => "backing.too_small",
        VolumeError::Damaged { .. } | VolumeError::MacMismatch => "volume.damaged",
        VolumeError::BadBackup(_) => "volume.bad_backup",
        VolumeError::AnotherVolume { .. } => "volume.another",
        VolumeError::ForeignKey { .. } | VolumeError::KmsKeyChanged { .. } => "volume.foreign_key",
        VolumeError::Rollback { .. } | VolumeError::Forked(_) => "volume.rollback",
        VolumeError::AnotherKmsKey { .. } | VolumeError::WrongDataKey { .. } | VolumeError::WeakKey(_) => {
            "attach.kms.bad_answer"
        }
        VolumeError::Kms(source) => kms_code(source),
        VolumeError::Storage(BlockError::NoSpace(_)) => "storage.no_space",
        VolumeError::Storage(_) | VolumeError::HeaderKept => "storage.failed",
        VolumeError::NoLockedMemory(_) => "memory.locked",
    }
}

fn open_exit_code(error: &OpenError) -> u8 {
    match error {
        OpenError::NotFound(_) => 3,
        OpenError::Exists(_) | OpenError::InUse { .. } => 4,
        OpenError::NotStorage(_) | OpenError::NotDirect { .. } => 2,
        OpenError::NotPermitted(_) => 9,
        OpenError::ReadOnly(_) | OpenError::HiddenBacking(_) | OpenError::NoSpace { .. } | OpenError::System { .. } => {
            8
        }
    }
}

fn open_code(error: &OpenError) -> &'static str {
    match error {
        OpenError::NotFound(_) => "backing.missing",
        OpenError::Exists(_) => "backing.exists",
        OpenError::InUse { .. } => "backing.in_use",
        OpenError::NotStorage(_) => "backing.not_storage",
        OpenError::NotDirect { .. } => "backing.not_direct",
        OpenError::NotPermitted(_) => "backing.not_permitted",
        OpenError::ReadOnly(_) => "backing.read_only",
        OpenError::NoSpace { .. } => "storage.no_space",
        OpenError::HiddenBacking(_) | OpenError::System { .. } => "storage.failed",
    }
}
