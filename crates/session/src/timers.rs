//! A timer wheel of session indices: one-second slots, intrusive lists, no allocation.
//!
//! Deadlines are approximate on purpose: a session is looked at no earlier than its deadline and no
//! more than a second late, and is put back when it was active meanwhile. So a packet never touches
//! the wheel. Deadlines beyond the horizon are clamped to it.

use fairway_types::Time;

const SLOTS: u64 = 4096;
const NONE: u32 = u32::MAX;
const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Node {
    next: u32,
    previous: u32,
    slot: u32,
}

const UNLINKED: Node = Node { next: NONE, previous: NONE, slot: NONE };

/// The wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Vec<u32>,
    nodes: Vec<Node>,
    /// The second whose slot is looked at next.
    tick: u64,
    linked: usize,
}

impl Wheel {
    /// A wheel for indices below `capacity`, starting at `now`.
    pub(crate) fn new(capacity: usize, now: Time) -> Self {
        Self {
            heads: vec![NONE; SLOTS as usize],
            nodes: vec![UNLINKED; capacity],
            tick: now.0 / SECOND,
            linked: 0,
        }
    }

    /// (Re)schedules `index` for `deadline`.
    pub(crate) fn schedule(&mut self, index: u32, deadline: Time) {
        self.cancel(index);
        // Rounded up: a session is never looked at before its deadline.
        let second = deadline.0.div_ceil(SECOND).clamp(self.tick, self.tick + SLOTS - 1);
        let slot = (second % SLOTS) as u32;
        let Some(head) = self.heads.get_mut(slot as usize) else { return };
        let next = core::mem::replace(head, index);
        if let Some(node) = self.nodes.get_mut(next as usize) {
            node.previous = index;
        }
        if let Some(node) = self.nodes.get_mut(index as usize) {
            *node = Node { next, previous: NONE, slot };
            self.linked += 1;
        }
    }

    /// Takes `index` out, if it is in.
    pub(crate) fn cancel(&mut self, index: u32) {
        let Some(node) = self.nodes.get_mut(index as usize) else { return };
        let Node { next, previous, slot } = core::mem::replace(node, UNLINKED);
        if slot == NONE {
            return;
        }
        self.linked -= 1;
        match self.nodes.get_mut(previous as usize) {
            Some(node) => node.next = next,
            None => self.heads[slot as usize] = next,
        }
        if let Some(node) = self.nodes.get_mut(next as usize) {
            node.previous = previous;
        }
    }

    /// Writes the indices that come next, and says how many; those of one second in any order.
    pub(crate) fn soonest(&self, indices: &mut [u32]) -> usize {
        let mut count = 0;
        let mut left = self.linked.min(indices.len());
        for ahead in 0..SLOTS {
            let mut next = self.heads[((self.tick + ahead) % SLOTS) as usize];
            while let (Some(node), Some(place)) = (self.nodes.get(next as usize), indices.get_mut(count)) {
                *place = next;
                count += 1;
                left -= 1;
                if left == 0 {
                    return count;
                }
                next = node.next;
            }
        }
        count
    }

    /// Whether an index would have to be put into a later second for this deadline.
    pub(crate) fn is_late_for(&self, index: u32, deadline: Time) -> bool {
        let Some(node) = self.nodes.get(index as usize).filter(|node| node.slot != NONE) else {
            return false;
        };
        let start = self.tick % SLOTS;
        let second = self.tick + (u64::from(node.slot) + SLOTS - start) % SLOTS;
        deadline.0.div_ceil(SECOND) > second && second < self.tick + SLOTS - 1
    }

    /// Takes out one index whose second has come.
    pub(crate) fn pop(&mut self, now: Time) -> Option<u32> {
        let present = now.0 / SECOND;
        if self.linked == 0 {
            self.tick = self.tick.max(present);
            return None;
        }
        while self.tick <= present {
            let head = self.heads[(self.tick % SLOTS) as usize];
            if head != NONE {
                self.cancel(head);
                return Some(head);
            }
            if self.tick == present {
                return None;
            }
            self.tick += 1;
        }
        None
    }

    /// When [`Self::pop`] should be called next.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        if self.linked == 0 {
            return None;
        }
        let distance = (0..SLOTS).find(|ahead| self.heads[((self.tick + ahead) % SLOTS) as usize] != NONE)?;
        Some(Time((self.tick + distance) * SECOND))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pops_in_time_and_never_early() {
        let mut wheel = Wheel::new(10, Time::from_secs(100));
        wheel.schedule(1, Time::from_millis(101_500));
        wheel.schedule(2, Time::from_secs(5000));
        wheel.schedule(3, Time::from_secs(100_000));
        assert_eq!(wheel.pop(Time::from_millis(101_999)), None);
        assert_eq!(wheel.pop(Time::from_millis(102_000)), Some(1));
        assert_eq!(wheel.next_deadline(), Some(Time::from_secs(102 + SLOTS - 1).min(Time::from_secs(4195))));
        wheel.cancel(2);
        assert_eq!(wheel.pop(Time::from_secs(4194)), None);
        assert_eq!(wheel.pop(Time::from_secs(4195)), Some(3));
        assert_eq!(wheel.next_deadline(), None);
    }

    proptest! {
        #[test]
        fn every_index_comes_back_once(deadlines in prop::collection::vec(0u64..3000, 1..60)) {
            let mut wheel = Wheel::new(deadlines.len(), Time::ZERO);
            for (index, &seconds) in deadlines.iter().enumerate() {
                wheel.schedule(index as u32, Time::from_secs(seconds));
            }
            let mut seen = vec![false; deadlines.len()];
            for second in 0..3001 {
                while let Some(index) = wheel.pop(Time::from_secs(second)) {
                    prop_assert!(!seen[index as usize]);
                    prop_assert_eq!(deadlines[index as usize], second);
                    seen[index as usize] = true;
                }
            }
            prop_assert!(seen.iter().all(|&s| s));
        }
    }
}
