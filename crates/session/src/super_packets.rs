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
    suite: Suite,
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

    /// What a segment with so much payload has in its datagram.
    const fn datagram(&self, length: usize) -> usize {
        self.rest + self.suite.front() + length + self.suite.back(length)
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
            let start = self.suite.front();
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

/// Whether the header of a TCP segment, once it is carried, looks like metadata, whatever flags it has.
fn mimics_metadata(segment: &[u8]) -> bool {
    const START: usize = 8;
    let start = segment.get(START..START + svr::COOKIE.len()).unwrap_or_default();
    let mut alike = svr::COOKIE;
    alike[svr::CARRIED_FLAGS] = start.get(svr::CARRIED_FLAGS).copied().unwrap_or_default();
    start == alike
}

impl Engine {
    /// Whether a super-packet goes on as one; if not, each of its segments goes by itself.
    pub(crate) fn goes_whole(&self, course: &Course, packet: &Slot, parsed: &Parsed) -> bool {
        let (Some(gso), Some(session)) = (packet.gso, self.table.get(course.index)) else { return false };
        let (from, to) = (session.leg(course.side).key, session.leg(course.side.other()).key);
        let cover = self.vault.get(session.protection).map(|entry| entry.cover[course.side.index()]);
        let (tcp, as_udp) = (session.protocol() == Protocol::TCP, gso.kind == GsoKind::Udp);
        match course.treatment {
            Treatment::Pass => {
                from.protocol == to.protocol
                    && (!tcp || !as_udp || carries_ordinary_tcp(packet, parsed, false))
            }
            Treatment::Seal => {
                let segment = parsed.segment(packet.packet.bytes());
                let odd =
                    tcp && (parsed.tcp_flags & (flags::SYN | flags::RST) != 0 || mimics_metadata(segment));
                // Its buffer is exchanged for another one, and must not be smaller.
                let exchangeable = packet.packet.room() >= MAX_PACKET;
                cover == Some(Cover::Sealed) && to.protocol == Protocol::UDP && exchangeable && !odd
            }
            Treatment::Open => {
                let known = cover == Some(Cover::Sealed) && from.protocol == Protocol::UDP && as_udp;
                let few = datagrams(packet, parsed).len() <= MOST;
                known && few && (!tcp || carries_ordinary_tcp(packet, parsed, true))
            }
        }
    }

    /// Makes a super-packet that was rewritten for the leg `to` one of sealed datagrams. What finds no
    /// room in it is emitted in front of it. Its checksum is left for the caller to complete.
    pub(crate) fn seal_super(
        &mut self,
        course: &Course,
        packet: &mut Slot,
        to: &FlowKey,
        egress: Egress,
        outlet: &mut Outlet<'_>,
    ) -> Result<(), DropReason> {
        let Some(gso) = packet.gso else { return Ok(()) };
        let Some(session) = self.table.get(course.index) else { return Ok(()) };
        let protection = session.protection;
        let Some(suite) = self.vault.get(protection).map(|entry| entry.suite) else { return Ok(()) };
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
                packet.gso = self.seal_part(course, &layout, &packet.packet, segments, &mut buffer, to)?;
                return Ok(());
            }
            let length = layout.length(segments.len() * layout.size);
            let part = outlet.emit_for(length).ok_or(DropReason::OutputFull)?;
            match self.seal_part(course, &layout, &packet.packet, segments, &mut part.packet, to) {
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
            self.counters.increment(Counter::SuperPacketsSealed);
        }
        self.spare = buffer;
        result
    }

    /// Writes some segments of a super-packet to `out` and seals them there.
    fn seal_part(
        &mut self,
        course: &Course,
        layout: &Layout,
        whole: &PacketBuf,
        segments: Range<usize>,
        out: &mut PacketBuf,
        to: &FlowKey,
    ) -> Result<Option<Gso>, DropReason> {
        let protection = self.table.get(course.index).and_then(|session| session.protection);
        let Some(Place::End(end)) = self.vault.get_mut(protection).map(|entry| &mut entry.place) else {
            return Err(DropReason::SessionKeysFailed);
        };
        let (whole, size) = (whole.bytes(), layout.size);
        let payload = whole.len() - layout.head() - layout.rest;
        let mut left = payload.min(segments.end * size) - segments.start * size;
        let length = layout.length(left);
        out.clear();
        if out.spare_mut().len() < length {
            return Err(DropReason::TooBig);
        }
        out.set_len(length);
        layout.lay_out(whole, segments.clone(), out.bytes_mut());
        let mut payloads: [Sealing<'_>; MOST] = core::array::from_fn(|_| Sealing::default());
        let places = out.bytes_mut()[layout.head()..].chunks_mut(layout.datagram(size));
        for (payload, place) in payloads.iter_mut().zip(places) {
            let (associated, block) = place.split_at_mut(layout.rest);
            *payload = Sealing { associated, block, length: left.min(size) };
            left -= payload.length;
        }
        let count = segments.len();
        end.seal_all(&mut payloads[..count], course.now.mono).map_err(|_| DropReason::SessionKeysFailed)?;
        headers::set_lengths(out, layout.transport, to)?;
        self.counters.add(Counter::PayloadsSealed, count as u64);
        let size = layout.datagram(size) as u16;
        Ok((count > 1).then_some(Gso { kind: GsoKind::Udp, size, ecn: false }))
    }

    /// Opens the datagrams of a super-packet in place, and puts together what follows one another. All
    /// but the last of that is sent on here; the last is what `packet` is afterwards.
    pub(crate) fn open_super(
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
        let opened = self.open_datagrams(course, packet, parsed, size, tcp, &mut places);
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
        self.counters.increment(Counter::SuperPacketsOpened);
        finish_run(packet, &run, head, &arrived)
    }

    /// Whether opened segments may leave together: as they fit the link of the host.
    fn fits_opened(&self, course: &Course, size: usize) -> bool {
        let Some(session) = self.table.get(course.index) else { return false };
        let Some(suite) = self.vault.get(session.protection).map(|entry| entry.suite) else { return false };
        let to = &session.leg(course.side.other()).key;
        let mtu = self.way_mtu(course.now.mono, to.interface, None);
        let shortest = suite.front() + suite.back(suite.front() - 1);
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
        let course = Course { opened: true, ..*course };
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
