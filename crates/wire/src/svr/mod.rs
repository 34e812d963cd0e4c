//! Session metadata of Secure Vector Routing: what stands between the transport header and the
//! payload of a packet between two routers.
//!
//! ```text
//! cookie 8 | version 4 bit, HL 12 bit | PL u16 | header TLVs | payload TLVs | P' | tag 16
//! \------------------- HL ----------------------------------/\---- PL -----/\- rest() ---/
//! ```
//!
//! The header is read with [`Header::parse`] and written with [`emit_header`]; the sections with
//! [`HeaderTlvs`] and [`PayloadTlvs`]. TLVs are written in ascending order of type and accepted in
//! any order. Verification and decryption lie between [`Header::parse`] and
//! [`PayloadTlvs::parse`] and are not done here.

mod carried;
mod choices;
mod header;
mod header_tlvs;
mod payload_tlvs;
mod relay;
mod section;
mod values;

pub use carried::{
    CARRIED_FLAGS, CARRIED_SEQUENCE, MAX_ASSOCIATED, associated, carried_header_len, restore as restore_tcp,
    tcp_header_len,
};
pub use choices::{
    BFD_PORT, BLOCK_LEN, COOKIE, HEADER_LEN, IV_LEN, MAX_HEADER_LEN, MAX_NAME_LEN, MAX_PATHWAY_LEN,
    MAX_RELAYED_LEN, MAX_TLVS, SESSION_KEY_LEN, TAG_LEN, TIME_SLOT_SECONDS, TLV_HEADER_LEN, VERSION, tlv,
};
pub use header::{Header, emit_header, encrypted_len, starts_with_cookie};
pub use header_tlvs::HeaderTlvs;
pub use payload_tlvs::PayloadTlvs;
pub use relay::RelayedError;
pub use values::{
    Context, Control, EgressList, Fragment, HealthCheck, ModifyRequest, MulticastContext, PathMetrics,
    SequenceRepair,
};

/// Why metadata could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataError {
    /// There is no whole header: fewer than 12 bytes, or no cookie.
    Truncated,
    /// A version other than 1.
    Version,
    /// The header length is below 12, or header and payload section exceed the packet.
    Length,
    /// A TLV exceeds its section, or the section has more than [`MAX_TLVS`].
    TlvOverrun,
    /// A TLV of a known type has the wrong length.
    TlvLength,
    /// A type occurs twice in a section, or both families of one TLV do.
    TlvDuplicate,
    /// A value that may not be: a name that is empty, too long, not UTF-8 or has control
    /// characters, a protocol that is an extension header, an unknown family.
    TlvValue,
}

/// The error of parsing a section; the same type as that of parsing a header.
pub type TlvError = MetadataError;

impl core::fmt::Display for MetadataError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "no whole metadata header",
            Self::Version => "unknown metadata version",
            Self::Length => "metadata lengths contradict the packet",
            Self::TlvOverrun => "a TLV exceeds its section",
            Self::TlvLength => "a TLV has the wrong length",
            Self::TlvDuplicate => "a TLV occurs twice",
            Self::TlvValue => "a TLV has a value it may not have",
        })
    }
}

impl core::error::Error for MetadataError {}
