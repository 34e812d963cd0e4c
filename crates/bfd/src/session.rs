//! One BFD session: its timers, its packets and its events.

use core::time::Duration;
use std::collections::VecDeque;

use fairway_types::Time;
use fairway_wire::bfd::{Repr, State};
use thiserror::Error;

use crate::machine::{self, Diagnostic, Input};
use crate::timing::{Intervals, Jitter};

/// What an operator decides about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The interval this side wants to send at while the session is up. Less than 1 ms counts as
    /// 1 ms.
    pub desired_tx: Duration,
    /// The shortest interval this side wants to receive at. Less than 1 ms counts as 1 ms.
    pub required_rx: Duration,
    /// How many packets may be missing before the peer declares the session down. Zero counts as 1.
    pub multiplier: u8,
    /// How long a session that came back stays unreported. The first time up is reported at once.
    pub hold_down: Duration,
}

impl From<fairway_types::model::Bfd> for Config {
    fn from(bfd: fairway_types::model::Bfd) -> Self {
        Self {
            desired_tx: bfd.desired_tx,
            required_rx: bfd.required_rx,
            multiplier: bfd.multiplier,
            hold_down: bfd.hold_down,
        }
    }
}

/// What a session has to say to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The session is up and has been for the hold-down time.
    Up,
    /// The session that was reported up is down.
    Down {
        /// Why.
        diagnostic: Diagnostic,
    },
}

/// Why a packet was discarded (RFC 5880, section 6.8.6). Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Discarded {
    /// The detect multiplier is zero.
    #[error("the detect multiplier is zero")]
    MultiplierZero,
    /// The sender's discriminator is zero.
    #[error("my discriminator is zero")]
    DiscriminatorZero,
    /// It is for another session, or for this one before a restart.
    #[error("your discriminator is not that of this session")]
    OtherSession,
    /// The sender does not know this session, yet claims that it is coming up.
    #[error("your discriminator is zero in a state that needs one")]
    DiscriminatorMissing,
}

/// What the peer's last packet said.
#[derive(Debug)]
struct Remote {
    state: State,
    /// Zero until a packet came, and again when none came for the detection time.
    discriminator: u32,
    min_rx_us: u32,
    desired_tx_us: u32,
    multiplier: u8,
    heard: Option<Time>,
}

/// A BFD session in asynchronous mode.
#[derive(Debug)]
pub struct Session {
    discriminator: u32,
    multiplier: u8,
    hold_down: Duration,
    intervals: Intervals,
    jitter: Jitter,
    state: State,
    diagnostic: Diagnostic,
    changed: Time,
    remote: Remote,
    /// When the next periodic packet is due.
    next_periodic: Time,
    last_sent: Option<Time>,
    /// A packet is due at once since its content changed.
    urgent: bool,
    /// A packet with F is due at once since one with P came.
    answer_due: bool,
    been_up: bool,
    reported_up: bool,
    /// When a session that came back is reported.
    hold_until: Option<Time>,
    events: VecDeque<Event>,
}

impl Session {
    /// A session in the state Down, whose first packet is due at once.
    ///
    /// `discriminator` names the session in the peer's packets: unique on this router, best
    /// different after every start; zero counts as 1. `seed` draws the jitter.
    #[must_use]
    pub fn new(config: Config, discriminator: u32, seed: u64, now: Time) -> Self {
        Self {
            discriminator: discriminator.max(1),
            multiplier: config.multiplier.max(1),
            hold_down: config.hold_down,
            intervals: Intervals::new(config.desired_tx, config.required_rx),
            jitter: Jitter::new(seed),
            state: State::Down,
            diagnostic: Diagnostic::None,
            changed: now,
            remote: Remote {
                state: State::Down,
                discriminator: 0,
                min_rx_us: 1,
                desired_tx_us: 0,
                multiplier: 0,
                heard: None,
            },
            next_periodic: now,
            last_sent: None,
            urgent: true,
            answer_due: false,
            been_up: false,
            reported_up: false,
            hold_until: None,
            events: VecDeque::new(),
        }
    }

    /// Takes a packet that is genuine and for this session's path.
    ///
    /// # Errors
    /// [`Discarded`] when RFC 5880, section 6.8.6, says so.
    pub fn handle_packet(&mut self, now: Time, packet: &Repr) -> Result<(), Discarded> {
        self.check(packet)?;
        self.handle_timeout(now);
        self.remote = Remote {
            state: packet.state,
            discriminator: packet.my_discriminator,
            min_rx_us: packet.required_min_rx,
            desired_tx_us: packet.desired_min_tx,
            multiplier: packet.detect_multiplier,
            heard: Some(now),
        };
        if packet.is_final {
            self.intervals.finish_poll();
        }
        self.apply(now, Input::Received(packet.state));
        // A session that the operator holds down answers nothing.
        self.answer_due |= packet.poll && self.state != State::AdminDown;
        self.hasten();
        Ok(())
    }

    /// Does what is due by `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.detection_deadline().is_some_and(|deadline| deadline <= now) {
            // Section 6.8.1: the peer's discriminator is forgotten with the peer.
            self.remote.discriminator = 0;
            self.remote.heard = None;
            self.remote.state = State::Down;
            self.apply(now, Input::DetectionTimeExpired);
        }
        if self.hold_until.is_some_and(|until| until <= now) {
            self.report_up();
        }
    }

    /// A packet that is due by `now`, if any.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Repr> {
        if self.answer_due {
            self.answer_due = false;
            self.urgent = false;
            return Some(self.packet(false, true));
        }
        // Section 6.8.7: a peer that requires no packets gets none periodically.
        let periodic = self.next_periodic <= now && self.remote.min_rx_us != 0;
        if !self.urgent && !periodic {
            return None;
        }
        self.urgent = false;
        self.last_sent = Some(now);
        self.next_periodic = now + self.jitter.apply(self.transmit_interval(), self.multiplier);
        let poll = self.intervals.poll_bit();
        Some(self.packet(poll, false))
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] are to be called again;
    /// [`Time::ZERO`] when a packet is due at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let transmit = if self.urgent || self.answer_due {
            Some(Time::ZERO)
        } else {
            (self.remote.min_rx_us != 0).then_some(self.next_periodic)
        };
        [transmit, self.detection_deadline(), self.hold_until].into_iter().flatten().min()
    }

    /// Takes a changed configuration; the session stays as it is.
    pub fn reconfigure(&mut self, config: Config) {
        let multiplier = config.multiplier.max(1);
        let changed = self.intervals.configure(config.desired_tx, config.required_rx);
        self.urgent |= changed || multiplier != self.multiplier;
        self.multiplier = multiplier;
        self.hold_down = config.hold_down;
        self.hasten();
    }

    /// Takes the session down, or lets it come up again (section 6.8.16).
    pub fn set_admin_down(&mut self, now: Time, down: bool) {
        self.apply(now, if down { Input::Disabled } else { Input::Enabled });
    }

    /// The state of this side.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The state the peer said it is in; Down when it is not heard.
    #[must_use]
    pub const fn remote_state(&self) -> State {
        self.remote.state
    }

    /// Why the session last left the state Up or Init; none while it is up.
    #[must_use]
    pub const fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// Whether the session is up and was reported so.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.reported_up
    }

    /// When a session that came back will be reported up, while it is held down.
    #[must_use]
    pub const fn held_until(&self) -> Option<Time> {
        self.hold_until
    }

    /// When the state last changed.
    #[must_use]
    pub const fn changed(&self) -> Time {
        self.changed
    }

    /// The discriminator of this side.
    #[must_use]
    pub const fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// The interval of periodic packets before jitter.
    #[must_use]
    pub fn transmit_interval(&self) -> Duration {
        self.intervals.transmit(self.remote.min_rx_us)
    }

    /// After how long without a packet the session goes down; zero before the first packet.
    #[must_use]
    pub fn detection_time(&self) -> Duration {
        self.intervals.detection(self.remote.multiplier, self.remote.desired_tx_us)
    }

    fn check(&self, packet: &Repr) -> Result<(), Discarded> {
        if packet.detect_multiplier == 0 {
            return Err(Discarded::MultiplierZero);
        }
        if packet.my_discriminator == 0 {
            return Err(Discarded::DiscriminatorZero);
        }
        if packet.your_discriminator == 0 {
            if !matches!(packet.state, State::Down | State::AdminDown) {
                return Err(Discarded::DiscriminatorMissing);
            }
        } else if packet.your_discriminator != self.discriminator {
            return Err(Discarded::OtherSession);
        }
        Ok(())
    }

    fn apply(&mut self, now: Time, input: Input) {
        let (state, diagnostic) = machine::next(self.state, input);
        if let Some(diagnostic) = diagnostic {
            self.diagnostic = diagnostic;
        }
        if state == self.state {
            return;
        }
        let was_up = self.state == State::Up;
        self.state = state;
        self.changed = now;
        self.urgent = true;
        self.intervals.set_up(state == State::Up);
        if state == State::Up {
            self.hold_or_report(now);
        } else if was_up {
            self.hold_until = None;
            if core::mem::take(&mut self.reported_up) {
                self.events.push_back(Event::Down { diagnostic: self.diagnostic });
            }
        }
    }

    fn hold_or_report(&mut self, now: Time) {
        if core::mem::replace(&mut self.been_up, true) && !self.hold_down.is_zero() {
            self.hold_until = Some(now + self.hold_down);
        } else {
            self.report_up();
        }
    }

    fn report_up(&mut self) {
        self.hold_until = None;
        self.reported_up = true;
        self.events.push_back(Event::Up);
    }

    /// Brings the next periodic packet forward when the interval has become shorter.
    fn hasten(&mut self) {
        if let Some(last) = self.last_sent {
            self.next_periodic = self.next_periodic.min(last + self.transmit_interval());
        }
    }

    fn detection_deadline(&self) -> Option<Time> {
        self.remote.heard.map(|heard| heard + self.detection_time())
    }

    fn packet(&self, poll: bool, is_final: bool) -> Repr {
        let (desired_min_tx, required_min_rx) = self.intervals.said();
        Repr {
            diagnostic: self.diagnostic.number(),
            state: self.state,
            poll,
            is_final,
            control_plane_independent: false,
            demand: false,
            detect_multiplier: self.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx,
            required_min_rx,
            required_min_echo_rx: 0,
        }
    }
}

#[cfg(test)]
mod tests;
