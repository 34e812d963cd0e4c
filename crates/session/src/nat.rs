//! Source NAT: sessions that leave the fabric take the address of the interface, and a port or echo
//! identifier of their own.
//!
//! A port belongs to one inside endpoint at a time, whatever that talks to (endpoint-independent
//! mapping, RFC 4787 REQ-1 and RFC 5382 REQ-1), and keeps its number where it can. Only those an
//! inside endpoint talks to can answer (address- and port-dependent filtering): a session has its
//! exact flow. A port that was given back rests before somebody else gets it.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use core::hash::BuildHasher;
use fairway_types::model::Interface;
use fairway_types::{DropReason, InterfaceId, Now, PortRange, Protocol, TenantId, Time};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::engine::Engine;
use crate::event::Event;
use crate::key::{End, FlowKey};
use crate::session::{Session, Side};

/// How long a port rests before another endpoint gets it.
const REST: Duration = Duration::from_secs(60);
/// How long echo identifiers do: they are few, and pings are short.
const REST_ECHO: Duration = Duration::from_secs(5);

/// Whose a port is: sources of different tenants or sites may have the same address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Inside {
    pub(crate) tenant: Option<TenantId>,
    /// Stands for the name of the router where the session entered the fabric, the same for all workers.
    pub(crate) source_router: u64,
    pub(crate) end: End,
}

/// A port in use, and by how many sessions.
struct Mapping {
    inside: Inside,
    sessions: u32,
    /// Since when there are none.
    idle_since: Time,
}

/// The ports of one address and protocol.
pub(crate) struct Pool {
    interface: InterfaceId,
    address: IpAddr,
    protocol: Protocol,
    range: PortRange,
    /// Those that the host uses itself.
    host_ports: BTreeSet<u16>,
    by_port: HashMap<u16, Mapping, FixedState>,
    by_inside: HashMap<Inside, u16, FixedState>,
    resting: VecDeque<(Time, u16)>,
    next: u16,
    peak: u32,
    given: u64,
    refused: u64,
    /// Whether it was reported that few are left.
    warned: bool,
}

/// How full the ports of an address are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatUsage {
    /// The interface.
    pub interface: InterfaceId,
    /// The address that sessions take.
    pub address: IpAddr,
    /// TCP, UDP, ICMP or ICMPv6.
    pub protocol: Protocol,
    /// Ports, or echo identifiers, in use.
    pub used: u32,
    /// Those that rest before they are used again.
    pub resting: u32,
    /// How many there are.
    pub capacity: u32,
    /// The most that were in use at once.
    pub peak: u32,
    /// Sessions that got one.
    pub given: u64,
    /// Sessions refused because none was free.
    pub refused: u64,
}

/// What came of asking for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Port(u16),
    /// The same, and few are left; said once.
    Scarce(u16),
    Exhausted,
}

impl Pool {
    fn new(interface: InterfaceId, address: IpAddr, protocol: Protocol, secret: u64) -> Self {
        let range = if protocol.is_icmp() { PortRange::ECHO_NAT } else { PortRange::SOURCE_NAT };
        let hasher = FixedState::with_seed(secret);
        Self {
            interface,
            address,
            protocol,
            range,
            host_ports: BTreeSet::new(),
            by_port: HashMap::with_hasher(hasher.clone()),
            by_inside: HashMap::with_hasher(hasher),
            resting: VecDeque::new(),
            next: range.first().wrapping_add((secret % u64::from(range.count())) as u16),
            peak: 0,
            given: 0,
            refused: 0,
            warned: false,
        }
    }

    /// A port for a session of an inside endpoint.
    pub(crate) fn allocate(&mut self, now: Time, inside: Inside) -> Given {
        self.wake(now);
        let port = match self.by_inside.get(&inside) {
            Some(&port) if !self.host_ports.contains(&port) => port,
            _ => match self.free(inside.end.port()) {
                Some(port) => port,
                None => {
                    self.refused += 1;
                    return Given::Exhausted;
                }
            },
        };
        self.by_inside.insert(inside, port);
        let fresh = Mapping { inside, sessions: 0, idle_since: Time::ZERO };
        self.by_port.entry(port).or_insert(fresh).sessions += 1;
        self.peak = self.peak.max(self.used());
        self.given += 1;
        let scarce = self.used() * 5 >= self.capacity() * 4;
        if scarce && !core::mem::replace(&mut self.warned, scarce) {
            return Given::Scarce(port);
        }
        Given::Port(port)
    }

    /// The wanted port if it is free, else the next one that is.
    fn free(&mut self, wanted: u16) -> Option<u16> {
        let is_free =
            |pool: &Self, port| !pool.by_port.contains_key(&port) && !pool.host_ports.contains(&port);
        if self.range.contains(wanted) && is_free(self, wanted) {
            return Some(wanted);
        }
        if self.used() >= self.capacity() {
            return None;
        }
        for _ in 0..self.range.count() {
            let port = self.next;
            self.next = if port >= self.range.last() { self.range.first() } else { port + 1 };
            if is_free(self, port) {
                return Some(port);
            }
        }
        None
    }

    /// Gives back the port of a session that ended.
    pub(crate) fn release(&mut self, now: Time, port: u16) {
        self.wake(now);
        let Some(mapping) = self.by_port.get_mut(&port) else { return };
        mapping.sessions = mapping.sessions.saturating_sub(1);
        if mapping.sessions == 0 {
            // The endpoint itself gets it again at once; others wait.
            mapping.idle_since = now;
            self.resting.push_back((now, port));
        }
    }

    fn wake(&mut self, now: Time) {
        let rest = if self.protocol.is_icmp() { REST_ECHO } else { REST };
        while let Some(&(since, port)) = self.resting.front() {
            if now.since(since) < rest {
                break;
            }
            self.resting.pop_front();
            // It may have been taken up again meanwhile, and may rest a second time.
            let rested = |mapping: &&Mapping| mapping.sessions == 0 && mapping.idle_since == since;
            if let Some(inside) = self.by_port.get(&port).filter(rested).map(|mapping| mapping.inside) {
                self.by_port.remove(&port);
                // It has another one if the host took this.
                if self.by_inside.get(&inside) == Some(&port) {
                    self.by_inside.remove(&inside);
                }
            }
        }
        self.warned &= self.used() * 2 >= self.capacity();
    }

    /// Follows tenants that are numbered anew; nobody takes up the ports of those that are gone.
    fn renumber(&mut self, tenant: impl Fn(TenantId) -> Option<TenantId>) {
        self.by_inside.clear();
        for (&port, mapping) in &mut self.by_port {
            let before = mapping.inside.tenant;
            mapping.inside.tenant = before.and_then(&tenant);
            if before.is_some() == mapping.inside.tenant.is_some() {
                self.by_inside.insert(mapping.inside, port);
            }
        }
    }

    /// How many ports there are.
    fn capacity(&self) -> u32 {
        self.range.count().saturating_sub(self.host_ports.len() as u32)
    }

    fn used(&self) -> u32 {
        self.by_port.len() as u32
    }

    fn usage(&self) -> NatUsage {
        let idle = self.by_port.values().filter(|mapping| mapping.sessions == 0).count() as u32;
        NatUsage {
            interface: self.interface,
            address: self.address,
            protocol: self.protocol,
            used: self.used() - idle,
            resting: idle,
            capacity: self.capacity(),
            peak: self.peak,
            given: self.given,
            refused: self.refused,
        }
    }
}

/// The ports of all addresses. All workers of a router share them: an inside endpoint has one port,
/// whoever has its sessions.
#[derive(Default)]
pub(crate) struct Nat {
    pools: Vec<Pool>,
    secret: u64,
}

impl Nat {
    /// Pools for the addresses of these interfaces; `secret` keeps senders from choosing collisions.
    pub(crate) fn new(interfaces: &[Interface], secret: u64) -> Self {
        let mut pools = Vec::new();
        for (id, interface) in (0u16..).map(InterfaceId).zip(interfaces) {
            for address in interface.nat_addresses() {
                let icmp = if address.is_ipv6() { Protocol::ICMPV6 } else { Protocol::ICMP };
                for protocol in [Protocol::TCP, Protocol::UDP, icmp] {
                    let mut pool = Pool::new(id, address, protocol, secret);
                    let own = interface.host_ports.iter().filter(|(of, _)| *of == protocol);
                    pool.host_ports = own.map(|&(_, port)| port).collect();
                    pools.push(pool);
                }
            }
        }
        Self { pools, secret }
    }

    /// What stands for the name of a router.
    fn router(&self, name: &str) -> u64 {
        FixedState::with_seed(self.secret).hash_one(name)
    }

    /// The pool of an address. Not of an interface: not all workers go over to other numbers of
    /// interfaces at once.
    fn pool(&mut self, address: IpAddr, protocol: Protocol) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|pool| pool.address == address && pool.protocol == protocol)
    }

    /// Pools for the interfaces of another configuration. What is in use or rests stays so, under new
    /// numbers of interfaces and tenants.
    fn reconfigured(
        mut self,
        interfaces: &[Interface],
        tenant: impl Fn(TenantId) -> Option<TenantId>,
    ) -> Self {
        let mut next = Self::new(interfaces, self.secret);
        for pool in &mut next.pools {
            let same = |old: &Pool| (old.address, old.protocol) == (pool.address, pool.protocol);
            if let Some(place) = self.pools.iter().position(same) {
                let mut old = self.pools.swap_remove(place);
                old.interface = pool.interface;
                old.host_ports = core::mem::take(&mut pool.host_ports);
                old.renumber(&tenant);
                *pool = old;
            }
        }
        next
    }

    pub(crate) fn usage(&self) -> impl Iterator<Item = NatUsage> + '_ {
        self.pools.iter().map(Pool::usage)
    }
}

impl Engine {
    /// The flow of a session on the interface where it leaves the fabric: with its own source, or with
    /// the address and a port of source NAT.
    pub(crate) fn translated_key(
        &mut self,
        now: Now,
        original: &FlowKey,
        interface: InterfaceId,
        tenant: Option<TenantId>,
        source_router: u16,
    ) -> Result<FlowKey, DropReason> {
        let key = FlowKey { interface, ..original.reversed() };
        let model = self.snapshot.model();
        let Some(element) = model.interface(interface).filter(|element| element.source_nat) else {
            return Ok(key);
        };
        let address = element.nat_address(key.ipv6).ok_or(DropReason::NatProtocol)?;
        let given = {
            let mut nat = self.nat();
            let source_router = nat.router(self.names.name(source_router));
            let pool = nat.pool(address, key.protocol).ok_or(DropReason::NatProtocol)?;
            pool.allocate(now.mono, Inside { tenant, source_router, end: original.remote })
        };
        let port = match given {
            Given::Port(port) => port,
            Given::Scarce(port) => {
                self.report(Event::NatScarce(interface, key.protocol));
                port
            }
            Given::Exhausted => {
                self.report(Event::NatExhausted(interface, key.protocol));
                return Err(DropReason::NatExhausted);
            }
        };
        let local = End::new(address, port);
        // Both ends of an echo bear its identifier.
        let remote =
            if key.protocol.is_icmp() { End::new(key.remote.ip(key.ipv6), port) } else { key.remote };
        // What goes to the address itself comes back by the other side of the interface.
        let to_itself = remote.ip(key.ipv6) == address;
        let interface = if to_itself { interface.hairpin() } else { interface };
        Ok(FlowKey { local, remote, interface, ..key })
    }

    /// Gives back the port of a session that ended.
    pub(crate) fn release_nat(&mut self, now: Now, session: &Session) {
        if is_translated(session) {
            self.give_back(now, &session.leg(Side::Responder).key);
        }
    }

    /// Gives back the port of a flow that was translated, if it was.
    pub(crate) fn give_back(&mut self, now: Now, key: &FlowKey) {
        if let Some(pool) = self.nat().pool(key.local.ip(key.ipv6), key.protocol) {
            pool.release(now.mono, key.local.port());
        }
    }

    /// Goes over to the interfaces of another configuration.
    pub(crate) fn reconfigure_nat(
        &self,
        interfaces: &[Interface],
        tenant: impl Fn(TenantId) -> Option<TenantId>,
    ) {
        let mut nat = self.nat();
        *nat = core::mem::take(&mut *nat).reconfigured(interfaces, tenant);
    }

    /// How full the ports of source NAT are, of all workers.
    #[must_use]
    pub fn nat_usage(&self) -> Vec<NatUsage> {
        self.nat().usage().collect()
    }
}

/// Whether a session leaves the fabric here under another address than its own.
pub(crate) fn is_translated(session: &Session) -> bool {
    let leg = session.leg(Side::Responder);
    leg.hop.is_none() && leg.key.local != session.original.remote
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn inside(host: u8, port: u16) -> Inside {
        let end = End::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), port);
        Inside { tenant: None, source_router: 0, end }
    }

    fn pool(protocol: Protocol) -> Pool {
        Pool::new(InterfaceId(0), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), protocol, 7)
    }

    fn port(given: Given) -> u16 {
        match given {
            Given::Port(port) | Given::Scarce(port) => port,
            Given::Exhausted => panic!("exhausted"),
        }
    }

    #[test]
    fn an_endpoint_keeps_its_port_and_its_number_where_it_can() {
        let mut pool = pool(Protocol::UDP);
        let first = port(pool.allocate(Time::ZERO, inside(1, 40_000)));
        assert_eq!(first, 40_000);
        assert_eq!(port(pool.allocate(Time::ZERO, inside(1, 40_000))), first, "whatever it talks to");
        let other = port(pool.allocate(Time::ZERO, inside(2, 40_000)));
        assert_ne!(other, first);
        let low = port(pool.allocate(Time::ZERO, inside(3, 53)));
        assert!(PortRange::SOURCE_NAT.contains(low));
    }

    #[test]
    fn what_the_host_uses_is_given_to_nobody() {
        let mut pool = pool(Protocol::UDP);
        let before = pool.usage().capacity;
        assert_eq!(port(pool.allocate(Time::ZERO, inside(1, 51_820))), 51_820);
        pool.host_ports.extend([51_820, 51_821]);
        assert_eq!(pool.usage().capacity, before - 2);
        assert_ne!(port(pool.allocate(Time::ZERO, inside(1, 51_820))), 51_820, "not even to who had it");
        assert_ne!(port(pool.allocate(Time::ZERO, inside(2, 51_821))), 51_821);
        // What it had rests and goes; what it has now stays its own.
        pool.release(Time::ZERO, 51_820);
        let own = port(pool.allocate(Time::from_secs(100), inside(1, 51_820)));
        assert_eq!(port(pool.allocate(Time::from_secs(100), inside(1, 51_820))), own);
        pool.host_ports = (PortRange::SOURCE_NAT.first()..=PortRange::SOURCE_NAT.last()).collect();
        assert_eq!(pool.allocate(Time::from_secs(100), inside(3, 5)), Given::Exhausted);
    }

    #[test]
    fn a_port_goes_to_another_endpoint_only_after_a_rest() {
        let mut pool = pool(Protocol::UDP);
        let first = port(pool.allocate(Time::ZERO, inside(1, 40_000)));
        pool.allocate(Time::ZERO, inside(1, 40_000));
        pool.release(Time::from_secs(1), first);
        assert_eq!((pool.usage().used, pool.usage().resting), (1, 0), "another session has it");
        pool.release(Time::from_secs(1), first);
        assert_eq!((pool.usage().used, pool.usage().resting), (0, 1));
        assert_ne!(port(pool.allocate(Time::from_secs(2), inside(2, 40_000))), first);
        assert_eq!(port(pool.allocate(Time::from_secs(3), inside(1, 40_000))), first, "its own again");
        pool.release(Time::from_secs(30), first);
        assert_ne!(port(pool.allocate(Time::from_secs(62), inside(3, 40_000))), first, "since it rests anew");
        assert_eq!(port(pool.allocate(Time::from_secs(91), inside(4, 40_000))), first);
    }

    #[test]
    fn the_end_is_announced_once_and_then_refused() {
        let mut pool = pool(Protocol::ICMP);
        let capacity = PortRange::ECHO_NAT.count();
        let mut scarce = 0;
        for number in 0..capacity {
            match pool.allocate(Time::ZERO, inside((number >> 8) as u8, number as u16)) {
                Given::Port(_) => {}
                Given::Scarce(_) => {
                    scarce += 1;
                    assert_eq!(number + 1, (capacity * 4).div_ceil(5));
                }
                Given::Exhausted => panic!("after {number}"),
            }
        }
        assert_eq!(scarce, 1);
        assert_eq!(pool.allocate(Time::ZERO, inside(99, 1)), Given::Exhausted);
        assert_eq!((pool.usage().refused, pool.usage().peak), (1, capacity));
    }

    proptest! {
        #[test]
        fn no_two_endpoints_ever_share_a_port(steps in prop::collection::vec((0u8..6, 0u16..4, any::<bool>(), 0u64..40), 1..300)) {
            let mut pool = pool(Protocol::TCP);
            let (mut now, mut held) = (Time::ZERO, Vec::new());
            for (host, number, begin, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                if begin || held.is_empty() {
                    let inside = inside(host, 30_000 + number);
                    held.push((inside, port(pool.allocate(now, inside))));
                } else {
                    let (_, port) = held.swap_remove(usize::from(number) % held.len());
                    pool.release(now, port);
                }
                for (a, port) in &held {
                    for (b, other) in &held {
                        prop_assert_eq!(a == b, port == other);
                    }
                }
            }
        }
    }
}
