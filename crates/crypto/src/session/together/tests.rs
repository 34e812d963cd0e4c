use fairway_types::{Suite, Time};
use proptest::prelude::*;

use crate::session::{Checked, Direction, End, Sealing, SessionSecret, Unfinished, Unopened};

const START: Time = Time::from_secs(100);

/// Both ends of several sessions, each knowing the other's salt.
fn sessions(suites: &[Suite]) -> (Vec<End>, Vec<End>) {
    let of = |(number, &suite): (u8, &Suite)| {
        let end = |sends, salt| {
            End::new(suite, SessionSecret::from_bytes([number; 32]), sends, [salt; 16], 0, START).unwrap()
        };
        let (mut ingress, mut egress) = (end(Direction::Forward, 1), end(Direction::Reverse, 2));
        egress.learn(ingress.salt(), START).unwrap();
        ingress.learn(egress.salt(), START).unwrap();
        (ingress, egress)
    };
    (0..).zip(suites).map(of).unzip()
}

/// A payload with room for what is added to it.
fn block(suite: Suite, payload: &[u8]) -> Vec<u8> {
    let mut block = vec![0; suite.front()];
    block.extend_from_slice(payload);
    block.resize(block.len() + suite.back(payload.len()), 0);
    block
}

/// What a sender does in its turn.
#[derive(Clone, Copy, Debug)]
struct Sent {
    session: usize,
    length: usize,
    /// Goes on to other keys before.
    turns: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let length = prop_oneof![Just(0usize), Just(100), Just(100), 0..300usize];
    (0..5usize, length, prop::bool::weighted(0.05)).prop_map(|(session, length, turns)| Sent {
        session,
        length,
        turns,
    })
}

proptest! {
    /// Payloads of several sessions are sealed and opened together as one after the other, whatever becomes
    /// of their keys meanwhile, and whatever was done to them on the way.
    #[test]
    fn together_is_one_after_the_other(
        suites in prop::collection::vec(prop::sample::select(Suite::ALL.to_vec()), 5),
        sends in prop::collection::vec(sent(), 0..50),
        arrives in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
        bytes in prop::collection::vec(any::<u8>(), 300),
    ) {
        let (mut one, mut opens) = sessions(&suites);
        let (mut other, mut opens_checked) = sessions(&suites);
        let associated = &bytes[..20];
        let expected: Vec<Vec<u8>> = sends
            .iter()
            .map(|&Sent { session, length, turns }| {
                if turns {
                    one[session].turn(START).unwrap();
                }
                let mut block = block(suites[session], &bytes[..length]);
                one[session].seal(Sealing { associated, block: &mut block, length }, START).unwrap();
                block
            })
            .collect();
        let mut blocks: Vec<_> =
            sends.iter().map(|sent| block(suites[sent.session], &bytes[..sent.length])).collect();
        let (mut unfinished, mut pieces) = (Vec::new(), Vec::new());
        for (&Sent { session, length, turns }, block) in sends.iter().zip(&mut blocks) {
            if turns {
                other[session].turn(START).unwrap();
            }
            let piece = Sealing { associated, block: &mut block[..], length };
            if let Some(left) = other[session].begin_seal(piece, START).unwrap() {
                unfinished.push(left);
                pieces.push(Sealing { associated, block, length });
            }
        }
        // Their sessions may be gone by now.
        drop(other);
        Unfinished::finish_all(&unfinished.iter().collect::<Vec<_>>(), &mut pieces).unwrap();
        prop_assert_eq!(&blocks, &expected);

        let mut arrived: Vec<(usize, Vec<u8>)> = Vec::new();
        if !sends.is_empty() {
            let numbers = arrives.iter().map(|at| at.index(sends.len()));
            arrived.extend(numbers.map(|number| (sends[number].session, blocks[number].clone())));
        }
        for (number, at) in flips {
            if arrived.is_empty() {
                break;
            }
            let number = number.index(arrived.len());
            let at = at.index(arrived[number].1.len());
            arrived[number].1[at] ^= 1;
        }
        let payload = |block: &[u8], opened: Result<core::ops::Range<usize>, Unopened>| {
            opened.map(|range| block[range].to_vec())
        };
        let expected: Vec<_> = arrived
            .iter()
            .map(|(session, block)| {
                let mut block = block.clone();
                let opened = opens[*session].open(associated, &mut block, START);
                payload(&block, opened)
            })
            .collect();
        let looked: Vec<_> =
            arrived.iter().map(|(session, block)| opens_checked[*session].check(block)).collect();
        let places: Vec<_> = (0..arrived.len()).filter(|&number| looked[number].is_some()).collect();
        let mut checked: Vec<Checked> = looked.into_iter().flatten().collect();
        let messages: Vec<_> = places.iter().map(|&number| [associated, &arrived[number].1[..]]).collect();
        Checked::verify_all(&mut checked, &messages);
        let opened: Vec<_> = (0..)
            .zip(&mut arrived)
            .map(|(number, (session, block))| {
                let checked = places.iter().position(|&place| place == number).map(|at| &checked[at]);
                let opened = opens_checked[*session].open_checked(checked, associated, block, START);
                payload(block, opened)
            })
            .collect();
        prop_assert_eq!(opened, expected);
    }
}
