//! The two ends of a trace, as they are typed and what they mean in a configuration.

use core::net::{IpAddr, SocketAddr};

use fairway_types::{Protocol, TenantId};

use super::fabric::{Entry, Fabric, host_in};
use crate::failure::Failure;

/// The sender, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A host.
    Address(IpAddr),
    /// Anybody of a tenant.
    Tenant(String),
    /// Somebody behind an interface.
    Interface {
        /// The router.
        router: String,
        /// The interface.
        interface: String,
        /// The sender.
        address: Option<IpAddr>,
    },
}

impl From {
    /// Reads `ADDRESS`, `tenant:NAME` or `ROUTER/INTERFACE[:ADDRESS]`.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if let Some(name) = text.strip_prefix("tenant:") {
            return Ok(Self::Tenant(name.to_owned()));
        }
        let wrong = || {
            Failure::usage(format!("{text} names no sender"))
                .fix("use an ADDRESS, tenant:NAME, or ROUTER/INTERFACE[:ADDRESS]")
        };
        let (router, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (interface, address) = match rest.split_once(':') {
            Some((interface, address)) => {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                (interface, Some(address.parse().map_err(|_| wrong())?))
            }
            None => (rest, None),
        };
        if router.is_empty() || interface.is_empty() {
            return Err(wrong());
        }
        Ok(Self::Interface { router: router.to_owned(), interface: interface.to_owned(), address })
    }

    /// The family it is bound to, if it is.
    fn is_v6(&self) -> Option<bool> {
        match self {
            Self::Address(address) | Self::Interface { address: Some(address), .. } => {
                Some(address.is_ipv6())
            }
            Self::Tenant(_) | Self::Interface { address: None, .. } => None,
        }
    }

    /// Where it enters the fabric. `router` and `interface` choose among several places.
    ///
    /// # Errors
    /// When there is no such place, or more than one.
    pub fn entry(
        &self,
        fabric: &Fabric,
        v6: bool,
        router: Option<&str>,
        interface: Option<&str>,
    ) -> Result<Entry, Failure> {
        let mut entries = match self {
            Self::Interface { router, interface, address } => {
                return fabric.entry_at(router, interface, *address, v6);
            }
            Self::Address(address) => match (router, interface) {
                // Both are named: wherever the host may be, it enters there.
                (Some(router), Some(interface)) => {
                    return fabric.entry_at(router, interface, Some(*address), v6);
                }
                _ => fabric.entries_of(*address),
            },
            Self::Tenant(name) => fabric.entries_of_tenant(tenant_named(fabric, name)?, v6),
        };
        entries.retain(|entry| router.is_none_or(|router| router == entry.router));
        entries.retain(|entry| interface.is_none_or(|interface| interface == entry.interface_name));
        if entries.len() > 1 {
            let choices: String = entries.iter().map(|entry| format!("\n    {}", entry.typed())).collect();
            return Err(Failure::refused(format!("{} may enter the fabric in several places", self.said()))
                .fix(format!("say which, with --router and --interface, or as one of{choices}")));
        }
        entries.pop().ok_or_else(|| self.nowhere(fabric, router, interface, v6))
    }

    fn nowhere(&self, fabric: &Fabric, router: Option<&str>, interface: Option<&str>, v6: bool) -> Failure {
        let scope = match (router, interface) {
            (None, None) => "no router".to_owned(),
            (Some(router), None) => format!("no interface of {router}"),
            (_, Some(interface)) => format!("no interface named {interface}"),
        };
        let what = match self {
            Self::Address(address) => format!("{scope} is connected to a prefix that holds {address}"),
            Self::Tenant(name) => {
                let family = if v6 { "IPv6" } else { "IPv4" };
                format!("{scope} has an interface with {family} addresses where tenant {name} is")
            }
            Self::Interface { .. } => scope,
        };
        let choices: String = fabric.typed_entries().iter().map(|entry| format!("\n    {entry}")).collect();
        Failure::refused(what).fix(format!("name the interface, with :ADDRESS behind it{choices}"))
    }

    fn said(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Tenant(name) => format!("tenant {name}"),
            Self::Interface { router, interface, .. } => format!("{router}/{interface}"),
        }
    }
}

fn tenant_named(fabric: &Fabric, name: &str) -> Result<TenantId, Failure> {
    let snapshot = fabric.routers().first();
    // Tenants are the authority's: every router has the same ones, in the same order.
    if let Some(id) = snapshot.and_then(|snapshot| snapshot.model().tenant_named(name)) {
        return Ok(id);
    }
    let names: Vec<&str> = snapshot
        .map(|snapshot| snapshot.model().tenants.iter().map(|tenant| tenant.name.as_str()).collect())
        .unwrap_or_default();
    Err(Failure::refused(format!("there is no tenant {name}; there are {}", names.join(", "))))
}

/// The destination of a trace, complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct To {
    /// The address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port; zero for protocols without ports.
    pub port: u16,
}

impl To {
    /// Reads `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT` or `service:NAME`, with what `--protocol` and
    /// `--port` say.
    ///
    /// # Errors
    /// When it is none of them, or the options contradict it.
    pub fn parse(
        text: &str,
        protocol: Option<Protocol>,
        port: Option<u16>,
        from: &From,
        fabric: &Fabric,
    ) -> Result<Self, Failure> {
        if let Some(name) = text.strip_prefix("service:") {
            return Self::of_service(name, protocol, port, from, fabric);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let (address, own_port) = match (bare.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
            (Ok(address), _) => (address, None),
            (_, Ok(socket)) => (socket.ip(), Some(socket.port())),
            _ => {
                return Err(Failure::usage(format!("{text} names no destination"))
                    .fix("use an ADDRESS, ADDRESS:PORT, [IPV6]:PORT, or service:NAME"));
            }
        };
        if let (Some(own), Some(port)) = (own_port, port)
            && own != port
        {
            return Err(Failure::usage(format!("{text} and --port {port} contradict each other")));
        }
        Self::complete(address, protocol, own_port.or(port))
    }

    fn complete(address: IpAddr, protocol: Option<Protocol>, port: Option<u16>) -> Result<Self, Failure> {
        let echo = if address.is_ipv6() { Protocol::ICMPV6 } else { Protocol::ICMP };
        let protocol = match protocol.unwrap_or(if port.is_some() { Protocol::TCP } else { echo }) {
            // Whoever writes icmp means the ICMP of the family.
            protocol if protocol.is_icmp() => echo,
            protocol => protocol,
        };
        match (protocol.has_ports(), port) {
            (true, None) => Err(Failure::usage(format!("{protocol} needs a destination port: add --port"))),
            (false, Some(_)) => Err(Failure::usage(format!("{protocol} has no ports: leave the port out"))),
            (_, port) => Ok(Self { address, protocol, port: port.unwrap_or(0) }),
        }
    }

    /// A destination of a service: its first prefix of the sender's family, its first transport.
    fn of_service(
        name: &str,
        protocol: Option<Protocol>,
        port: Option<u16>,
        from: &From,
        fabric: &Fabric,
    ) -> Result<Self, Failure> {
        let services = fabric.routers().first().map(|snapshot| snapshot.model().services.as_slice());
        let service = services.unwrap_or_default().iter().find(|service| service.name == name);
        let service = service.ok_or_else(|| Failure::refused(format!("there is no service {name}")))?;
        let suits = |v6: bool| from.is_v6().is_none_or(|wanted| wanted == v6);
        let prefix = service.prefixes.iter().find(|prefix| suits(prefix.addr().is_ipv6()));
        let address = prefix.and_then(|prefix| host_in(*prefix, &[])).ok_or_else(|| {
            Failure::refused(format!("service {name} has no address of the sender's family"))
        })?;
        let mut transports = service.transports.iter();
        let transport =
            transports.find(|transport| protocol.is_none_or(|wanted| wanted == transport.protocol));
        let own_port = transport.and_then(|transport| transport.ports.first()).map(|range| range.first());
        let protocol = protocol.or(transport.map(|transport| transport.protocol));
        let default = protocol.is_some_and(Protocol::has_ports).then_some(1);
        Self::complete(address, protocol, port.or(own_port).or(default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_told_apart() {
        assert_eq!(From::parse("10.0.0.1").unwrap(), From::Address("10.0.0.1".parse().unwrap()));
        assert_eq!(From::parse("2001:db8::1").unwrap(), From::Address("2001:db8::1".parse().unwrap()));
        assert_eq!(From::parse("tenant:eng.corp").unwrap(), From::Tenant("eng.corp".into()));
        let interface = From::parse("branch/lan:2001:db8::7").unwrap();
        let expected = From::Interface {
            router: "branch".into(),
            interface: "lan".into(),
            address: Some("2001:db8::7".parse().unwrap()),
        };
        assert_eq!(interface, expected);
        for wrong in ["", "host", "/lan", "branch/", "branch/lan:nowhere"] {
            assert!(From::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_makes_tcp_and_none_makes_icmp() {
        let complete = |address: &str, protocol, port| To::complete(address.parse().unwrap(), protocol, port);
        assert_eq!(complete("10.0.0.1", None, Some(443)).unwrap().protocol, Protocol::TCP);
        assert_eq!(complete("10.0.0.1", None, None).unwrap().protocol, Protocol::ICMP);
        assert_eq!(complete("2001:db8::1", Some(Protocol::ICMP), None).unwrap().protocol, Protocol::ICMPV6);
        assert!(complete("10.0.0.1", Some(Protocol::UDP), None).is_err());
        assert!(complete("10.0.0.1", Some(Protocol::GRE), Some(1)).is_err());
    }
}
