//! A fabric with a client, a guest and a server, and what was seen on its links.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use fairway_session::SessionFilter;
use fairway_sim::fabric::{BACK, GUEST, LAN};
use fairway_sim::forge::Forger;
use fairway_sim::network::shared_key;
use fairway_sim::packet::Packet;
use fairway_sim::{Fabric, HostId, Network, NodeId, Topology};
use fairway_types::{Batch, Counter, DropReason};
use fairway_wire::svr::{Context, HeaderTlvs, PayloadTlvs};

pub const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 9));
pub const GUESTS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 99));
pub const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 0, 9));
pub const EPOCH: u32 = 1_900_000_000;
pub const UUID: [u8; 16] = [0xab; 16];

/// Every packet that one router sent to another, with who sent it.
type Seen = Rc<RefCell<Vec<(NodeId, Vec<u8>)>>>;

pub struct Scene {
    pub network: Network,
    pub client: HostId,
    pub guest: HostId,
    pub server: HostId,
    pub forger: Forger,
    pub seen: Seen,
    last: usize,
}

impl Scene {
    /// Two routers.
    pub fn new() -> Self {
        Self::with(Topology::chain(&Fabric::default()))
    }

    /// A chain of routers whose models were changed.
    pub fn with(topology: Topology) -> Self {
        let last = topology.models.len() - 1;
        let mut network = Network::with_topology(topology, 1);
        let client = network.add_host(NodeId(0), LAN, &[CLIENT]);
        let guest = network.add_host(NodeId(0), GUEST, &[GUESTS]);
        let server = network.add_host(NodeId(last), LAN, &[SERVER]);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&seen);
        network.set_tap(Box::new(move |node, packet| log.borrow_mut().push((node, packet.to_vec()))));
        network.run(12_000);
        let forger = Forger::new(&shared_key("r0", "r1"), "r0", "r1", [9; 16]);
        Self { network, client, guest, server, forger, seen, last }
    }

    /// Does something and holds that these drop counters moved, by so much, and no others.
    pub fn expect(&mut self, expected: &[(usize, DropReason, u64)], action: impl FnOnce(&mut Self)) {
        let before = self.network.all_books();
        action(self);
        self.network.run(50);
        let mut moved = Vec::new();
        for (node, before) in before.iter().enumerate() {
            let drops = self.network.books(NodeId(node)).dropped_since(before);
            moved.extend(drops.into_iter().map(|(reason, count)| (node, reason, count)));
        }
        assert_eq!(moved, expected);
    }

    /// The same, and nothing came of it: no session, nothing delivered, no answer.
    pub fn expect_nothing_but(
        &mut self,
        expected: &[(usize, DropReason, u64)],
        action: impl FnOnce(&mut Self),
    ) {
        let sessions = self.sessions();
        let answers = self.answers();
        self.expect(expected, action);
        assert_eq!(self.sessions(), sessions, "sessions");
        assert_eq!(self.answers(), answers, "answers");
        for host in [self.client, self.guest, self.server] {
            assert_eq!(self.network.receive(host), Vec::<Vec<u8>>::new());
        }
    }

    pub fn sessions(&self) -> Vec<usize> {
        self.network.routers().map(|node| self.network.engine(node).session_count()).collect()
    }

    fn answers(&self) -> Vec<u64> {
        let counters = [Counter::IcmpErrorsSent, Counter::TcpResetsSent, Counter::IcmpErrorsRelayed];
        let books = self.network.all_books();
        books.iter().flat_map(|books| counters.map(|counter| books.counter(counter))).collect()
    }

    /// An operator of a router deletes sessions; other routers do not hear of it.
    pub fn delete(&mut self, node: usize, filter: &SessionFilter) {
        let now = self.network.clock();
        let mut batch = Batch::new(0, 64, 2048);
        self.network.engine_mut(NodeId(node)).delete(now, filter, &mut batch);
        self.network.run(5);
    }

    pub fn counter(&self, node: usize, counter: Counter) -> u64 {
        self.network.books(NodeId(node)).counter(counter)
    }

    pub fn unix(&self) -> u64 {
        self.network.clock().unix
    }

    pub fn request(&self, port: u16) -> Packet {
        Packet::udp(SocketAddr::new(CLIENT, port), SocketAddr::new(SERVER, 53), &[0x81; 40])
    }

    pub fn segment(&self, port: u16, tcp: (u8, u32, u32), payload: &[u8]) -> Packet {
        Packet::tcp(SocketAddr::new(CLIENT, port), SocketAddr::new(SERVER, 80), tcp, payload)
    }

    /// The client sends; what the server got.
    pub fn forward(&mut self, packet: &Packet) -> Vec<Packet> {
        self.network.send(self.client, packet.bytes());
        self.network.run(20 * self.last as u64 + 20);
        self.network.receive(self.server).iter().map(|bytes| Packet::read(bytes).unwrap()).collect()
    }

    /// The server sends; what the client got.
    pub fn reverse(&mut self, packet: &Packet) -> Vec<Packet> {
        self.network.send(self.server, packet.bytes());
        self.network.run(20 * self.last as u64 + 20);
        self.network.receive(self.client).iter().map(|bytes| Packet::read(bytes).unwrap()).collect()
    }

    /// A UDP session whose handshake is over.
    pub fn establish(&mut self, port: u16) {
        let request = self.request(port);
        for _ in 0..2 {
            assert_eq!(self.forward(&request).len(), 1);
            assert_eq!(self.reverse(&request.answer(&[0x82; 60])).len(), 1);
        }
    }

    /// The session is alive in both directions.
    pub fn assert_alive(&mut self, port: u16) {
        let request = self.request(port);
        assert_eq!(self.forward(&request).len(), 1, "forward {port}");
        assert_eq!(self.reverse(&request.answer(&[0x82; 60])).len(), 1, "reverse {port}");
    }

    /// What the first router sends when the client sends this; it does not arrive.
    pub fn intercept(&mut self, packet: &Packet) -> Vec<u8> {
        self.network.set_cut(0, true);
        self.seen.borrow_mut().clear();
        self.network.send(self.client, packet.bytes());
        self.network.run(2);
        self.network.set_cut(0, false);
        let seen = self.seen.borrow();
        let first = seen.iter().find(|(node, packet)| *node == NodeId(0) && !is_bfd(packet));
        first.unwrap().1.clone()
    }

    /// Puts a packet on the link before the second router.
    pub fn inject(&mut self, packet: Vec<u8>) {
        self.network.inject(NodeId(1), BACK, packet);
        self.network.run(5);
    }

    /// A packet that carries metadata to the second router, from the first one's waypoint.
    pub fn carry(&self, ports: (u16, u16), message: &[u8]) -> Vec<u8> {
        carry_from(WAYPOINTS.0, ports, message)
    }

    /// A forged offer of a session, sealed, on a pair of ports; `change` makes it an attack.
    pub fn offer(
        &mut self,
        ports: (u16, u16),
        change: impl FnOnce(&mut HeaderTlvs, &mut PayloadTlvs),
    ) -> Vec<u8> {
        let mut header = self.forger.header();
        let mut tlvs = forward_tlvs();
        change(&mut header, &mut tlvs);
        let message = self.forger.seal(&header, &tlvs, &[0x83; 24], self.unix());
        self.carry(ports, &message)
    }
}

/// The waypoints of the link between the first two routers.
pub const WAYPOINTS: (IpAddr, IpAddr) =
    (IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 0, 1)), IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 0, 2)));

pub fn carry_from(source: IpAddr, ports: (u16, u16), message: &[u8]) -> Vec<u8> {
    Packet::udp(SocketAddr::new(source, ports.0), SocketAddr::new(WAYPOINTS.1, ports.1), message).bytes()
}

/// An offer as the first router would make it.
pub fn forward_tlvs() -> PayloadTlvs<'static> {
    PayloadTlvs {
        forward: Some(Context {
            source: SocketAddr::new(CLIENT, 6000),
            destination: SocketAddr::new(SERVER, 53),
            protocol: 17,
        }),
        uuid: Some(UUID),
        tenant: Some("corp"),
        service: Some("all"),
        source_router: Some("r0"),
        epoch: Some(EPOCH),
        ..PayloadTlvs::default()
    }
}

pub fn is_bfd(packet: &[u8]) -> bool {
    fairway_wire::ip::parse(packet).is_ok_and(|p| p.destination_port == fairway_wire::svr::BFD_PORT)
}

/// The transport payload of a UDP packet.
pub fn payload(packet: &[u8]) -> Vec<u8> {
    fairway_wire::ip::parse(packet).unwrap().payload(packet).to_vec()
}

/// The same UDP packet with another payload and a right checksum.
pub fn with_payload(packet: &[u8], payload: &[u8]) -> Vec<u8> {
    Packet { payload: payload.to_vec(), ..Packet::read(packet).unwrap() }.bytes()
}
