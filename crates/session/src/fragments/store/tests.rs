use std::collections::HashMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const START: Time = Time::from_secs(100);
const MOST: usize = 65_515;

fn name(interface: u16, id: u32) -> Name {
    let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    Name::Ip {
        interface: InterfaceId(interface),
        source: address(1),
        destination: address(2),
        id,
        protocol: 17,
    }
}

fn part(offset: usize, more: bool, data: &[u8]) -> Part<'_> {
    Part { offset, more, data, most: MOST, congested: false }
}

fn insert(store: &mut Store, now: Time, name: &Name, part: &Part<'_>) -> Outcome {
    let outcome = store.insert(now, name, part, || Box::from(&b"head"[..]));
    audit(store);
    outcome
}

/// The books of a store are right.
fn audit(store: &Store) {
    assert_eq!(store.packets.len(), store.ages.len());
    let mut costs: BTreeMap<Owner, usize> = BTreeMap::new();
    for (name, packet) in &store.packets {
        assert!(store.ages.get(&packet.serial).is_some_and(|other| other == name));
        *costs.entry(name.owner()).or_default() += packet.cost;
        if let State::Open(parts) = &packet.state {
            let bytes: usize = parts.parts.iter().map(|(_, data)| data.len()).sum();
            assert_eq!(bytes, parts.bytes);
            assert!(parts.parts.len() <= MOST_PARTS);
            let head = parts.head.as_ref().map_or(0, |head| head.len());
            assert_eq!(packet.cost, PACKET_COST + bytes + head + PART_COST * parts.parts.len());
            let ends = parts.parts.iter().map(|(offset, data)| offset + data.len());
            assert!(ends.zip(parts.parts.iter().skip(1)).all(|(end, (next, _))| end <= *next));
        }
    }
    assert_eq!(costs.len(), store.shares.len());
    for (owner, share) in &store.shares {
        assert!(share.cost <= SHARE);
        assert_eq!(share.cost, costs.get(owner).copied().unwrap_or(0));
    }
}

fn discarded(store: &mut Store) -> Vec<(DropReason, usize)> {
    std::iter::from_fn(|| store.poll_discarded()).map(|it| (it.reason, it.parts)).collect()
}

fn data_of(whole: &Whole) -> Vec<u8> {
    whole.data().flatten().copied().collect()
}

/// Cuts something at multiples of eight bytes.
fn cut(data: &[u8], sizes: &[usize]) -> Vec<(usize, bool, Vec<u8>)> {
    let (mut parts, mut at) = (Vec::new(), 0usize);
    for size in sizes.iter().map(|size| size * 8).chain([usize::MAX]) {
        let end = data.len().min(at.saturating_add(size));
        if end > at {
            parts.push((at, end < data.len(), data[at..end].to_vec()));
        }
        at = end;
    }
    parts
}

proptest! {
    /// Parts of several packets, in any order, some twice: each packet comes out once, as it was.
    #[test]
    fn parts_in_any_order_make_the_packet(
        packets in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 1..2000), prop::collection::vec(1usize..100, 0..20)),
            1..6,
        ),
        order in prop::collection::vec(any::<u16>(), 200),
    ) {
        let mut all = Vec::new();
        for (id, (data, sizes)) in packets.iter().enumerate() {
            all.extend(cut(data, sizes).into_iter().map(|part| (id, part)));
        }
        let mut order = order.into_iter().cycle();
        all.sort_by_cached_key(|_| order.next());
        let (mut store, mut done) = (Store::default(), HashMap::new());
        for (number, (id, (offset, more, data))) in all.iter().enumerate() {
            let name = name(0, *id as u32);
            match insert(&mut store, START, &name, &part(*offset, *more, data)) {
                Outcome::Whole(whole) => {
                    prop_assert_eq!(&*whole.head, b"head");
                    prop_assert_eq!(whole.len(), 4 + packets[*id].0.len());
                    prop_assert!(done.insert(*id, data_of(&whole)).is_none());
                }
                Outcome::Held if number % 2 == 0 => {
                    let again = insert(&mut store, START, &name, &part(*offset, *more, data));
                    prop_assert!(matches!(again, Outcome::Repeated));
                }
                Outcome::Held => {}
                Outcome::Repeated | Outcome::Refused(_) => prop_assert!(false, "part {} of {}", offset, id),
            }
        }
        for (id, (data, _)) in packets.iter().enumerate() {
            prop_assert_eq!(done.get(&id), Some(data));
        }
        prop_assert!(store.packets.is_empty());
        prop_assert!(discarded(&mut store).is_empty());
    }

    /// Whatever arrives, what comes out is what parts said that never contradicted each other, the
    /// books are right, and every part ends in exactly one way.
    #[test]
    fn hostile_parts_are_bounded_and_accounted_for(
        parts in prop::collection::vec(
            (0u16..3, 0u32..4, 0usize..40, any::<bool>(), 1usize..80, 0u8..2, 0u64..3000),
            1..300,
        ),
    ) {
        let mut store = Store::default();
        let mut now = START;
        let (mut held, mut left) = (0, 0);
        for (interface, id, offset, more, length, byte, wait) in parts {
            now = now + Duration::from_millis(wait);
            let data = vec![byte; length];
            match insert(&mut store, now, &name(interface, id), &part(offset * 8, more, &data)) {
                Outcome::Held => held += 1,
                Outcome::Whole(whole) => {
                    left += whole.parts.len() - 1;
                    prop_assert!(whole.parts.iter().map(|(_, data)| data.len()).sum::<usize>() > 0);
                    let mut at = 0;
                    for (offset, data) in &whole.parts {
                        prop_assert_eq!(*offset, at);
                        at += data.len();
                    }
                }
                Outcome::Repeated | Outcome::Refused(_) => {}
            }
            left += discarded(&mut store).iter().map(|(_, parts)| parts).sum::<usize>();
        }
        store.handle_timeout(now + LIFETIME);
        audit(&store);
        prop_assert_eq!(store.poll_timeout(), None);
        left += discarded(&mut store).iter().map(|(_, parts)| parts).sum::<usize>();
        prop_assert_eq!(held, left);
    }
}

#[test]
fn an_overlap_refuses_the_packet_until_its_time_is_over() {
    let first = [1; 16];
    for (offset, more, data) in [
        (8, true, &[2; 16][..]),
        (0, true, &[2; 16]),
        (0, true, &[1; 8]),
        (0, false, &first),
        (8, false, &[2; 3]),
        (0, false, &[3; 200]),
    ] {
        let mut store = Store::default();
        let name = name(0, 1);
        assert!(matches!(insert(&mut store, START, &name, &part(0, true, &first)), Outcome::Held));
        let overlap = DropReason::FragmentOverlap;
        let refused = |outcome| matches!(outcome, Outcome::Refused(reason) if reason == overlap);
        assert!(refused(insert(&mut store, START, &name, &part(offset, more, data))), "{offset} {more}");
        assert_eq!(discarded(&mut store), [(overlap, 1)]);
        // The genuine rest comes too late.
        assert!(refused(insert(&mut store, START, &name, &part(16, false, &[1; 5]))));
        let later = START + LIFETIME;
        store.handle_timeout(later);
        assert_eq!(discarded(&mut store), []);
        assert!(matches!(insert(&mut store, later, &name, &part(0, false, &first)), Outcome::Whole(_)));
    }
}

#[test]
fn parts_that_contradict_the_end_are_refused() {
    for (offset, more) in [(16, true), (24, false), (8, true), (32, true)] {
        let mut store = Store::default();
        let name = name(0, 1);
        assert!(matches!(insert(&mut store, START, &name, &part(16, false, &[1; 8])), Outcome::Held));
        let outcome = insert(&mut store, START, &name, &part(offset, more, &[2; 16]));
        assert!(matches!(outcome, Outcome::Refused(DropReason::FragmentOverlap)), "{offset}");
    }
}

#[test]
fn what_cannot_be_a_part_is_refused_alone() {
    let mut store = Store::default();
    let name = name(0, 1);
    assert!(matches!(insert(&mut store, START, &name, &part(0, true, &[1; 8])), Outcome::Held));
    for part in [part(8, true, &[1; 7]), part(8, false, &[]), part(65_512, false, &[1; 8])] {
        let outcome = insert(&mut store, START, &name, &part);
        assert!(matches!(outcome, Outcome::Refused(DropReason::FragmentMalformed)));
    }
    assert!(matches!(insert(&mut store, START, &name, &part(8, false, &[1; 3])), Outcome::Whole(_)));
}

#[test]
fn a_packet_has_at_most_64_parts() {
    let mut store = Store::default();
    for number in 0..MOST_PARTS {
        let outcome = insert(&mut store, START, &name(0, 1), &part(number * 8, true, &[1; 8]));
        assert!(matches!(outcome, Outcome::Held));
    }
    let one_more = insert(&mut store, START, &name(0, 1), &part(MOST_PARTS * 8, false, &[1; 8]));
    assert!(matches!(one_more, Outcome::Refused(DropReason::FragmentLimit)));
    assert_eq!(discarded(&mut store), [(DropReason::FragmentLimit, MOST_PARTS)]);
}

#[test]
fn a_flood_drives_out_its_own_oldest_and_nobody_elses() {
    let mut store = Store::default();
    let data = [7; 1400];
    assert!(matches!(insert(&mut store, START, &name(1, 0), &part(0, true, &data)), Outcome::Held));
    let (mut evicted, flood) = (0, 10_000);
    for id in 0..flood {
        assert!(matches!(
            store.insert(START, &name(0, id), &part(0, true, &data), Box::default),
            Outcome::Held
        ));
        evicted += discarded(&mut store).len();
    }
    audit(&store);
    let kept = store.packets.len() - 1;
    assert_eq!(evicted + kept, flood as usize);
    assert!((500..=SHARE / 1400).contains(&kept), "{kept}");
    assert!(store.packets.contains_key(&name(0, flood - 1)), "the newest stays");
    // The others' packet, and one that is completed at once, come through.
    assert!(matches!(insert(&mut store, START, &name(1, 0), &part(1400, false, &data)), Outcome::Whole(_)));
    assert!(matches!(insert(&mut store, START, &name(0, flood), &part(0, true, &data)), Outcome::Held));
    let outcome = insert(&mut store, START, &name(0, flood), &part(1400, false, &data));
    assert!(matches!(outcome, Outcome::Whole(_)));
}

#[test]
fn what_never_becomes_whole_is_dropped_after_15_seconds() {
    let mut store = Store::default();
    insert(&mut store, START, &name(0, 1), &part(0, true, &[1; 8]));
    let later = START + Duration::from_secs(5);
    insert(&mut store, later, &name(0, 2), &part(0, true, &[1; 8]));
    insert(&mut store, later, &name(0, 1), &part(16, false, &[1; 8]));
    assert_eq!(store.poll_timeout(), Some(START + LIFETIME), "later parts do not prolong it");
    store.handle_timeout(START + Duration::from_millis(14_999));
    assert_eq!(discarded(&mut store), []);
    store.handle_timeout(START + LIFETIME);
    assert_eq!(discarded(&mut store), [(DropReason::FragmentTimeout, 2)]);
    assert_eq!(store.poll_timeout(), Some(later + LIFETIME));
    // The same name is another packet then, even before anybody looked.
    let outcome = insert(&mut store, later + LIFETIME, &name(0, 2), &part(8, false, &[1; 8]));
    assert!(matches!(outcome, Outcome::Held));
    assert_eq!(discarded(&mut store), [(DropReason::FragmentTimeout, 1)]);
}
