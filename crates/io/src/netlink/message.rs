//! rtnetlink messages: encoding requests, and decoding what the kernel reports (rtnetlink(7)).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fairway_types::IpNet;

/// Message types (linux/rtnetlink.h).
pub(crate) mod kind {
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;
    pub(crate) const NEW_LINK: u16 = 16;
    pub(crate) const DEL_LINK: u16 = 17;
    pub(crate) const GET_LINK: u16 = 18;
    pub(crate) const NEW_ADDRESS: u16 = 20;
    pub(crate) const DEL_ADDRESS: u16 = 21;
    pub(crate) const GET_ADDRESS: u16 = 22;
    pub(crate) const NEW_ROUTE: u16 = 24;
    pub(crate) const DEL_ROUTE: u16 = 25;
    pub(crate) const GET_ROUTE: u16 = 26;
    pub(crate) const NEW_NEIGHBOUR: u16 = 28;
    pub(crate) const DEL_NEIGHBOUR: u16 = 29;
    pub(crate) const GET_NEIGHBOUR: u16 = 30;
    pub(crate) const NEW_QDISC: u16 = 36;
    pub(crate) const NEW_FILTER: u16 = 44;
    pub(crate) const DEL_FILTER: u16 = 45;
}

/// Flags of requests and of reports (linux/netlink.h).
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const DUMP: u16 = 0x300;
}

const MAIN_TABLE: u32 = 254;
const UNICAST: u8 = 1;
const HOP_UNUSABLE: u8 = 1 | 16; // RTNH_F_DEAD, RTNH_F_LINKDOWN
const ETHERNET: u16 = 1;

/// One request under construction.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Starts a message with its family header.
    pub(crate) fn new(kind: u16, flags: u16, sequence: u32, header: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(header);
        Self { bytes }
    }

    /// Adds an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute of attributes.
    pub(crate) fn nested(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let inner = fill(Self { bytes: Vec::new() });
        self.attribute(kind, &inner.bytes)
    }

    /// Adds an address as an attribute.
    pub(crate) fn address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    /// The finished message.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}

/// The family number of an address.
pub(crate) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    /// Up and with carrier.
    pub(crate) up: bool,
    pub(crate) ethernet: bool,
    /// The device below, for devices on top of others.
    pub(crate) parent: Option<u32>,
    /// The tag, for VLAN devices.
    pub(crate) vlan: Option<u16>,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) network: IpNet,
}

/// A unicast route of the main table, one for each next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) index: u32,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) metric: u32,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) index: u32,
    pub(crate) address: IpAddr,
    pub(crate) mac: Option<[u8; 6]>,
    /// `NUD_*`.
    pub(crate) state: u16,
}

/// Something the kernel reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Link(Link),
    LinkGone(u32),
    Address(Address),
    AddressGone(Address),
    Routes {
        routes: Vec<Route>,
        replace: bool,
    },
    RoutesGone(Vec<Route>),
    Neighbour(Neighbour),
    NeighbourGone(Neighbour),
    /// The end of a dump.
    Done,
    /// The answer to a request: 0, or an error number.
    Answer(i32),
}

/// A message with its sequence number; `None` for what this program has no use for.
pub(crate) fn reports(datagram: &[u8]) -> impl Iterator<Item = (u32, Option<Report>)> + '_ {
    split(datagram).map_while(|(header, message)| {
        Some((u32_at(header, 8)?, report(u16_at(header, 4)?, u16_at(header, 6)?, message)))
    })
}

/// Messages of another family, each with its type.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    split(datagram).map_while(|(header, message)| Some((u16_at(header, 4)?, message)))
}

/// The messages of a datagram, header and content.
fn split(datagram: &[u8]) -> impl Iterator<Item = (&[u8; 16], &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<16>()?;
        let length = u32_at(header, 0)? as usize;
        let message = rest.get(16..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, message))
    })
}

fn report(kind: u16, flags: u16, message: &[u8]) -> Option<Report> {
    Some(match kind {
        kind::DONE => Report::Done,
        kind::ERROR => Report::Answer(-(u32_at(message, 0)? as i32)),
        kind::NEW_LINK => Report::Link(link(message)?),
        kind::DEL_LINK => Report::LinkGone(link(message)?.index),
        kind::NEW_ADDRESS => Report::Address(address(message)?),
        kind::DEL_ADDRESS => Report::AddressGone(address(message)?),
        kind::NEW_ROUTE => Report::Routes { routes: routes(message)?, replace: flags & flag::REPLACE != 0 },
        kind::DEL_ROUTE => Report::RoutesGone(routes(message)?),
        kind::NEW_NEIGHBOUR => Report::Neighbour(neighbour(message)?),
        kind::DEL_NEIGHBOUR => Report::NeighbourGone(neighbour(message)?),
        _ => return None,
    })
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The attributes after a family header.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

fn link(message: &[u8]) -> Option<Link> {
    // Other families report about the same devices: bridges about their ports.
    if *message.first()? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let flags = u32_at(message, 8)?;
    let up = libc::IFF_UP as u32 | libc::IFF_LOWER_UP as u32;
    let mut link = Link {
        index: u32_at(message, 4)?,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: flags & up == up,
        ethernet: u16_at(message, 2)? == ETHERNET,
        parent: None,
        vlan: None,
    };
    for (kind, value) in attributes(message.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => {
                let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
                link.name = String::from_utf8_lossy(value.get(..end)?).into_owned();
            }
            libc::IFLA_ADDRESS => link.mac = value.first_chunk().copied().unwrap_or_default(),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            libc::IFLA_LINK => link.parent = u32_at(value, 0),
            libc::IFLA_LINKINFO => link.vlan = vlan(value),
            _ => {}
        }
    }
    Some(link)
}

/// The tag in `IFLA_LINKINFO`.
fn vlan(info: &[u8]) -> Option<u16> {
    const VLAN_ID: u16 = 1;
    let of = |wanted: u16| attributes(info).find(move |&(kind, _)| kind == wanted).map(|(_, value)| value);
    let kind = of(libc::IFLA_INFO_KIND)?;
    if kind.strip_suffix(&[0]).unwrap_or(kind) != b"vlan" {
        return None;
    }
    let (_, value) = attributes(of(libc::IFLA_INFO_DATA)?).find(|&(kind, _)| kind == VLAN_ID)?;
    u16_at(value, 0)
}

fn address(message: &[u8]) -> Option<Address> {
    let length = *message.get(1)?;
    let index = u32_at(message, 4)?;
    let (mut local, mut other) = (None, None);
    for (kind, value) in attributes(message.get(8..)?) {
        match kind {
            libc::IFA_LOCAL => local = ip(value),
            libc::IFA_ADDRESS => other = ip(value),
            _ => {}
        }
    }
    // On point-to-point links IFA_ADDRESS is the other end.
    let network = IpNet::new(local.or(other)?, length).ok()?;
    Some(Address { index, network })
}

#[derive(Default)]
struct RouteAttributes {
    destination: Option<IpAddr>,
    index: Option<u32>,
    gateway: Option<IpAddr>,
    metric: u32,
    table: Option<u32>,
    hops: Vec<(u32, Option<IpAddr>)>,
}

fn routes(message: &[u8]) -> Option<Vec<Route>> {
    let family = *message.first()?;
    let length = *message.get(1)?;
    let mut found = RouteAttributes { table: message.get(4).map(|&t| t.into()), ..Default::default() };
    let unusable = u32_at(message, 8)? as u8 & HOP_UNUSABLE != 0;
    for (kind, value) in attributes(message.get(12..)?) {
        match kind {
            libc::RTA_DST => found.destination = ip(value),
            libc::RTA_OIF => found.index = u32_at(value, 0),
            libc::RTA_GATEWAY => found.gateway = ip(value),
            libc::RTA_VIA => found.gateway = value.get(2..).and_then(ip),
            libc::RTA_PRIORITY => found.metric = u32_at(value, 0)?,
            libc::RTA_TABLE => found.table = u32_at(value, 0),
            libc::RTA_MULTIPATH => found.hops = multipath(value),
            _ => {}
        }
    }
    if found.table != Some(MAIN_TABLE) || *message.get(7)? != UNICAST || unusable {
        return None;
    }
    let any: IpAddr = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let destination = IpNet::new(found.destination.unwrap_or(any), length).ok()?;
    let own = found.index.map(|index| (index, found.gateway));
    let route = |(index, gateway)| Route { destination, index, gateway, metric: found.metric };
    Some(found.hops.iter().copied().chain(own).map(route).collect())
}

/// The hops of a route that has several (`struct rtnexthop`).
fn multipath(bytes: &[u8]) -> Vec<(u32, Option<IpAddr>)> {
    let mut rest = bytes;
    let hops = std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let unusable = rest.get(2)? & HOP_UNUSABLE != 0;
        let index = u32_at(rest, 4)?;
        let mut gateway = None;
        for (kind, value) in attributes(rest.get(8..length)?) {
            match kind {
                libc::RTA_GATEWAY => gateway = ip(value),
                libc::RTA_VIA => gateway = value.get(2..).and_then(ip),
                _ => {}
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((!unusable).then_some((index, gateway)))
    });
    hops.flatten().collect()
}

fn neighbour(message: &[u8]) -> Option<Neighbour> {
    const DESTINATION: u16 = 1;
    const LINK_ADDRESS: u16 = 2;
    if !matches!(i32::from(*message.first()?), libc::AF_INET | libc::AF_INET6) {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(message.get(12..)?) {
        match kind {
            DESTINATION => address = ip(value),
            LINK_ADDRESS => mac = value.first_chunk().copied(),
            _ => {}
        }
    }
    Some(Neighbour { index: u32_at(message, 4)?, address: address?, mac, state: u16_at(message, 8)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(message: Vec<u8>) -> Option<Report> {
        let mut all = reports(&message);
        let (_, report) = all.next().unwrap();
        assert!(all.next().is_none());
        report
    }

    #[test]
    fn a_vlan_device_is_recognised() {
        let mut header = [0u8; 16];
        header[2] = 1;
        header[4] = 7;
        header[8..12].copy_from_slice(&(1u32 | 0x10000).to_ne_bytes());
        let request = Request::new(kind::NEW_LINK, 0, 0, &header)
            .attribute(libc::IFLA_IFNAME, b"wan.30\0")
            .attribute(libc::IFLA_LINK, &3u32.to_ne_bytes())
            .attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes())
            .attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1])
            .nested(libc::IFLA_LINKINFO, |info| {
                info.attribute(libc::IFLA_INFO_KIND, b"vlan\0")
                    .nested(libc::IFLA_INFO_DATA, |data| data.attribute(1, &30u16.to_ne_bytes()))
            });
        let link = Link {
            index: 7,
            name: "wan.30".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            up: true,
            ethernet: true,
            parent: Some(3),
            vlan: Some(30),
        };
        assert_eq!(one(request.finish()), Some(Report::Link(link)));
    }

    #[test]
    fn a_route_with_two_hops_is_two_routes() {
        let hop = |index: u32, gateway: [u8; 4]| {
            let mut bytes = vec![16, 0, 0, 0];
            bytes.extend_from_slice(&index.to_ne_bytes());
            bytes.extend_from_slice(&[8, 0, 5, 0]);
            bytes.extend_from_slice(&gateway);
            bytes
        };
        let header = [libc::AF_INET as u8, 8, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        let request = Request::new(kind::NEW_ROUTE, flag::REPLACE, 0, &header)
            .attribute(libc::RTA_DST, &[10, 0, 0, 0])
            .attribute(libc::RTA_MULTIPATH, &[hop(3, [192, 0, 2, 1]), hop(4, [192, 0, 2, 2])].concat());
        let route = |index, last| Route {
            destination: "10.0.0.0/8".parse().unwrap(),
            index,
            gateway: Some(Ipv4Addr::new(192, 0, 2, last).into()),
            metric: 0,
        };
        let wanted = Report::Routes { routes: vec![route(3, 1), route(4, 2)], replace: true };
        assert_eq!(one(request.finish()), Some(wanted));
    }

    #[test]
    fn cut_messages_end_the_datagram() {
        let message = Request::new(kind::NEW_NEIGHBOUR, 0, 0, &[2; 12]).attribute(1, &[1, 2, 3, 4]).finish();
        for length in 0..message.len() {
            assert_eq!(reports(&message[..length]).count(), 0);
        }
        assert_eq!(reports(&message).count(), 1);
    }
}
