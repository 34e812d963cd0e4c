//! Metadata whose bytes are wrong: unsigned where the parser comes before the verification, signed
//! where it comes after.

use fairway_sim::forge::{header_value, raw_tlv, section};
use fairway_types::DropReason;
use fairway_wire::svr::{COOKIE, HEADER_LEN, Header, HeaderTlvs, PayloadTlvs, TAG_LEN, tlv};

use crate::scene::{Scene, UUID, forward_tlvs, payload, with_payload};

const PORTS: (u16, u16) = (20_000, 30_001);

/// Every single bit of a genuine first packet, flipped.
#[test]
fn no_bit_of_a_message_can_be_changed() {
    let mut scene = Scene::new();
    let genuine = scene.intercept(&scene.request(5000));
    let message = payload(&genuine);
    let values: Vec<_> = [tlv::KEY_SALT, tlv::METADATA_SEQUENCE, tlv::PATH_METRICS]
        .map(|kind| header_value(&message, kind).unwrap())
        .into_iter()
        .zip([16, 8, 10])
        .flat_map(|(at, length)| at..at + length)
        .collect();
    let security = header_value(&message, tlv::SECURITY_ID).unwrap();
    let header_len = Header::parse(&message).unwrap().header_len();
    for bit in 0..message.len() * 8 {
        let mut changed = message.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let at = bit / 8;
        let before = scene.network.books(fairway_sim::NodeId(1));
        scene.inject(with_payload(&genuine, &changed));
        let dropped = scene.network.books(fairway_sim::NodeId(1)).dropped_since(&before);
        assert_eq!(dropped.len(), 1, "bit {bit}: {dropped:?}");
        let expected = match at {
            0..8 => Some(DropReason::UnknownWaypoint),
            8 if bit % 8 >= 4 => Some(DropReason::MetadataVersion),
            _ if values.contains(&at) || at >= header_len => Some(DropReason::BadTag),
            _ if (security..security + 4).contains(&at) => Some(DropReason::UnknownSecurityId),
            _ => None,
        };
        assert!(expected.is_none_or(|reason| dropped == [(reason, 1)]), "bit {bit}: {dropped:?}");
    }
    assert_eq!(scene.sessions()[1], 0);
    assert!(scene.network.receive(scene.server).is_empty());
    scene.network.run(1000);
    // The packet itself is as good as ever, unless its time is over.
    let request = scene.request(5000);
    assert_eq!(scene.forward(&request).len(), 1);
}

#[test]
fn a_wrong_transport_checksum_is_told_from_a_bad_tag() {
    let mut scene = Scene::new();
    let mut genuine = scene.intercept(&scene.request(5000));
    let last = genuine.len() - 1;
    genuine[last] ^= 1;
    scene.expect_nothing_but(&[(1, DropReason::BadChecksum, 1)], |scene| scene.inject(genuine));
}

/// A message of any header and length fields, without a genuine tag.
fn raw(version: u16, header_len: usize, payload_len: usize, rest: &[u8]) -> Vec<u8> {
    let word = version << 12 | header_len as u16;
    [&COOKIE[..], &word.to_be_bytes(), &(payload_len as u16).to_be_bytes(), rest].concat()
}

#[test]
fn lengths_are_checked_before_anything_else() {
    let needed = |scene: &mut Scene| {
        let header = scene.forger.header();
        let mut bytes = vec![0; header.encoded_len()];
        header.emit(&mut bytes).unwrap();
        bytes
    };
    let mut scene = Scene::new();
    let tlvs = needed(&mut scene);
    let length = HEADER_LEN + tlvs.len();
    let more = [&tlvs[..], &[0; 40]].concat();
    for (message, reason) in [
        (COOKIE.to_vec(), DropReason::MetadataTruncated),
        (raw(1, 12, 0, &[])[..11].to_vec(), DropReason::MetadataTruncated),
        (raw(0, length, 0, &more), DropReason::MetadataVersion),
        (raw(2, length, 0, &more), DropReason::MetadataVersion),
        (raw(1, 11, 0, &more), DropReason::MetadataLength),
        (raw(1, 0, 0, &more), DropReason::MetadataLength),
        (raw(1, 0xfff, 0, &more), DropReason::MetadataLength),
        (raw(1, length, 41, &more), DropReason::MetadataLength),
        (raw(1, length, 0xffff, &more), DropReason::MetadataLength),
        // Nothing is left for the tag.
        (raw(1, length, 40, &more), DropReason::MetadataTruncated),
        (raw(1, length, 25, &more), DropReason::MetadataTruncated),
        (raw(1, length, 24, &more), DropReason::BadTag),
        // No section is that long.
        (raw(1, length, 5000, &[&tlvs[..], &[0; 5016]].concat()), DropReason::MetadataLength),
        (raw(1, length - 1, 0, &more), DropReason::TlvOverrun),
        (raw(1, 12, 0, &[0; 16]), DropReason::TlvMissing),
    ] {
        let packet = scene.carry(PORTS, &message);
        scene.expect_nothing_but(&[(1, reason, 1)], |scene| scene.inject(packet));
    }
}

#[test]
fn header_tlvs_are_read_strictly() {
    let mut scene = Scene::new();
    let mut tlvs = vec![0; 64];
    let length = scene.forger.header().emit(&mut tlvs).unwrap();
    tlvs.truncate(length);
    let many: Vec<u8> = (0..65u16).flat_map(|n| raw_tlv(0x4000 + n, 0, &[])).collect();
    for (extra, reason) in [
        (raw_tlv(tlv::CONTROL, 2, &[1]), DropReason::TlvOverrun),
        (raw_tlv(tlv::CONTROL, 0xffff, &[1]), DropReason::TlvOverrun),
        (vec![0, 24, 0], DropReason::TlvOverrun),
        (many, DropReason::TlvOverrun),
        (raw_tlv(tlv::CONTROL, 0, &[]), DropReason::TlvLength),
        (raw_tlv(tlv::CONTROL, 2, &[1, 1]), DropReason::TlvLength),
        (raw_tlv(tlv::PATH_METRICS, 9, &[0; 9]), DropReason::TlvLength),
        (raw_tlv(tlv::ICMP_LOCATION_V4, 5, &[1; 5]), DropReason::TlvLength),
        (raw_tlv(tlv::DISABLE_FORWARD, 1, &[0]), DropReason::TlvLength),
        (raw_tlv(tlv::METADATA_ENCRYPTED, 1, &[0]), DropReason::TlvLength),
        (raw_tlv(tlv::SECURITY_ID, 4, &[0; 4]), DropReason::TlvDuplicate),
        ([raw_tlv(0x7000, 0, &[]), raw_tlv(0x7000, 0, &[])].concat(), DropReason::TlvDuplicate),
        (
            [raw_tlv(tlv::ICMP_LOCATION_V4, 4, &[1; 4]), raw_tlv(tlv::ICMP_LOCATION_V6, 16, &[1; 16])]
                .concat(),
            DropReason::TlvDuplicate,
        ),
        // Nothing wrong but the tag.
        (raw_tlv(0x7000, 3, &[1, 2, 3]), DropReason::BadTag),
    ] {
        let header = [&tlvs[..], &extra].concat();
        let message = raw(1, HEADER_LEN + header.len(), 0, &[&header[..], &[0; TAG_LEN]].concat());
        let packet = scene.carry(PORTS, &message);
        scene.expect_nothing_but(&[(1, reason, 1)], |scene| scene.inject(packet));
    }
}

#[test]
fn each_needed_header_tlv_is_missed() {
    let mut scene = Scene::new();
    let without: [fn(&mut HeaderTlvs); 3] =
        [|h| h.security_id = None, |h| h.key_salt = None, |h| h.sequence = None];
    for change in without {
        let offer = scene.offer(PORTS, |header, _| change(header));
        scene.expect_nothing_but(&[(1, DropReason::TlvMissing, 1)], |scene| scene.inject(offer));
    }
}

#[test]
fn payload_tlvs_are_read_strictly_even_from_a_peer() {
    let mut scene = Scene::new();
    let good = section(&PayloadTlvs { tenant: None, ..forward_tlvs() });
    for (extra, reason) in [
        (raw_tlv(tlv::TENANT, 5, b"corp"), DropReason::TlvOverrun),
        (raw_tlv(tlv::TENANT, 0xffff, b"corp"), DropReason::TlvOverrun),
        (vec![0], DropReason::TlvOverrun),
        (raw_tlv(tlv::SENDER_SALT, 15, &[0; 15]), DropReason::TlvLength),
        (raw_tlv(tlv::PATHWAY, 256, &[b'a'; 256]), DropReason::TlvLength),
        (raw_tlv(tlv::TCP_SYN, 1, &[0]), DropReason::TlvLength),
        (raw_tlv(tlv::SESSION_UUID, 16, &UUID), DropReason::TlvDuplicate),
        (raw_tlv(tlv::FORWARD_CONTEXT_V6, 37, &[1; 37]), DropReason::TlvDuplicate),
        (raw_tlv(tlv::TENANT, 2, &[0xff, 0xfe]), DropReason::TlvValue),
        (raw_tlv(tlv::TENANT, 0, &[]), DropReason::TlvValue),
        (raw_tlv(tlv::TENANT, 4, b"c\0rp"), DropReason::TlvValue),
        (raw_tlv(tlv::TENANT, 256, &[b'a'; 256]), DropReason::TlvValue),
    ] {
        let header = scene.forger.header();
        let bytes = [&good[..], &extra].concat();
        let message = scene.forger.seal_section(&header, &bytes, &[1], scene.unix());
        let packet = scene.carry(PORTS, &message);
        scene.expect_nothing_but(&[(1, reason, 1)], |scene| scene.inject(packet));
    }
    for change in [|tlvs: &mut PayloadTlvs| tlvs.uuid = None, |tlvs: &mut PayloadTlvs| tlvs.epoch = None] {
        let offer = scene.offer(PORTS, |_, tlvs| change(tlvs));
        scene.expect_nothing_but(&[(1, DropReason::TlvMissing, 1)], |scene| scene.inject(offer));
    }
}

#[test]
fn what_does_not_decrypt_is_refused_though_signed() {
    let mut scene = Scene::new();
    for bytes in [vec![], vec![7; 15], vec![7; 16], vec![7; 31], vec![7; 40], vec![7; 64]] {
        let header = HeaderTlvs { metadata_encrypted: true, ..scene.forger.header() };
        let message = scene.forger.seal_section(&header, &bytes, &[1], scene.unix());
        let packet = scene.carry(PORTS, &message);
        scene.expect_nothing_but(&[(1, DropReason::MetadataDecryption, 1)], |scene| scene.inject(packet));
    }
}

#[test]
fn packets_that_are_cut_anywhere_are_dropped_once() {
    let mut scene = Scene::new();
    let genuine = scene.intercept(&scene.request(5000));
    let message = payload(&genuine);
    for length in 0..message.len() {
        let cut = with_payload(&genuine, &message[..length]);
        let before = scene.network.books(fairway_sim::NodeId(1));
        scene.inject(cut);
        let dropped = scene.network.books(fairway_sim::NodeId(1)).dropped_since(&before);
        assert_eq!(dropped.iter().map(|(_, count)| count).sum::<u64>(), 1, "{length}: {dropped:?}");
    }
    for length in 0..genuine.len() {
        let before = scene.network.books(fairway_sim::NodeId(1));
        scene.inject(genuine[..length].to_vec());
        let dropped = scene.network.books(fairway_sim::NodeId(1)).dropped_since(&before);
        let malformed =
            dropped == [(DropReason::MalformedIp, 1)] || dropped == [(DropReason::MalformedTransport, 1)];
        assert!(malformed, "{length}: {dropped:?}");
    }
    assert_eq!(scene.sessions()[1], 0);
}
