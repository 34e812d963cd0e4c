use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::ip;

/// A UDP packet with options or extension headers in front of it, and a payload of these bytes.
fn packet(version: Version, extra: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut segment = vec![0x12, 0x34, 0, 53];
    segment.extend_from_slice(&length.to_be_bytes());
    segment.extend_from_slice(&[0, 0]);
    segment.extend_from_slice(payload);
    let mut packet = match version {
        Version::V4 => {
            let mut header =
                vec![0x40 | (5 + extra.len() / 4) as u8, 1, 0, 0, 0xab, 0xcd, 0, 0, 64, 17, 0, 0];
            header.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
            header
        }
        Version::V6 => {
            let mut header = vec![0x60, 0x10, 0, 0, 0, 0, if extra.is_empty() { 17 } else { 0 }, 64];
            header.extend_from_slice(&[0xfd; 32]);
            header
        }
    };
    packet.extend_from_slice(extra);
    packet.extend_from_slice(&segment);
    complete(&mut packet, false).unwrap();
    packet
}

fn extra(version: Version, some: bool) -> &'static [u8] {
    match (some, version) {
        (false, _) => &[],
        // Router alert, which is copied, and a timestamp, which is not.
        (true, Version::V4) => &[0x94, 4, 0, 0, 68, 4, 5, 0],
        // Hop-by-hop options, then destination options.
        (true, Version::V6) => &[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0],
    }
}

proptest! {
    #[test]
    fn what_is_cut_and_put_together_is_the_same(
        v6 in any::<bool>(),
        some in any::<bool>(),
        payload in prop::collection::vec(any::<u8>(), 0..5000),
        mtu in 96usize..1600,
        id in any::<u32>(),
        backwards in any::<bool>(),
    ) {
        let version = if v6 { Version::V6 } else { Version::V4 };
        let whole = packet(version, extra(version, some), &payload);
        let cut = Cut::new(&whole, mtu, id).unwrap();
        let mut fragments: Vec<Vec<u8>> = (0..cut.count())
            .map(|index| {
                let mut out = vec![0xee; mtu];
                let length = cut.emit(index, &mut out).unwrap();
                out.truncate(length);
                out
            })
            .collect();
        prop_assert_eq!(cut.emit(cut.count(), &mut [0; 2000]), None);
        prop_assert_eq!(cut.emit(0, &mut [0; 27]), None);
        if fragments.len() == 1 {
            return Ok(());
        }
        if backwards {
            fragments.reverse();
        }
        let mut made = vec![0; 6000];
        let mut end = 0;
        for fragment in &fragments {
            prop_assert!(fragment.len() <= mtu);
            let parsed = ip::parse(fragment).unwrap();
            let view = View::of(fragment, &parsed).unwrap();
            let wanted = if version == Version::V4 { id & 0xffff } else { id };
            prop_assert_eq!(view.id, wanted);
            prop_assert_eq!(view.more, parsed.fragment == Fragment::First || view.offset + view.data.len() != whole.len() - view.head_len());
            if view.offset == 0 {
                view.emit_head(&mut made);
            }
            put(&mut made, view.head_len() + view.offset, view.data);
            end = end.max(view.head_len() + view.offset + view.data.len());
            prop_assert!(view.most() >= view.offset + view.data.len());
        }
        made.truncate(end);
        prop_assert!(complete(&mut made, false).is_some());
        let mut expected = whole.clone();
        if version == Version::V4 {
            put(&mut expected, 4, &(id as u16).to_be_bytes());
            complete(&mut expected, false).unwrap();
        }
        prop_assert_eq!(made, expected);
    }

    #[test]
    fn nothing_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..120), mtu in 0usize..120) {
        if let Ok(parsed) = ip::parse(&bytes) {
            if let Some(view) = View::of(&bytes, &parsed) {
                let mut head = vec![0; view.head_len()];
                view.emit_head(&mut head);
                prop_assert!(view.offset < 65_536 && view.most() <= 65_535);
            }
            if let Some(cut) = Cut::new(&bytes, mtu, 7) {
                for index in 0..cut.count() {
                    prop_assert!(cut.emit(index, &mut [0; 200]).is_some_and(|length| length <= mtu));
                }
            }
        }
    }
}

#[test]
fn options_that_are_not_copied_are_in_the_first_fragment_only() {
    let whole = packet(Version::V4, extra(Version::V4, true), &[7; 100]);
    let cut = Cut::new(&whole, 76, 9).unwrap();
    let mut out = [0; 76];
    cut.emit(0, &mut out).unwrap();
    assert_eq!(out[20..28], [0x94, 4, 0, 0, 68, 4, 5, 0]);
    cut.emit(1, &mut out).unwrap();
    assert_eq!(out[20..28], [0x94, 4, 0, 0, 1, 1, 1, 1]);
}

#[test]
fn a_fragment_is_not_cut_again() {
    for version in [Version::V4, Version::V6] {
        let whole = packet(version, &[], &[7; 100]);
        let mut out = vec![0; 96];
        let length = Cut::new(&whole, 96, 9).unwrap().emit(0, &mut out).unwrap();
        out.truncate(length);
        assert!(Cut::new(&out, 80, 9).is_none());
        assert!(Cut::new(&whole, 44, 9).is_none() || version == Version::V4);
        assert!(Cut::new(&whole, 27, 9).is_none());
    }
}

#[test]
fn congestion_of_one_fragment_is_that_of_the_packet() {
    for version in [Version::V4, Version::V6] {
        let mut whole = packet(version, &[], &[7; 100]);
        let mut out = [0; 96];
        let parsed = {
            Cut::new(&whole, 96, 9).unwrap().emit(0, &mut out).unwrap();
            ip::parse(&out).unwrap()
        };
        let view = View::of(&out, &parsed).unwrap();
        assert!(!view.is_congested());
        complete(&mut whole, true).unwrap();
        assert!(ip::parse(&whole).is_ok());
        let class = if version == Version::V4 { whole[1] } else { whole[1] >> 4 };
        assert_eq!(class & 3, 3);
    }
}
