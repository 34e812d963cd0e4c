//! From next hops to link addresses, with packets held while the kernel finds one out.
//!
//! The kernel runs ARP and neighbour discovery; it is asked to (`NTF_USE`) and its answers are read
//! from the copy in [`State`]. Because the kernel sends nothing on Fairway's behalf, it would let
//! entries in use go stale: they are refreshed as long as packets use them.

use core::net::IpAddr;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fairway_types::{PacketBuf, Slot, Time};

use crate::netlink::State;

/// How long packets wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a next hop that did not answer is left alone.
const REST: Duration = Duration::from_secs(1);
/// How often an entry in use is looked at, and asked for again.
const REFRESH: Duration = Duration::from_secs(1);
/// Entries not used for this long are left to the kernel.
const IDLE: Duration = Duration::from_secs(30);
/// How many packets, and bytes, wait for one next hop; with no packet waiting, one of any size may.
const HELD_PACKETS: usize = 32;
const HELD_BYTES: usize = 256 * 1024;
/// How many bytes wait for all next hops together.
const HELD_BYTES_ALL: usize = 8 * 1024 * 1024;
/// How many next hops are remembered.
const ENTRIES: usize = 65_536;
/// How many of them the kernel may be asked about before it answered once. A flood to addresses that
/// nobody has would otherwise fill this table and the kernel's own, which has 1024 places by default
/// and serves the whole host. Next hops that were found before are not touched by it.
const UNKNOWN: usize = 512;

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Its link address.
    Mac([u8; 6]),
    /// The kernel is finding out.
    Pending,
    /// It did not answer.
    Unreachable,
}

#[derive(Debug, Default)]
struct Entry {
    used: Time,
    asked: Option<Time>,
    failed: Option<Time>,
    /// Whether its link address was known once.
    known: bool,
    /// Since when packets wait.
    waiting: Time,
    held: VecDeque<Slot>,
    bytes: usize,
}

/// Device and address: whose link address is wanted.
pub(crate) type Target = (u32, IpAddr);

/// Packets that do not wait any longer.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// Their next hop is known.
    pub(crate) resolved: Vec<Slot>,
    /// Their next hop did not answer.
    pub(crate) unresolved: Vec<Slot>,
}

/// All next hops in use.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    targets: HashMap<(u32, IpAddr), IpAddr>,
    entries: HashMap<Target, Entry>,
    solicit: Vec<Target>,
    bytes: usize,
    /// How many entries are not known.
    unknown: usize,
    next_refresh: Time,
}

impl Neighbours {
    /// Whose link address packets for `next_hop` get on a device.
    pub(crate) fn target(
        &mut self,
        state: &State,
        index: u32,
        next_hop: IpAddr,
        gateways: &[IpAddr],
    ) -> Target {
        if self.targets.len() >= ENTRIES {
            self.targets.clear();
        }
        let target = self
            .targets
            .entry((index, next_hop))
            .or_insert_with(|| state.link_target(index, next_hop, gateways));
        (index, *target)
    }

    /// Forgets whose link address is whose: routes, addresses or gateways changed.
    pub(crate) fn forget_targets(&mut self) {
        self.targets.clear();
    }

    /// What is known of `target`, which is about to be used.
    pub(crate) fn resolve(&mut self, state: &State, target: Target, now: Time) -> Resolution {
        let address = link_address(state, target);
        if !self.entries.contains_key(&target) {
            let full = self.entries.len() >= ENTRIES || address.is_none() && self.unknown >= UNKNOWN;
            if full {
                return address.map_or(Resolution::Unreachable, Resolution::Mac);
            }
            self.unknown += 1;
        }
        let entry = self.entries.entry(target).or_default();
        entry.used = now;
        if let Some(mac) = address {
            self.unknown -= usize::from(!core::mem::replace(&mut entry.known, true));
            return Resolution::Mac(mac);
        }
        if entry.failed.is_some_and(|failed| now.since(failed) < REST) {
            return Resolution::Unreachable;
        }
        if entry.asked.is_none_or(|asked| now.since(asked) >= REFRESH) {
            entry.asked = Some(now);
            entry.failed = None;
            self.solicit.push(target);
        }
        Resolution::Pending
    }

    /// Keeps a copy of a packet until `target` is known; false when too much waits already.
    pub(crate) fn hold(&mut self, target: Target, slot: &Slot, now: Time) -> bool {
        let length = slot.packet.len();
        let Some(entry) = self.entries.get_mut(&target) else { return false };
        let full = entry.held.len() >= HELD_PACKETS
            || (!entry.held.is_empty() && entry.bytes + length > HELD_BYTES)
            || self.bytes + length > HELD_BYTES_ALL;
        if full {
            return false;
        }
        if entry.held.is_empty() {
            entry.waiting = now;
        }
        entry.bytes += length;
        self.bytes += length;
        // A buffer of the packet's own size: slots are made for the longest.
        let mut packet = PacketBuf::with_capacity(length);
        let copied = packet.fill(slot.packet.bytes());
        let Slot { interface, checksum, gso, verdict, .. } = *slot;
        entry.held.push_back(Slot { interface, checksum, gso, verdict, ..Slot::new(packet) });
        copied
    }

    /// Next hops the kernel is to be asked about.
    pub(crate) fn solicitations(&mut self) -> impl Iterator<Item = Target> + '_ {
        self.solicit.drain(..)
    }

    /// The kernel reported something about `target`: packets that wait for it may go.
    pub(crate) fn reported(&mut self, state: &State, target: Target, now: Time, released: &mut Released) {
        let Some(entry) = self.entries.get_mut(&target) else { return };
        if link_address(state, target).is_some() {
            entry.failed = None;
            self.unknown -= usize::from(!core::mem::replace(&mut entry.known, true));
            self.bytes -= entry.bytes;
            entry.bytes = 0;
            released.resolved.extend(entry.held.drain(..));
        } else if state.neighbour(target.0, target.1).is_some_and(|n| n.state & libc::NUD_FAILED != 0) {
            self.fail(target, now, released);
        }
    }

    fn fail(&mut self, target: Target, now: Time, released: &mut Released) {
        if let Some(entry) = self.entries.get_mut(&target) {
            entry.failed = Some(now);
            self.bytes -= entry.bytes;
            entry.bytes = 0;
            released.unresolved.extend(entry.held.drain(..));
        }
    }

    /// Everything may have changed: looks at every entry.
    pub(crate) fn reported_all(&mut self, state: &State, now: Time, released: &mut Released) {
        let targets: Vec<Target> = self.entries.keys().copied().collect();
        for target in targets {
            self.reported(state, target, now, released);
        }
    }

    /// Ends waits that took too long, refreshes entries in use and forgets idle ones.
    pub(crate) fn handle_timeout(&mut self, state: &State, now: Time, released: &mut Released) {
        if now < self.next_refresh {
            return;
        }
        self.next_refresh = now + REFRESH;
        let late = |entry: &Entry| !entry.held.is_empty() && now.since(entry.waiting) >= PATIENCE;
        let late: Vec<Target> = self.entries.iter().filter(|(_, e)| late(e)).map(|(t, _)| *t).collect();
        for target in late {
            self.fail(target, now, released);
        }
        let unknown = &mut self.unknown;
        self.entries.retain(|_, entry| {
            let rested = entry.failed.is_some_and(|failed| now.since(failed) >= REST);
            let keep = !entry.held.is_empty() || now.since(entry.used) < IDLE && !rested;
            *unknown -= usize::from(!keep && !entry.known);
            keep
        });
        for (target, entry) in &mut self.entries {
            let stale = state.neighbour(target.0, target.1).is_some_and(|n| n.state & libc::NUD_STALE != 0);
            let again = !entry.held.is_empty() || stale;
            if again && entry.asked.is_none_or(|asked| now.since(asked) >= REFRESH) {
                entry.asked = Some(now);
                self.solicit.push(*target);
            }
        }
    }

    /// When [`Self::handle_timeout`] has something to do; `None` while no entry is in use.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        (!self.entries.is_empty()).then_some(self.next_refresh)
    }
}

/// The link address of a neighbour whose entry is valid.
fn link_address(state: &State, target: Target) -> Option<[u8; 6]> {
    const VALID: u16 = libc::NUD_REACHABLE
        | libc::NUD_STALE
        | libc::NUD_DELAY
        | libc::NUD_PROBE
        | libc::NUD_PERMANENT
        | libc::NUD_NOARP;
    let neighbour = state.neighbour(target.0, target.1)?;
    if neighbour.state & VALID != 0 { neighbour.mac } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{Neighbour, Report};
    use fairway_types::Batch;

    const TARGET: Target = (2, IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn slot(length: usize) -> Slot {
        let mut batch = Batch::new(1, 0, 0);
        let slot = batch.receive().unwrap();
        assert!(slot.packet.fill(&vec![0; length]));
        slot.clone()
    }

    fn report(mac: Option<[u8; 6]>, state: u16) -> Report {
        Report::Neighbour(Neighbour { index: TARGET.0, address: TARGET.1, mac, state })
    }

    #[test]
    fn packets_wait_for_the_answer_and_then_go_in_order() {
        let (mut state, mut neighbours) = (State::default(), Neighbours::default());
        let now = Time::from_secs(1);
        assert_eq!(neighbours.resolve(&state, TARGET, now), Resolution::Pending);
        assert_eq!(neighbours.resolve(&state, TARGET, now), Resolution::Pending);
        assert_eq!(neighbours.solicitations().count(), 1);
        assert!(neighbours.hold(TARGET, &slot(100), now));
        assert!(neighbours.hold(TARGET, &slot(200), now));
        state.apply(report(Some([7; 6]), libc::NUD_REACHABLE));
        let mut released = Released::default();
        neighbours.reported(&state, TARGET, now, &mut released);
        let lengths: Vec<_> = released.resolved.iter().map(|slot| slot.packet.len()).collect();
        assert_eq!(lengths, [100, 200]);
        assert_eq!(neighbours.resolve(&state, TARGET, now), Resolution::Mac([7; 6]));
        assert_eq!(neighbours.bytes, 0);
    }

    #[test]
    fn waits_are_bounded_in_number_bytes_and_time() {
        let (state, mut neighbours) = (State::default(), Neighbours::default());
        let now = Time::from_secs(1);
        neighbours.resolve(&state, TARGET, now);
        let kept = (0..100).filter(|_| neighbours.hold(TARGET, &slot(100), now)).count();
        assert_eq!(kept, HELD_PACKETS);
        let mut released = Released::default();
        neighbours.handle_timeout(&state, now + PATIENCE, &mut released);
        assert_eq!(released.unresolved.len(), HELD_PACKETS);
        let later = now + PATIENCE;
        assert_eq!(neighbours.resolve(&state, TARGET, later), Resolution::Unreachable);
        assert_eq!(neighbours.resolve(&state, TARGET, later + REST), Resolution::Pending);
        let kept = (0..9).filter(|_| neighbours.hold(TARGET, &slot(60_000), later)).count();
        assert_eq!(kept, HELD_BYTES / 60_000);
    }

    #[test]
    fn a_flood_to_addresses_nobody_has_leaves_room_and_known_next_hops_alone() {
        let (mut state, mut neighbours) = (State::default(), Neighbours::default());
        let mut now = Time::from_secs(1);
        state.apply(report(Some([7; 6]), libc::NUD_REACHABLE));
        assert_eq!(neighbours.resolve(&state, TARGET, now), Resolution::Mac([7; 6]));
        let mut asked = 0;
        let mut released = Released::default();
        for second in 0..60u32 {
            for host in 0..10_000 {
                let nobody = (2, IpAddr::from((0x0b00_0000 + second * 10_000 + host).to_be_bytes()));
                if neighbours.resolve(&state, nobody, now) == Resolution::Pending {
                    neighbours.hold(nobody, &slot(100), now);
                }
            }
            asked += neighbours.solicitations().count();
            assert!(neighbours.entries.len() <= UNKNOWN + 1);
            assert_eq!(neighbours.resolve(&state, TARGET, now), Resolution::Mac([7; 6]));
            now = now + REFRESH;
            neighbours.handle_timeout(&state, now, &mut released);
        }
        assert!(asked > UNKNOWN * 5, "places become free again: {asked}");
        assert!(asked < 60 * UNKNOWN, "{asked}");
        for _ in 0..10 {
            now = now + REFRESH;
            neighbours.resolve(&state, TARGET, now);
            neighbours.handle_timeout(&state, now, &mut released);
        }
        assert_eq!((neighbours.entries.len(), neighbours.unknown, neighbours.bytes), (1, 0, 0));
    }

    #[test]
    fn entries_in_use_are_refreshed_and_idle_ones_forgotten() {
        let (mut state, mut neighbours) = (State::default(), Neighbours::default());
        let mut now = Time::from_secs(1);
        state.apply(report(Some([7; 6]), libc::NUD_STALE));
        neighbours.resolve(&state, TARGET, now);
        assert_eq!(neighbours.solicitations().count(), 0);
        let mut released = Released::default();
        now = now + REFRESH;
        neighbours.handle_timeout(&state, now, &mut released);
        assert_eq!(neighbours.solicitations().collect::<Vec<_>>(), [TARGET]);
        state.apply(report(Some([7; 6]), libc::NUD_REACHABLE));
        neighbours.handle_timeout(&state, now + REFRESH, &mut released);
        assert_eq!(neighbours.solicitations().count(), 0);
        neighbours.handle_timeout(&state, now + IDLE, &mut released);
        assert_eq!(neighbours.poll_timeout(), None);
    }

    #[test]
    fn a_failed_next_hop_drops_what_waits_for_it() {
        let (mut state, mut neighbours) = (State::default(), Neighbours::default());
        let now = Time::from_secs(1);
        neighbours.resolve(&state, TARGET, now);
        assert!(neighbours.hold(TARGET, &slot(100), now));
        state.apply(report(None, libc::NUD_FAILED));
        let mut released = Released::default();
        neighbours.reported(&state, TARGET, now, &mut released);
        assert_eq!(released.unresolved.len(), 1);
        assert_eq!(neighbours.resolve(&state, TARGET, now), Resolution::Unreachable);
    }
}
