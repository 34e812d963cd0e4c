//! Which sessions the engine gives to the kernel, and when it takes them back.
#![allow(clippy::unwrap_used, reason = "everything is made here")]

#[allow(dead_code, reason = "shared with the benchmark, which uses other parts of it")]
#[path = "../benches/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use fairway_policy::Snapshot;
use fairway_session::{Applied, Engine, OffloadOrder};
use fairway_types::model::RouterModel;
use fairway_types::{
    Batch, Counter, FlowReport, InterfaceId, Look, OffloadFlow, OffloadId, OffloadReport, Suite, TcpReport,
    Time,
};
use fairway_wire::protocol::{TCP, UDP};

use support::packets::Template;
use support::{LAN, Pair, WAN};

const PAYLOAD: [u8; 20] = [0x55; 20];

fn orders(engine: &mut Engine) -> Vec<OffloadOrder> {
    std::iter::from_fn(|| engine.poll_offload()).collect()
}

/// Both routers with one session, which the ingress has just given to the kernel.
struct Given {
    pair: Pair,
    template: Template,
    id: OffloadId,
    flows: [OffloadFlow; 2],
}

fn given(protocol: u8) -> Given {
    let mut pair = Pair::new(10, true);
    pair.ingress.enable_offload(true);
    let template = Template::of_flow(1, protocol, &PAYLOAD);
    pair.establish(&[template], &PAYLOAD);
    assert_eq!(orders(&mut pair.ingress), [], "two packets are not enough");
    let mut all = Vec::new();
    for _ in 0..2 {
        let packets = vec![template.packet(&PAYLOAD); 20];
        pair.at_ingress(LAN, &packets);
        all.extend(orders(&mut pair.ingress));
    }
    let Some(&OffloadOrder::Begin(id, flows)) = all.first() else { unreachable!("{all:?}") };
    assert!(all[1..].iter().all(|order| *order == OffloadOrder::Touched(id)), "{all:?}");
    Given { pair, template, id, flows }
}

fn report(forth: u64, back: u64, at: Time) -> OffloadReport {
    let flow = |packets: u64| FlowReport {
        packets,
        bytes: packets * 100,
        last: (packets > 0).then_some(at),
        tcp: None,
    };
    [flow(forth), flow(back)]
}

impl Given {
    fn later(&mut self, seconds: u64) {
        self.pair.now.mono = self.pair.now.mono + Duration::from_secs(seconds);
    }

    fn expire(&mut self) -> usize {
        let mut batch = Batch::new(64, 64, 2048);
        self.pair.ingress.handle_timeout(self.pair.now, &mut batch);
        self.pair.ingress.session_count()
    }

    fn is_in_kernel(&self) -> bool {
        let filter = fairway_session::SessionFilter::default();
        let (views, _) = self.pair.ingress.sessions(self.pair.now, &filter, 0, 10);
        assert_eq!(views.len(), 1);
        views[0].in_kernel
    }
}

#[test]
fn the_kernel_is_told_what_the_engine_does() {
    for protocol in [TCP, UDP] {
        let mut given = given(protocol);
        let sent = given.pair.at_ingress(LAN, &[given.template.packet(&PAYLOAD)]).remove(0);
        let [forth, back] = given.flows;
        assert_eq!((forth.interface, forth.egress.interface), (LAN, WAN));
        assert_eq!((back.interface, back.egress.interface), (WAN, LAN));
        let address =
            |at: usize| std::net::IpAddr::from([sent[at], sent[at + 1], sent[at + 2], sent[at + 3]]);
        let port = |at: usize| u16::from_be_bytes([sent[at], sent[at + 1]]);
        assert_eq!((forth.leaves.source.ip(), forth.leaves.source.port()), (address(12), port(20)));
        assert_eq!((forth.leaves.destination.ip(), forth.leaves.destination.port()), (address(16), port(22)));
        assert_eq!(back.arrives, forth.leaves.reversed());
        assert_eq!(back.leaves, forth.arrives.reversed());
        let from_peer = if protocol == TCP { Look::AtEnds } else { Look::Everywhere };
        assert_eq!((forth.look, back.look), (Look::Everywhere, from_peer));
        assert_eq!((forth.mtu, forth.egress.next_hop), (1500, forth.leaves.destination.ip()));
        assert!(given.is_in_kernel());
    }
}

#[test]
fn a_few_packets_one_way_are_enough() {
    let mut pair = Pair::new(10, true);
    pair.ingress.enable_offload(true);
    let template = Template::of_flow(1, UDP, &PAYLOAD);
    pair.establish(&[template], &PAYLOAD);
    let mut carried = pair.ingress.sessions(pair.now, &Default::default(), 0, 9).0[0].legs[0].packets;
    while carried < 4 {
        assert_eq!(orders(&mut pair.ingress), [], "{carried}");
        pair.at_ingress(LAN, &[template.packet(&PAYLOAD)]);
        carried += 1;
    }
    assert!(matches!(orders(&mut pair.ingress)[..], [OffloadOrder::Begin(..)]));
}

#[test]
fn protected_sessions_stay_with_workers() {
    let mut pair = Pair::with(10, true, Some(Suite::Aes256Gcm));
    pair.ingress.enable_offload(true);
    let template = Template::of_flow(1, UDP, &PAYLOAD);
    pair.establish(&[template], &PAYLOAD);
    for _ in 0..4 {
        pair.at_ingress(LAN, &vec![template.packet(&PAYLOAD); 20]);
    }
    assert_eq!(orders(&mut pair.ingress), []);
}

#[test]
fn what_the_kernel_did_counts_for_the_session() {
    let mut given = given(UDP);
    let before = given.pair.ingress.counters().value(Counter::PacketsForwarded);
    given.later(100);
    let now = given.pair.now;
    given.pair.ingress.offload_report(now, given.id, &report(500, 300, now.mono));
    given.pair.ingress.offload_report(now, given.id, &report(600, 300, now.mono));
    let counters = given.pair.ingress.counters();
    assert_eq!(counters.value(Counter::PacketsOffloaded), 900);
    assert_eq!(counters.value(Counter::PacketsForwarded) - before, 900);
    // It would have ended 180 s after the last packet that came here.
    given.later(100);
    assert_eq!(given.expire(), 1);
    assert_eq!(orders(&mut given.pair.ingress), []);
    let (views, _) = given.pair.ingress.sessions(now, &Default::default(), 0, 10);
    assert_eq!((views[0].legs[0].packets, views[0].legs[1].packets), (42 + 600, 2 + 300));
}

#[test]
fn an_idle_session_is_asked_for_before_it_ends() {
    let mut given = given(UDP);
    given.later(200);
    assert_eq!(given.expire(), 1);
    assert_eq!(orders(&mut given.pair.ingress), [OffloadOrder::End(given.id)]);
    // It was active a moment ago, as only the kernel knew.
    let now = given.pair.now;
    given.pair.ingress.offload_ended(now, given.id, Some(&report(7, 1, now.mono)));
    given.later(2);
    assert_eq!(given.expire(), 1);
    given.later(200);
    assert_eq!(given.expire(), 0);
}

#[test]
fn a_connection_that_closes_is_taken_back() {
    let mut given = given(TCP);
    let now = given.pair.now;
    let mut report = report(10, 10, now.mono);
    for (flow, ends) in [(0, false), (1, true)] {
        report[flow].tcp = Some(TcpReport { next: 9, acknowledged: 9, window: 100, finished: true });
        given.pair.ingress.offload_report(now, given.id, &report);
        assert_eq!(given.is_in_kernel(), !ends, "one side may go on when the other has finished");
    }
    assert_eq!(orders(&mut given.pair.ingress), [OffloadOrder::End(given.id)]);
    given.pair.ingress.offload_ended(now, given.id, Some(&report));
    given.later(4);
    assert_eq!(given.expire(), 0, "it is over");
}

/// A packet of a flow with other TCP flags.
fn flagged(template: &Template, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = template.packet(payload);
    packet[33] = flags;
    let before = u32::from(u16::from_be_bytes([packet[36], packet[37]]));
    // The difference to a mere ACK, in a sum of complements.
    let sum = before + 0x10 + u32::from(!u16::from(flags));
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[36..38].copy_from_slice(&(folded as u16).to_be_bytes());
    packet
}

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;

/// Both routers with a connection whose SYN-ACK has just passed, and what they ordered.
fn accepted(payload: &[u8]) -> (Pair, Template, [Vec<OffloadOrder>; 2]) {
    let mut pair = Pair::new(10, true);
    pair.ingress.enable_offload(true);
    pair.egress.enable_offload(true);
    let (syn, template) = (Template::of_flow(1, TCP, payload), Template::of_flow(1, TCP, &[]));
    let crossing = pair.at_ingress(LAN, &[flagged(&syn, SYN, payload)]);
    pair.at_egress(WAN, &crossing);
    assert!(orders(&mut pair.egress).is_empty() && orders(&mut pair.ingress).is_empty());
    let crossing = pair.at_egress(LAN, &[flagged(&template.answer(), SYN_ACK, &[])]);
    pair.at_ingress(WAN, &crossing);
    let ordered = [orders(&mut pair.ingress), orders(&mut pair.egress)];
    (pair, template, ordered)
}

#[test]
fn a_connection_goes_to_the_kernel_with_its_syn_ack() {
    let (mut pair, template, ordered) = accepted(&[]);
    let ids = ordered.each_ref().map(|orders| {
        let [OffloadOrder::Begin(id, [forth, back])] = orders[..] else { panic!("{orders:?}") };
        assert!(forth.fresh && back.fresh && !forth.awaits && back.awaits);
        id
    });
    let now = pair.now;
    // The kernel has carried the initiator's acknowledgement: both routers know that it is open, and the
    // egress that the ingress has heard of the session.
    let mut carried = report(1, 0, now.mono);
    carried[0].tcp = Some(TcpReport { next: 1, acknowledged: 1, window: 100, finished: false });
    pair.ingress.offload_report(now, ids[0], &carried);
    pair.egress.offload_report(now, ids[1], &carried);
    for engine in [&mut pair.ingress, &mut pair.egress] {
        let (views, _) = engine.sessions(now, &Default::default(), 0, 10);
        assert_eq!((views[0].state, views[0].in_kernel), ("open", true));
        assert_eq!(orders(engine), []);
    }
    let answer = template.answer().packet(&[]);
    let sent = pair.at_egress(LAN, core::slice::from_ref(&answer)).remove(0);
    assert_eq!(sent.len(), answer.len(), "no metadata goes with it");
}

#[test]
fn until_the_initiator_answers_metadata_goes_with_all_that_comes_from_the_responder() {
    let (mut pair, template, _) = accepted(&[]);
    let answer = template.answer().packet(&[]);
    let sent = pair.at_egress(LAN, core::slice::from_ref(&answer)).remove(0);
    assert!(sent.len() > answer.len());
    assert!(matches!(orders(&mut pair.egress)[..], [OffloadOrder::Touched(_)]));
}

#[test]
fn a_connection_whose_syn_brought_data_is_with_workers_at_first() {
    let (_, _, ordered) = accepted(&PAYLOAD);
    assert_eq!(ordered, [vec![], vec![]]);
}

#[test]
fn a_second_syn_ack_is_too_late_to_begin_with() {
    let (mut pair, template, ordered) = accepted(&[]);
    let OffloadOrder::Begin(id, _) = ordered[1][0] else { panic!("{ordered:?}") };
    let now = pair.now;
    pair.egress.offload_refused(now, id, fairway_types::OffloadRefusal::NoRoom);
    pair.now.mono = now.mono + Duration::from_secs(2);
    let again = flagged(&template.answer(), SYN_ACK, &[]);
    pair.at_egress(LAN, &[again]);
    assert_eq!(orders(&mut pair.egress), []);
}

#[test]
fn a_reset_is_held_against_what_the_kernel_saw() {
    for (sequence, ends) in [(90_000u32, true), (5000, false)] {
        let mut given = given(TCP);
        let said = |next, acknowledged| Some(TcpReport { next, acknowledged, window: 100, finished: false });
        let mut report = report(10, 10, given.pair.now.mono);
        report[0].tcp = said(90_000, 70_000);
        report[1].tcp = said(70_000, 90_000);
        let now = given.pair.now;
        given.pair.ingress.offload_report(now, given.id, &report);
        let mut reset = Template::of_flow(1, TCP, &[]).packet(&[]);
        reset[24..28].copy_from_slice(&sequence.to_be_bytes());
        reset[33] = 0x04;
        support::fill(&mut given.pair.batch, LAN, &[reset]);
        given.pair.ingress.process(now, &mut given.pair.batch);
        let verdict = given.pair.batch.received()[0].verdict;
        assert_eq!(given.is_in_kernel(), !ends, "{sequence}: {verdict:?}");
    }
}

#[test]
fn a_silent_neighbour_is_told_again() {
    let mut given = given(UDP);
    for second in 1..=5u64 {
        given.later(1);
        let now = given.pair.now;
        given.pair.ingress.offload_report(now, given.id, &report(second * 10, 0, now.mono));
    }
    assert_eq!(orders(&mut given.pair.ingress), [OffloadOrder::End(given.id)]);
    let now = given.pair.now;
    given.pair.ingress.offload_ended(now, given.id, Some(&report(50, 0, now.mono)));
    let plain = given.template.packet(&PAYLOAD);
    let sent = given.pair.at_ingress(LAN, core::slice::from_ref(&plain)).remove(0);
    assert!(sent.len() > plain.len(), "metadata goes with it");
}

#[test]
fn links_and_policies_that_change_take_sessions_back() {
    let mut given = given(UDP);
    given.pair.ingress.set_mtu(WAN, 1400);
    assert!(!given.pair.ingress.recall_changed(10));
    assert_eq!(orders(&mut given.pair.ingress), [OffloadOrder::End(given.id)]);
    let now = given.pair.now;
    given.pair.ingress.offload_ended(now, given.id, None);
    for _ in 0..2 {
        given.pair.at_ingress(LAN, &vec![given.template.packet(&PAYLOAD); 20]);
    }
    let again = orders(&mut given.pair.ingress);
    let Some(&OffloadOrder::Begin(id, flows)) = again.first() else { panic!("{again:?}") };
    assert_eq!((flows[0].mtu, flows[1].mtu), (1400, 1500));
    given.pair.ingress.enable_offload(false);
    assert!(given.pair.ingress.recall_some(10));
    assert!(!given.pair.ingress.recall_some(10));
    assert_eq!(orders(&mut given.pair.ingress), [OffloadOrder::End(id)]);
    assert!(!given.is_in_kernel());
}

/// Goes over to another configuration, and gives what the kernel is to do.
fn reload(pair: &mut Pair, change: impl FnOnce(&mut RouterModel)) -> (Applied, Vec<OffloadOrder>) {
    let mut model = support::model(10, true, None, 0);
    change(&mut model);
    let snapshot = Arc::new(Snapshot::compile(model).unwrap());
    let keyring = pair.ingress.next_keyring(&snapshot, support::keys(0), pair.now).unwrap();
    let applied = pair.ingress.apply(pair.now, snapshot, keyring);
    while pair.ingress.recall_changed(1) {}
    (applied, orders(&mut pair.ingress))
}

#[test]
fn a_configuration_that_still_allows_a_session_leaves_it_in_the_kernel() {
    let mut given = given(UDP);
    let (applied, ordered) = reload(&mut given.pair, |model| model.services[0].name = "renamed".into());
    assert_eq!((applied.kept, ordered), (1, vec![]));
    assert!(given.is_in_kernel());
    // What it does there is counted as before.
    let now = given.pair.now;
    given.pair.ingress.offload_report(now, given.id, &report(1000, 900, now.mono));
    let (views, _) = given.pair.ingress.sessions(now, &Default::default(), 0, 10);
    assert_eq!(views[0].legs.each_ref().map(|leg| leg.packets), [42 + 1000, 2 + 900]);
}

#[test]
fn a_configuration_that_has_the_kernel_do_something_else_takes_sessions_back() {
    let shorter = |model: &mut RouterModel| model.interfaces[1].mtu = Some(1400);
    let other_ids = |model: &mut RouterModel| {
        model.interfaces.swap(0, 1);
        let swap = |id: &mut InterfaceId| *id = InterfaceId(1 - id.0);
        model.memberships.iter_mut().for_each(|member| swap(&mut member.interface));
        model.paths.iter_mut().for_each(|path| swap(&mut path.interface));
    };
    for change in [&shorter as &dyn Fn(&mut RouterModel), &other_ids] {
        let mut given = given(UDP);
        let (applied, ordered) = reload(&mut given.pair, change);
        assert_eq!((applied.kept, ordered), (1, vec![OffloadOrder::End(given.id)]));
        assert!(!given.is_in_kernel());
    }
}

#[test]
fn a_configuration_that_forbids_a_session_ends_it_in_the_kernel() {
    let mut given = given(UDP);
    given.pair.ingress.record_sessions(true);
    let (applied, ordered) = reload(&mut given.pair, |model| model.services[0].access.clear());
    assert_eq!((applied.removed, ordered), (1, vec![OffloadOrder::End(given.id)]));
    let now = given.pair.now;
    given.pair.ingress.offload_ended(now, given.id, Some(&report(1000, 900, now.mono)));
    let record = given.pair.ingress.poll_record().unwrap();
    assert_eq!(record.session.legs.each_ref().map(|leg| leg.packets), [42 + 1000, 2 + 900]);
}

#[test]
fn neighbours_of_many_sessions_that_a_configuration_ends_are_told_little_by_little() {
    const SESSIONS: u32 = 3000;
    let mut pair = Pair::new(SESSIONS, true);
    let templates: Vec<_> = (0..SESSIONS).map(|flow| Template::of_flow(flow, UDP, &PAYLOAD)).collect();
    pair.establish(&templates, &PAYLOAD);
    let forbidding = |number: u32| {
        let mut model = support::model(SESSIONS, true, None, 0);
        model.services[0].access.clear();
        model.services[0].name = format!("forbidden-{number}");
        // The one path is another one by its number.
        let ends = [1, 2].map(|last| std::net::IpAddr::from([203, 0, 113, last]));
        (0..number).for_each(|_| model.paths.insert(0, support::path(ends[0], ends[1])));
        Arc::new(Snapshot::compile(model).unwrap())
    };
    for number in [0, 1] {
        let keyring = pair.ingress.next_keyring(&forbidding(number), support::keys(0), pair.now).unwrap();
        let applied = pair.ingress.apply(pair.now, forbidding(number), keyring);
        assert_eq!(applied.removed, if number == 0 { SESSIONS as usize } else { 0 });
        for _ in 0..1000 {
            let mut batch = Batch::new(0, 256, 2048);
            pair.ingress.handle_timeout(pair.now, &mut batch);
            let mut messages = Vec::new();
            batch.in_order(|slots| messages.extend(slots.iter().map(|slot| slot.packet.bytes().to_vec())));
            // Beside those of BFD.
            assert!(messages.len() <= 64 + 2, "{}", messages.len());
            for some in messages.chunks(support::BATCH) {
                support::fill(&mut pair.batch, WAN, some);
                pair.egress.process(pair.now, &mut pair.batch);
            }
            pair.now.mono = pair.now.mono + Duration::from_millis(4);
            // Another configuration comes when some have been told.
            if number == 0 && pair.egress.session_count() < 2000 {
                break;
            }
        }
    }
    assert_eq!(pair.egress.session_count(), 0, "each neighbour was told");
}

#[test]
fn a_session_that_the_kernel_does_not_take_is_offered_again_later() {
    let mut given = given(UDP);
    let now = given.pair.now;
    given.pair.ingress.offload_refused(now, given.id, fairway_types::OffloadRefusal::NextHop);
    assert!(!given.is_in_kernel());
    let refusal = |given: &Given| given.pair.ingress.sessions(now, &Default::default(), 0, 9).0[0].refusal;
    assert_eq!(refusal(&given), Some(fairway_types::OffloadRefusal::NextHop), "an operator can see why");
    let packets = vec![given.template.packet(&PAYLOAD); 40];
    given.pair.at_ingress(LAN, &packets);
    assert_eq!(orders(&mut given.pair.ingress), []);
    given.later(1);
    given.pair.at_ingress(LAN, &packets);
    assert!(matches!(orders(&mut given.pair.ingress)[..], [OffloadOrder::Begin(..), ..]));
    assert_eq!(refusal(&given), None);
}

#[test]
fn the_end_of_a_session_is_recorded_with_what_the_kernel_did() {
    let mut given = given(UDP);
    given.pair.ingress.record_sessions(true);
    let now = given.pair.now;
    let mut batch = Batch::new(64, 64, 2048);
    given.pair.ingress.delete(now, &Default::default(), &mut batch);
    assert!(given.pair.ingress.poll_record().is_none());
    assert_eq!(orders(&mut given.pair.ingress), [OffloadOrder::End(given.id)]);
    given.pair.ingress.offload_ended(now, given.id, Some(&report(1000, 900, now.mono)));
    let record = given.pair.ingress.poll_record().unwrap();
    assert_eq!(record.session.legs.each_ref().map(|leg| leg.packets), [42 + 1000, 2 + 900]);
}
