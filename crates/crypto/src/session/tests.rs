//! Vectors come from `tools/session-vectors.py`, which shares no code with this crate.

use proptest::prelude::*;

use super::keys::{Derivation, Keys, Tag};
use super::processor::Processor;
use super::*;

const SALT: [u8; 16] = *b"salt of a sender";
const START: Time = Time::from_secs(100);

use fairway_types::Time;

fn secret(byte: u8) -> SessionSecret {
    SessionSecret::from_bytes([byte; 32])
}

/// Both ends of a session, each knowing the other's salt.
fn ends(suite: Suite) -> (End, End) {
    let end = |sends, salt| End::new(suite, secret(1), sends, salt, 0, START).unwrap();
    let mut ingress = end(Direction::Forward, SALT);
    let mut egress = end(Direction::Reverse, *b"salt of a answer");
    assert_eq!(ingress.learn(egress.salt(), START), Ok(true));
    assert_eq!(egress.learn(ingress.salt(), START), Ok(true));
    (ingress, egress)
}

fn seal(end: &mut End, associated: &[u8], payload: &[u8], now: Time) -> Vec<u8> {
    let suite = end.suite();
    let mut block = vec![0; suite.front()];
    block.extend_from_slice(payload);
    block.resize(block.len() + suite.back(payload.len()), 0);
    end.seal(Sealing { associated, block: &mut block, length: payload.len() }, now).unwrap();
    block
}

fn open(end: &mut End, associated: &[u8], sealed: &[u8], now: Time) -> Result<Vec<u8>, Unopened> {
    let mut block = sealed.to_vec();
    end.open(associated, &mut block, now).map(|range| block[range].to_vec())
}

struct Vector {
    suite: Suite,
    direction: Direction,
    secret: SessionSecret,
    salt: [u8; 16],
    counter: u64,
    associated: Vec<u8>,
    payload: Vec<u8>,
    sealed: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.trim_matches('-').as_bytes();
        digits.chunks(2).map(|d| u8::from_str_radix(core::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    };
    let lines = include_str!("../../vectors/session.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            Vector {
                suite: Suite::ALL.into_iter().find(|suite| suite.name() == fields[0]).unwrap(),
                direction: if fields[1] == "forward" { Direction::Forward } else { Direction::Reverse },
                secret: SessionSecret::from_bytes(bytes(fields[2]).try_into().unwrap()),
                salt: bytes(fields[3]).try_into().unwrap(),
                counter: u64::from_be_bytes(bytes(fields[4]).try_into().unwrap()),
                associated: bytes(fields[5]),
                payload: bytes(fields[6]),
                sealed: bytes(fields[7]),
            }
        })
        .collect()
}

#[test]
fn sealing_and_opening_agree_with_the_other_implementation() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 48);
    // Without what this processor may have, the usual library looks for itself (see tools/units).
    let processors = [Processor::get(), Processor::PLAIN];
    for (v, processor) in vectors.iter().flat_map(|v| processors.map(|processor| (v, processor))) {
        let of = Derivation { suite: v.suite, secret: &v.secret, direction: v.direction };
        let keys = Keys::derive_for(processor, &of, &v.salt, (v.counter >> 56) as u8).unwrap();
        let (front, length) = (v.suite.front(), v.payload.len());
        let mut block = vec![0; front + length + v.suite.back(length)];
        block[front..front + length].copy_from_slice(&v.payload);
        keys.seal(v.counter, &mut Sealing { associated: &v.associated, block: &mut block, length }).unwrap();
        assert_eq!(block, v.sealed, "{:?} of {length} bytes", v.suite);
        assert_eq!(keys.counter(&block), Some(v.counter));
        let range = keys.open(v.counter, &v.associated, &mut block, Tag::Unknown).unwrap();
        assert_eq!(block[range], v.payload);
    }
}

#[test]
fn a_payload_crosses_in_both_directions_and_grows_as_documented() {
    for suite in Suite::ALL {
        let (mut ingress, mut egress) = ends(suite);
        for length in [0, 1, 15, 16, 17, 1400] {
            let payload = vec![7; length];
            let sealed = seal(&mut ingress, b"header", &payload, START);
            assert_eq!(sealed.len() - length, suite.front() + suite.back(length));
            assert!(sealed.len() - length <= suite.max_overhead());
            assert_eq!(open(&mut egress, b"header", &sealed, START), Ok(payload.clone()));
            let sealed = seal(&mut egress, b"header", &payload, START);
            assert_eq!(open(&mut ingress, b"header", &sealed, START), Ok(payload));
        }
    }
    assert_eq!((Suite::Aes256Gcm.max_overhead(), Suite::Aes256Cbc.max_overhead()), (24, 48));
}

#[test]
fn encryption_hides_the_payload() {
    for suite in Suite::ALL {
        let (mut ingress, _) = ends(suite);
        let sealed = seal(&mut ingress, b"", b"a secret message of 31 letters.", START);
        let found = sealed.windows(6).any(|window| window == b"secret");
        assert_eq!(found, !suite.encrypts(), "{suite:?}");
    }
}

#[test]
fn every_flipped_bit_is_refused_and_changes_nothing() {
    for suite in Suite::ALL {
        let (mut ingress, mut egress) = ends(suite);
        let sealed = seal(&mut ingress, b"header", b"payload", START);
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                open(&mut egress, b"header", &forged, START),
                Err(Unopened::Forged),
                "{suite:?} {bit}"
            );
        }
        for length in 0..sealed.len() {
            assert!(open(&mut egress, b"header", &sealed[..length], START).is_err());
        }
        assert_eq!(open(&mut egress, b"heades", &sealed, START), Err(Unopened::Forged));
        assert_eq!(open(&mut egress, b"header", &sealed, START), Ok(b"payload".to_vec()));
    }
}

#[test]
fn a_packet_is_opened_once() {
    for suite in Suite::ALL {
        let (mut ingress, mut egress) = ends(suite);
        let sealed: Vec<_> = (0..3000).map(|_| seal(&mut ingress, b"", b"x", START)).collect();
        for packet in sealed.iter().skip(1) {
            assert!(open(&mut egress, b"", packet, START).is_ok());
            assert_eq!(open(&mut egress, b"", packet, START), Err(Unopened::Replayed));
        }
        assert_eq!(open(&mut egress, b"", &sealed[0], START), Err(Unopened::Replayed), "behind the window");
    }
}

#[test]
fn nothing_opens_for_another_session_or_direction() {
    for suite in Suite::ALL {
        let (mut ingress, mut egress) = ends(suite);
        let sealed = seal(&mut ingress, b"", b"payload", START);
        assert_eq!(open(&mut ingress, b"", &sealed, START), Err(Unopened::Forged), "reflected");
        let mut other = End::new(suite, secret(2), Direction::Reverse, SALT, 0, START).unwrap();
        assert_eq!(open(&mut other, b"", &sealed, START), Err(Unopened::NoKeys));
        other.learn(ingress.salt(), START).unwrap();
        assert_eq!(open(&mut other, b"", &sealed, START), Err(Unopened::Forged));
        assert!(open(&mut egress, b"", &sealed, START).is_ok());
    }
}

#[test]
fn phases_follow_each_other_without_a_gap() {
    for suite in Suite::ALL {
        let (mut ingress, mut egress) = ends(suite);
        let before = seal(&mut ingress, b"", b"before", START);
        // The clock turns it; then everything is opened in the wrong order.
        let later = START + PHASE_LIFETIME;
        let after = seal(&mut ingress, b"", b"after", later);
        assert_eq!(open(&mut egress, b"", &after, later), Ok(b"after".to_vec()));
        assert_eq!(open(&mut egress, b"", &before, later), Ok(b"before".to_vec()));
        assert_eq!(open(&mut egress, b"", &before, later), Err(Unopened::Replayed));
        // Ten seconds later the old keys are gone.
        let late = later + core::time::Duration::from_secs(10);
        assert!(open(&mut egress, b"", &before, late).is_err());
        for _ in 0..254 {
            ingress.turn(late).unwrap();
            let sealed = seal(&mut ingress, b"", b"x", late);
            assert!(open(&mut egress, b"", &sealed, late).is_ok());
        }
        assert!(ingress.turn(late).is_err(), "a phase never comes again under one salt");
        assert!(open(&mut egress, b"", &seal(&mut ingress, b"", b"x", late), late).is_ok());
    }
}

#[test]
fn a_new_salt_takes_over_and_the_old_one_fades() {
    let (mut ingress, mut egress) = ends(Suite::Aes256Gcm);
    let old = [seal(&mut ingress, b"", b"1", START), seal(&mut ingress, b"", b"2", START)];
    ingress.renew([9; 16], 0, START).unwrap();
    let new = seal(&mut ingress, b"", b"3", START);
    assert_eq!(open(&mut egress, b"", &new, START), Err(Unopened::Forged), "metadata has not told it yet");
    assert_eq!(egress.learn(ingress.salt(), START), Ok(true));
    assert_eq!(egress.learn(ingress.salt(), START), Ok(false));
    assert_eq!(egress.learn(&SALT, START), Ok(false), "a straggler's metadata does not bring the old back");
    assert!(open(&mut egress, b"", &new, START).is_ok());
    assert!(open(&mut egress, b"", &old[0], START).is_ok());
    let late = START + core::time::Duration::from_secs(11);
    assert_eq!(open(&mut egress, b"", &old[1], late), Err(Unopened::Forged));
}

#[test]
fn workers_count_apart() {
    let (mut ingress, mut egress) = ends(Suite::Aes256Cbc);
    let first = seal(&mut ingress, b"", b"first", START);
    ingress.renew([9; 16], 1, START).unwrap();
    egress.learn(ingress.salt(), START).unwrap();
    let second = seal(&mut ingress, b"", b"second", START);
    assert!(open(&mut egress, b"", &second, START).is_ok());
    assert!(open(&mut egress, b"", &first, START).is_ok());
}

#[test]
fn an_end_recognises_the_start_of_what_it_sealed() {
    for suite in Suite::ALL {
        let (mut ingress, egress) = ends(suite);
        let payload: Vec<u8> = (0..100).collect();
        let sealed = seal(&mut ingress, b"header", &payload, START);
        let mut shown = [0; 40];
        let known = ingress.reveal(&sealed[..60], &mut shown);
        assert!(known >= 32, "{suite:?}: {known}");
        assert_eq!(shown[..known], payload[..known]);
        assert_eq!(egress.reveal(&sealed[..60], &mut shown), 0, "not its own");
        assert_eq!(ingress.reveal(&sealed[..7], &mut shown), 0);
        ingress.renew([1; 16], 0, START).unwrap();
        assert_eq!(ingress.reveal(&sealed[..60], &mut shown), 0, "the keys are gone");
    }
}

#[test]
fn an_observer_opens_what_either_end_sealed_as_often_as_it_likes() {
    for suite in Suite::ALL {
        let (mut ingress, _) = ends(suite);
        let observer = Observer::new(suite, &secret(1), Direction::Forward, &SALT);
        for turn in 0..2 {
            let sealed = seal(&mut ingress, b"header", b"payload", START);
            for _ in 0..2 {
                let mut block = sealed.clone();
                let range = observer.open(b"header", &mut block).unwrap();
                assert_eq!(&block[range], b"payload", "{suite:?} {turn}");
            }
            assert!(observer.open(b"other", &mut sealed.clone()).is_none());
            ingress.turn(START).unwrap();
        }
    }
}

#[test]
fn secrets_are_not_printed() {
    let (ingress, _) = ends(Suite::Aes256Gcm);
    assert_eq!(format!("{:?}", ingress.secret()), "SessionSecret(redacted)");
    assert!(!format!("{ingress:?}").contains("[1, 1"));
}

proptest! {
    /// Several blocks at once are opened as one after the other, whatever was done to them.
    #[test]
    fn opening_many_is_opening_each(
        suite in prop::sample::select(Suite::ALL.to_vec()),
        length in 0..300usize,
        order in prop::collection::vec(0..48usize, 0..48),
        turn in 0..60usize,
        flips in prop::collection::vec((0..48usize, any::<prop::sample::Index>()), 0..4),
        bytes in prop::collection::vec(any::<u8>(), 300),
    ) {
        let (mut sender, mut one) = ends(suite);
        let (_, mut other) = ends(suite);
        let sent: Vec<_> = (0..48)
            .map(|number| {
                if number == turn {
                    sender.turn(START).unwrap();
                }
                seal(&mut sender, &bytes[..20.min(length)], &bytes[..length], START)
            })
            .collect();
        // Out of order, some twice, some not at all, some changed.
        let mut arrived: Vec<_> = order.iter().map(|&number| sent[number].clone()).collect();
        for (number, at) in flips {
            if let Some(block) = arrived.get_mut(number) {
                let at = at.index(block.len());
                block[at] ^= 1;
            }
        }
        let associated = &bytes[..20.min(length)];
        let expected: Vec<_> = arrived.iter().map(|block| open(&mut one, associated, block, START)).collect();
        let mut sealed: Vec<_> = arrived.iter_mut().map(|block| Opening::new(associated, block)).collect();
        other.open_all(&mut sealed, START);
        let opened: Vec<_> =
            sealed.iter().map(|sealed| sealed.opened.clone().map(|range| sealed.block[range].to_vec())).collect();
        prop_assert_eq!(opened, expected);
    }

    /// Several payloads at once are sealed as one after the other.
    #[test]
    fn sealing_many_is_sealing_each(
        suite in prop::sample::select(Suite::ALL.to_vec()),
        lengths in prop::collection::vec(0..1500usize, 0..5),
        alike in 0..40usize,
        length in 0..1500usize,
        bytes in prop::collection::vec(any::<u8>(), 1500 + 64),
    ) {
        let lengths: Vec<usize> = core::iter::repeat_n(length, alike).chain(lengths).collect();
        let (mut one, mut other) = (ends(suite).0, ends(suite).0);
        let message = |number: usize| (&bytes[number..number + 20], &bytes[number..number + lengths[number]]);
        let expected: Vec<_> = (0..lengths.len())
            .map(|number| seal(&mut one, message(number).0, message(number).1, START))
            .collect();
        let mut blocks: Vec<_> = (0..lengths.len())
            .map(|number| {
                let mut block = vec![0; suite.front()];
                block.extend_from_slice(message(number).1);
                block.resize(block.len() + suite.back(lengths[number]), 0);
                block
            })
            .collect();
        let mut pieces: Vec<_> = blocks
            .iter_mut()
            .enumerate()
            .map(|(number, block)| Sealing { associated: message(number).0, block, length: lengths[number] })
            .collect();
        other.seal_all(&mut pieces, START).unwrap();
        prop_assert_eq!(blocks, expected);
    }
}

proptest! {
    #[test]
    fn hostile_blocks_never_open(
        suite in prop::sample::select(&Suite::ALL[..]),
        block in prop::collection::vec(any::<u8>(), 0..200),
        associated in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let (_, mut egress) = ends(suite);
        prop_assert!(open(&mut egress, &associated, &block, START).is_err());
    }

    #[test]
    fn any_order_with_duplicates_delivers_each_once(
        suite in prop::sample::select(&Suite::ALL[..]),
        order in prop::collection::vec(0usize..40, 1..120),
    ) {
        let (mut ingress, mut egress) = ends(suite);
        let sealed: Vec<_> = (0u8..40).map(|n| seal(&mut ingress, b"", &[n], START)).collect();
        let mut seen = std::collections::HashSet::new();
        for number in order {
            let opened = open(&mut egress, b"", &sealed[number], START);
            if seen.insert(number) {
                prop_assert_eq!(opened, Ok(vec![number as u8]));
            } else {
                prop_assert_eq!(opened, Err(Unopened::Replayed));
            }
        }
    }
}
