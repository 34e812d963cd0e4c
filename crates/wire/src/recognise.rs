//! Whether a payload is encrypted already: TLS, DTLS, QUIC and IPsec, told by their first bytes.
//!
//! The question is asked once for each direction of a session, before its first byte of payload
//! leaves. Everything that is not surely one of these is not: encrypting twice costs a little, not
//! encrypting at all would cost what was promised. What goes back must fit what went out.

use crate::bytes::{be16, be32, byte};
use crate::protocol;

/// A protocol that protects its own payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secured {
    /// TLS 1.0 to 1.3 over TCP (RFC 8446).
    Tls,
    /// DTLS 1.0 to 1.3 over UDP (RFC 9147).
    Dtls,
    /// QUIC version 1, 2 or a draft of them (RFC 9000, RFC 9369).
    Quic,
    /// ESP, or IKE and ESP inside UDP (RFC 4303, RFC 3948, RFC 7296).
    Ipsec,
}

/// What the first payload from the initiator to the responder is.
///
/// `payload` is that of TCP or UDP; for other protocols it does not matter. `port` is the
/// destination's.
#[must_use]
pub fn request(number: u8, port: u16, payload: &[u8]) -> Option<Secured> {
    match number {
        protocol::ESP => Some(Secured::Ipsec),
        protocol::TCP => is_tls(payload, CLIENT_HELLO).then_some(Secured::Tls),
        protocol::UDP if is_dtls(payload, &[CLIENT_HELLO]) => Some(Secured::Dtls),
        protocol::UDP if is_quic_request(payload) => Some(Secured::Quic),
        protocol::UDP if is_ipsec(port, payload) => Some(Secured::Ipsec),
        _ => None,
    }
}

/// Whether the first payload from the responder is the answer of a protocol to its [`request`].
#[must_use]
pub fn answers(number: u8, port: u16, payload: &[u8]) -> bool {
    const HELLO_VERIFY_REQUEST: u8 = 3;
    match number {
        protocol::ESP => true,
        protocol::TCP => is_tls(payload, SERVER_HELLO),
        protocol::UDP => {
            is_dtls(payload, &[SERVER_HELLO, HELLO_VERIFY_REQUEST])
                || is_quic_answer(payload)
                || is_ipsec(port, payload)
        }
        _ => false,
    }
}

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// The content type of a handshake record.
const HANDSHAKE: u8 = 22;
/// The most bytes of a record in the clear (RFC 8446, section 5.1).
const MAX_RECORD: u16 = 1 << 14;

/// A record that holds the start of a hello: type, version, length; then type, length, version.
fn is_tls(payload: &[u8], hello: u8) -> bool {
    let &[content, 3, minor, _, _, kind, long, _, _, 3, inner, ..] = payload else { return false };
    let length = be16(payload, 3);
    let whole = u32::from(be16(payload, 7));
    content == HANDSHAKE
        && minor <= 4
        && (4..=MAX_RECORD).contains(&length)
        && kind == hello
        && long == 0
        // Random, session id and cipher suites make it longer than this.
        && whole >= 38
        && inner <= 4
}

/// A record of epoch 0 that holds the start of a hello.
fn is_dtls(payload: &[u8], hellos: &[u8]) -> bool {
    const RECORD: usize = 13;
    let &[HANDSHAKE, 0xfe, 0xff | 0xfd, 0, 0, ..] = payload else { return false };
    let length = usize::from(be16(payload, 11));
    let starts_message = be16(payload, RECORD + 4) < 16;
    (12..=payload.len().saturating_sub(RECORD)).contains(&length)
        && starts_message
        && hellos.contains(&byte(payload, RECORD))
        // The hello is not cut: the offset of its fragment is zero.
        && payload.get(RECORD + 6..RECORD + 9) == Some(&[0, 0, 0])
}

/// A long header: its first byte, version, and connection ids of at most 20 bytes.
fn is_quic_long(payload: &[u8]) -> bool {
    const LONGEST_ID: u8 = 20;
    let destination = byte(payload, 5);
    let source = byte(payload, 6 + usize::from(destination));
    payload.len() >= 7 + usize::from(destination) + usize::from(source)
        && byte(payload, 0) & 0x80 != 0
        && destination <= LONGEST_ID
        && source <= LONGEST_ID
}

fn is_quic_version(version: u32) -> bool {
    const V1: u32 = 1;
    const V2: u32 = 0x6b33_43cf;
    const DRAFTS: core::ops::RangeInclusive<u32> = 0xff00_001d..=0xff00_0022;
    version == V1 || version == V2 || DRAFTS.contains(&version)
}

/// An Initial of a client: at least 1200 bytes (RFC 9000, section 14.1).
fn is_quic_request(payload: &[u8]) -> bool {
    let first = byte(payload, 0);
    let version = be32(payload, 1);
    // The type of an Initial differs between versions (RFC 9369, section 3.2).
    let initial = if version == 0x6b33_43cf { 0x10 } else { 0 };
    payload.len() >= 1200
        && is_quic_long(payload)
        && first & 0x70 == 0x40 | initial
        && is_quic_version(version)
}

/// Whatever a server begins with: Initial, Handshake, Retry, or the versions it speaks.
fn is_quic_answer(payload: &[u8]) -> bool {
    let version = be32(payload, 1);
    is_quic_long(payload) && (version == 0 || is_quic_version(version))
}

/// On port 4500, ESP, or IKE version 2 behind four zero bytes; on port 500, IKE.
fn is_ipsec(port: u16, payload: &[u8]) -> bool {
    match port {
        4500 if be32(payload, 0) == 0 => is_ike(payload.get(4..).unwrap_or_default()),
        // Numbers up to 255 are reserved (RFC 4303, section 2.1).
        4500 => payload.len() >= 20 && be32(payload, 0) > 255,
        500 => is_ike(payload),
        _ => false,
    }
}

/// Version 2, an exchange type that exists, and a length that is that of the datagram.
fn is_ike(message: &[u8]) -> bool {
    const HEADER: usize = 28;
    message.len() >= HEADER
        && byte(message, 17) == 0x20
        && (34..=44).contains(&byte(message, 18))
        && be32(message, 24) as usize == message.len()
}

#[cfg(test)]
mod tests;
