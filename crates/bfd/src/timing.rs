//! Intervals, their negotiation by Poll Sequences, and jitter (RFC 5880, sections 6.5, 6.8.2, 6.8.3
//! and 6.8.7).

use core::time::Duration;

/// While a session is not up, packets are sent no faster than this (section 6.8.3).
const SLOW_TX_US: u32 = 1_000_000;

/// No interval is shorter, whatever is configured: a mistake must not become a flood.
const SHORTEST_US: u32 = 1_000;

/// A duration as the wire has it: whole microseconds, 1 ms to about 71 minutes.
pub(crate) fn microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(SHORTEST_US)
}

/// This side's two intervals: those it says and those that hold.
///
/// They differ while a Poll Sequence has yet to tell the peer of a change that it must know first:
/// sending slower, or detecting faster.
#[derive(Debug)]
pub(crate) struct Intervals {
    configured_tx_us: u32,
    up: bool,
    /// bfd.DesiredMinTxInterval.
    said_tx_us: u32,
    /// bfd.RequiredMinRxInterval.
    said_rx_us: u32,
    tx_us: u32,
    rx_us: u32,
    poll: Poll,
}

/// A Poll Sequence (section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    /// None is under way.
    Idle,
    /// Packets carry P until a packet with F comes.
    Active,
    /// As `Active`, but something changed again meanwhile: another one must follow.
    ActiveThenAgain,
    /// One packet without P separates two sequences, so that F is not taken for the wrong one.
    Gap,
}

impl Intervals {
    pub(crate) fn new(desired_tx: Duration, required_rx: Duration) -> Self {
        let (tx_us, rx_us) = (microseconds(desired_tx), microseconds(required_rx));
        let slow = tx_us.max(SLOW_TX_US);
        Self {
            configured_tx_us: tx_us,
            up: false,
            said_tx_us: slow,
            said_rx_us: rx_us,
            tx_us: slow,
            rx_us,
            poll: Poll::Idle,
        }
    }

    /// What the next packet says: desired min TX and required min RX.
    pub(crate) fn said(&self) -> (u32, u32) {
        (self.said_tx_us, self.said_rx_us)
    }

    /// The interval packets are sent at, before jitter, given the peer's required min RX.
    pub(crate) fn transmit(&self, remote_min_rx_us: u32) -> Duration {
        Duration::from_micros(self.tx_us.max(remote_min_rx_us).into())
    }

    /// The detection time, given what the peer says (section 6.8.4).
    pub(crate) fn detection(&self, remote_multiplier: u8, remote_desired_tx_us: u32) -> Duration {
        Duration::from_micros(u64::from(self.rx_us.max(remote_desired_tx_us)) * u64::from(remote_multiplier))
    }

    /// Follows the session into and out of the state Up.
    pub(crate) fn set_up(&mut self, up: bool) {
        if self.up != up {
            self.up = up;
            self.say(self.configured_tx_us, self.said_rx_us);
        }
    }

    /// Takes new intervals; true if the peer has to be told.
    pub(crate) fn configure(&mut self, desired_tx: Duration, required_rx: Duration) -> bool {
        self.configured_tx_us = microseconds(desired_tx);
        self.say(self.configured_tx_us, microseconds(required_rx))
    }

    fn say(&mut self, tx_us: u32, rx_us: u32) -> bool {
        let tx_us = if self.up { tx_us } else { tx_us.max(SLOW_TX_US) };
        let changed = (tx_us, rx_us) != self.said();
        if changed {
            (self.said_tx_us, self.said_rx_us) = (tx_us, rx_us);
            self.poll = match self.poll {
                Poll::Idle => Poll::Active,
                Poll::Active | Poll::ActiveThenAgain => Poll::ActiveThenAgain,
                Poll::Gap => Poll::Gap,
            };
        }
        if self.up {
            self.tx_us = self.tx_us.min(tx_us);
            self.rx_us = self.rx_us.max(rx_us);
        } else {
            (self.tx_us, self.rx_us) = self.said();
        }
        changed
    }

    /// Whether the packet that is about to be sent carries P.
    pub(crate) fn poll_bit(&mut self) -> bool {
        match self.poll {
            Poll::Idle => false,
            Poll::Active | Poll::ActiveThenAgain => true,
            Poll::Gap => {
                self.poll = Poll::Active;
                false
            }
        }
    }

    /// A packet with F came.
    pub(crate) fn finish_poll(&mut self) {
        match self.poll {
            Poll::Idle | Poll::Gap => {}
            Poll::ActiveThenAgain => self.poll = Poll::Gap,
            Poll::Active => {
                self.poll = Poll::Idle;
                (self.tx_us, self.rx_us) = self.said();
            }
        }
    }
}

/// Draws the jitter of transmissions (xorshift64*; it keeps sessions from beating in step and needs
/// no secrecy).
#[derive(Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// An interval reduced by 0 to 25 percent; by 10 to 25 percent when the detect multiplier is 1
    /// (section 6.8.7).
    pub(crate) fn apply(&mut self, interval: Duration, multiplier: u8) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        let span = if multiplier == 1 { 150 } else { 250 };
        let per_mille = 750 + ((random * (span + 1)) >> 32);
        Duration::from_micros(interval.as_micros() as u64 / 1000 * per_mille)
            + Duration::from_micros(interval.as_micros() as u64 % 1000 * per_mille / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn jitter_fills_its_range_and_never_leaves_it() {
        for (multiplier, highest) in [(3, 1000), (1, 900)] {
            let mut jitter = Jitter::new(7);
            let drawn: Vec<_> = (0..10_000).map(|_| jitter.apply(1000 * MS, multiplier)).collect();
            assert!(drawn.iter().all(|&d| 750 * MS <= d && d <= highest * MS));
            assert!(drawn.iter().any(|&d| d < 760 * MS) && drawn.iter().any(|&d| d > (highest - 10) * MS));
        }
    }

    #[test]
    fn a_session_that_is_not_up_is_slow() {
        let mut intervals = Intervals::new(100 * MS, 50 * MS);
        assert_eq!(intervals.transmit(1), 1000 * MS);
        intervals.set_up(true);
        assert_eq!(intervals.transmit(1), 100 * MS);
        assert_eq!(intervals.transmit(300_000), 300 * MS);
        assert!(intervals.poll_bit(), "the change is polled for");
        intervals.set_up(false);
        assert_eq!(intervals.transmit(1), 1000 * MS);
        assert_eq!(Intervals::new(3000 * MS, MS).transmit(1), 3000 * MS);
    }

    #[test]
    fn what_the_peer_must_know_first_waits_for_its_answer() {
        let mut intervals = Intervals::new(100 * MS, 50 * MS);
        intervals.set_up(true);
        intervals.finish_poll();
        assert!(!intervals.poll_bit());
        assert!(intervals.configure(400 * MS, 20 * MS));
        assert_eq!(intervals.said(), (400_000, 20_000));
        assert_eq!((intervals.transmit(1), intervals.detection(3, 1)), (100 * MS, 150 * MS));
        assert!(intervals.poll_bit());
        intervals.finish_poll();
        assert!(!intervals.poll_bit());
        assert_eq!((intervals.transmit(1), intervals.detection(3, 1)), (400 * MS, 60 * MS));
        assert!(intervals.configure(200 * MS, 80 * MS));
        assert_eq!(
            (intervals.transmit(1), intervals.detection(3, 1)),
            (200 * MS, 240 * MS),
            "the safe way is free"
        );
        assert!(!intervals.configure(200 * MS, 80 * MS), "no change, no poll");
    }

    #[test]
    fn a_change_during_a_poll_sequence_makes_a_second_one() {
        let mut intervals = Intervals::new(1000 * MS, 50 * MS);
        intervals.set_up(true);
        intervals.configure(2000 * MS, 50 * MS);
        assert!(intervals.poll_bit());
        intervals.configure(3000 * MS, 50 * MS);
        intervals.finish_poll();
        assert_eq!(intervals.transmit(1), 1000 * MS, "the answer was to the first change");
        assert!(!intervals.poll_bit(), "a packet without P in between");
        assert!(intervals.poll_bit());
        intervals.finish_poll();
        assert_eq!(intervals.transmit(1), 3000 * MS);
    }

    #[test]
    fn no_configuration_makes_a_flood() {
        let intervals = Intervals::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(intervals.said(), (1_000_000, 1_000));
        assert_eq!(microseconds(Duration::MAX), u32::MAX);
    }
}
