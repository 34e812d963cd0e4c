//! What hosts say to each other: exchanges of one request and one response at a time, each repeated
//! until it is answered.
//!
//! A TCP connection is one, too: its SYN, each piece of data and its FIN are requests. Servers answer
//! the same request always in the same way, so they keep no state.

use std::collections::HashMap;
use std::net::SocketAddr;

use fairway_wire::protocol;

use crate::marker::{self, Mark};
use crate::network::HostId;
use crate::packet::Packet;
use crate::plan::Tenant;

/// Generic routing encapsulation (RFC 2784), a protocol without ports.
pub const GRE: u8 = 47;
/// How long a client waits for a response before it asks again, in milliseconds.
pub const RETRY_MILLIS: u64 = 400;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UDP, request and response.
    Udp,
    /// UDP that nobody answers.
    OneWay,
    /// UDP to a port that is closed: the server says so by ICMP.
    Unreachable,
    /// ICMP or ICMPv6 echo.
    Echo,
    /// A protocol without ports.
    Gre,
    /// TCP that both sides finish.
    Tcp,
    /// TCP that the client resets.
    TcpReset,
    /// TCP to a port that is closed: the server resets.
    TcpRefused,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Udp,
        Self::OneWay,
        Self::Unreachable,
        Self::Echo,
        Self::Gre,
        Self::Tcp,
        Self::TcpReset,
        Self::TcpRefused,
    ];

    /// The IP protocol.
    #[must_use]
    pub const fn protocol(self, ipv6: bool) -> u8 {
        match self {
            Self::Udp | Self::OneWay | Self::Unreachable => protocol::UDP,
            Self::Echo if ipv6 => protocol::ICMPV6,
            Self::Echo => protocol::ICMP,
            Self::Gre => GRE,
            Self::Tcp | Self::TcpReset | Self::TcpRefused => protocol::TCP,
        }
    }
}

/// How often a packet was sent and delivered.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Which request, or response to which.
    pub step: u16,
    /// Times sent.
    pub sent: u32,
    /// Times delivered.
    pub delivered: u32,
}

/// One conversation.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its number.
    pub id: u32,
    /// What is spoken.
    pub kind: Kind,
    /// Who begins.
    pub client: HostId,
    /// Who answers.
    pub server: HostId,
    /// The client's end.
    pub from: SocketAddr,
    /// The server's end.
    pub to: SocketAddr,
    /// The client's tenant.
    pub tenant: Tenant,
    /// Whether the reference model allows it.
    pub allowed: bool,
    /// Requests with payload.
    pub rounds: u16,
    /// Bytes of payload.
    pub size: usize,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Initial sequence numbers of both sides.
    pub numbers: (u32, u32),
    /// When it begins, in milliseconds of the network's clock.
    pub begins: u64,
    /// The request that waits for its response.
    pub step: u16,
    /// When it was sent last.
    pub asked: Option<u64>,
    /// How often it was sent.
    pub tries: u32,
    /// Whether everything was said.
    pub done: bool,
    /// Every packet sent, without its TTL: by the client, and by the server.
    pub sent: [HashMap<Vec<u8>, Sent>; 2],
}

impl Conversation {
    /// One line about it.
    #[must_use]
    pub fn brief(&self) -> String {
        let Self { id, kind, client, server, from, to, tenant, step, tries, begins, .. } = self;
        let steps = self.steps();
        format!(
            "{id} {kind:?} {tenant:?} {client:?} {from} -> {server:?} {to}: step {step} of {steps}, \
             tried {tries} times, begun at {begins}"
        )
    }

    /// How many requests there are.
    #[must_use]
    pub const fn steps(&self) -> u16 {
        match self.kind {
            Kind::Udp | Kind::OneWay | Kind::Echo | Kind::Gre => self.rounds,
            Kind::Unreachable | Kind::TcpRefused => 1,
            Kind::Tcp | Kind::TcpReset => self.rounds + 2,
        }
    }

    fn payload(&self, answer: bool, step: u16) -> Vec<u8> {
        marker::payload(Mark { conversation: self.id, answer, step }, self.size)
    }

    fn segment(&self, answer: bool, tcp: (u8, u32, u32), payload: &[u8]) -> Packet {
        let (from, to) = if answer { (self.to, self.from) } else { (self.from, self.to) };
        Packet { traffic_class: self.traffic_class, ..Packet::tcp(from, to, tcp, payload) }
    }

    /// Sequence numbers of client and server after `pieces` pieces of data each.
    fn after(&self, pieces: u16) -> (u32, u32) {
        let bytes = u32::from(pieces) * self.size as u32 + 1;
        (self.numbers.0.wrapping_add(bytes), self.numbers.1.wrapping_add(bytes))
    }

    /// The request of a step.
    #[must_use]
    pub fn request(&self, step: u16) -> Packet {
        let payload = self.payload(false, step);
        let packet = match self.kind {
            Kind::Udp | Kind::OneWay | Kind::Unreachable => Packet::udp(self.from, self.to, &payload),
            Kind::Echo => Packet::echo(self.from, self.to, &payload),
            Kind::Gre => Packet::portless(self.from.ip(), self.to.ip(), GRE, &payload),
            Kind::Tcp | Kind::TcpReset | Kind::TcpRefused => return self.tcp_request(step, &payload),
        };
        Packet { traffic_class: self.traffic_class, ..packet }
    }

    fn tcp_request(&self, step: u16, payload: &[u8]) -> Packet {
        if step == 0 {
            return self.segment(false, (SYN, self.numbers.0, 0), &[]);
        }
        let (own, other) = self.after(step - 1);
        if step <= self.rounds {
            return self.segment(false, (ACK | PSH, own, other), payload);
        }
        let last = if self.kind == Kind::TcpReset { RST } else { FIN | ACK };
        self.segment(false, (last, own, other), &[])
    }

    /// The server's response to a request, unless it has none, or one that is no packet of the
    /// session ([`Kind::Unreachable`]).
    #[must_use]
    pub fn response(&self, step: u16) -> Option<Packet> {
        match self.kind {
            Kind::OneWay | Kind::Unreachable => None,
            Kind::Udp | Kind::Echo | Kind::Gre => Some(self.request(step).answer(&self.payload(true, step))),
            Kind::TcpRefused => Some(self.segment(true, (RST | ACK, 0, self.numbers.0.wrapping_add(1)), &[])),
            Kind::Tcp | Kind::TcpReset => self.tcp_response(step),
        }
    }

    fn tcp_response(&self, step: u16) -> Option<Packet> {
        let (client, server) = self.after(step.saturating_sub(1));
        if step == 0 {
            return Some(self.segment(true, (SYN | ACK, self.numbers.1, client), &[]));
        }
        if step <= self.rounds {
            let heard = self.after(step).0;
            return Some(self.segment(true, (ACK | PSH, server, heard), &self.payload(true, step)));
        }
        (self.kind == Kind::Tcp).then(|| self.segment(true, (FIN | ACK, server, client.wrapping_add(1)), &[]))
    }

    /// What the client sends on a response beside its next request: TCP acknowledgements.
    #[must_use]
    pub fn acknowledgement(&self, step: u16) -> Option<Packet> {
        let tcp = matches!(self.kind, Kind::Tcp | Kind::TcpReset);
        let (own, other) = self.after(step.saturating_sub(1));
        if tcp && step == 0 {
            return Some(self.segment(false, (ACK, own, other), &[]));
        }
        let fin = tcp && step > self.rounds;
        fin.then(|| self.segment(false, (ACK, own.wrapping_add(1), other.wrapping_add(1)), &[]))
    }

    /// Whether the client goes on after `step` without a response.
    #[must_use]
    pub fn expects_response(&self, step: u16) -> bool {
        match self.kind {
            Kind::OneWay => false,
            Kind::TcpReset => step <= self.rounds,
            Kind::Udp | Kind::Unreachable | Kind::Echo | Kind::Gre | Kind::Tcp | Kind::TcpRefused => true,
        }
    }
}
