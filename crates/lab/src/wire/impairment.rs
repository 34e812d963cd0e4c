//! What becomes of each frame of one sender, as a pure machine.
//!
//! A frame waits for its turn on the line (rate, queue), is then lost, corrupted or doubled, and is
//! under way for its delay and jitter:
//!
//! ```text
//!            full?            lost?    corrupt? duplicate?   delay ± jitter, + reorder-delay?
//! frame ──▶ queue ──▶ line ──▶ fate ──▶ ───────────────────▶ under way ──▶ poll_transmit
//! ```
//!
//! The same seed, settings, frames and times give the same result. There is no clock inside and no
//! socket; a frame is bytes that start with an Ethernet header.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use fairway_types::Time;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::quantity::{QueueLimit, Share};

/// The most frames under way at once; more are dropped and counted as overrun.
const MAX_FRAMES: usize = 100_000;
/// Corruption spares the Ethernet header, so that the frame still arrives.
const ETHERNET_HEADER: usize = 14;

/// Counters of one direction of a wire, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stats {
    /// Frames the sender put on the wire.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames that came out at the far end.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames lost by `loss`.
    pub lost: u64,
    /// Extra copies made by `duplicate`.
    pub duplicated: u64,
    /// Frames held back by `reorder`.
    pub reordered: u64,
    /// Frames changed by `corrupt`.
    pub corrupted: u64,
    /// Frames that found the queue full.
    pub queue_full: u64,
    /// Frames the wire itself could not carry: a fault of the laboratory, not of the settings.
    pub overrun: u64,
    /// Frames under way or waiting now.
    pub queued: u64,
}

/// One direction of an impaired link.
pub struct Impairment {
    settings: Settings,
    random: ChaCha8Rng,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    arrivals: u64,
    /// When the line has sent everything that waits.
    line_free: Time,
    /// No frame that keeps its place leaves before this.
    latest: Time,
    in_burst: bool,
    stats: Stats,
}

struct UnderWay {
    due: Time,
    arrival: u64,
    frame: Vec<u8>,
}

impl Impairment {
    /// A direction that treats frames by `settings`; `seed` decides each frame's fate.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            random: ChaCha8Rng::seed_from_u64(seed),
            under_way: BinaryHeap::new(),
            arrivals: 0,
            line_free: Time::ZERO,
            latest: Time::ZERO,
            in_burst: false,
            stats: Stats::default(),
        }
    }

    /// Takes a frame that was sent at `now`.
    pub fn handle_input(&mut self, now: Time, mut frame: Vec<u8>) {
        self.stats.received += 1;
        self.stats.received_bytes += frame.len() as u64;
        if self.under_way.len() >= MAX_FRAMES {
            self.stats.overrun += 1;
            return;
        }
        let Some(departure) = self.enter_line(now, frame.len()) else {
            self.stats.queue_full += 1;
            return;
        };
        if self.is_lost() {
            self.stats.lost += 1;
            return;
        }
        if self.happens(self.settings.corrupt) {
            self.corrupt(&mut frame);
        }
        let due = self.arrival_time(departure);
        if self.happens(self.settings.duplicate) {
            self.stats.duplicated += 1;
            self.send_off(due, frame.clone());
        }
        self.send_off(due, frame);
    }

    /// The next frame that has arrived at the far end by `now`.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        let Reverse(first) = self.under_way.peek()?;
        if first.due > now {
            return None;
        }
        let Reverse(arrived) = self.under_way.pop()?;
        self.stats.sent += 1;
        self.stats.sent_bytes += arrived.frame.len() as u64;
        Some(arrived.frame)
    }

    /// When [`Impairment::poll_transmit`] will have something next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.under_way.peek().map(|Reverse(first)| first.due)
    }

    /// Treats frames from now on by other settings. Frames under way keep their times, and new ones
    /// may overtake them.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        self.latest = Time::ZERO;
        self.in_burst = false;
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { queued: self.under_way.len() as u64, ..self.stats }
    }

    /// When the last bit of the frame leaves the line, or `None` if too much waits before it.
    fn enter_line(&mut self, now: Time, length: usize) -> Option<Time> {
        let Some(rate) = self.settings.rate.bits() else {
            return Some(now);
        };
        let wait = self.line_free.since(now);
        let full = match self.settings.queue {
            QueueLimit::Time(limit) => wait > limit.duration(),
            QueueLimit::Bytes(limit) => {
                wait.as_nanos() * u128::from(rate) > u128::from(limit) * 8_000_000_000
            }
        };
        if full {
            return None;
        }
        let nanos = (length as u128 * 8_000_000_000).div_ceil(u128::from(rate));
        let on_line = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.line_free = self.line_free.max(now) + on_line;
        Some(self.line_free)
    }

    fn is_lost(&mut self) -> bool {
        if self.settings.loss_burst <= 1 {
            return self.happens(self.settings.loss);
        }
        // Two states: everything is lost in one, nothing in the other.
        let end = 1.0 / f64::from(self.settings.loss_burst);
        let change = if self.in_burst { end } else { self.settings.burst_start() };
        if self.unit() < change {
            self.in_burst = !self.in_burst;
        }
        self.in_burst
    }

    /// When a frame that leaves the line at `departure` arrives.
    fn arrival_time(&mut self, departure: Time) -> Time {
        let jitter = self.settings.jitter.nanos();
        let least = self.settings.delay.nanos().saturating_sub(jitter);
        let extra = self.below(jitter.saturating_mul(2).saturating_add(1));
        let due = departure + Duration::from_nanos(least.saturating_add(extra));
        if self.happens(self.settings.reorder) {
            self.stats.reordered += 1;
            return due + self.settings.reorder_delay.duration();
        }
        self.latest = self.latest.max(due);
        self.latest
    }

    fn send_off(&mut self, due: Time, frame: Vec<u8>) {
        self.arrivals += 1;
        self.under_way.push(Reverse(UnderWay { due, arrival: self.arrivals, frame }));
    }

    fn corrupt(&mut self, frame: &mut [u8]) {
        let bits = frame.len().saturating_sub(ETHERNET_HEADER) as u64 * 8;
        let bit = self.below(bits);
        let index = ETHERNET_HEADER + usize::try_from(bit / 8).unwrap_or(usize::MAX - ETHERNET_HEADER);
        if let Some(byte) = frame.get_mut(index) {
            *byte ^= 1 << (bit % 8);
            self.stats.corrupted += 1;
        }
    }

    fn happens(&mut self, share: Share) -> bool {
        !share.is_zero() && self.below(1_000_000_000) < u64::from(share.parts_per_billion())
    }

    /// A uniform number below `bound`; zero when `bound` is at most one.
    fn below(&mut self, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        let product = u128::from(self.random.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// A uniform number in 0..1.
    fn unit(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for UnderWay {}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.arrival).cmp(&(other.due, other.arrival))
    }
}

#[cfg(test)]
mod tests;
