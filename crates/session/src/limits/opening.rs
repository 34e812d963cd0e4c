//! Half-open TCP sessions in the order they began, to find the one that should give way.
//!
//! The queue remembers places of the table and when their session was made; whether that session is
//! still there and half-open is asked when it matters. So a handshake that goes on costs nothing
//! here. Its memory is bounded: when it is full of half-open sessions, younger ones are not remembered
//! until there is room, and cannot be asked to give way as long.

use core::time::Duration;
use std::collections::VecDeque;

use fairway_types::Time;

use crate::table::Index;

/// The most sessions that are remembered.
const MOST: u32 = 16_384;
/// How many that are no longer half-open are forgotten with each that is added.
const FORGOTTEN: usize = 2;
/// How many are looked at in one search, for each that is wanted.
const LOOKS: usize = 4;
/// How often all of them are looked at, if there is no room.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A place of the table, and when the session in it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) index: Index,
    /// In milliseconds, wrapping.
    made: u32,
}

impl Opening {
    pub(crate) fn new(index: Index, made: Time) -> Self {
        Self { index, made: made.as_millis() as u32 }
    }
}

#[derive(Debug)]
pub(crate) struct Openings {
    queue: VecDeque<Opening>,
    most: usize,
    swept: Option<Time>,
}

impl Openings {
    /// For a router that may have so many half-open sessions.
    pub(crate) fn new(half_open: u32) -> Self {
        let most = half_open.saturating_mul(2).clamp(64, MOST) as usize;
        Self { queue: VecDeque::with_capacity(most), most, swept: None }
    }

    /// Adds the youngest.
    pub(crate) fn push(&mut self, now: Time, opening: Opening, is_open: impl Fn(&Opening) -> bool) {
        self.forget(FORGOTTEN, &is_open);
        if self.queue.len() >= self.most {
            if self.swept.is_some_and(|at| now.since(at) < SWEEP_INTERVAL) {
                return;
            }
            self.swept = Some(now);
            self.queue.retain(&is_open);
            if self.queue.len() >= self.most {
                return;
            }
        }
        self.queue.push_back(opening);
    }

    fn forget(&mut self, most: usize, is_open: &impl Fn(&Opening) -> bool) {
        for _ in 0..most {
            if self.queue.front().is_none_or(is_open) {
                break;
            }
            self.queue.pop_front();
        }
    }

    /// Writes the oldest that are still half-open, and says how many.
    pub(crate) fn oldest(&mut self, indices: &mut [Index], is_open: impl Fn(&Opening) -> bool) -> usize {
        let looks = indices.len() * LOOKS;
        self.forget(looks, &is_open);
        let open = self.queue.iter().take(looks).filter(|opening| is_open(opening));
        let mut count = 0;
        for (opening, place) in open.zip(indices) {
            *place = opening.index;
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_oldest_come_first_and_those_that_went_on_not_at_all() {
        let open: RefCell<HashSet<Index>> = RefCell::default();
        let is_open = |opening: &Opening| open.borrow().contains(&opening.index);
        let mut openings = Openings::new(100);
        for index in 0..50 {
            open.borrow_mut().insert(index);
            openings.push(Time::ZERO, Opening::new(index, Time::ZERO), is_open);
        }
        (0..10).chain([11, 12]).for_each(|index| assert!(open.borrow_mut().remove(&index)));
        let mut found = [0; 3];
        assert_eq!(openings.oldest(&mut found, is_open), 3);
        assert_eq!(found, [10, 13, 14]);
    }

    #[test]
    fn it_is_bounded_and_makes_room_among_those_that_went_on() {
        let mut openings = Openings::new(100);
        let all = |_: &Opening| true;
        for index in 0..1000 {
            openings.push(Time::ZERO, Opening::new(index, Time::ZERO), all);
        }
        assert_eq!(openings.queue.len(), 200);
        // The oldest hangs, all others went on.
        let first = |opening: &Opening| opening.index == 0 || opening.index >= 1000;
        openings.push(Time::from_secs(2), Opening::new(1000, Time::ZERO), first);
        let mut found = [0; 3];
        assert_eq!(openings.oldest(&mut found, first), 2);
        assert_eq!(found[..2], [0, 1000]);
    }
}
