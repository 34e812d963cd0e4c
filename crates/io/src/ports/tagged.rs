//! Interfaces whose tag (802.1Q) is read and written here, since the kernel has no VLAN device for it.
//!
//! All of one device share a *trunk*: one socket and one classifier, which take frames with their tags
//! and no others. The kernel does nothing on such an interface, so what it does elsewhere is done here,
//! as little of it as a network needs: it answers ARP, neighbour solicitations and pings for the
//! addresses of the configuration, and asks for next hops. Who may be remembered is decided by
//! [`crate::resolver`]: only who was asked for. Any worker answers; what one hears is told to all.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fairway_types::{Batch, Checksum, Slot, Time, WorkerId};
use fairway_wire::icmp;
use fairway_wire::ip::{self, Fragment, IcmpKind, Parsed, Version};
use fairway_wire::ndp;
use fairway_wire::{arp, checksum, protocol};
use tracing::info;

use super::endpoint::{Endpoint, Link, Port};
use super::group::Group;
use super::intake::{finish_frame, receive_some};
use super::tap::Tap;
use super::{NEXT_TOKEN, Ports};
use crate::capture::Direction;
use crate::classifier::Frames;
use crate::error::{Context, OpenError};
use crate::frame::{ETHERNET, TAG, TAG_8021Q, VNET};
use crate::neighbours::Target;
use crate::netlink::State;
use crate::netlink::message::Report;
use crate::resolver::Resolver;
use crate::spec::PortSpec;
use crate::sys::packet::{Arrival, BATCH, HEADER, Header, Outgoing, OutgoingHeader, Socket};
use crate::sys::poll::{Poller, Waker};

/// The part of a tag that is the VLAN.
const VLAN: u16 = 0x0fff;
const BROADCAST: [u8; 6] = [0xff; 6];
/// How far answers to pings may go.
const HOPS: u8 = 64;

/// What all workers know of neighbours on own links: the answer to a question comes to one of them, and
/// all may have packets that wait for it.
#[derive(Debug)]
pub(super) struct Links {
    inner: Mutex<Known>,
    /// Which workers have something to read, by number.
    news: Vec<AtomicBool>,
}

#[derive(Debug, Default)]
struct Known {
    resolver: Resolver,
    /// By number of the worker. A report replaces an older one about the same neighbour, so there are
    /// no more of them than neighbours.
    boxes: Vec<Box>,
}

#[derive(Debug, Default)]
struct Box {
    waker: Option<Waker>,
    reports: HashMap<Target, Report>,
}

impl Links {
    /// Nothing is known yet, to this many workers.
    pub(super) fn new(workers: u8) -> Self {
        let boxes = (0..workers).map(|_| Box::default()).collect();
        let news = (0..workers).map(|_| AtomicBool::new(false)).collect();
        Self { inner: Mutex::new(Known { boxes, ..Known::default() }), news }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a worker be woken when there is something to read.
    pub(super) fn join(&self, worker: WorkerId, waker: Waker) {
        if let Some(own) = self.known().boxes.get_mut(worker.index()) {
            own.waker = Some(waker);
        }
    }

    /// Whether a worker has something to read.
    pub(super) fn has_news(&self, worker: WorkerId) -> bool {
        self.news.get(worker.index()).is_some_and(|news| news.load(Ordering::Acquire))
    }

    fn take(&self, worker: WorkerId) -> HashMap<Target, Report> {
        if !self.news.get(worker.index()).is_some_and(|news| news.swap(false, Ordering::AcqRel)) {
            return HashMap::new();
        }
        self.known().boxes.get_mut(worker.index()).map(|own| mem::take(&mut own.reports)).unwrap_or_default()
    }

    /// Tells all workers.
    fn tell(&self, known: &mut Known, target: Target, report: &Report) {
        for (own, news) in known.boxes.iter_mut().zip(&self.news) {
            own.reports.insert(target, report.clone());
            if !news.swap(true, Ordering::AcqRel)
                && let Some(waker) = &own.waker
            {
                waker.wake();
            }
        }
    }

    /// Whether a worker that wants to know `target` is to send a question; `None` when there is no room
    /// to remember the answer.
    fn ask(&self, target: Target, now: Time) -> Option<bool> {
        let mut known = self.known();
        let asked = known.resolver.ask(target, now)?;
        if let Some(report) = &asked.news {
            self.tell(&mut known, target, report);
        }
        Some(asked.send)
    }

    /// Takes in a link address; false when nobody asked for it.
    fn hear(&self, target: Target, mac: [u8; 6], now: Time) -> bool {
        let mut known = self.known();
        let Some(report) = known.resolver.heard(target, mac, now) else { return false };
        self.tell(&mut known, target, &report);
        true
    }

    fn mac(&self, target: Target) -> Option<[u8; 6]> {
        self.known().resolver.mac(target)
    }

    fn handle_timeout(&self, now: Time) {
        let mut known = self.known();
        let mut reports = Vec::new();
        known.resolver.handle_timeout(now, |target, report| reports.push((target, report)));
        for (target, report) in &reports {
            self.tell(&mut known, *target, report);
        }
    }
}

/// A device that carries tags of Fairway's, and a worker's seat there.
#[derive(Debug)]
pub(super) struct Trunk {
    pub(super) device: u32,
    pub(super) token: u64,
    group: Arc<Group>,
    worker: WorkerId,
    poller: Poller,
}

impl Trunk {
    pub(super) fn socket(&self) -> Option<&Socket> {
        self.group.seat(self.worker)
    }

    /// Whether it is still attached to the device with this number.
    pub(super) fn serves(&self, index: u32) -> bool {
        self.group.serves(index)
    }

    /// Leaves the classifier at work when the last worker is gone.
    pub(super) fn stay(&self) {
        self.group.stay();
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        // Other workers may keep the descriptor open.
        if let Some(socket) = self.socket() {
            self.poller.remove(socket.fd());
        }
    }
}

/// All trunks of a worker.
#[derive(Debug, Default)]
pub(super) struct Trunks {
    open: HashMap<u32, Weak<Trunk>>,
    /// The time of the last call that brought one.
    now: Time,
}

impl Trunks {
    /// Takes over the time.
    pub(super) fn set_time(&mut self, now: Time) {
        self.now = now;
    }
}

impl Ports {
    /// Joins the trunk of a device, which is opened for the first interface.
    pub(super) fn open_tagged(
        &mut self,
        spec: &PortSpec,
        device: u32,
        tag: u16,
    ) -> Result<Endpoint, OpenError> {
        let present = self.trunks.open.get(&device).and_then(Weak::upgrade);
        let trunk = match present.filter(|trunk| trunk.serves(device)) {
            Some(trunk) => trunk,
            None => self.open_trunk(spec, device)?,
        };
        // The same number for all workers, whoever comes when.
        let index = State::own(self.shared.token(spec));
        self.watch.state_mut().set_own_addresses(index, &spec.addresses);
        if self.leads() {
            info!(
                interface = %spec.name, device = %spec.device, tag,
                "attached; the kernel has no VLAN device for this tag, so Fairway reads and writes it"
            );
        }
        Ok(Endpoint::tagged(index, trunk, tag, &self.poller))
    }

    fn open_trunk(&mut self, spec: &PortSpec, device: u32) -> Result<Arc<Trunk>, OpenError> {
        let group = self.shared.group(spec, device, Frames::Tagged, None)?;
        let token = self.next_token;
        self.next_token += NEXT_TOKEN;
        let trunk = Trunk { device, token, group, worker: self.worker, poller: self.poller.clone() };
        if let Some(socket) = trunk.socket() {
            self.poller.add(socket.fd(), token).on(&spec.name, "wait for packets")?;
        }
        let trunk = Arc::new(trunk);
        self.trunks.open.retain(|_, trunk| trunk.strong_count() > 0);
        self.trunks.open.insert(device, Arc::downgrade(&trunk));
        Ok(trunk)
    }

    /// Forgets own links that no interface has any more.
    pub(super) fn forget_own_links(&mut self) {
        let Self { ports, watch, .. } = self;
        let live = |index| ports.iter().filter_map(|p| p.endpoint.as_ref()).any(|e| e.index == index);
        for index in watch.state().own_links().into_iter().filter(|&index| !live(index)) {
            watch.state_mut().forget_own(index);
        }
    }

    /// Receives from the trunk of the interface at `at` into free slots of `batch`, for all interfaces
    /// on it, and returns how many packets are for the engine.
    pub(super) fn receive_tagged(&mut self, at: usize, batch: &mut Batch) -> usize {
        let Some(port) = self.ports.get_mut(at) else { return 0 };
        let Some(Endpoint { link: Link::Tagged(trunk, _), .. }) = &port.endpoint else { return 0 };
        let trunk = Arc::clone(trunk);
        let room = batch.room().min(BATCH);
        let first = batch.len();
        for _ in 0..room {
            batch.receive();
        }
        let slots = batch.received_mut().get_mut(first..).unwrap_or_default();
        let mut headers = [[0; HEADER]; BATCH];
        let mut arrivals = [Arrival::default(); BATCH];
        let received = trunk.socket().and_then(|socket| {
            receive_some(socket, slots, &mut headers, &mut arrivals, &mut port.statistics.rx_unusable)
        });
        let count = received.unwrap_or(0);
        port.ready = count > 0 && count == slots.len();
        let mut kept = 0;
        for (index, (header, arrival)) in headers.iter().zip(&arrivals).take(count).enumerate() {
            let Some(slot) = slots.get_mut(index) else { break };
            if self.take_frame(&trunk, at, slot, header, *arrival) {
                slots.swap(kept, index);
                kept += 1;
            } else {
                slot.packet.clear();
            }
        }
        (kept..room).for_each(|_| batch.unreceive());
        kept
    }

    /// Whether a frame is a packet for the engine; otherwise it is dealt with.
    fn take_frame(
        &mut self,
        trunk: &Trunk,
        reader: usize,
        slot: &mut Slot,
        header: &Header,
        arrival: Arrival,
    ) -> bool {
        let vlan = arrival.tag & VLAN;
        let Self { ports, tap, trunks, shared, .. } = self;
        let of_tag = ports.iter().position(|port| port.is_tagged(trunk.device, vlan));
        let Some(port) = ports.get_mut(of_tag.unwrap_or(reader)) else { return false };
        if of_tag.is_none() || finish_frame(slot, header, arrival).is_none() {
            port.statistics.rx_unusable += 1;
            return false;
        }
        let link = link_header(header, arrival.tag);
        tap.record(port.spec.id, Direction::Inbound, &link, slot.packet.bytes(), slot.gso);
        let mut local = Local { port, trunk, tap, links: &shared.links, now: trunks.now };
        if header.ends_with(&arp::ETHERTYPE.to_be_bytes()) {
            local.arp(slot.packet.bytes());
            return false;
        }
        if ndp::is_neighbour_discovery(slot.packet.bytes()) {
            local.discovery(slot.packet.bytes(), source_of(header));
            return false;
        }
        if local.echo(slot, source_of(header)) {
            return false;
        }
        let Local { port, .. } = local;
        slot.interface = port.spec.id;
        port.statistics.rx_packets += 1;
        port.statistics.rx_bytes += slot.packet.len() as u64;
        true
    }

    /// Asks for a next hop on an own link.
    pub(super) fn ask_on_own_link(&mut self, target: Target) {
        let Self { ports, tap, trunks, shared, .. } = self;
        let of_link = |port: &&mut Port| port.endpoint.as_ref().is_some_and(|e| e.index == target.0);
        let Some(port) = ports.iter_mut().find(of_link) else { return };
        let trunk = match port.endpoint.as_ref().map(|endpoint| &endpoint.link) {
            Some(Link::Tagged(trunk, _)) => Arc::clone(trunk),
            _ => return,
        };
        Local { port, trunk: &trunk, tap, links: &shared.links, now: trunks.now }.ask(target);
    }

    /// Takes in what was found out about neighbours on own links, without acting on it.
    pub(super) fn read_own_links(&mut self) {
        let Self { shared, worker, watch, changes, .. } = self;
        for report in shared.links.take(*worker).into_values() {
            changes.extend(watch.state_mut().apply(report));
        }
    }

    /// What is due with time alone on own links.
    pub(super) fn keep_own_links(&mut self) {
        if self.leads() {
            self.shared.links.handle_timeout(self.trunks.now);
        }
    }
}

impl Port {
    /// Whether frames on a device with a tag are this interface's, and read here.
    fn is_tagged(&self, device: u32, vlan: u16) -> bool {
        self.endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.device == device && endpoint.tag() == Some(vlan))
    }
}

/// One interface with a tag, while something on its link is dealt with.
struct Local<'a> {
    port: &'a mut Port,
    trunk: &'a Trunk,
    tap: &'a mut Tap,
    links: &'a Links,
    now: Time,
}

impl Local<'_> {
    fn index(&self) -> u32 {
        self.port.endpoint.as_ref().map_or(0, |endpoint| endpoint.index)
    }

    /// Whether an address is one of the interface.
    fn has(&self, address: IpAddr) -> bool {
        self.port.spec.addresses.iter().any(|own| own.addr() == address)
    }

    /// As whom to ask for an address: one of the same prefix, else any of the same family.
    fn source_for(&self, target: IpAddr) -> Option<IpAddr> {
        let family = |own: &&fairway_types::IpNet| own.addr().is_ipv4() == target.is_ipv4();
        let mut own = self.port.spec.addresses.iter().filter(family);
        let beside = own.clone().find(|own| own.contains(&target));
        beside.or_else(|| own.next()).map(|own| own.addr())
    }

    fn arp(&mut self, bytes: &[u8]) {
        let Some(message) = arp::Repr::parse(bytes) else {
            self.port.statistics.link.ignored += 1;
            return;
        };
        if !self.is_credible(message.sender.into(), message.sender_link) {
            return;
        }
        if !message.sender.is_unspecified() {
            self.hear(message.sender.into(), message.sender_link);
        }
        if message.operation != arp::Operation::Request || !self.has(message.target.into()) {
            return;
        }
        let reply = arp::Repr {
            operation: arp::Operation::Reply,
            sender_link: self.port.mac,
            sender: message.target,
            target_link: message.sender_link,
            target: message.sender,
        };
        self.port.statistics.link.answered += 1;
        self.send(message.sender_link, arp::ETHERTYPE, &reply.emit());
    }

    fn discovery(&mut self, packet: &[u8], from: [u8; 6]) {
        match ndp::Repr::parse(packet) {
            Some(ndp::Repr::Solicitation { source, target, link, .. }) => {
                if let Some(link) = link.filter(|_| !source.is_unspecified()) {
                    if !self.is_credible(source.into(), link) {
                        return;
                    }
                    self.hear(source.into(), link);
                }
                if self.has(target.into()) {
                    self.advertise(source, target, link.unwrap_or(from));
                }
            }
            Some(ndp::Repr::Advertisement { target, link: Some(link), overrides, .. }) => {
                let known = self.links.mac((self.index(), target.into()));
                if self.is_credible(target.into(), link)
                    && (overrides || known.is_none_or(|known| known == link))
                {
                    self.hear(target.into(), link);
                }
            }
            Some(ndp::Repr::Advertisement { link: None, .. }) | None => {
                self.port.statistics.link.ignored += 1;
            }
        }
    }

    /// Says who has one of the interface's addresses: to who asked, or to all when that has no address
    /// yet.
    fn advertise(&mut self, to: Ipv6Addr, target: Ipv6Addr, link: [u8; 6]) {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to_all = to.is_unspecified();
        let destination = if to_all { ALL_NODES } else { to };
        let advertisement = ndp::Repr::Advertisement {
            source: target,
            destination,
            target,
            link: Some(self.port.mac),
            router: true,
            solicited: !to_all,
            overrides: true,
        };
        let (packet, length) = advertisement.emit();
        self.port.statistics.link.answered += 1;
        let link = if to_all { ndp::group_link(destination) } else { link };
        self.send_ip(link, packet.get(..length).unwrap_or_default());
    }

    /// Whether a claim may be true: an address of this interface is nobody else's.
    fn is_credible(&mut self, address: IpAddr, link: [u8; 6]) -> bool {
        let conflict = self.has(address) && link != self.port.mac;
        self.port.statistics.link.conflicts += u64::from(conflict);
        !conflict
    }

    /// Takes in a link address.
    fn hear(&mut self, address: IpAddr, link: [u8; 6]) {
        let wanted = self.links.hear((self.index(), address), link, self.now);
        self.port.statistics.link.ignored += u64::from(!wanted);
    }

    fn ask(&mut self, target: Target) {
        let source = self.source_for(target.1);
        let (Some(source), Some(send)) = (source, self.links.ask(target, self.now)) else {
            self.port.statistics.link.unasked += 1;
            return;
        };
        if !send {
            return;
        }
        self.port.statistics.link.asked += 1;
        match (source, target.1) {
            (IpAddr::V4(sender), IpAddr::V4(target)) => {
                let request = arp::Repr {
                    operation: arp::Operation::Request,
                    sender_link: self.port.mac,
                    sender,
                    target_link: [0; 6],
                    target,
                };
                self.send(BROADCAST, arp::ETHERTYPE, &request.emit());
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let destination = ndp::solicited_group(target);
                let link = Some(self.port.mac);
                let (packet, length) = ndp::Repr::Solicitation { source, destination, target, link }.emit();
                self.send_ip(ndp::group_link(destination), packet.get(..length).unwrap_or_default());
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
    }

    /// Answers a ping of one of the interface's addresses in place; false when it is none, or none that
    /// can be answered as a whole.
    fn echo(&mut self, slot: &mut Slot, to: [u8; 6]) -> bool {
        let whole = slot.gso.is_none() && slot.checksum != Checksum::Partial;
        let Some(parsed) = ip::parse(slot.packet.bytes()).ok().filter(|_| whole) else { return false };
        let asked = parsed.icmp == Some(IcmpKind::EchoRequest) && self.has(parsed.destination);
        let answerable = !parsed.source.is_multicast() && !parsed.source.is_unspecified();
        if !asked || !answerable || parsed.fragment != Fragment::No {
            return false;
        }
        if turn_around(slot.packet.bytes_mut(), &parsed).is_some() {
            self.port.statistics.link.pings += 1;
            self.send_ip(to, slot.packet.bytes());
        } else {
            self.port.statistics.link.ignored += 1;
        }
        true
    }

    fn send_ip(&mut self, to: [u8; 6], packet: &[u8]) {
        let kind = if packet.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x0800 };
        self.send(to, kind, packet);
    }

    /// Sends one frame at once. What finds no room is asked, or answered, again.
    fn send(&mut self, to: [u8; 6], kind: u16, packet: &[u8]) {
        let (Some(tag), Some(socket)) = (self.port.tag(), self.trunk.socket()) else { return };
        let kind = kind.to_be_bytes();
        let header =
            OutgoingHeader::new(&[&[0; VNET], &to, &self.port.mac, &TAG_8021Q, &tag.to_be_bytes(), &kind]);
        if socket.send(&[Outgoing { header, packet }]).is_ok() {
            let link = header.bytes().get(VNET..).unwrap_or_default();
            self.tap.record(self.port.spec.id, Direction::Outbound, link, packet, None);
        }
    }
}

/// Makes the answer of a ping; `None` when its checksum is wrong.
fn turn_around(packet: &mut [u8], parsed: &Parsed) -> Option<()> {
    let start = usize::from(parsed.header_len);
    let pseudo = |packet: &[u8]| match parsed.version {
        Version::V4 => 0,
        Version::V6 => {
            let length = packet.len().saturating_sub(start) as u32;
            checksum::pseudo_header(parsed.source, parsed.destination, protocol::ICMPV6, length)
        }
    };
    // The sum with the pseudo-header is the same both ways round: addresses only change places.
    let sum =
        |packet: &[u8]| checksum::fold(pseudo(packet) + checksum::sum(packet.get(start..).unwrap_or(&[])));
    if sum(packet) != 0xffff {
        return None;
    }
    let (source, destination, length, hops, reply) = match parsed.version {
        Version::V4 => (12, 16, 4, 8, 0),
        Version::V6 => (8, 24, 16, 7, 129),
    };
    let (before, after) = packet.split_at_mut_checked(destination)?;
    before.get_mut(source..source + length)?.swap_with_slice(after.get_mut(..length)?);
    *packet.get_mut(hops)? = HOPS;
    if parsed.version == Version::V4 {
        packet.get_mut(10..12)?.fill(0);
        let check = !checksum::fold(checksum::sum(packet.get(..start)?));
        packet.get_mut(10..12)?.copy_from_slice(&check.to_be_bytes());
    }
    *packet.get_mut(start)? = reply;
    packet.get_mut(start + 2..start + 4)?.fill(0);
    let check = !sum(packet);
    packet.get_mut(start + 2..start + icmp::HEADER_LEN / 2)?.copy_from_slice(&check.to_be_bytes());
    Some(())
}

/// The link address that a frame came from.
fn source_of(header: &Header) -> [u8; 6] {
    header.get(VNET + 6..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
}

/// The Ethernet header as it was on the wire.
fn link_header(header: &Header, tag: u16) -> [u8; ETHERNET + TAG] {
    let mut link = [0; ETHERNET + TAG];
    let (addresses, kind) = (header.get(VNET..VNET + 12), header.get(VNET + 12..));
    let parts = [addresses.unwrap_or_default(), &TAG_8021Q, &tag.to_be_bytes(), kind.unwrap_or_default()];
    link.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    link
}
