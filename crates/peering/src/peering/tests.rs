//! Two routers, "branch" and "dc", with two paths between them, in virtual time.

mod messages;
mod net;

use fairway_bfd::Diagnostic::{
    AdministrativelyDown, ControlDetectionTimeExpired, NeighborSignaledSessionDown,
};
use fairway_crypto::{PeerKey, Sender, slot};
use fairway_wire::svr::{Header, PayloadTlvs};

use super::*;
use crate::MAX_MESSAGE_LEN;
use net::{Flying, MS, NAMES, Net, Router, address, at, down, model_of, only_events};

#[test]
fn paths_come_up_once_the_slot_of_the_start_has_passed() {
    let mut net = Net::new();
    net.run(1);
    assert_eq!(net.captured.len(), 4, "every path speaks at once on both sides");
    net.run(1990);
    assert_eq!(net.routers.each_ref().map(Router::ups), [[false; 2]; 2]);
    assert!(
        net.routers
            .iter()
            .all(|router| router.drops.iter().all(|&drop| drop == DropReason::MetadataBeforeStart))
    );
    net.run(1500);
    assert_eq!(net.routers.each_ref().map(Router::ups), [[true; 2]; 2]);
    for (side, router) in net.routers.iter().enumerate() {
        assert_eq!(only_events(router), [Event::PathUp(PathId(0)), Event::PathUp(PathId(1))]);
        let status: Vec<_> = router.peering.status().collect();
        assert_eq!(status[1].pathway, "wan1");
        assert_eq!((status[0].peer_name, status[0].boot_id), (NAMES[1 - side], Some(2 - side as u64)));
        assert_eq!((status[0].state, status[0].remote_state, status[0].up), (State::Up, State::Up, true));
        assert!(status[0].sent > 3 && status[0].received > 1 && status[0].up_since.is_some());
    }
}

#[test]
fn metadata_is_encrypted_where_the_policy_says_so() {
    let net = Net::up();
    for flying in &net.captured {
        let header = Header::parse(&flying.3).unwrap();
        let tlvs = fairway_wire::svr::HeaderTlvs::parse(header.header_tlvs()).unwrap();
        assert_eq!(tlvs.metadata_encrypted, flying.2 == 0);
        let name = NAMES[1 - flying.1].as_bytes();
        let shown = flying.3.windows(name.len()).any(|window| window == name);
        assert_eq!(shown, flying.2 == 1, "the name is in the clear only where it may be");
        assert_eq!(header.rest().len(), 24 + 16);
        if flying.2 == 1 {
            let payload = PayloadTlvs::parse(header.payload_section()).unwrap();
            assert_eq!(
                (payload.source_router, payload.pathway),
                (Some(NAMES[1 - flying.1]), Some(&b"wan1"[..]))
            );
        }
    }
    let mut ivs: Vec<_> = net
        .captured
        .iter()
        .filter(|flying| flying.2 == 0)
        .map(|flying| Header::parse(&flying.3).unwrap().payload_section()[..16].to_vec())
        .collect();
    let count = ivs.len();
    ivs.sort_unstable();
    ivs.dedup();
    assert_eq!(ivs.len(), count, "no IV occurs twice");
}

#[test]
fn a_cut_path_is_down_after_the_detection_time_and_the_other_path_stays_up() {
    let mut net = Net::up();
    net.cut = [[true, false]; 2];
    let last = net.wire.iter().filter(|flying| flying.1 == 0 && flying.2 == 0).map(|flying| flying.0).max();
    let start = last.unwrap_or(net.millis);
    net.run(500);
    for router in &net.routers {
        assert_eq!(only_events(router), [down(0, ControlDetectionTimeExpired)]);
        let waited = router.events[0].0 - start;
        assert!((190..=311).contains(&waited), "{waited} ms");
        assert_eq!(router.ups(), [false, true]);
    }
    net.cut = [[false; 2]; 2];
    net.run(2000);
    for router in &net.routers {
        assert_eq!(only_events(router)[1..], [Event::PathUp(PathId(0))]);
        assert!(router.drops.is_empty());
    }
}

#[test]
fn a_path_that_came_back_is_alive_but_held_down() {
    let mut net = Net::up();
    let mut model = model_of(0);
    model.paths[0].bfd.hold_down = 5000 * MS;
    net.routers[0].peering.apply(at(net.millis), &model);
    net.cut = [[true, false]; 2];
    net.run(1000);
    assert!(!net.routers[0].peering.is_alive(PathId(0)));
    net.cut = [[false; 2]; 2];
    net.run(2500);
    let peering = &net.routers[0].peering;
    assert!(peering.is_alive(PathId(0)) && !peering.is_up(PathId(0)));
    let held = peering.status().next().and_then(|status| status.held_until).unwrap();
    net.run(5000);
    assert_eq!(net.routers[0].events.last(), Some(&(held.as_millis(), Event::PathUp(PathId(0)))));
}

#[test]
fn a_path_that_works_one_way_is_down_on_both_sides() {
    let mut net = Net::up();
    net.cut[0][1] = true;
    net.run(1000);
    assert_eq!(only_events(&net.routers[1]), [down(1, ControlDetectionTimeExpired)]);
    assert_eq!(only_events(&net.routers[0]), [down(1, NeighborSignaledSessionDown)]);
}

#[test]
fn a_restart_is_noticed_with_the_first_message() {
    let mut net = Net::up();
    net.wire.clear();
    net.routers[1] = Router::start(1, 3, 7, net.millis);
    let restarted = net.millis;
    net.run(6000);
    let events = &net.routers[0].events;
    assert_eq!(events[0], (restarted + 10, Event::PeerRestarted(PeerId(0))));
    let count = events.iter().filter(|event| event.1 == Event::PeerRestarted(PeerId(0))).count();
    assert_eq!(count, 1, "one restart, however many paths tell of it");
    assert_eq!(net.routers.each_ref().map(Router::ups), [[true; 2]; 2]);
    assert!(
        !only_events(&net.routers[1]).contains(&Event::PeerRestarted(PeerId(0))),
        "it knew no boot id before"
    );
}

#[test]
fn messages_from_before_a_restart_that_arrive_late_have_no_effect() {
    let mut net = Net::up();
    let late: Vec<_> = net.wire.drain(..).chain(net.captured.iter().rev().take(20).cloned()).collect();
    net.cut = [[true; 2]; 2];
    net.run(300);
    let unsent: Vec<_> = net.captured.iter().rev().take(8).filter(|f| f.1 == 0).cloned().collect();
    net.cut = [[false; 2]; 2];
    net.routers[1] = Router::start(1, 3, 7, net.millis);
    net.run(3000);
    net.forget();
    for flying in late.iter().chain(&unsent) {
        net.deliver(flying);
    }
    net.run(1000);
    for router in &net.routers {
        assert_eq!(router.events, []);
        assert_eq!(router.ups(), [true; 2]);
    }
}

#[test]
fn a_replayed_message_is_refused_and_changes_nothing() {
    let mut net = Net::up();
    let replayed: Vec<_> =
        net.captured.iter().rev().filter(|flying| flying.0 < net.millis).take(6).cloned().collect();
    for flying in &replayed {
        let before = format!("{:?}", net.routers[flying.1].peering);
        net.deliver(flying);
        assert_eq!(format!("{:?}", net.routers[flying.1].peering), before);
    }
    let drops: Vec<_> = net.routers.iter().flat_map(|router| &router.drops).collect();
    assert_eq!(drops, [&DropReason::MetadataReplayed; 6]);
}

#[test]
fn a_replay_to_a_restarted_router_is_refused() {
    let mut net = Net::up();
    let recorded: Vec<_> =
        net.captured.iter().filter(|f| f.1 == 1 && f.0 + 900 > net.millis).cloned().collect();
    net.routers[1] = Router::start(1, 3, 7, net.millis);
    net.cut = [[true; 2]; 2];
    net.wire.clear();
    net.run(1);
    for flying in &recorded {
        net.deliver(flying);
    }
    assert!(recorded.len() > 4);
    assert_eq!(net.routers[1].drops, vec![DropReason::MetadataBeforeStart; recorded.len()]);
}

#[test]
fn a_wrong_key_is_refused_on_both_sides() {
    let mut net = Net::with([Router::start(0, 1, 7, 0), Router::start(1, 2, 8, 0)]);
    net.run(5000);
    for router in &net.routers {
        assert!(router.drops.len() > 5 && router.drops.iter().all(|&drop| drop == DropReason::BadTag));
        assert_eq!(router.events, []);
        assert!(router.peering.status().all(|status| status.received == 0 && status.state == State::Down));
    }
}

#[test]
fn a_genuine_message_from_a_strange_address_is_refused() {
    let mut net = Net::up();
    net.cut = [[true; 2]; 2];
    net.run(100);
    let Flying(_, side, path, payload) = net.captured.last().unwrap().clone();
    let router = &mut net.routers[side];
    let strange = IpAddr::from([203, 0, 113, 1]);
    let outcome = router.peering.handle_message(
        at(net.millis),
        &router.keyring,
        address(side, path),
        strange,
        &mut payload.clone(),
    );
    assert_eq!(outcome, Err(DropReason::PeerAddressMismatch));
}

#[test]
fn every_fault_has_its_reason() {
    let mut net = Net::up();
    let now = at(net.millis);
    let sender = Sender::new(&PeerKey::from_bytes([7; 32]), "branch", "dc", [0x77; 16]).unwrap();
    let bfd = fairway_wire::bfd::Repr { detect_multiplier: 3, my_discriminator: 5, ..Default::default() };
    let good = Outgoing { source_router: "branch", pathway: "wan1", boot_id: 1, bfd, iv: None };
    let write = |message: &Outgoing<'_>, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = vec![0; MAX_MESSAGE_LEN];
        let len = message::write(now, &sender, message, &mut bytes).unwrap();
        bytes.truncate(len - 16);
        change(&mut bytes);
        let tag = sender.keys().tag(&bytes, slot(now.unix));
        bytes.extend(tag);
        bytes
    };
    let other_name = Outgoing { source_router: "mallory", ..good };
    let encrypted = Outgoing { iv: Some([1; 16]), ..good };
    let dead = Outgoing { bfd: fairway_wire::bfd::Repr { detect_multiplier: 0, ..bfd }, ..good };
    let other_session =
        Outgoing { bfd: fairway_wire::bfd::Repr { your_discriminator: 0x0bad, ..bfd }, ..good };
    let cases = [
        (write(&good, &|bytes| bytes.clear()), DropReason::MetadataTruncated),
        (write(&good, &|bytes| bytes[8] ^= 0x20), DropReason::MetadataVersion),
        (write(&good, &|bytes| bytes[10] = 0xff), DropReason::MetadataLength),
        (write(&good, &|bytes| bytes[13] = 99), DropReason::TlvMissing),
        (write(&good, &|bytes| bytes[15] = 200), DropReason::TlvOverrun),
        (write(&good, &|bytes| bytes[15] = 3), DropReason::TlvLength),
        (write(&good, &|bytes| bytes[16] ^= 1), DropReason::UnknownSecurityId),
        (write(&other_name, &|_| {}), DropReason::TlvValue),
        (
            write(&encrypted, &|bytes| {
                let at = bytes.len() - 24 - 17;
                bytes[at] ^= 1;
            }),
            DropReason::MetadataDecryption,
        ),
        (write(&dead, &|_| {}), DropReason::BfdInvalid),
        (write(&good, &|bytes| bytes.truncate(bytes.len() - 1)), DropReason::BfdInvalid),
        (write(&other_session, &|_| {}), DropReason::BfdInvalid),
    ];
    for (mut bytes, reason) in cases {
        let router = &mut net.routers[1];
        let outcome =
            router.peering.handle_message(now, &router.keyring, address(1, 1), address(0, 1), &mut bytes);
        assert_eq!(outcome, Err(reason));
    }
}

#[test]
fn a_reload_keeps_what_did_not_change() {
    let mut net = Net::up();
    let now = at(net.millis);
    let before: Vec<_> =
        net.routers[0].peering.status().map(|status| (status.local, status.sent, status.up_since)).collect();
    for side in 0..2 {
        let mut model = model_of(side);
        model.paths.swap(0, 1);
        model.paths[0].bfd.desired_tx = 300 * MS;
        model.paths[0].pathway = "renamed".into();
        net.routers[side].peering.apply(now, &model);
    }
    let after: Vec<_> =
        net.routers[0].peering.status().map(|status| (status.local, status.sent, status.up_since)).collect();
    assert_eq!([after[1], after[0]], [before[0], before[1]]);
    assert_eq!(net.routers[0].peering.status().next().unwrap().pathway, "renamed");
    net.run(5000);
    for router in &net.routers {
        assert_eq!(
            (router.events.as_slice(), router.drops.as_slice(), router.ups()),
            (&[][..], &[][..], [true; 2])
        );
    }
    let sent = |net: &Net| net.captured.len();
    let start = sent(&net);
    net.run(10_000);
    let per_second = (sent(&net) - start) / 10 / 2;
    assert!((14..=18).contains(&per_second), "one path at 100 ms, one at 300 ms: {per_second}");

    let mut model = model_of(0);
    model.paths.remove(1);
    model.paths[0].remote = address(1, 9);
    net.routers[0].peering.apply(at(net.millis), &model);
    assert_eq!(net.routers[0].ups(), [false, false]);
    assert_eq!(net.routers[0].peering.status().count(), 1);
}

#[test]
fn events_that_were_not_fetched_before_a_reload_get_new_ids() {
    let mut net = Net::up();
    net.cut = [[true, false]; 2];
    let mut millis = net.millis;
    let peering = &mut net.routers[0].peering;
    while peering.is_up(PathId(0)) && millis < 10_000 {
        millis += 1;
        peering.handle_timeout(at(millis));
    }
    let mut model = model_of(0);
    model.paths.swap(0, 1);
    peering.apply(at(millis), &model);
    let events: Vec<_> = core::iter::from_fn(|| peering.poll_event()).collect();
    assert!(events.contains(&down(1, ControlDetectionTimeExpired)), "{events:?}");
}

#[test]
fn a_router_that_shuts_down_says_so() {
    let mut net = Net::up();
    let now = at(net.millis);
    net.routers[0].peering.shut_down(now);
    net.run(20);
    assert_eq!(
        only_events(&net.routers[1]),
        [down(0, NeighborSignaledSessionDown), down(1, NeighborSignaledSessionDown)]
    );
    assert_eq!(only_events(&net.routers[0]), [down(0, AdministrativelyDown), down(1, AdministrativelyDown)]);
}

#[test]
fn a_peer_without_a_key_and_a_buffer_without_room_stop_nothing() {
    let mut router = Router::start(0, 1, 7, 0);
    let mut buffer = [0; MAX_MESSAGE_LEN];
    assert_eq!(router.peering.poll_transmit(at(0), &Keyring::new(), &mut buffer), None);
    assert!(router.peering.poll_timeout().is_some_and(|timeout| timeout > Time::ZERO));
    assert_eq!(router.peering.poll_transmit(at(1500), &router.keyring, &mut [0; 100]), None);
    assert!(router.peering.poll_transmit(at(3000), &router.keyring, &mut buffer).is_some());
}
