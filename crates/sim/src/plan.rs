//! Plans of whole authorities: a graph of routers, some of them sites with hosts of two tenants and
//! servers, written as the configuration document an operator would write.
//!
//! Clients of both tenants have the same addresses at every site, so that prefixes overlap across
//! tenants and across sites. Each site has its own servers.

use std::fmt::Write;
use std::net::IpAddr;

use fairway_config::Authority;

use crate::topology::Topology;

/// Which waypoints a link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both: two peer paths over one link.
    Both,
}

/// A link of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// The routers it joins, by number.
    pub ends: (usize, usize),
    /// The cost of its paths.
    pub cost: u32,
    /// Its waypoints.
    pub family: Family,
}

/// The groups of clients. Each has its own interface at every site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tenant {
    /// Tenant `corp`, on interface `corp`.
    Corp,
    /// Tenant `guest`, on interface `guest`.
    Guest,
}

/// What stands behind an address of a site's server network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// For corp only, by the service of the whole network.
    Inner,
    /// For everybody: a more specific service permits guests, too.
    Open,
    /// For guests only: a more specific service denies corp.
    Reversed,
}

impl Server {
    /// All servers of a site.
    pub const ALL: [Self; 3] = [Self::Inner, Self::Open, Self::Reversed];

    const fn octet(self) -> u8 {
        match self {
            Self::Inner => 30,
            Self::Open => 53,
            Self::Reversed => 66,
        }
    }

    /// Its address at a site.
    #[must_use]
    pub fn address(self, site: usize, ipv6: bool) -> IpAddr {
        let octet = self.octet();
        if ipv6 {
            IpAddr::from([0xfd00, 0x100, site as u16, 0, 0, 0, 0, u16::from(octet)])
        } else {
            IpAddr::from([10, 100, site as u8, octet])
        }
    }

    /// The reference model of the policy: who may reach it.
    #[must_use]
    pub const fn admits(self, tenant: Tenant) -> bool {
        match (self, tenant) {
            (Self::Inner, Tenant::Corp)
            | (Self::Reversed, Tenant::Guest)
            | (Self::Open, Tenant::Corp | Tenant::Guest) => true,
            (Self::Inner, Tenant::Guest) | (Self::Reversed, Tenant::Corp) => false,
        }
    }
}

/// The address of a client; the same at every site and for both tenants.
#[must_use]
pub fn client_address(number: u8, ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, u16::from(number) + 20])
    } else {
        IpAddr::from([10, 1, 0, number + 20])
    }
}

/// A fabric to be written down.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many routers; they are called `r0`, `r1`, ….
    pub routers: usize,
    /// The links.
    pub edges: Vec<Edge>,
    /// The routers that have hosts.
    pub sites: Vec<usize>,
    /// Whether metadata is encrypted.
    pub encrypt: bool,
    /// How payload is protected.
    pub payload: Payload,
}

/// How payload is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Not at all.
    Plain,
    /// Guarded, and readable on the links.
    Guarded,
    /// Encrypted, unless it is already.
    Encrypted,
}

impl Payload {
    const fn leaves(self) -> &'static str {
        match self {
            Self::Plain => r#""encrypt":false,"hmac-mode":"disabled""#,
            Self::Guarded => r#""encrypt":false"#,
            Self::Encrypted => r#""encrypt":true"#,
        }
    }
}

impl Plan {
    /// The same with another protection of payload.
    #[must_use]
    pub fn with(&self, payload: Payload) -> Self {
        Self { payload, ..self.clone() }
    }

    /// A chain of `routers`, a site at both ends.
    #[must_use]
    pub fn chain(routers: usize, family: Family, encrypt: bool) -> Self {
        let edges = (1..routers).map(|right| Edge { ends: (right - 1, right), cost: 10, family }).collect();
        let sites = if routers == 1 { vec![0] } else { vec![0, routers - 1] };
        Self { routers, edges, sites, encrypt, payload: Payload::Encrypted }
    }

    /// Three routers, each joined to both others, each a site.
    #[must_use]
    pub fn triangle(encrypt: bool) -> Self {
        let edge = |a, b, cost, family| Edge { ends: (a, b), cost, family };
        let edges =
            vec![edge(0, 1, 10, Family::V4), edge(1, 2, 10, Family::V6), edge(0, 2, 25, Family::Both)];
        Self { routers: 3, edges, sites: vec![0, 1, 2], encrypt, payload: Payload::Encrypted }
    }

    /// Fifty routers: a ring of five in the core, a tree of nine behind each, each branch joined to
    /// the next for redundancy; ten sites at the leaves.
    #[must_use]
    pub fn fifty() -> Self {
        let mut edges = Vec::new();
        let families = [Family::V4, Family::V6, Family::Both];
        let mut join = |a: usize, b: usize, cost: u32| {
            edges.push(Edge { ends: (a, b), cost, family: families[edges.len() % families.len()] });
        };
        for core in 0..5 {
            join(core, (core + 1) % 5, 10);
            let (left, right) = (5 + core * 9, 6 + core * 9);
            join(core, left, 10);
            join(core, right, 12);
            join(left, right, 30);
            for leaf in 0..7 {
                join(if leaf % 2 == 0 { left } else { right }, 7 + core * 9 + leaf, 10);
            }
        }
        for core in 0..5 {
            // From a leaf of one branch to the next branch.
            join(7 + core * 9, 5 + (core + 1) % 5 * 9, 40);
        }
        let sites = (0..5).flat_map(|core| [7 + core * 9, 10 + core * 9]).collect();
        Self { routers: 50, edges, sites, encrypt: true, payload: Payload::Encrypted }
    }

    /// The configuration of the whole authority (RFC 7951 JSON).
    #[must_use]
    pub fn document(&self) -> String {
        let services: Vec<String> = (0..self.sites.len()).flat_map(services).collect();
        let routers: Vec<String> = (0..self.routers).map(|router| self.router(router)).collect();
        format!(
            r#"{{"fairway:authority":{{"name":"sim","tenant":[{{"name":"corp"}},{{"name":"guest"}}],
"security":[{{"name":"default","encrypt-metadata":{},{}}}],"session-type":[{TIMEOUTS}],
"service":[{}],"router":[{}]}}}}"#,
            self.encrypt,
            self.payload.leaves(),
            services.join(","),
            routers.join(",")
        )
    }

    /// The models and links that follow from the document.
    ///
    /// # Panics
    /// When the document has faults: a mistake of the plan.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let authority = Authority::parse(&self.document());
        assert!(authority.is_ok(), "{:?}", authority.as_ref().err());
        authority.map_or(Topology { models: Vec::new(), links: Vec::new() }, |a| Topology::of(&a))
    }

    fn router(&self, number: usize) -> String {
        let mut interfaces = Vec::new();
        for (edge, Edge { ends, cost, family }) in self.edges.iter().enumerate() {
            let host = match number {
                n if n == ends.0 => 1,
                n if n == ends.1 => 2,
                _ => continue,
            };
            let v4 = format!(r#"{{"ip-address":"198.18.{edge}.{host}","prefix-length":24}}"#);
            let v6 = format!(r#"{{"ip-address":"2001:db8:{edge:x}::{host}","prefix-length":64}}"#);
            let addresses = match family {
                Family::V4 => v4,
                Family::V6 => v6,
                Family::Both => format!("{v4},{v6}"),
            };
            let hood = format!(r#","type":"fabric","neighborhood":[{{"name":"e{edge}","cost":{cost}}}]"#);
            interfaces.push(interface(&format!("e{edge}"), &addresses, &hood));
        }
        let mut routes = String::new();
        if let Some(site) = self.sites.iter().position(|&router| router == number) {
            interfaces.extend(lans(site));
            for (index, name) in ["inner", "open", "reversed"].iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let name = format!("{name}-{site}");
                let _ = write!(routes, r#"{comma}{{"name":"{name}","service-name":"{name}","local":{{}}}}"#);
            }
        }
        format!(
            r#"{{"name":"r{number}","node":[{{"name":"n","device-interface":[{}]}}],
"service-route":[{routes}],"limits":{{"sessions":1024,"half-open":256}}}}"#,
            interfaces.join(",")
        )
    }
}

/// Short, so that tables drain soon.
const TIMEOUTS: &str = r#"{"name":"tcp","timeout":20,"initial-timeout":8},
{"name":"udp","timeout":12,"initial-timeout":12},{"name":"dns","timeout":6,"initial-timeout":6},
{"name":"icmp","timeout":6,"initial-timeout":6},{"name":"other","timeout":10,"initial-timeout":10}"#;

/// The longest of the timeouts above, in milliseconds, with some to spare.
pub const DRAIN_MILLIS: u64 = 30_000;

fn services(site: usize) -> [String; 3] {
    let service = |name: &str, v4: &str, v6: &str, access: &str| {
        format!(
            r#"{{"name":"{name}-{site}","address":["10.100.{site}.{v4}","fd00:100:{site:x}::{v6}"],
"access-policy":[{access}]}}"#
        )
    };
    [
        service("inner", "0/24", "/64", r#"{"source":"corp"}"#),
        service("open", "53/32", "35/128", r#"{"source":"corp"},{"source":"guest"}"#),
        service("reversed", "66/32", "42/128", r#"{"source":"guest"},{"source":"corp","permission":"deny"}"#),
    ]
}

fn lans(site: usize) -> [String; 3] {
    let lan = |name: &str, v4: &str, length: u8, v6: &str, tenant: &str| {
        let addresses = format!(
            r#"{{"ip-address":"{v4}","prefix-length":{length}}},{{"ip-address":"{v6}","prefix-length":64}}"#
        );
        interface(name, &addresses, tenant)
    };
    [
        lan("corp", "10.1.0.1", 16, "fd00:1::1", r#","tenant":"corp""#),
        lan("guest", "10.1.0.2", 16, "fd00:1::2", r#","tenant":"guest""#),
        lan("srv", &format!("10.100.{site}.1"), 24, &format!("fd00:100:{site:x}::1"), ""),
    ]
}

fn interface(name: &str, addresses: &str, more: &str) -> String {
    format!(r#"{{"name":"{name}","network-interface":[{{"name":"{name}","address":[{addresses}]{more}}}]}}"#)
}
