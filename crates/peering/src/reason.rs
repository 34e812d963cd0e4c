//! Why metadata is refused, as drop reasons: the same for messages between peers and for sessions.

use fairway_crypto::Refused;
use fairway_types::DropReason;
use fairway_wire::svr::MetadataError;

/// The reason for metadata that cannot be read.
#[must_use]
pub const fn unreadable(error: MetadataError) -> DropReason {
    match error {
        MetadataError::Truncated => DropReason::MetadataTruncated,
        MetadataError::Version => DropReason::MetadataVersion,
        MetadataError::Length => DropReason::MetadataLength,
        MetadataError::TlvOverrun => DropReason::TlvOverrun,
        MetadataError::TlvLength => DropReason::TlvLength,
        MetadataError::TlvDuplicate => DropReason::TlvDuplicate,
        MetadataError::TlvValue => DropReason::TlvValue,
    }
}

/// The reason for metadata that is not genuine, or not new.
#[must_use]
pub const fn unbelievable(refused: Refused) -> DropReason {
    match refused {
        Refused::BadTag => DropReason::BadTag,
        Refused::Replayed(_) => DropReason::MetadataReplayed,
        Refused::BeforeStart => DropReason::MetadataBeforeStart,
    }
}
