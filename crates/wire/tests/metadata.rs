//! What metadata is refused for, and that whatever is written is read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::net::{IpAddr, SocketAddr};

use fairway_wire::svr::*;
use proptest::prelude::*;

fn tlv_bytes(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn section(tlvs: &[(u16, &[u8])]) -> Vec<u8> {
    tlvs.iter().flat_map(|(kind, value)| tlv_bytes(*kind, value)).collect()
}

fn header_error(tlvs: &[(u16, &[u8])]) -> Option<MetadataError> {
    HeaderTlvs::parse(&section(tlvs)).err()
}

fn payload_error(tlvs: &[(u16, &[u8])]) -> Option<MetadataError> {
    PayloadTlvs::parse(&section(tlvs)).err()
}

#[test]
fn a_header_is_refused_for_its_lengths_and_version() {
    let mut payload = [0; 40];
    let tlvs = HeaderTlvs { security_id: Some(1), ..HeaderTlvs::default() };
    assert_eq!(emit_header(&mut payload, &tlvs, 20), Some(20));
    let header = Header::parse(&payload).unwrap();
    assert_eq!((header.header_len(), header.payload_len(), header.rest().len()), (20, 20, 0));
    assert_eq!(Header::parse(&payload[..39]), Err(MetadataError::Length));
    assert_eq!(Header::parse(&payload[..11]), Err(MetadataError::Truncated));
    let broken = |at: usize, value: u8| {
        let mut payload = payload;
        payload[at] = value;
        Header::parse(&payload).err()
    };
    assert_eq!(broken(0, 0), Some(MetadataError::Truncated));
    assert_eq!(broken(8, 0x20), Some(MetadataError::Version));
    assert_eq!(broken(9, 11), Some(MetadataError::Length));
    assert_eq!(broken(9, 21), Some(MetadataError::Length));
    assert_eq!(broken(10, 1), Some(MetadataError::Length));
}

#[test]
fn what_does_not_fit_is_not_written() {
    let tlvs = HeaderTlvs { security_id: Some(1), ..HeaderTlvs::default() };
    assert_eq!(emit_header(&mut [0; 19], &tlvs, 0), None);
    assert_eq!(emit_header(&mut [0; 40], &tlvs, 65_536), None);
    let offset = Fragment { offset: 0x2000, ..Fragment::default() };
    assert_eq!(HeaderTlvs { fragment: Some(offset), ..tlvs }.emit(&mut [0; 99]), None);
    let mixed = Context {
        source: SocketAddr::new(IpAddr::from([1, 2, 3, 4]), 1),
        destination: SocketAddr::new(IpAddr::from([0u16; 8]), 1),
        protocol: 6,
    };
    let payload = PayloadTlvs { forward: Some(mixed), ..PayloadTlvs::default() };
    assert_eq!(payload.emit(&mut [0; 99]), None);
    for name in ["", "a\nb", &"x".repeat(256)] {
        assert_eq!(PayloadTlvs { tenant: Some(name), ..PayloadTlvs::default() }.emit(&mut [0; 999]), None);
    }
    assert_eq!(PayloadTlvs { pathway: Some(&[0; 256]), ..PayloadTlvs::default() }.emit(&mut [0; 999]), None);
    assert_eq!(PayloadTlvs { session_key: Some(&[]), ..PayloadTlvs::default() }.emit(&mut [0; 9]), None);
}

#[test]
fn an_overrun() {
    assert_eq!(HeaderTlvs::parse(&[0, 16, 0]), Err(MetadataError::TlvOverrun));
    assert_eq!(HeaderTlvs::parse(&[0, 16, 0, 4, 1, 2, 3]), Err(MetadataError::TlvOverrun));
    assert_eq!(PayloadTlvs::parse(&[0, 99, 0xff, 0xff, 1]), Err(MetadataError::TlvOverrun));
    let many: Vec<(u16, &[u8])> = (0..65).map(|kind| (1000 + kind, &[][..])).collect();
    assert_eq!(header_error(&many), Some(MetadataError::TlvOverrun));
    assert_eq!(HeaderTlvs::parse(&section(&many[..64])).unwrap().unknown, 64);
}

#[test]
fn a_known_type_of_the_wrong_length() {
    let header: [(u16, usize); 13] = [
        (1, 10),
        (16, 4),
        (18, 0),
        (20, 4),
        (21, 16),
        (24, 1),
        (26, 10),
        (46, 1),
        (0x8003, 12),
        (0x8004, 16),
        (0x8005, 8),
        (0x8007, 0),
        (28, 1),
    ];
    for (kind, length) in header {
        let wrong = if kind == 28 { 1 } else { length + 1 };
        assert_eq!(header_error(&[(kind, &vec![0; wrong])]), Some(MetadataError::TlvLength), "{kind}");
        if length > 1 {
            let value = vec![0; length - 1];
            assert_eq!(header_error(&[(kind, &value)]), Some(MetadataError::TlvLength), "{kind}");
        }
    }
    for (kind, length) in [
        (2, 13),
        (3, 37),
        (4, 13),
        (5, 37),
        (6, 16),
        (8, 4),
        (11, 0),
        (12, 0),
        (13, 8),
        (18, 0),
        (19, 255),
        (25, 4),
        (42, 4),
        (0x8001, 16),
        (0x8002, 4),
        (0x8006, 8),
    ] {
        assert_eq!(payload_error(&[(kind, &vec![6; length + 1])]), Some(MetadataError::TlvLength), "{kind}");
    }
    assert_eq!(payload_error(&[(46, &[])]), Some(MetadataError::TlvLength));
    assert_eq!(payload_error(&[(50, &[4; 12])]), Some(MetadataError::TlvLength));
    assert_eq!(payload_error(&[(51, &[0, 2, 1, b'a'])]), Some(MetadataError::TlvLength));
    assert_eq!(payload_error(&[(51, &[0, 1, 1, b'a', 0])]), Some(MetadataError::TlvLength));
}

#[test]
fn a_type_twice() {
    assert_eq!(header_error(&[(16, &[0; 4]), (16, &[0; 4])]), Some(MetadataError::TlvDuplicate));
    assert_eq!(header_error(&[(900, &[]), (901, &[]), (900, &[])]), Some(MetadataError::TlvDuplicate));
    assert_eq!(header_error(&[(0x8039, &[]), (0x8039, &[1])]), Some(MetadataError::TlvDuplicate));
    assert_eq!(header_error(&[(20, &[0; 4]), (21, &[0; 16])]), Some(MetadataError::TlvDuplicate));
    assert_eq!(payload_error(&[(18, &[]), (18, &[])]), Some(MetadataError::TlvDuplicate));
    assert_eq!(payload_error(&[(2, &[6; 13]), (3, &[6; 37])]), Some(MetadataError::TlvDuplicate));
    assert_eq!(payload_error(&[(5, &[6; 37]), (4, &[6; 13])]), Some(MetadataError::TlvDuplicate));
    assert_eq!(header_error(&[(0x0010, &[0; 4]), (0x1010, &[0; 4])]), None, "types that share low bits");
}

#[test]
fn a_value_that_may_not_be() {
    for kind in [7, 10, 14, 15, 17, 35] {
        for name in [&b""[..], b"\xff", b"a\0b", &[b'x'; 256]] {
            assert_eq!(payload_error(&[(kind, name)]), Some(MetadataError::TlvValue), "{kind} {name:?}");
        }
        assert_eq!(payload_error(&[(kind, &[b'x'; 255])]), None);
    }
    for protocol in [0, 43, 44, 60] {
        let mut context = [1; 13];
        context[12] = protocol;
        assert_eq!(payload_error(&[(2, &context)]), Some(MetadataError::TlvValue));
    }
    assert_eq!(payload_error(&[(50, &[5; 11])]), Some(MetadataError::TlvValue));
    assert_eq!(payload_error(&[(51, &[0, 1, 0])]), Some(MetadataError::TlvValue));
}

#[test]
fn types_of_the_other_section_are_unknown_but_for_18() {
    let payload = section(&[(16, &[0; 9]), (24, &[]), (18, &[])]);
    let tlvs = PayloadTlvs::parse(&payload).unwrap();
    assert_eq!((tlvs.unknown, tlvs.disable_forward), (2, true));
    let header = section(&[(2, &[]), (7, b"staff"), (18, &[])]);
    let tlvs = HeaderTlvs::parse(&header).unwrap();
    assert_eq!((tlvs.unknown, tlvs.disable_forward), (2, true));
}

fn header_tlvs() -> impl Strategy<Value = HeaderTlvs> {
    let fragment = (any::<u32>(), any::<u16>(), any::<[bool; 2]>(), 0u16..0x2000, any::<u16>()).prop_map(
        |(extended_id, original_id, [dont_fragment, more_fragments], offset, largest)| Fragment {
            extended_id,
            original_id,
            dont_fragment,
            more_fragments,
            offset,
            largest,
        },
    );
    let metrics = (0u8..16, 0u32..1 << 28, 0u8..16, 0u32..1 << 28, any::<bool>(), 0u16..0x8000).prop_map(
        |(tx_color, tx_time, rx_color, rx_time, drop, previous_rx_color_count)| PathMetrics {
            tx_color,
            tx_time,
            rx_color,
            rx_time,
            drop,
            previous_rx_color_count,
        },
    );
    let modify = (any::<[bool; 2]>(), 0u16..0x1000).prop_map(|([forward, done], sequence)| ModifyRequest {
        forward,
        done,
        sequence,
    });
    let repair = (any::<[u32; 2]>(), any::<[u8; 3]>())
        .prop_map(|([block, sequence], [index, k, m])| SequenceRepair { block, index, k, m, sequence });
    use prop::option::of;
    (
        of(fragment),
        (of(any::<u32>()), any::<[bool; 2]>()),
        of(any::<IpAddr>()),
        of(any::<u8>().prop_map(Control::from_number)),
        of(metrics),
        of(modify),
        of(any::<u8>().prop_map(HealthCheck::from_number)),
        of(repair),
        of(any::<[u8; 16]>()),
        of(any::<u64>()),
    )
        .prop_map(
            |(
                fragment,
                (security_id, flags),
                location,
                control,
                metrics,
                modify,
                health,
                repair,
                salt,
                sequence,
            )| {
                HeaderTlvs {
                    fragment,
                    security_id,
                    disable_forward: flags[0],
                    icmp_location: location,
                    control,
                    path_metrics: metrics,
                    modify,
                    health_check: health,
                    sequence_repair: repair,
                    key_salt: salt,
                    sequence,
                    metadata_encrypted: flags[1],
                    unknown: 0,
                }
            },
        )
}

fn context() -> impl Strategy<Value = Context> {
    let protocol = any::<u8>().prop_filter("an extension header", |number| ![0, 43, 44, 60].contains(number));
    let addresses = prop_oneof![
        any::<[[u8; 4]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
        any::<[[u8; 16]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
    ];
    (addresses, any::<[u16; 2]>(), protocol).prop_map(|([source, destination], ports, protocol)| Context {
        source: SocketAddr::new(source, ports[0]),
        destination: SocketAddr::new(destination, ports[1]),
        protocol,
    })
}

/// The parts of payload TLVs that own their bytes.
#[derive(Clone, Debug)]
struct Owned {
    names: [Option<String>; 6],
    pathway: Option<Vec<u8>>,
    session_key: Option<Vec<u8>>,
    egress: Option<Vec<String>>,
}

fn owned() -> impl Strategy<Value = Owned> {
    use prop::option::of;
    (
        prop::array::uniform6(of("[a-z0-9é.-]{1,20}")),
        of(prop::collection::vec(any::<u8>(), 0..=255)),
        of(prop::collection::vec(any::<u8>(), 1..64)),
        of(prop::collection::vec("[a-z]{1,9}", 0..5)),
    )
        .prop_map(|(names, pathway, session_key, egress)| Owned { names, pathway, session_key, egress })
}

proptest! {
    #[test]
    fn header_tlvs_survive_a_round_trip(tlvs in header_tlvs(), payload_len in 0usize..200) {
        let mut buffer = vec![0xee; HEADER_LEN + tlvs.encoded_len()];
        prop_assert_eq!(tlvs.emit(&mut buffer[HEADER_LEN..]), Some(tlvs.encoded_len()));
        prop_assert_eq!(HeaderTlvs::parse(&buffer[HEADER_LEN..]), Ok(tlvs));
        prop_assert_eq!(emit_header(&mut buffer, &tlvs, payload_len), Some(buffer.len()));
        buffer.resize(buffer.len() + payload_len, 0);
        let header = Header::parse(&buffer).unwrap();
        prop_assert_eq!(header.payload_len(), payload_len);
        prop_assert_eq!(HeaderTlvs::parse(header.header_tlvs()), Ok(tlvs));
    }

    #[test]
    fn payload_tlvs_survive_a_round_trip(
        contexts in prop::array::uniform2(prop::option::of(context())),
        owned in owned(),
        numbers in (any::<[Option<u32>; 3]>(), any::<[Option<u64>; 2]>(), any::<[Option<[u8; 16]>; 2]>()),
        flags in any::<[bool; 3]>(),
        source_nat: Option<[u8; 4]>,
        multicast in prop::option::of((context(), any::<u8>())),
    ) {
        let name = |at: usize| owned.names[at].as_deref();
        let mut egress = [0; 128];
        let names: Option<Vec<&str>> = owned.egress.as_ref().map(|names| names.iter().map(String::as_str).collect());
        let tlvs = PayloadTlvs {
            forward: contexts[0], reverse: contexts[1], uuid: numbers.2[0], tenant: name(0),
            global_interface: numbers.0[0], service: name(1), session_encrypted: flags[0], tcp_syn: flags[1],
            sessions_in_service: numbers.1[0], source_router: name(2), security_policy: name(3),
            destination_router: name(4), disable_forward: flags[2], pathway: owned.pathway.as_deref(),
            source_nat: source_nat.map(Into::into), application: name(5), remaining_session_time: numbers.0[1],
            session_key: owned.session_key.as_deref(),
            multicast: multicast.map(|(context, flags)| MulticastContext {
                flags, source: context.source.ip(), group: context.destination.ip(), protocol: context.protocol,
            }),
            multicast_egress: names.as_ref().and_then(|names| EgressList::write(names, &mut egress)),
            sender_salt: numbers.2[1], epoch: numbers.0[2], boot_id: numbers.1[1], unknown: 0,
        };
        let mut buffer = vec![0xee; tlvs.encoded_len()];
        prop_assert_eq!(tlvs.emit(&mut buffer), Some(buffer.len()));
        let parsed = PayloadTlvs::parse(&buffer).unwrap();
        prop_assert!(parsed == tlvs, "{:?} is not {:?}", parsed, tlvs);
        let listed: Option<Vec<&str>> = parsed.multicast_egress.map(|list| list.iter().collect());
        prop_assert_eq!(listed, names);
        if let Some(short) = buffer.len().checked_sub(1) {
            prop_assert_eq!(tlvs.emit(&mut vec![0; short]), None);
        }
    }
}
