use fairway_crypto::{PeerKey, security_id, slot};
use fairway_wire::svr::emit_header;

use super::*;

const UNIX: u64 = 1_700_000_000;
const SALT: [u8; 16] = [9; 16];

fn peer_key() -> PeerKey {
    PeerKey::from_bytes([0x42; 32])
}

fn keys() -> Keys {
    let mut keys = Keys::default();
    keys.add("branch", "dc", peer_key());
    keys.add("dc", "branch", peer_key());
    keys
}

/// A UDP packet from branch to dc that opens a session, with 5 bytes of its payload.
fn packet(encrypt: bool) -> Vec<u8> {
    let hop = HopKeys::derive(&peer_key(), &SALT, "branch", "dc").unwrap();
    let header = HeaderTlvs {
        security_id: Some(security_id("dc", "branch")),
        key_salt: Some(SALT),
        sequence: Some(7),
        metadata_encrypted: encrypt,
        ..HeaderTlvs::default()
    };
    let forward = Context {
        source: "10.1.0.5:40000".parse().unwrap(),
        destination: "10.2.0.10:53".parse().unwrap(),
        protocol: 17,
    };
    let tlvs = PayloadTlvs {
        forward: Some(forward),
        uuid: Some([0xab; 16]),
        tenant: Some("corp"),
        service: Some("dns"),
        session_key: Some(&[0x77; 32]),
        ..PayloadTlvs::default()
    };
    let mut clear = [0; 512];
    let length = tlvs.emit(&mut clear).unwrap();
    let section = if encrypt {
        let iv = [3; 16];
        let sealed = hop.encrypt_metadata(&iv, &mut clear, length).unwrap();
        [&iv[..], &clear[..sealed]].concat()
    } else {
        clear[..length].to_vec()
    };
    let mut block = vec![0; 512];
    let header_length = emit_header(&mut block, &header, section.len()).unwrap();
    block.truncate(header_length);
    block.extend(section);
    block.extend(b"query");
    let tag = hop.tag(&block, slot(UNIX));
    block.extend(tag);
    udp(&block)
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(28 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend([0x40, 0x00, 0x40, 0x01]);
    packet.extend((total - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

fn value<'a>(fields: &'a [Field], name: &str) -> &'a str {
    fields.iter().find(|field| field.name == name).map_or("", |field| field.value.as_str())
}

#[test]
fn who_has_the_keys_reads_everything_but_secrets() {
    for encrypt in [false, true] {
        let metadata = Metadata::of(&packet(encrypt), UNIX + 1, &mut keys()).unwrap();
        assert_eq!(metadata.tag, Tag::Valid { sender: "branch".into(), receiver: "dc".into() });
        assert_eq!(metadata.encrypted, encrypt);
        assert_eq!(metadata.fault, None);
        assert_eq!(metadata.carried_bytes, 5);
        let payload = metadata.payload.as_deref().unwrap();
        assert_eq!(value(payload, "tenant"), "corp");
        assert_eq!(value(payload, "forward"), "udp 10.1.0.5:40000 → 10.2.0.10:53");
        assert_eq!(value(payload, "session key"), "32 bytes, not shown");
        assert!(!metadata.comment().contains("7777"), "{}", metadata.comment());
        assert!(metadata.comment().contains("branch to dc, tag valid"), "{}", metadata.comment());
    }
}

#[test]
fn without_keys_what_is_in_the_clear_is_read() {
    let clear = Metadata::of(&packet(false), UNIX, &mut Keys::default()).unwrap();
    assert_eq!(clear.tag, Tag::NoKey);
    assert_eq!(value(clear.payload.as_deref().unwrap(), "service"), "dns");
    let sealed = Metadata::of(&packet(true), UNIX, &mut Keys::default()).unwrap();
    assert_eq!((sealed.tag, sealed.payload), (Tag::NoKey, None));
    assert_eq!(value(&sealed.header, "sequence"), "7");
}

#[test]
fn changed_bytes_and_other_times_are_seen() {
    let mut changed = packet(true);
    let last = changed.len() - 20;
    changed[last] ^= 1;
    assert_eq!(Metadata::of(&changed, UNIX, &mut keys()).unwrap().tag, Tag::Wrong);
    assert_eq!(Metadata::of(&packet(true), UNIX + 60, &mut keys()).unwrap().tag, Tag::Wrong);
}

#[test]
fn hostile_bytes_never_panic() {
    let whole = packet(false);
    for at in 28..whole.len() {
        for value in [0, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            let _ = Metadata::of(&changed, UNIX, &mut keys());
        }
        let _ = Metadata::of(&whole[..at], UNIX, &mut keys());
    }
    assert_eq!(Metadata::of(&udp(b"no metadata"), UNIX, &mut keys()), None);
}
