//! Recorded first bytes of real programs, and what only looks like them.

use std::vec;
use std::vec::Vec;

use super::*;

/// The start of a ClientHello by OpenSSL 3.
const CLIENT: &[u8] =
    &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 0x5e, 0x8a, 0x11, 0xc0, 0x42];
/// The start of its answer.
const SERVER: &[u8] =
    &[0x16, 0x03, 0x03, 0x00, 0x7a, 0x02, 0x00, 0x00, 0x76, 0x03, 0x03, 0x8d, 0x01, 0xe3, 0x7c, 0x99];

fn dtls(kind: u8) -> Vec<u8> {
    let mut record =
        vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, kind, 0, 0, 48, 0, 0, 0, 0, 0, 0, 48];
    record.resize(13 + 60, 7);
    record
}

fn quic(first: u8, version: u32, length: usize) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(version.to_be_bytes());
    packet.extend([8, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
    packet.resize(length, 9);
    packet
}

#[test]
fn tls_is_known_by_its_hello() {
    assert_eq!(request(6, 443, CLIENT), Some(Secured::Tls));
    assert_eq!(request(6, 25, CLIENT), Some(Secured::Tls), "the port says nothing");
    assert!(answers(6, 443, SERVER));
    assert!(!answers(6, 443, CLIENT));
    assert_eq!(request(6, 443, SERVER), None);
    assert_eq!(request(17, 443, CLIENT), None);
}

#[test]
fn what_only_looks_like_tls_is_not() {
    for text in [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01", b"", b"EHLO x\r\n"]
    {
        assert_eq!(request(6, 443, text), None);
        assert!(!answers(6, 443, text));
    }
    for at in [0, 1, 2, 5, 6, 9, 10] {
        let mut changed = CLIENT.to_vec();
        changed[at] = 0x7f;
        assert_eq!(request(6, 443, &changed), None, "byte {at}");
    }
    let mut empty = CLIENT.to_vec();
    empty[3..5].fill(0);
    assert_eq!(request(6, 443, &empty), None);
    for length in 0..11 {
        assert_eq!(request(6, 443, &CLIENT[..length]), None);
    }
}

#[test]
fn dtls_is_known_by_its_hello() {
    assert_eq!(request(17, 4433, &dtls(1)), Some(Secured::Dtls));
    assert!(answers(17, 4433, &dtls(2)));
    assert!(answers(17, 4433, &dtls(3)));
    assert_eq!(request(17, 4433, &dtls(2)), None);
    assert_eq!(request(17, 4433, &dtls(1)[..30]), None, "cut short");
    assert_eq!(request(6, 4433, &dtls(1)), None);
}

#[test]
fn quic_is_known_by_a_long_header_of_a_version_that_exists() {
    assert_eq!(request(17, 443, &quic(0xc3, 1, 1200)), Some(Secured::Quic));
    assert_eq!(request(17, 443, &quic(0xd3, 0x6b33_43cf, 1200)), Some(Secured::Quic));
    assert_eq!(request(17, 443, &quic(0xc3, 1, 1199)), None, "too short for a client");
    assert_eq!(request(17, 443, &quic(0xc3, 7, 1200)), None, "no such version");
    assert_eq!(request(17, 443, &quic(0x43, 1, 1200)), None, "a short header");
    assert_eq!(request(17, 443, &quic(0xe3, 1, 1200)), None, "not an Initial");
    assert!(answers(17, 443, &quic(0xc3, 1, 100)));
    assert!(answers(17, 443, &quic(0x80, 0, 40)));
    assert!(!answers(17, 443, &quic(0x40, 1, 100)));
}

#[test]
fn ipsec_is_known_by_protocol_or_port_and_form() {
    assert_eq!(request(50, 0, &[]), Some(Secured::Ipsec));
    assert!(answers(50, 0, &[]));
    assert_eq!(request(17, 4500, &[1; 60]), Some(Secured::Ipsec));
    assert_eq!(request(17, 4501, &[1; 60]), None);
    let mut ike = vec![0; 60];
    (ike[17], ike[18], ike[27]) = (0x20, 34, 60);
    assert_eq!(request(17, 500, &ike), Some(Secured::Ipsec));
    assert_eq!(request(17, 4500, &ike), None, "without the marker, but for its zeros");
    let marked: Vec<u8> = [0; 4].into_iter().chain(ike.iter().copied()).collect();
    assert_eq!(request(17, 4500, &marked), Some(Secured::Ipsec));
    assert_eq!(request(17, 500, &ike[..40]), None);
}

#[test]
fn any_bytes_are_read_without_harm() {
    let mut state = 1u32;
    for length in 0..400usize {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for number in [1, 6, 17, 50] {
            let _ = (request(number, 4500, &bytes), answers(number, 500, &bytes));
        }
    }
}
