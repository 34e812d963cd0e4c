//! When everything that AF_XDP sockets were given before some moment has gone on.
//!
//! The kernel shows a frame to a socket only at the end of the round in which its driver received it, long
//! after the program has decided. So an empty ring proves nothing. But the program counts the frames that
//! it gives to each socket: a round of reading begins with a look at these counts, and is over when as many
//! frames have been read, or are known to be lost.

use fairway_types::steering::WorkerId;

use super::xdp::Xdp;
use crate::sys::shared::kernel_time;

/// After so many nanoseconds, what never came to a socket is not waited for any longer: the kernel counts
/// nothing where a device went down in between.
const PATIENCE: u64 = 100_000_000;

/// A round that is under way.
#[derive(Debug)]
struct Round {
    since: u64,
    /// What the sockets had been given, by queue.
    given: Vec<u64>,
    /// What the packet socket beside them had been given.
    beside: u64,
}

/// One worker's rounds at one device.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The number of the last round that is over.
    over: u64,
    present: Option<Round>,
    /// What is not waited for any longer, by queue.
    given_up: Vec<u64>,
}

impl Rounds {
    /// Begins a round unless one is under way, and returns the number of the first round that will have
    /// begun after now. The packet socket has been given `beside` frames so far.
    pub(super) fn begin(&mut self, xdp: &Xdp, worker: WorkerId, beside: u64) -> u64 {
        if self.present.is_some() {
            return self.over + 2;
        }
        let given = xdp.given(worker).collect();
        self.present = Some(Round { since: kernel_time(), given, beside });
        self.over + 1
    }

    /// Ends the round if all of it has gone on, and returns the number of the last that is over. Of the
    /// packet socket, as many as `beside` says have been read; `idle` is whether nothing waits any more.
    pub(super) fn end(&mut self, xdp: &Xdp, worker: WorkerId, beside: u64, idle: bool) -> u64 {
        let Some(round) = &self.present else { return self.over };
        self.given_up.resize(round.given.len(), 0);
        let mut over = beside >= round.beside;
        for (queue, (&mark, given_up)) in round.given.iter().zip(&mut self.given_up).enumerate() {
            let wanted = mark.saturating_sub(*given_up);
            let gone_on = xdp.gone_on(worker, queue, wanted);
            if gone_on >= wanted {
                continue;
            }
            if idle && kernel_time().saturating_sub(round.since) >= PATIENCE {
                *given_up += wanted - gone_on;
            } else {
                over = false;
            }
        }
        if over {
            self.over += 1;
            self.present = None;
        }
        self.over
    }
}
