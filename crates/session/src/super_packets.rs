//! Super-packets of protected sessions: one frame that stands for many datagrams, each sealed by itself.
//!
//! Looked up, witnessed and rewritten once, as any super-packet. What a host sends is then laid out as
//! the datagrams that its segments would be, in one pass into another buffer, and sealed there; the
//! device cuts it. What arrives is opened in place, and segments that follow one another are put
//! together again, as a receiving host would have done with them. In between, a segment of TCP that
//! arrived as UDP has the form of a carried segment that is too long: one header, and the payload of all.

use core::ops::Range;

use fairway_crypto::session::{Opening, Sealing};
use fairway_types::packet::MAX_PACKET;
use fairway_types::{
    Checksum, Counter, DropReason, Egress, Gso, GsoKind, Outlet, PacketBuf, Protocol, Slot, Suite, Verdict,
};
use fairway_wire::ip::{self, Parsed};
use fairway_wire::svr;

use crate::engine::Engine;
use crate::established::Course;
use crate::headers::{self, UDP_LEN, leave_checksum};
use crate::key::FlowKey;
use crate::protect::{Treatment, refusal};
use crate::session::overhead;
use crate::tcp::flags;
use crate::vault::{Cover, Place};

/// How many datagrams a super-packet stands for at most (`UDP_MAX_SEGMENTS` of Linux before 6.9).
const MOST: usize = 64;
/// The longest part of a carried TCP header that is behind the UDP header.
const LONGEST_REST: usize = svr::MAX_ASSOCIATED;
/// Where the sequence number is in that part.
const SEQUENCE: usize = svr::CARRIED_SEQUENCE - UDP_LEN;

/// How a super-packet is laid out when each of its segments is a datagram.
#[derive(Clone, Copy)]
struct Layout {
    /// How payload is sealed, if it is.
    suite: Option<Suite>,
    /// Where the UDP header is.
    transport: usize,
    /// Bytes of a carried TCP header behind the UDP header.
    rest: usize,
    /// Payload bytes of each segment but the last.
    size: usize,
}

impl Layout {
    /// Bytes of headers that are there once.
    const fn head(&self) -> usize {
        self.transport + UDP_LEN
    }

    /// Bytes in front of each payload, behind its header.
    fn front(&self) -> usize {
        self.suite.map_or(0, Suite::front)
    }

    /// What a segment with so much payload has in its datagram.
    fn datagram(&self, length: usize) -> usize {
        self.rest + self.front() + length + self.suite.map_or(0, |suite| suite.back(length))
    }

    /// How many segments fit a super-packet.
    fn most(&self) -> usize {
        let room = usize::from(u16::MAX).saturating_sub(self.head());
        (room / self.datagram(self.size)).clamp(1, MOST)
    }

    /// How long a super-packet is of segments that have `length` bytes of payload in all.
    fn length(&self, length: usize) -> usize {
        let last = length % self.size;
        let full = length / self.size * self.datagram(self.size);
        self.head() + full + if last > 0 { self.datagram(last) } else { 0 }
    }

    /// Writes some of the segments of `whole` into `out`, ready to be sealed.
    fn lay_out(&self, whole: &[u8], segments: Range<usize>, out: &mut [u8]) {
        let (head, payload) = whole.split_at(self.head() + self.rest);
        let (head, rest) = head.split_at(self.head());
        let count = payload.len().div_ceil(self.size);
        let (front, datagrams) = out.split_at_mut(self.head());
        front.copy_from_slice(head);
        let data = payload.chunks(self.size).enumerate().take(segments.end).skip(segments.start);
        for (place, (number, data)) in datagrams.chunks_mut(self.datagram(self.size)).zip(data) {
            let (header, block) = place.split_at_mut(self.rest);
            header.copy_from_slice(rest);
            if self.rest > 0 {
                number_segment(header, number * self.size, number == 0, number + 1 == count);
            }
            let start = self.front();
            block[start..start + data.len()].copy_from_slice(data);
        }
    }
}

/// Makes the carried header of a whole that of one segment, `offset` bytes behind the first.
fn number_segment(rest: &mut [u8], offset: usize, first: bool, last: bool) {
    let sequence = read_u32(rest, SEQUENCE).wrapping_add(offset as u32);
    rest[SEQUENCE..SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
    let ending = if last { 0 } else { flags::FIN | flags::PSH };
    let reducing = if first { 0 } else { flags::CWR };
    rest[svr::CARRIED_FLAGS] &= !(ending | reducing);
}

/// Segments that follow one another, and are put together.
struct Run {
    /// Where their payload is.
    payload: Range<usize>,
    /// The carried header of the first.
    rest: [u8; LONGEST_REST],
    rest_len: usize,
    /// Payload bytes of the first, which no other has more of.
    size: usize,
    count: usize,
    /// Nothing follows the last.
    ended: bool,
}

impl Run {
    fn new(rest: &[u8], payload: Range<usize>) -> Self {
        let mut kept = [0; LONGEST_REST];
        kept[..rest.len()].copy_from_slice(rest);
        let mut run =
            Self { size: payload.len(), payload, rest: kept, rest_len: rest.len(), count: 1, ended: false };
        run.ended = run.size == 0 || ends(rest);
        run
    }

    /// Whether a host that receives the segment would put it behind those that are here.
    fn takes(&self, rest: &[u8], length: usize) -> bool {
        if self.ended || length == 0 || length > self.size || rest.len() != self.rest_len {
            return false;
        }
        if rest.is_empty() {
            return true;
        }
        let first = &self.rest[..self.rest_len];
        let next = read_u32(first, SEQUENCE).wrapping_add(self.payload.len() as u32);
        let changes = flags::FIN | flags::PSH;
        let alike = |at: usize| match at {
            svr::CARRIED_FLAGS => (first[at] ^ rest[at]) & !(changes | flags::CWR) == 0,
            at => first[at] == rest[at] || (SEQUENCE..SEQUENCE + 4).contains(&at),
        };
        read_u32(rest, SEQUENCE) == next
            && rest[svr::CARRIED_FLAGS] & flags::CWR == 0
            && (0..rest.len()).all(alike)
    }

    fn append(&mut self, rest: &[u8], length: usize) {
        self.payload.end += length;
        self.count += 1;
        self.ended = length < self.size || ends(rest);
        if let Some(own) = rest.get(svr::CARRIED_FLAGS) {
            self.rest[svr::CARRIED_FLAGS] |= own & (flags::FIN | flags::PSH);
        }
    }

    fn rest(&self) -> &[u8] {
        &self.rest[..self.rest_len]
    }

    fn gso(&self, ipv6: bool) -> Option<Gso> {
        let ecn = self.rest().get(svr::CARRIED_FLAGS).is_some_and(|own| own & flags::CWR != 0);
        let kind = match (self.rest_len, ipv6) {
            (0, _) => GsoKind::Udp,
            (_, false) => GsoKind::TcpV4,
            (_, true) => GsoKind::TcpV6,
        };
        (self.count > 1).then_some(Gso { kind, size: self.size as u16, ecn })
    }
}

/// Whether a segment is the last that a host would put together with others.
fn ends(rest: &[u8]) -> bool {
    rest.get(svr::CARRIED_FLAGS).is_some_and(|own| own & !(flags::ACK | flags::ECE | flags::CWR) != 0)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Where headers end in a packet, that of a carried segment too if it stands for several.
pub(crate) fn headers_end(packet: &Slot, parsed: &Parsed) -> usize {
    let end = usize::from(parsed.payload_offset);
    match packet.gso {
        Some(Gso { kind: GsoKind::TcpV4 | GsoKind::TcpV6, .. }) if parsed.protocol == Protocol::UDP.0 => {
            end + svr::carried_header_len(parsed.payload(packet.packet.bytes())).unwrap_or(0)
        }
        _ => end,
    }
}

/// The datagrams of a UDP super-packet.
pub(crate) fn datagrams<'a>(packet: &'a Slot, parsed: &Parsed) -> core::slice::Chunks<'a, u8> {
    let size = packet.gso.map_or(1, |gso| usize::from(gso.size).max(1));
    parsed.payload(packet.packet.bytes()).chunks(size)
}

/// Whether each datagram of a UDP super-packet carries a TCP segment of the middle of a connection.
fn carries_ordinary_tcp(packet: &Slot, parsed: &Parsed, sealed: bool) -> bool {
    datagrams(packet, parsed).all(|datagram| {
        svr::carried_header_len(datagram).is_some_and(|length| {
            let bare = sealed && length == datagram.len();
            !bare && datagram[svr::CARRIED_FLAGS] & (flags::SYN | flags::RST) == 0
        })
    })
}

/// Whether the segments of a super-packet can become datagrams of another. None of them looks like
/// metadata then: where a carried header has its flags, the cookie has SYN and RST.
fn is_spread(packet: &Slot, parsed: &Parsed, tcp: bool) -> bool {
    let ordinary = !tcp || parsed.tcp_flags & (flags::SYN | flags::RST) == 0;
    // Its buffer is exchanged for another one, and must not be smaller.
    ordinary && packet.packet.room() >= MAX_PACKET
}
const _: () = assert!(svr::COOKIE[svr::CARRIED_FLAGS] & (flags::SYN | flags::RST) == flags::SYN | flags::RST);

/// Whether what the datagrams of a super-packet carry can be put together.
fn is_joined(packet: &Slot, parsed: &Parsed, tcp: bool, sealed: bool) -> bool {
    datagrams(packet, parsed).len() <= MOST && (!tcp || carries_ordinary_tcp(packet, parsed, sealed))
}

/// Where the payload of segments is that came as datagrams, unsealed. Answers how many there are.
fn find_payloads(
    packet: &Slot,
    parsed: &Parsed,
    places: &mut [Result<Range<usize>, DropReason>; MOST],
) -> usize {
    let mut start = usize::from(parsed.payload_offset);
    let datagrams = datagrams(packet, parsed);
    let count = datagrams.len().min(MOST);
    for (place, datagram) in places.iter_mut().zip(datagrams) {
        let rest = svr::carried_header_len(datagram).unwrap_or(0);
        *place = Ok(start + rest..start + datagram.len());
        start += datagram.len();
    }
    count
}

impl Engine {
    /// Whether a super-packet goes on as one; if not, each of its segments goes by itself.
    pub(crate) fn goes_whole(&self, course: &Course, packet: &Slot, parsed: &Parsed) -> bool {
        let (Some(gso), Some(session)) = (packet.gso, self.table.get(course.index)) else { return false };
        let (from, to) = (session.leg(course.side).key, session.leg(course.side.other()).key);
        let cover = self.vault.get(session.protection).map(|entry| entry.cover[course.side.index()]);
        let (tcp, as_udp) = (session.protocol() == Protocol::TCP, gso.kind == GsoKind::Udp);
        // A host is told nothing that could ask for a segment by itself.
        let to_host = session.leg(course.side.other()).hop.is_none();
        if parsed.payload(packet.packet.bytes()).is_empty() {
            return false;
        }
        match course.treatment {
            Treatment::Pass if from.protocol == to.protocol => {
                !tcp || !as_udp || carries_ordinary_tcp(packet, parsed, false)
            }
            Treatment::Pass => {
                let clear = cover.is_none_or(|cover| cover == Cover::Clear);
                let able = if as_udp {
                    to_host && is_joined(packet, parsed, tcp, false)
                } else {
                    self.udp_super_packets && is_spread(packet, parsed, tcp)
                };
                tcp && clear && able && packet.checksum != Checksum::Unverified
            }
            Treatment::Seal => {
                let known = cover == Some(Cover::Sealed) && to.protocol == Protocol::UDP;
                known && self.udp_super_packets && is_spread(packet, parsed, tcp)
            }
            Treatment::Open => {
                let known = cover == Some(Cover::Sealed) && from.protocol == Protocol::UDP;
                known && as_udp && to_host && is_joined(packet, parsed, tcp, true)
            }
        }
    }

    /// Makes a super-packet that was rewritten for the leg `to` one of datagrams, sealed ones if it is to
    /// `seal` them. What finds no room in it is emitted in front of it. Its checksum is left for the
    /// caller to complete.
    pub(crate) fn spread(
        &mut self,
        course: &Course,
        seal: bool,
        packet: &mut Slot,
        to: &FlowKey,
        egress: Egress,
        outlet: &mut Outlet<'_>,
    ) -> Result<(), DropReason> {
        let Some(gso) = packet.gso else { return Ok(()) };
        let Some(session) = self.table.get(course.index) else { return Ok(()) };
        let suite = self.vault.get(session.protection).map(|entry| entry.suite).filter(|_| seal);
        let whole = packet.packet.bytes();
        let (transport, datagram) = headers::payload_offsets(whole, to);
        let tcp = session.protocol() == Protocol::TCP;
        let carried = if tcp { whole.get(datagram..).and_then(svr::carried_header_len) } else { Some(0) };
        let rest = carried.ok_or(DropReason::MalformedTransport)?;
        let layout = Layout { suite, transport, rest, size: usize::from(gso.size).max(1) };
        let count = (whole.len() - layout.head() - rest).div_ceil(layout.size);
        // Equal parts, rather than a long one and a remainder that costs as much.
        let parts = count.div_ceil(layout.most()).max(1);
        let each = count.div_ceil(parts).max(1);
        let mut buffer = core::mem::replace(&mut self.spare, PacketBuf::none());
        let result = (0..count).step_by(each).try_for_each(|first| {
            let segments = first..count.min(first + each);
            if segments.end == count {
                packet.gso = self.spread_part(course, &layout, &packet.packet, segments, &mut buffer, to)?;
                return Ok(());
            }
            let length = layout.length(segments.len() * layout.size);
            let part = outlet.emit_for(length).ok_or(DropReason::OutputFull)?;
            match self.spread_part(course, &layout, &packet.packet, segments, &mut part.packet, to) {
                Ok(gso) => part.gso = gso,
                Err(reason) => {
                    outlet.unemit();
                    return Err(reason);
                }
            }
            leave_checksum(part, to);
            (part.interface, part.verdict) = (egress.interface, Verdict::Forward(egress));
            self.counters.increment(Counter::PacketsEmitted);
            Ok(())
        });
        if result.is_ok() {
            core::mem::swap(&mut packet.packet, &mut buffer);
            self.counters.add(Counter::SuperPacketsSealed, u64::from(seal));
        }
        self.spare = buffer;
        result
    }

    /// Writes some segments of a super-packet to `out`, and seals them there.
    fn spread_part(
        &mut self,
        course: &Course,
        layout: &Layout,
        whole: &PacketBuf,
        segments: Range<usize>,
        out: &mut PacketBuf,
        to: &FlowKey,
    ) -> Result<Option<Gso>, DropReason> {
        let (whole, size, count) = (whole.bytes(), layout.size, segments.len());
        let payload = whole.len() - layout.head() - layout.rest;
        let payload = payload.min(segments.end * size) - segments.start * size;
        let length = layout.length(payload);
        out.clear();
        if out.spare_mut().len() < length {
            return Err(DropReason::TooBig);
        }
        out.set_len(length);
        layout.lay_out(whole, segments, out.bytes_mut());
        if layout.suite.is_some() {
            self.seal_datagrams(course, layout, payload, &mut out.bytes_mut()[layout.head()..])?;
        }
        headers::set_lengths(out, layout.transport, to)?;
        let size = layout.datagram(size) as u16;
        Ok((count > 1).then_some(Gso { kind: GsoKind::Udp, size, ecn: false }))
    }

    /// Seals datagrams that have `left` bytes of payload in all.
    fn seal_datagrams(
        &mut self,
        course: &Course,
        layout: &Layout,
        mut left: usize,
        datagrams: &mut [u8],
    ) -> Result<(), DropReason> {
        let protection = self.table.get(course.index).and_then(|session| session.protection);
        let Some(Place::End(end)) = self.vault.get_mut(protection).map(|entry| &mut entry.place) else {
            return Err(DropReason::SessionKeysFailed);
        };
        let mut payloads: [Sealing<'_>; MOST] = core::array::from_fn(|_| Sealing::default());
        let places = datagrams.chunks_mut(layout.datagram(layout.size));
        let count = places.len();
        for (payload, place) in payloads.iter_mut().zip(places) {
            let (associated, block) = place.split_at_mut(layout.rest);
            *payload = Sealing { associated, block, length: left.min(layout.size) };
            left -= payload.length;
        }
        end.seal_all(&mut payloads[..count], course.now.mono).map_err(|_| DropReason::SessionKeysFailed)?;
        self.counters.add(Counter::PayloadsSealed, count as u64);
        Ok(())
    }

    /// Opens the datagrams of a super-packet in place, if they are sealed, and puts together what follows
    /// one another. All but the last of that is sent on here; the last is what `packet` is afterwards.
    pub(crate) fn join(
        &mut self,
        course: &Course,
        packet: &mut Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<Parsed, DropReason> {
        let size = packet.gso.map_or(1, |gso| usize::from(gso.size).max(1));
        let Some(session) = self.table.get(course.index) else { return Err(DropReason::UnknownWaypoint) };
        let (tcp, arrived) = (session.protocol() == Protocol::TCP, session.leg(course.side).key.reversed());
        let joins = self.fits_opened(course, size);
        let mut places = [const { Err(DropReason::PayloadForged) }; MOST];
        let opened = if course.treatment == Treatment::Open {
            self.open_datagrams(course, packet, parsed, size, tcp, &mut places)
        } else {
            find_payloads(packet, parsed, &mut places)
        };
        self.refuse_datagrams(course, packet, parsed, &places[..opened], outlet)?;
        let head = usize::from(parsed.payload_offset);
        let mut run: Option<Run> = None;
        for (number, place) in places[..opened].iter().enumerate() {
            let Ok(payload) = place else { continue };
            let header = head + number * size;
            let bytes = packet.packet.bytes_mut();
            let length = if tcp { svr::carried_header_len(&bytes[header..]).unwrap_or(0) } else { 0 };
            let mut kept = [0; LONGEST_REST];
            kept[..length].copy_from_slice(&bytes[header..header + length]);
            let rest = &kept[..length];
            match &mut run {
                Some(run) if joins && run.takes(rest, payload.len()) => {
                    bytes.copy_within(payload.clone(), run.payload.end);
                    run.append(rest, payload.len());
                }
                _ => {
                    if let Some(run) = run.replace(Run::new(rest, payload.clone())) {
                        self.send_run(course, &run, head, packet, &arrived, outlet);
                    }
                }
            }
        }
        let run = run.ok_or(DropReason::PayloadForged)?;
        let start = run.payload.start - run.rest_len - head;
        let bytes = packet.packet.bytes_mut();
        bytes.copy_within(..head, start);
        bytes[start + head..run.payload.start].copy_from_slice(run.rest());
        packet.packet.shrink_front(start);
        packet.packet.truncate(head + run.rest_len + run.payload.len());
        self.counters.add(Counter::SuperPacketsOpened, u64::from(course.treatment == Treatment::Open));
        finish_run(packet, &run, head, &arrived)
    }

    /// Whether opened segments may leave together: as they fit the link of the host.
    fn fits_opened(&self, course: &Course, size: usize) -> bool {
        let Some(session) = self.table.get(course.index) else { return false };
        let suite = self.vault.get(session.protection).map(|entry| entry.suite);
        let to = &session.leg(course.side.other()).key;
        let mtu = self.way_mtu(course.now.mono, to.interface, None);
        let shortest = match suite {
            Some(suite) if course.treatment == Treatment::Open => {
                suite.front() + suite.back(suite.front() - 1)
            }
            _ => 0,
        };
        let length = (UDP_LEN + size).saturating_sub(shortest);
        overhead(to, session) + length <= mtu
    }

    /// Opens datagrams, and says of each where its payload is. Answers how many there are.
    fn open_datagrams(
        &mut self,
        course: &Course,
        packet: &mut Slot,
        parsed: &Parsed,
        size: usize,
        tcp: bool,
        places: &mut [Result<Range<usize>, DropReason>; MOST],
    ) -> usize {
        let protection = self.table.get(course.index).and_then(|session| session.protection);
        let Some(protection) = self.vault.get_mut(protection) else { return 0 };
        let Place::End(end) = &mut protection.place else { return 0 };
        let head = usize::from(parsed.payload_offset);
        let mut blocks: [Opening<'_>; MOST] = core::array::from_fn(|_| Opening::default());
        let datagrams = packet.packet.bytes_mut()[head..parsed.payload_end as usize].chunks_mut(size);
        let count = datagrams.len().min(MOST);
        for (block, datagram) in blocks.iter_mut().zip(datagrams) {
            let rest = if tcp { svr::carried_header_len(datagram).unwrap_or(0) } else { 0 };
            let (associated, sealed) = datagram.split_at_mut(rest);
            *block = Opening { associated, block: sealed, ..Opening::default() };
        }
        end.open_all(&mut blocks[..count], course.now.mono);
        let mut opened = 0;
        for (number, (place, block)) in places.iter_mut().zip(&blocks[..count]).enumerate() {
            let start = head + number * size + block.associated.len();
            *place = match &block.opened {
                Ok(payload) => Ok(start + payload.start..start + payload.end),
                Err(error) => Err(refusal(*error, false)),
            };
            opened += u64::from(place.is_ok());
        }
        if opened > 0 {
            protection.opened = course.now.mono;
        }
        self.counters.add(Counter::PayloadsOpened, opened);
        count
    }

    /// Counts datagrams that did not open. If none did, the last is for the caller to count.
    fn refuse_datagrams(
        &mut self,
        course: &Course,
        packet: &Slot,
        parsed: &Parsed,
        places: &[Result<Range<usize>, DropReason>],
        outlet: &mut Outlet<'_>,
    ) -> Result<(), DropReason> {
        let mut reasons = places.iter().filter_map(|place| place.as_ref().err().copied());
        let none = places.iter().all(Result::is_err);
        let last = if none { reasons.next_back().or(Some(DropReason::PayloadForged)) } else { None };
        let size = packet.gso.map_or(0, |gso| usize::from(gso.size));
        let key = FlowKey::of_packet(packet.interface, parsed);
        for reason in reasons {
            self.drops.record(course.now.mono, reason, packet.interface, Some(key), size);
            self.mistrust(course, reason, outlet);
        }
        let Some(reason) = last else { return Ok(()) };
        self.mistrust(course, reason, outlet);
        Err(reason)
    }

    /// Sends on opened segments that cannot stay in the packet they arrived in.
    fn send_run(
        &mut self,
        course: &Course,
        run: &Run,
        head: usize,
        packet: &Slot,
        arrived: &FlowKey,
        outlet: &mut Outlet<'_>,
    ) {
        let Some(mut slot) = self.segment.take() else { return };
        let bytes = packet.packet.bytes();
        slot.packet.clear();
        slot.packet.set_len(head + run.rest_len + run.payload.len());
        let (front, payload) = slot.packet.bytes_mut().split_at_mut(head + run.rest_len);
        front[..head].copy_from_slice(&bytes[..head]);
        front[head..].copy_from_slice(run.rest());
        payload.copy_from_slice(&bytes[run.payload.clone()]);
        slot.interface = packet.interface;
        (slot.handed, slot.genuine, slot.fragmented) = (packet.handed, false, false);
        let course = Course { opened: true, waits: false, ..*course };
        let sent = finish_run(&mut slot, run, head, arrived)
            .and_then(|parsed| self.forward(&course, &mut slot, &parsed, outlet));
        slot.verdict = sent
            .unwrap_or_else(|reason| self.drop_packet(course.now, &slot, Some(arrived.reversed()), reason));
        if matches!(slot.verdict, Verdict::Forward(_)) {
            self.emit_copy(course.now, &slot, outlet);
        }
        self.segment = Some(slot);
    }
}

/// Makes headers say what a packet is that segments were put together to.
fn finish_run(slot: &mut Slot, run: &Run, head: usize, arrived: &FlowKey) -> Result<Parsed, DropReason> {
    slot.gso = run.gso(arrived.ipv6);
    slot.checksum = Checksum::Partial;
    headers::set_lengths(&mut slot.packet, head - UDP_LEN, arrived)?;
    ip::parse(slot.packet.bytes()).map_err(|_| DropReason::MalformedTransport)
}
