//! Packets of the engine's own making: where they are kept, and the way there.

use crate::packet::{MAX_PACKET, PacketBuf, Slot};

/// Slots for packets of the engine's own making, in the order they were made.
///
/// Most of them are small, and have small buffers. A few large buffers lie ready, and take the place of
/// a slot's own while a super-packet is in it.
#[derive(Debug)]
pub(crate) struct Emitted {
    slots: Vec<Slot>,
    used: usize,
    /// For each slot in use, the received packet it leaves in front of.
    turns: Vec<usize>,
    large: Vec<PacketBuf>,
    /// Slots that have a large buffer, with their own.
    lent: Vec<(usize, PacketBuf)>,
}

impl Emitted {
    pub(crate) fn new(count: usize, bytes: usize) -> Self {
        Self {
            slots: (0..count).map(|_| Slot::new(PacketBuf::with_capacity(bytes))).collect(),
            used: 0,
            turns: vec![0; count],
            large: Vec::new(),
            lent: Vec::new(),
        }
    }

    pub(crate) fn add_large(&mut self, count: usize) {
        self.large.extend((0..count).map(|_| PacketBuf::with_capacity(MAX_PACKET)));
        self.lent.reserve(self.large.len());
    }

    pub(crate) fn clear(&mut self) {
        while self.used > 0 {
            self.drop_last();
        }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots[..self.used]
    }

    pub(crate) fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots[..self.used]
    }

    /// The received packet that a slot leaves in front of.
    pub(crate) fn turn(&self, at: usize) -> usize {
        self.turns[at]
    }

    /// Whether a slot leaves directly in front of a received packet.
    pub(crate) fn has_turn(&self, number: usize) -> bool {
        self.turns[..self.used].binary_search(&number).is_ok()
    }

    /// Where the slots end that have the turn of the one at `at`; `None` where there is none.
    pub(crate) fn end_of_turn(&self, at: usize) -> Option<usize> {
        let turns = self.turns[..self.used].get(at..)?;
        let turn = turns.first()?;
        Some(at + turns.iter().take_while(|&other| other == turn).count())
    }

    fn drop_last(&mut self) {
        let Some(last) = self.used.checked_sub(1) else { return };
        self.slots[last].reset();
        if let Some((_, own)) = self.lent.pop_if(|(at, _)| *at == last) {
            self.large.push(core::mem::replace(&mut self.slots[last].packet, own));
        }
        self.used = last;
    }
}

/// Where the engine puts packets of its own making.
#[derive(Debug)]
pub struct Outlet<'a> {
    emitted: &'a mut Emitted,
    turn: usize,
}

impl<'a> Outlet<'a> {
    pub(crate) const fn new(emitted: &'a mut Emitted) -> Self {
        Self { emitted, turn: 0 }
    }

    /// What is emitted from now on leaves in front of the received packet with this number.
    pub const fn begin_turn(&mut self, number: usize) {
        self.turn = number;
    }

    /// An empty slot, or `None` when the batch has no room: the caller counts
    /// [`crate::DropReason::OutputFull`].
    pub fn emit(&mut self) -> Option<&mut Slot> {
        let Emitted { slots, used, turns, .. } = &mut *self.emitted;
        let slot = slots.get_mut(*used)?;
        turns[*used] = self.turn;
        *used += 1;
        Some(slot)
    }

    /// An empty slot for a packet of so many bytes.
    pub fn emit_for(&mut self, length: usize) -> Option<&mut Slot> {
        let Emitted { slots, used, large, lent, .. } = &mut *self.emitted;
        let slot = slots.get_mut(*used)?;
        if slot.packet.room() < length {
            let buffer = large.pop()?;
            lent.push((*used, core::mem::replace(&mut slot.packet, buffer)));
        }
        self.emit()
    }

    /// Gives back the last slot taken with [`Self::emit`].
    pub fn unemit(&mut self) {
        self.emitted.drop_last();
    }

    /// How many more packets fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.emitted.slots.len() - self.emitted.used
    }

    /// How many packets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.emitted.used
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.emitted.used == 0
    }

    /// A packet that was emitted before.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Slot> {
        self.emitted.slots_mut().get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use crate::Batch;

    #[test]
    fn large_buffers_are_lent_to_slots_that_need_them() {
        let mut batch = Batch::new(0, 3, 100).with_large(1);
        for _ in 0..2 {
            let mut outlet = batch.outlet();
            assert!(outlet.emit_for(200).unwrap().packet.fill(&[1; 60_000]));
            assert!(outlet.emit_for(60_000).is_none(), "the only one is in use");
            assert!(outlet.emit_for(100).unwrap().packet.fill(&[1; 100]));
            outlet.unemit();
            assert_eq!((outlet.len(), outlet.room()), (1, 2));
            batch.clear();
            assert!(!batch.outlet().emit().unwrap().packet.fill(&[1; 60_000]), "it was given back");
            batch.clear();
        }
    }
}
