//! A day and an hour in the life of a fabric: sessions that last all day, others that come and go, a
//! network that loses, repeats and replays, routers that restart, somebody who injects.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use fairway_sim::fabric::{BACK, LAN, NEXT};
use fairway_sim::packet::Packet;
use fairway_sim::{Fabric, Faults, HostId, Network, NodeId};
use fairway_types::{DropReason, Suite};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 9));
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 0, 9));
const HOURS: u64 = 25;
/// Requests of the sessions that last, in an hour.
const REQUESTS: u64 = 120;

/// Who says what to whom.
type Text = (SocketAddr, SocketAddr, Vec<u8>);

struct Day {
    network: Network,
    client: HostId,
    server: HostId,
    /// What was seen on the links of late.
    seen: Rc<RefCell<Vec<Vec<u8>>>>,
    /// What hosts sent, and what they got.
    sent: HashSet<Text>,
    delivered: HashSet<Text>,
    /// Requests sent and answered, without and with trouble.
    calm: (u64, u64),
    rough: (u64, u64),
}

impl Day {
    fn new(suite: Suite) -> Self {
        let fabric = Fabric { routers: 3, payload: Some(suite), ..Fabric::default() };
        let mut network = Network::new(fabric, 24);
        let client = network.add_host(NodeId(0), LAN, &[CLIENT]);
        let server = network.add_host(NodeId(2), LAN, &[SERVER]);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&seen);
        network.set_tap(Box::new(move |_, packet| {
            let mut log = log.borrow_mut();
            log.push(packet.to_vec());
            let excess = log.len().saturating_sub(200);
            log.drain(..excess);
        }));
        network.run(12_000);
        let (sent, delivered) = (HashSet::new(), HashSet::new());
        Self { network, client, server, seen, sent, delivered, calm: (0, 0), rough: (0, 0) }
    }

    /// What a host got: nothing twice, however often it was on a link, and nothing that nobody sent. What
    /// was lost may still come, if somebody sends it again.
    fn received(&mut self, host: HostId) -> Vec<Packet> {
        let got: Vec<_> =
            self.network.receive(host).iter().map(|bytes| Packet::read(bytes).unwrap()).collect();
        for packet in &got {
            let text = (packet.source, packet.destination, packet.payload.clone());
            assert!(self.sent.contains(&text), "nobody sent {packet:?}");
            assert!(self.delivered.insert(text), "delivered twice: {packet:?}");
        }
        got
    }

    fn send(&mut self, host: HostId, packet: &Packet) {
        self.sent.insert((packet.source, packet.destination, packet.payload.clone()));
        self.network.send(host, packet.bytes());
        self.network.run(120);
    }

    /// A request and its answer.
    fn exchange(&mut self, port: u16, number: u32, is_calm: bool) {
        let (from, to) = (SocketAddr::new(CLIENT, port), SocketAddr::new(SERVER, 53));
        let request = Packet::udp(from, to, &[b"request".as_slice(), &number.to_be_bytes()].concat());
        self.send(self.client, &request);
        let mut answered = 0;
        if self.received(self.server).iter().any(|packet| packet.payload == request.payload) {
            let answer = request.answer(&[b"answer".as_slice(), &number.to_be_bytes()].concat());
            self.send(self.server, &answer);
            let answers = self.received(self.client);
            answered = u64::from(answers.iter().any(|packet| packet.payload == answer.payload));
        }
        let (sent, got) = if is_calm { &mut self.calm } else { &mut self.rough };
        *sent += 1;
        *got += answered;
    }

    /// Somebody sends again what was on the links, changed and unchanged.
    fn inject(&mut self) {
        let recorded = self.seen.borrow().clone();
        for (number, packet) in recorded.into_iter().enumerate() {
            let mut forged = packet;
            if number % 2 == 0 {
                let at = 28 + number % (forged.len() - 28);
                forged[at] ^= 1;
            }
            self.network.inject(NodeId(1), if number % 3 == 0 { NEXT } else { BACK }, forged);
        }
        self.network.run(200);
        self.received(self.server);
        self.received(self.client);
    }
}

fn live(suite: Suite) {
    let mut day = Day::new(suite);
    let mut number = 0;
    for hour in 0..HOURS {
        for step in 0..REQUESTS {
            let rough = step >= REQUESTS / 2;
            if step == REQUESTS / 2 {
                let faults = Faults { loss: 30, duplicate: 30, reorder: 100, corrupt: 5, replay: 50 };
                day.network.faults = faults;
                day.network.restart(NodeId((hour % 3) as usize));
            }
            number += 1;
            // One that lasts all day, one that comes anew each time.
            day.exchange(5000, number, !rough);
            day.exchange(6000 + (number % 20_000) as u16, number, !rough);
            if step % 40 == 20 {
                day.inject();
            }
            day.network.run(3_600_000 / REQUESTS - 800);
        }
        day.network.faults = Faults::default();
        // Replays that are still under way arrive, and what was lost is told again.
        day.network.run(15_000);
        day.received(day.client);
        day.received(day.server);
    }
    assert_eq!(day.calm.0, day.calm.1, "{suite:?}: everything is answered on links without faults");
    let (sent, answered) = day.rough;
    assert!(answered * 100 > sent * 80, "{suite:?}: {answered} of {sent} with faults and restarts");
    let injected: u64 = day
        .network
        .routers()
        .flat_map(|node| day.network.engine(node).drops().collect::<Vec<_>>())
        .filter(|record| {
            matches!(
                record.reason,
                DropReason::PayloadForged | DropReason::PayloadReplayed | DropReason::BadTag
            )
        })
        .map(|record| record.count)
        .sum();
    assert!(injected > 0);
    day.network.run(400_000);
    for node in day.network.routers() {
        assert_eq!(day.network.engine(node).session_count(), 0, "{suite:?}: sessions are left on {node:?}");
        assert_eq!(day.network.engine(node).protected_count(), 0, "{suite:?}: keys are left on {node:?}");
    }
}

#[test]
fn a_day_with_gcm() {
    live(Suite::Aes256Gcm);
}

#[test]
fn a_day_with_cbc() {
    live(Suite::Aes256Cbc);
}
