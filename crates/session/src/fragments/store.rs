//! What is kept of packets until they are whole.
//!
//! Whoever sends parts of packets decides what is kept: so all of it is bounded, in time, in number
//! and in bytes, and each owner, an interface or a peer, has a share of its own. What is beyond the
//! share drives that owner's oldest packet out, since one that is still to be completed is rarely
//! old. A packet whose parts contradict each other is refused until its time is over: nobody can tell
//! which of them are genuine (RFC 5722).

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use fairway_types::{DropReason, InterfaceId, PeerId, Time};

use crate::key::FlowKey;

/// How long the parts of a packet are kept.
pub(crate) const LIFETIME: Duration = Duration::from_secs(15);
/// The most parts of one packet.
pub(crate) const MOST_PARTS: usize = 64;
/// Bytes that are kept for one owner, with what it costs to keep them.
pub(crate) const SHARE: usize = 1 << 20;
/// What a packet costs beside its bytes, in bytes; an upper bound.
const PACKET_COST: usize = 512;
/// What a part costs beside its bytes; an upper bound.
const PART_COST: usize = 64;

/// Names the packet that a part is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// An IP packet that its source, or a router on the way, cut.
    Ip {
        interface: InterfaceId,
        source: IpAddr,
        destination: IpAddr,
        id: u32,
        /// Of IPv4, the protocol; else zero.
        protocol: u8,
    },
    /// The payload of a session's packet that a peer cut.
    Payload { interface: InterfaceId, peer: PeerId, flow: FlowKey, id: u32 },
}

impl Name {
    const fn owner(&self) -> Owner {
        match self {
            Self::Ip { interface, .. } => Owner::Interface(*interface),
            Self::Payload { peer, .. } => Owner::Peer(*peer),
        }
    }

    /// The interface its parts arrive on.
    pub(crate) const fn interface(&self) -> InterfaceId {
        match self {
            Self::Ip { interface, .. } | Self::Payload { interface, .. } => *interface,
        }
    }
}

/// Whose share a packet is kept in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Interface(InterfaceId),
    Peer(PeerId),
}

/// A part of a packet.
pub(crate) struct Part<'a> {
    /// Where it belongs, behind the headers, in bytes.
    pub(crate) offset: usize,
    /// Whether more follow.
    pub(crate) more: bool,
    pub(crate) data: &'a [u8],
    /// How many bytes there may be behind the headers.
    pub(crate) most: usize,
    /// Whether a router on the way had to delay it.
    pub(crate) congested: bool,
}

/// A packet all parts of which are here.
pub(crate) struct Whole {
    /// What stands in front of them.
    pub(crate) head: Box<[u8]>,
    /// One after the other.
    parts: Vec<(usize, Box<[u8]>)>,
    pub(crate) congested: bool,
}

impl Whole {
    /// The whole behind the headers, part by part.
    pub(crate) fn data(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|(_, data)| &**data)
    }

    /// Bytes of headers and data.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.data().map(<[u8]>::len).sum::<usize>()
    }
}

/// What became of a part.
pub(crate) enum Outcome {
    Held,
    /// It is a copy of one that is kept.
    Repeated,
    Whole(Whole),
    Refused(DropReason),
}

/// Parts that were kept and are dropped after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Discarded {
    pub(crate) reason: DropReason,
    pub(crate) interface: InterfaceId,
    pub(crate) parts: usize,
    /// Bytes of the last part.
    pub(crate) length: usize,
}

struct Packet {
    serial: u64,
    deadline: Time,
    cost: usize,
    state: State,
}

enum State {
    Open(Parts),
    /// Refused as a whole.
    Refused(DropReason),
}

#[derive(Default)]
struct Parts {
    head: Option<Box<[u8]>>,
    /// Sorted by offset; they never overlap.
    parts: Vec<(usize, Box<[u8]>)>,
    /// Bytes of all parts.
    bytes: usize,
    /// Where the last one ends, once it came.
    end: Option<usize>,
    congested: bool,
}

/// All packets that are not whole yet.
#[derive(Default)]
pub(crate) struct Store {
    packets: BTreeMap<Name, Packet>,
    /// By serial number, which is the order of deadlines.
    ages: BTreeMap<u64, Name>,
    shares: BTreeMap<Owner, Share>,
    next: u64,
    discarded: VecDeque<Discarded>,
}

/// What is kept for one owner.
#[derive(Default)]
struct Share {
    cost: usize,
    /// By serial number.
    ages: BTreeMap<u64, Name>,
}

impl Store {
    /// Takes a part. If it is the first one of its packet, `head` gives what stands in front of it.
    ///
    /// What is dropped because of it is told by [`Self::poll_discarded`].
    pub(crate) fn insert(
        &mut self,
        now: Time,
        name: &Name,
        part: &Part<'_>,
        head: impl FnOnce() -> Box<[u8]>,
    ) -> Outcome {
        let end = part.offset + part.data.len();
        let uneven = part.more && !part.data.len().is_multiple_of(8);
        if part.data.is_empty() || uneven || end > part.most {
            return Outcome::Refused(DropReason::FragmentMalformed);
        }
        if self.packets.get(name).is_some_and(|packet| packet.deadline <= now) {
            self.discard(name, DropReason::FragmentTimeout);
        }
        let Self { packets, ages, shares, next, .. } = self;
        let packet = packets.entry(*name).or_insert_with(|| {
            let serial = *next;
            *next += 1;
            ages.insert(serial, *name);
            let share = shares.entry(name.owner()).or_default();
            share.ages.insert(serial, *name);
            share.cost += PACKET_COST;
            let state = State::Open(Parts::default());
            Packet { serial, deadline: now + LIFETIME, cost: PACKET_COST, state }
        });
        let parts = match &mut packet.state {
            State::Refused(reason) => return Outcome::Refused(*reason),
            State::Open(parts) => parts,
        };
        let at = match parts.place(part) {
            Ok(Some(at)) => at,
            Ok(None) => return Outcome::Repeated,
            Err(reason) => {
                self.refuse(name, reason);
                return Outcome::Refused(reason);
            }
        };
        let mut cost = part.data.len() + PART_COST;
        if part.offset == 0 {
            let head = head();
            cost += head.len();
            parts.head = Some(head);
        }
        parts.parts.insert(at, (part.offset, Box::from(part.data)));
        parts.bytes += part.data.len();
        parts.congested |= part.congested;
        if !part.more {
            parts.end = Some(end);
        }
        let complete = parts.end == Some(parts.bytes);
        packet.cost += cost;
        if let Some(share) = shares.get_mut(&name.owner()) {
            share.cost += cost;
        }
        if complete {
            return self.take(name).map_or(Outcome::Held, Outcome::Whole);
        }
        self.make_room(name);
        Outcome::Held
    }

    /// The next parts that were dropped after they had been kept.
    pub(crate) fn poll_discarded(&mut self) -> Option<Discarded> {
        self.discarded.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let (_, name) = self.ages.first_key_value()?;
        self.packets.get(name).map(|packet| packet.deadline)
    }

    /// Drops what never became whole.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        while self.poll_timeout().is_some_and(|deadline| deadline <= now) {
            let Some((_, &name)) = self.ages.first_key_value() else { break };
            self.discard(&name, DropReason::FragmentTimeout);
        }
    }

    /// Drops everything: interfaces or peers have other numbers from now on.
    pub(crate) fn clear(&mut self) {
        while let Some((_, &name)) = self.ages.first_key_value() {
            self.discard(&name, DropReason::FragmentEvicted);
        }
    }

    /// Keeps the share of a packet's owner at the cost of its other packets, the oldest first. One
    /// packet alone always fits.
    fn make_room(&mut self, name: &Name) {
        loop {
            let Some(share) = self.shares.get(&name.owner()).filter(|share| share.cost > SHARE) else {
                return;
            };
            let Some(&oldest) = share.ages.values().find(|&other| other != name) else { return };
            self.discard(&oldest, DropReason::FragmentEvicted);
        }
    }

    fn take(&mut self, name: &Name) -> Option<Whole> {
        let State::Open(parts) = self.remove(name)?.state else { return None };
        Some(Whole { head: parts.head?, parts: parts.parts, congested: parts.congested })
    }

    fn remove(&mut self, name: &Name) -> Option<Packet> {
        let packet = self.packets.remove(name)?;
        self.ages.remove(&packet.serial);
        if let Some(share) = self.shares.get_mut(&name.owner()) {
            share.cost -= packet.cost;
            share.ages.remove(&packet.serial);
            if share.ages.is_empty() {
                self.shares.remove(&name.owner());
            }
        }
        Some(packet)
    }

    /// Takes a packet out, and notes what was kept of it.
    fn discard(&mut self, name: &Name, reason: DropReason) {
        if let Some(Packet { state: State::Open(parts), .. }) = self.remove(name) {
            self.note(name, reason, &parts);
        }
    }

    /// Refuses a packet until its time is over, and notes what was kept of it.
    fn refuse(&mut self, name: &Name, reason: DropReason) {
        let Some(packet) = self.packets.get_mut(name) else { return };
        let freed = packet.cost - PACKET_COST;
        packet.cost = PACKET_COST;
        let before = core::mem::replace(&mut packet.state, State::Refused(reason));
        if let Some(share) = self.shares.get_mut(&name.owner()) {
            share.cost -= freed;
        }
        if let State::Open(parts) = before {
            self.note(name, reason, &parts);
        }
    }

    fn note(&mut self, name: &Name, reason: DropReason, parts: &Parts) {
        if let Some((_, last)) = parts.parts.last() {
            let (parts, length) = (parts.parts.len(), last.len());
            self.discarded.push_back(Discarded { reason, interface: name.interface(), parts, length });
        }
    }
}

impl Parts {
    /// Where a part belongs among the others; `None` if it is a copy of one of them.
    fn place(&self, part: &Part<'_>) -> Result<Option<usize>, DropReason> {
        let end = part.offset + part.data.len();
        let is_last = |end: usize| self.end == Some(end);
        let at = self.parts.partition_point(|(offset, _)| *offset < part.offset);
        if let Some((offset, data)) = self.parts.get(at)
            && *offset == part.offset
            && **data == *part.data
            && is_last(end) != part.more
        {
            return Ok(None);
        }
        let before = at.checked_sub(1).and_then(|before| self.parts.get(before));
        let overlaps = before.is_some_and(|(offset, data)| offset + data.len() > part.offset)
            || self.parts.get(at).is_some_and(|(offset, _)| end > *offset);
        let contradicts = if part.more {
            self.end.is_some_and(|known| end >= known)
        } else {
            self.end.is_some() || at < self.parts.len()
        };
        if overlaps || contradicts {
            return Err(DropReason::FragmentOverlap);
        }
        if self.parts.len() == MOST_PARTS {
            return Err(DropReason::FragmentLimit);
        }
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests;
