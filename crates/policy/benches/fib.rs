//! How long a table of 100,000 rows takes to build, and a decision to make.
//!
//! Three layouts: many prefixes with one service each, few prefixes with many ports, and few prefixes
//! that many tenants share. Destinations are random: within the rows, where each decision touches other
//! memory, and anywhere, where most fall to the widest prefix. Prints the median of the runs with the
//! fastest and the slowest one.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::unwrap_used, reason = "the models are made here")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use fairway_policy::Snapshot;
use fairway_types::model::{Access, RouteTarget, RouterModel, Transport};
use fairway_types::{IpNet, PortRange, Protocol, TenantId};

#[allow(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../src/tests/fixture.rs"]
mod fixture;

const ROWS: u32 = 100_000;
const TENANTS: u16 = 100;
const RUNS: usize = 11;
const DECISIONS: usize = 1 << 20;

/// splitmix64: the same numbers on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.next() % u64::from(limit)).unwrap()
    }
}

type Query = (Option<TenantId>, IpAddr, IpAddr, Protocol, u16);

struct Layout {
    name: &'static str,
    model: RouterModel,
    /// Destinations within the rows.
    inside: Vec<Query>,
    /// Destinations anywhere.
    anywhere: Vec<Query>,
}

/// A model of `TENANTS` tenants, of which every second is the child of the one before, and a service
/// that holds every destination.
fn base() -> RouterModel {
    let mut model = fixture::empty();
    for number in 0..TENANTS {
        let name = match number % 2 {
            0 => format!("t{number}"),
            _ => format!("t{number}.t{}", number - 1),
        };
        fixture::tenant(&mut model, &name);
    }
    fixture::service(&mut model, "internet", "0.0.0.0/0 ::/0", "");
    fixture::access(&mut model, "+t0 public");
    fixture::service(&mut model, "private", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7", "tcp udp");
    fixture::access(&mut model, "+t0 +t2");
    model
}

/// Adds a service with one prefix, one transport, a line for a tenant and a route.
fn add(model: &mut RouterModel, prefix: IpNet, transport: Option<Transport>, tenant: TenantId) {
    let number = model.services.len();
    let id = fixture::service(model, &format!("service-{number}"), "", "");
    let service = &mut model.services[id.index()];
    service.prefixes.push(prefix);
    service.transports.extend(transport);
    let origin = String::new();
    service.access.push(Access { tenant: Some(tenant), prefix: None, permit: true, origin });
    fixture::route(model, &format!("route-{number}"), id, RouteTarget::Local, 1);
}

fn query(numbers: &mut Numbers, destination: IpAddr, tenant: u16, port: u16) -> Query {
    let source = Ipv4Addr::from_bits(0x0a00_0000 | numbers.below(1 << 24));
    (Some(TenantId(tenant)), source.into(), destination, Protocol::TCP, port)
}

fn anywhere(numbers: &mut Numbers, v6: bool) -> Vec<Query> {
    let mut queries = Vec::with_capacity(DECISIONS);
    for _ in 0..DECISIONS {
        let bits = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
        let destination: IpAddr = if v6 {
            Ipv6Addr::from_bits(bits).into()
        } else {
            Ipv4Addr::from_bits((bits >> 7) as u32).into()
        };
        let (tenant, port) = (numbers.below(u32::from(TENANTS)), numbers.below(65_536));
        queries.push(query(numbers, destination, tenant as u16, port as u16));
    }
    queries
}

/// An address inside a prefix.
fn address_in(numbers: &mut Numbers, prefix: IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(net) => {
            let host = numbers.next() as u32 & net.hostmask().to_bits();
            Ipv4Addr::from_bits(net.network().to_bits() | host).into()
        }
        IpNet::V6(net) => {
            let host = u128::from(numbers.next()) & net.hostmask().to_bits();
            Ipv6Addr::from_bits(net.network().to_bits() | host).into()
        }
    }
}

/// One service with one prefix each.
fn prefixes(name: &'static str, mut prefix: impl FnMut(&mut Numbers) -> IpNet) -> Layout {
    let mut numbers = Numbers(1);
    let mut model = base();
    let mut all = Vec::new();
    while all.len() < ROWS as usize {
        let (prefix, tenant) = (prefix(&mut numbers), numbers.below(u32::from(TENANTS)) as u16);
        let transport = fixture::transport(if all.len() % 2 == 0 { "tcp:443" } else { "tcp" });
        add(&mut model, prefix, Some(transport), TenantId(tenant));
        all.push((prefix, tenant));
    }
    let mut inside = Vec::with_capacity(DECISIONS);
    for _ in 0..DECISIONS {
        let (prefix, tenant) = all[numbers.below(ROWS) as usize];
        let destination = address_in(&mut numbers, prefix);
        inside.push(query(&mut numbers, destination, tenant, 443));
    }
    let v6 = all.iter().all(|(prefix, _)| prefix.addr().is_ipv6());
    Layout { name, model, inside, anywhere: anywhere(&mut numbers, v6) }
}

/// 1,000 prefixes with 100 services each, told apart by their ports or by their tenants.
fn shared(name: &'static str, by_tenant: bool) -> Layout {
    let mut numbers = Numbers(2);
    let mut model = base();
    let net = |number: u32| Ipv4Addr::from_bits(0x0a00_0000 + (number << 8));
    for prefix in 0..1000 {
        let prefix = IpNet::new(net(prefix).into(), 24).unwrap();
        for number in 0..100u16 {
            let ports = PortRange::new(number * 600, number * 600 + 599).unwrap();
            let ports = if by_tenant { PortRange::single(443) } else { ports };
            let transport = Transport { protocol: Protocol::TCP, ports: vec![ports] };
            add(&mut model, prefix, Some(transport), TenantId(number));
        }
    }
    let mut inside = Vec::with_capacity(DECISIONS);
    for _ in 0..DECISIONS {
        let destination = Ipv4Addr::from_bits(net(numbers.below(1000)).to_bits() | numbers.below(256));
        let (tenant, more) = (numbers.below(100) as u16, numbers.below(600) as u16);
        let port = if by_tenant { 443 } else { tenant * 600 + more };
        inside.push(query(&mut numbers, destination.into(), tenant, port));
    }
    Layout { name, model, inside, anywhere: anywhere(&mut numbers, false) }
}

/// `median (fastest–slowest)` of what `measure` answers.
fn spread(mut measure: impl FnMut() -> f64, unit: &str) -> String {
    let mut values: Vec<f64> = (0..RUNS).map(|_| measure()).collect();
    values.sort_unstable_by(f64::total_cmp);
    format!("{:.1} ({:.1}–{:.1}) {unit}", values[RUNS / 2], values[0], values[RUNS - 1])
}

fn nanoseconds_a_decision(snapshot: &Snapshot, queries: &[Query]) -> f64 {
    let start = Instant::now();
    for &(tenant, source, destination, protocol, port) in queries {
        black_box(snapshot.decide(tenant, source, destination, protocol, port));
    }
    start.elapsed().as_secs_f64() * 1e9 / queries.len() as f64
}

fn permitted(snapshot: &Snapshot, queries: &[Query]) -> usize {
    let permits = queries.iter().filter(|(tenant, source, destination, protocol, port)| {
        snapshot.decide(*tenant, *source, *destination, *protocol, *port).is_permit()
    });
    permits.count() * 100 / queries.len()
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run with: cargo bench -p fairway-policy");
        return;
    }
    let random_v4 = |numbers: &mut Numbers| {
        let length = 24 + numbers.below(9) as u8;
        IpNet::new(Ipv4Addr::from_bits(numbers.next() as u32).into(), length).unwrap().trunc()
    };
    let private_v4 = move |numbers: &mut Numbers| {
        let length = 24 + numbers.below(9) as u8;
        let bits = 0x0a00_0000 | numbers.below(1 << 24);
        IpNet::new(Ipv4Addr::from_bits(bits).into(), length).unwrap().trunc()
    };
    let random_v6 = |numbers: &mut Numbers| {
        let length = 48 + numbers.below(17) as u8;
        let bits = 0x2001_0db8 << 96 | u128::from(numbers.next()) << 32;
        IpNet::new(Ipv6Addr::from_bits(bits).into(), length).unwrap().trunc()
    };
    println!("{ROWS} rows; median (fastest–slowest) of {RUNS} runs of {DECISIONS} decisions");
    for make in [
        Box::new(move || prefixes("100k prefixes /24–/32 anywhere", random_v4)) as Box<dyn Fn() -> Layout>,
        Box::new(move || prefixes("100k prefixes /24–/32 in 10/8", private_v4)),
        Box::new(move || prefixes("100k prefixes /48–/64 in 2001:db8::/32", random_v6)),
        Box::new(|| shared("1k prefixes x 100 port ranges", false)),
        Box::new(|| shared("1k prefixes x 100 tenants", true)),
    ] {
        let layout = make();
        let build = spread(
            || {
                let model = layout.model.clone();
                let start = Instant::now();
                black_box(Snapshot::compile(black_box(model)).unwrap());
                start.elapsed().as_secs_f64() * 1e3
            },
            "ms",
        );
        let snapshot = Snapshot::compile(layout.model).unwrap();
        println!("{}\n  build    {build}", layout.name);
        for (name, queries) in [("inside", &layout.inside), ("anywhere", &layout.anywhere)] {
            let time = spread(|| nanoseconds_a_decision(&snapshot, queries), "ns");
            println!("  {name:8} {time}, {} % permitted", permitted(&snapshot, queries));
        }
    }
}
