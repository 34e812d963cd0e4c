//! Sessions whose host only listens live through the restart of the router where they began.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr};

use fairway_session::SessionFilter;
use fairway_sim::fabric::LAN;
use fairway_sim::packet::Packet;
use fairway_sim::{Fabric, HostId, Network, NodeId, Topology};
use fairway_types::model::{MidFlow, UdpTransform};
use fairway_types::{Counter, Suite};

const SYN: u8 = 2;
const ACK: u8 = 16;

/// A client that has asked for something, and a server that sends it.
struct Download {
    network: Network,
    client: HostId,
    server: HostId,
    /// As whom the server knows the client.
    seen: SocketAddr,
    sequence: u32,
}

const CLIENT: &str = "10.1.0.9:40000";
const SERVER: &str = "10.2.0.9:80";

impl Download {
    fn start(fabric: &Fabric, seed: u64, workers: u8) -> Self {
        let mut topology = Topology::chain(fabric);
        // The peer's word counts for a session that was allowed to begin; the host has no need to.
        topology.models.iter_mut().for_each(|model| model.services[0].mid_flow = MidFlow::Block);
        let mut network = Network::with_workers(topology, seed, |_| workers);
        let address = |text: &str| text.parse::<SocketAddr>().unwrap().ip();
        let client = network.add_host(NodeId(0), LAN, &[address(CLIENT)]);
        let last = NodeId(usize::from(fabric.routers) - 1);
        let server = network.add_host(last, LAN, &[address(SERVER)]);
        network.run(10_000);
        let seen = CLIENT.parse().unwrap();
        let mut download = Self { network, client, server, seen, sequence: 500 };
        let syn = download.ask((SYN, 100, 0), b"").unwrap();
        download.seen = syn.source;
        download.answer((SYN | ACK, 500, 101), b"").unwrap();
        download.ask((ACK, 101, 501), b"").unwrap();
        download.ask((ACK, 101, 501), b"GET /").unwrap();
        download.sequence = 501;
        for _ in 0..3 {
            assert!(download.more(), "before anything happens");
        }
        download
    }

    /// A segment of the client's, as the server got it, but for PSH, which goes with metadata.
    fn ask(&mut self, numbers: (u8, u32, u32), payload: &[u8]) -> Option<Packet> {
        let packet = Packet::tcp(CLIENT.parse().unwrap(), SERVER.parse().unwrap(), numbers, payload);
        self.network.send(self.client, packet.bytes());
        self.network.run(50);
        self.network.receive(self.server).first().map(|bytes| Packet::read(bytes).unwrap().without_push())
    }

    /// A segment of the server's, as the client got it, but for PSH.
    fn answer(&mut self, numbers: (u8, u32, u32), payload: &[u8]) -> Option<Packet> {
        let packet = Packet::tcp(SERVER.parse().unwrap(), self.seen, numbers, payload);
        self.network.send(self.server, packet.bytes());
        self.network.run(50);
        self.network.receive(self.client).first().map(|bytes| Packet::read(bytes).unwrap().without_push())
    }

    /// The server sends the next part, which the client acknowledges. Whether both arrived.
    fn more(&mut self) -> bool {
        let numbers = (ACK, self.sequence, 106);
        let Some(got) = self.answer(numbers, b"a part of the file") else { return false };
        assert_eq!((got.tcp, &got.payload[..]), (numbers, &b"a part of the file"[..]));
        self.sequence += 18;
        let acknowledgement = (ACK, 106, self.sequence);
        let Some(got) = self.ask(acknowledgement, b"") else { return false };
        assert_eq!((got.source, got.tcp), (self.seen, acknowledgement));
        true
    }

    fn uuids(&self, node: NodeId) -> Vec<String> {
        let now = self.network.clock();
        let filter = SessionFilter::default();
        let of = |engine: &fairway_session::Engine| engine.sessions(now, &filter, 0, 10).0;
        let all = self.network.engines(node).iter().flat_map(of);
        all.map(|session| format!("{:?}", session.uuid)).collect()
    }

    fn count(&self, node: NodeId, counter: Counter) -> u64 {
        self.network.engines(node).iter().map(|engine| engine.counters().value(counter)).sum()
    }

    fn drops(&self) -> Vec<String> {
        let of = |node: NodeId| {
            let engines = self.network.engines(node).iter();
            engines
                .flat_map(|engine| engine.drops())
                .filter(|record| record.count > 0)
                .map(move |record| format!("{node:?} {:?} {}", record.reason, record.count))
        };
        self.network.routers().flat_map(of).collect()
    }
}

fn every_fabric(test: impl Fn(&Fabric, &mut Download)) {
    let payloads = [
        (None, false),
        (Some(Suite::Aes256Gcm), false),
        (Some(Suite::Aes256Gcm), true),
        (Some(Suite::Aes256Cbc), false),
    ];
    for routers in [2, 3] {
        for (payload, adaptive) in payloads {
            for udp_transform in [UdpTransform::Encrypted, UdpTransform::Never] {
                for (source_nat, workers) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
                    let fabric =
                        Fabric { routers, payload, adaptive, udp_transform, source_nat, ..Fabric::default() };
                    eprintln!("{fabric:?}, {workers} workers");
                    test(&fabric, &mut Download::start(&fabric, 7, workers));
                }
            }
        }
    }
}

#[test]
fn a_download_goes_on_when_the_server_has_more_to_say() {
    every_fabric(|fabric, download| {
        let last = NodeId(usize::from(fabric.routers) - 1);
        let before = download.uuids(last);
        download.network.restart(NodeId(0));
        // The server says it again and again, as TCP does.
        let tries = (0..12).position(|_| {
            download.network.run(450);
            download.more()
        });
        assert!(tries.is_some(), "nothing arrives: {:?}", download.drops());
        assert!((0..5).all(|_| download.more()), "{:?}", download.drops());
        assert_eq!(download.uuids(last), before, "the same session");
        assert_eq!(download.uuids(NodeId(0)), before);
        assert_eq!(download.count(NodeId(0), Counter::SessionsResumed), 1);
        // Told once, they are silent again.
        download.network.run(5_000);
        assert!((0..3).all(|_| download.more()));
        let told = |download: &Download| {
            let routers = download.network.routers();
            routers.map(|node| download.count(node, Counter::MetadataSent)).sum::<u64>()
        };
        // What keeps paths alive is not counted here.
        let before = told(download);
        assert!((0..5).all(|_| download.more()));
        assert_eq!(told(download), before);
    });
}

#[test]
fn a_session_is_given_back_without_a_packet_of_its_hosts() {
    every_fabric(|_, download| {
        download.network.restart(NodeId(0));
        assert_eq!(download.uuids(NodeId(0)).len(), 0);
        download.network.run(12_000);
        assert_eq!(download.uuids(NodeId(0)).len(), 1, "{:?}", download.drops());
        assert!((0..5).all(|_| download.more()), "{:?}", download.drops());
    });
}

#[test]
fn what_was_sealed_before_the_restart_is_not_opened_again() {
    use std::cell::RefCell;
    use std::rc::Rc;
    let fabric = Fabric { payload: Some(Suite::Aes256Gcm), ..Fabric::default() };
    let mut download = Download::start(&fabric, 7, 1);
    let recorded = Rc::new(RefCell::new(Vec::new()));
    let tape = Rc::clone(&recorded);
    download.network.set_tap(Box::new(move |_, packet| tape.borrow_mut().push(packet.to_vec())));
    for _ in 0..5 {
        assert!(download.more());
    }
    download.network.set_tap(Box::new(|_, _| {}));
    download.network.run(3_000);
    download.network.restart(NodeId(0));
    download.network.run(12_000);
    assert_eq!(download.uuids(NodeId(0)).len(), 1);
    for packet in recorded.borrow().iter() {
        download.network.inject(NodeId(0), fairway_sim::fabric::NEXT, packet.clone());
    }
    download.network.run(100);
    assert!(download.network.receive(download.client).is_empty(), "a recording is believed");
    assert!((0..5).all(|_| download.more()), "{:?}", download.drops());
}

#[test]
fn a_session_that_policy_allows_no_more_is_not_given_back() {
    let mut download = Download::start(&Fabric::default(), 7, 1);
    let mut model = download.network.model(NodeId(0)).clone();
    model.services[0].access.clear();
    download.network.reload(NodeId(0), model);
    download.network.restart(NodeId(0));
    for _ in 0..10 {
        download.network.run(1_000);
        assert!(!download.more());
    }
    assert_eq!(download.uuids(NodeId(0)).len(), 0);
}

#[test]
fn long_after_its_start_a_router_is_given_nothing() {
    let mut download = Download::start(&Fabric::default(), 7, 1);
    download.network.set_cut(0, true);
    download.network.restart(NodeId(0));
    download.network.run(70_000);
    download.network.set_cut(0, false);
    for _ in 0..10 {
        download.network.run(1_000);
        download.more();
    }
    assert_eq!(download.count(NodeId(0), Counter::SessionsResumed), 0);
    let other = IpAddr::from([10, 1, 0, 9]);
    assert_eq!(download.seen.ip(), other);
}
