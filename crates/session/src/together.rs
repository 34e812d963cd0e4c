//! What is done with the packets of a batch side by side, since that is faster than one after the other.
//!
//! Packets are decided in their order, one after the other, and nothing here decides. Before the first
//! of them is, payloads that are to be opened are verified together: reading keys and counters changes
//! nothing, and if others have taken their place when a packet's turn comes, it is verified anew. When
//! all are decided, payloads that are to be sealed are encrypted and signed together: their counters were
//! given out in order, and nobody else sees the packets before that. Only a packet that stays in its
//! place of the batch, whole and without metadata, can wait so.

use fairway_crypto::session::{Checked, Sealing, Unfinished};
use fairway_types::{DropReason, Now, Slot, Verdict};
use fairway_wire::ip::Fragment;
use fairway_wire::svr;

use crate::approach::Arrival;
use crate::engine::Engine;
use crate::protect::{Layout, Treatment};
use crate::vault::Place;

/// How many payloads are worked on at once.
const AT_ONCE: usize = 16;

/// A payload that was begun to be sealed.
pub(crate) struct Seal {
    pub(crate) keys: Unfinished,
    pub(crate) layout: Layout,
    /// Its length in bytes.
    pub(crate) length: usize,
}

impl Seal {
    /// Finishes it alone.
    pub(crate) fn finish(&self, packet: &mut Slot) -> Result<(), DropReason> {
        let (header, block) = packet.packet.bytes_mut().split_at_mut(self.layout.payload);
        let mut buffer = [0; svr::MAX_ASSOCIATED];
        let associated = self.layout.associated(header, &mut buffer);
        let piece = Sealing { associated, block, length: self.length };
        Unfinished::finish_all(&[&self.keys], &mut [piece]).map_err(|_| DropReason::SessionKeysFailed)
    }
}

/// What a packet has of being one of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Company<'a> {
    /// What is known of its payload.
    pub(crate) checked: Option<&'a Checked>,
    /// Whether it may be finished with the others.
    pub(crate) waits: bool,
}

impl Company<'_> {
    /// A packet by itself.
    pub(crate) const NONE: Self = Self { checked: None, waits: false };
}

/// What an engine keeps for it.
#[derive(Default)]
pub(crate) struct Together {
    /// Of the packet in hand; whoever decided about it asks for it at once.
    pub(crate) unfinished: Option<Seal>,
    pub(crate) batch: Group,
}

/// What there is to do for a group of packets, by their places in it.
#[derive(Default)]
pub(crate) struct Group {
    /// What is known of payloads that are to be opened.
    checked: Vec<Checked>,
    /// Where each of them is.
    sealed: Vec<(usize, Layout)>,
    /// How many of them had their turn.
    passed: usize,
    seals: Vec<(usize, Seal)>,
}

impl Group {
    /// What the packet whose turn it is has of it.
    #[inline]
    pub(crate) fn company(&mut self, place: usize) -> Company<'_> {
        let is_next = self.sealed.get(self.passed).is_some_and(|(next, _)| *next == place);
        let checked = if is_next { self.checked.get(self.passed) } else { None };
        self.passed += usize::from(is_next);
        Company { checked, waits: true }
    }

    /// Takes note of a packet that was begun to be sealed. If it is not forwarded, nobody sees it.
    #[inline]
    pub(crate) fn add(&mut self, place: usize, packet: &Slot, seal: Option<Seal>) {
        if let Some(seal) = seal
            && matches!(packet.verdict, Verdict::Forward(_))
        {
            self.seals.push((place, seal));
        }
    }
}

impl Engine {
    /// Verifies what is to be opened of packets that arrived.
    #[inline]
    pub(crate) fn check_all(&self, group: &[Slot], arrivals: &[Arrival], together: &mut Group) {
        // Keys of the group before are not held on to.
        together.checked.clear();
        together.sealed.clear();
        together.passed = 0;
        if self.vault.checks() {
            self.find_sealed(group, arrivals, together);
            verify_all(group, together);
        }
    }

    fn find_sealed(&self, group: &[Slot], arrivals: &[Arrival], together: &mut Group) {
        for (place, (packet, arrival)) in group.iter().zip(arrivals).enumerate() {
            if let Some((checked, layout)) = self.check(packet, arrival, place) {
                together.checked.push(checked);
                together.sealed.push((place, layout));
            }
        }
    }

    /// Looks at a packet; `None` where there is nothing to gain.
    fn check(&self, packet: &Slot, arrival: &Arrival, place: usize) -> Option<(Checked, Layout)> {
        let (parsed, key) = arrival.headers.as_ref().ok()?;
        if packet.gso.is_some() || parsed.fragment != Fragment::No {
            return None;
        }
        let (protection, side) = (*self.keys.get(place)?)?;
        let protection = self.vault.get(Some(protection))?;
        let Place::End(end) = &protection.place else { return None };
        if !end.checks() || protection.treatment(side) != Treatment::Open {
            return None;
        }
        let session = self.table.guessed(&arrival.hint, key)?;
        let bytes = packet.packet.bytes();
        if svr::starts_with_cookie(parsed.payload(bytes)) {
            return None;
        }
        let layout =
            Layout::new(bytes, &key.reversed(), session.protocol, parsed.payload_end as usize).ok()?;
        let checked = end.check(bytes.get(layout.payload..layout.end)?)?;
        Some((checked, layout))
    }

    /// Finishes what was begun to be sealed. What fails is dropped.
    #[inline]
    pub(crate) fn finish_seals(&mut self, now: Now, group: &mut [Slot], together: &mut Group) {
        if together.seals.is_empty() {
            return;
        }
        for seals in together.seals.chunks(AT_ONCE) {
            if finish(group, seals).is_none() {
                for (place, _) in seals {
                    let reason = DropReason::SessionKeysFailed;
                    group[*place].verdict = self.drop_packet(now, &group[*place], None, reason);
                }
            }
        }
        together.seals.clear();
    }
}

/// Verifies the payloads of packets, if there are several.
fn verify_all(group: &[Slot], together: &mut Group) {
    let Group { checked, sealed, .. } = together;
    let all = checked.chunks_mut(AT_ONCE).zip(sealed.chunks(AT_ONCE));
    for (checked, sealed) in all.filter(|(checked, _)| checked.len() > 1) {
        let mut buffers = [[0; svr::MAX_ASSOCIATED]; AT_ONCE];
        let mut blocks = [[&[][..]; 2]; AT_ONCE];
        for (((place, layout), buffer), block) in sealed.iter().zip(&mut buffers).zip(&mut blocks) {
            let (header, payload) = group[*place].packet.bytes()[..layout.end].split_at(layout.payload);
            *block = [layout.associated(header, buffer), payload];
        }
        Checked::verify_all(checked, &blocks[..sealed.len()]);
    }
}

/// Finishes some payloads that were begun to be sealed, in their packets.
fn finish(group: &mut [Slot], seals: &[(usize, Seal)]) -> Option<()> {
    let (_, first) = seals.first()?;
    let mut buffers = [[0; svr::MAX_ASSOCIATED]; AT_ONCE];
    let mut keys = [&first.keys; AT_ONCE];
    let mut pieces: [Sealing<'_>; AT_ONCE] = core::array::from_fn(|_| Sealing::default());
    let mut packets = group.iter_mut().enumerate();
    let all = seals.iter().zip(&mut buffers).zip(keys.iter_mut().zip(&mut pieces));
    for (((place, seal), buffer), (key, piece)) in all {
        let (_, packet) = packets.find(|(at, _)| at == place)?;
        let (header, block) = packet.packet.bytes_mut().split_at_mut_checked(seal.layout.payload)?;
        *piece = Sealing { associated: seal.layout.associated(header, buffer), block, length: seal.length };
        *key = &seal.keys;
    }
    Unfinished::finish_all(&keys[..seals.len()], &mut pieces[..seals.len()]).ok()
}
