//! What workers hand to each other: packets of flows that another one owns, and notices.
//!
//! Each worker has one ring, into which all others put. What one worker puts in comes out in its order,
//! which is what a flow's order rests on while it is placed.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use fairway_io::Waker;
use fairway_session::{Audience, Flow, Notice};
use fairway_types::{Slot, WorkerId};

/// How much waits in a ring at most.
const ROOM: usize = 4096;

/// Who is to hear when a worker has received all that waits for it now.
pub(crate) type Drains = Vec<(Flow, WorkerId)>;

/// Something from another worker.
pub(crate) enum Passed {
    Packet(Slot),
    Notice(Notice),
}

/// The receiving end of a worker's ring.
pub(crate) struct Inbox(Receiver<Passed>);

impl Inbox {
    pub(crate) fn next(&self) -> Option<Passed> {
        self.0.try_recv().ok()
    }
}

/// The way into the ring of another worker.
struct Outbox {
    ring: SyncSender<Passed>,
    waker: Waker,
    /// Notices that found no room; packets that find none are dropped.
    waiting: VecDeque<Notice>,
    /// Whether something was put in since it was last woken.
    fresh: bool,
}

impl Outbox {
    /// Puts something in, behind the notices that wait.
    fn put(&mut self, passed: Passed) -> Result<(), Passed> {
        if !self.catch_up() {
            return Err(passed);
        }
        self.ring.try_send(passed).map_err(|error| match error {
            TrySendError::Full(passed) | TrySendError::Disconnected(passed) => passed,
        })?;
        self.fresh = true;
        Ok(())
    }

    /// Puts in the notices that wait; says whether none is left.
    fn catch_up(&mut self) -> bool {
        while let Some(&notice) = self.waiting.front() {
            if self.ring.try_send(Passed::Notice(notice)).is_err() {
                return false;
            }
            self.waiting.pop_front();
            self.fresh = true;
        }
        true
    }
}

/// The ways to all other workers.
#[derive(Default)]
pub(crate) struct Outboxes {
    /// By worker; its own is missing.
    others: Vec<Option<Outbox>>,
}

impl Outboxes {
    /// Hands a packet to its owner; gives it back if there is no room.
    pub(crate) fn hand_over(&mut self, to: WorkerId, slot: &Slot) -> bool {
        let Some(Some(outbox)) = self.others.get_mut(to.index()) else { return false };
        let mut packet = slot.compact();
        packet.handed = packet.handed.saturating_add(1);
        outbox.put(Passed::Packet(packet)).is_ok()
    }

    pub(crate) fn tell(&mut self, audience: Audience, notice: Notice) {
        for (number, outbox) in (0u8..).zip(&mut self.others) {
            let meant = match audience {
                Audience::Others => true,
                Audience::One(worker) => worker == WorkerId(number),
            };
            if let Some(outbox) = outbox.as_mut().filter(|_| meant)
                && outbox.put(Passed::Notice(notice)).is_err()
            {
                outbox.waiting.push_back(notice);
            }
        }
    }

    /// Wakes those for whom there is something new.
    pub(crate) fn wake(&mut self) {
        for outbox in self.others.iter_mut().flatten() {
            outbox.catch_up();
            if std::mem::take(&mut outbox.fresh) {
                outbox.waker.wake();
            }
        }
    }

    /// Whether notices still wait for room.
    pub(crate) fn is_behind(&self) -> bool {
        self.others.iter().flatten().any(|outbox| !outbox.waiting.is_empty())
    }
}

/// A ring for each worker, by what wakes it.
pub(crate) fn rings(wakers: &[Waker]) -> Vec<(Inbox, Outboxes)> {
    let (senders, receivers): (Vec<_>, Vec<_>) = wakers.iter().map(|_| sync_channel(ROOM)).unzip();
    let ends = receivers.into_iter().enumerate().map(|(own, receiver)| {
        let way = |(number, (ring, waker)): (usize, (&SyncSender<Passed>, &Waker))| {
            (number != own).then(|| Outbox {
                ring: ring.clone(),
                waker: waker.clone(),
                waiting: VecDeque::new(),
                fresh: false,
            })
        };
        let others = senders.iter().zip(wakers).enumerate().map(way).collect();
        (Inbox(receiver), Outboxes { others })
    });
    ends.collect()
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use fairway_session::Liveness;
    use fairway_types::PacketBuf;

    use super::*;

    fn packet(number: u8) -> Slot {
        let mut packet = PacketBuf::with_capacity(64);
        assert!(packet.fill(&[number; 20]));
        Slot::new(packet)
    }

    fn notice() -> Notice {
        let address = IpAddr::from([192, 0, 2, 1]);
        Notice::Path { local: address, remote: address, liveness: Liveness::Up }
    }

    #[test]
    fn what_one_worker_puts_in_comes_out_in_its_order() {
        let wakers = [Waker::new().unwrap(), Waker::new().unwrap()];
        let mut rings = rings(&wakers);
        let (inbox, _) = rings.pop().unwrap();
        let (_, mut outboxes) = rings.pop().unwrap();
        assert!(!outboxes.hand_over(WorkerId(0), &packet(0)), "not to itself");
        assert!(outboxes.hand_over(WorkerId(1), &packet(1)));
        outboxes.tell(Audience::Others, notice());
        assert!(outboxes.hand_over(WorkerId(1), &packet(2)));
        outboxes.wake();
        let Some(Passed::Packet(first)) = inbox.next() else { panic!("a packet") };
        assert_eq!((first.packet.bytes()[0], first.handed), (1, 1));
        assert!(matches!(inbox.next(), Some(Passed::Notice(_))));
        assert!(matches!(inbox.next(), Some(Passed::Packet(second)) if second.packet.bytes()[0] == 2));
        assert!(inbox.next().is_none());
    }

    #[test]
    fn a_full_ring_loses_packets_but_no_notice() {
        let wakers = [Waker::new().unwrap(), Waker::new().unwrap()];
        let mut rings = rings(&wakers);
        let (inbox, _) = rings.pop().unwrap();
        let (_, mut outboxes) = rings.pop().unwrap();
        let taken = (0..=ROOM).filter(|_| outboxes.hand_over(WorkerId(1), &packet(1))).count();
        assert_eq!(taken, ROOM);
        outboxes.tell(Audience::One(WorkerId(1)), notice());
        assert!(outboxes.is_behind());
        assert!(inbox.next().is_some());
        outboxes.wake();
        assert!(!outboxes.is_behind());
        let rest = std::iter::from_fn(|| inbox.next()).collect::<Vec<_>>();
        assert!(matches!(rest.last(), Some(Passed::Notice(_))));
        assert_eq!(rest.len(), ROOM);
    }
}
