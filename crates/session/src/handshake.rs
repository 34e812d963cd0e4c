//! Who attaches metadata to which packet: the handshake between two neighbouring routers
//! (svr-wire, section 5).
//!
//! ```text
//!  initiator                                     responder
//!  OFFERING ── forward metadata, each packet ──▶ ANSWERING
//!     ◀── reverse metadata, each packet ─────────
//!  SETTLED ─── packet without metadata ────────▶ SETTLED
//! ```
//!
//! A responder without traffic of its own says so (TLV 18) after five offers or a second. An
//! initiator without traffic of its own stops the answers (control 3) after a second of them. Either
//! side begins again when it sent for three seconds and nothing came back, when the peer asks for it
//! (control 2), or when the session is re-triggered.

use core::time::Duration;

use fairway_types::Time;

use crate::budget::Budget;

/// Offers without reverse traffic after which a responder acknowledges without it.
const OFFERS_BEFORE_ACKNOWLEDGEMENT: u8 = 5;
/// The same as a time; also how long an initiator lets answers come before it stops them.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one side sends without hearing anything before it doubts the other side's state.
const SILENCE: Duration = Duration::from_secs(3);

/// Which end of the hop this router is, for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// Whether the other end is known to know the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Metadata goes with every packet: offering or answering, depending on the role.
    Telling,
    /// The other end knows.
    Settled,
}

/// What to do with a packet about to be sent on the hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attach {
    Nothing,
    Metadata,
}

/// What a received packet asks for beside being processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nothing,
    /// Send "disable forward metadata" (TLV 18).
    Acknowledge,
    /// Send control message 3.
    DisableMetadata,
}

/// The handshake of one session on one hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    role: Role,
    phase: Phase,
    /// Metadata packets received since this side last sent.
    heard: u8,
    /// When the first of them came.
    heard_since: Time,
    /// Since when this side has been sending without an answer; zero: it has not.
    silent_since: Time,
    /// Whether only a message of the initiator's proves that it was told: something changed while it
    /// was sending packets without metadata anyway.
    confirm: bool,
    /// Whether anything was told since it began: a packet without metadata that comes before, behind
    /// metadata that went ahead, is no answer.
    told: bool,
    /// Whether the other end may know nothing of the session any more: it is to be told all there is.
    lost: bool,
}

impl Handshake {
    pub(crate) const fn new(role: Role) -> Self {
        Self {
            role,
            phase: Phase::Telling,
            heard: 0,
            heard_since: Time::ZERO,
            silent_since: Time::ZERO,
            confirm: false,
            told: false,
            lost: false,
        }
    }

    /// Whether the other end is to be told all there is of the session.
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost
    }

    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether any packet without metadata that arrives from now on says that the other end knows.
    pub(crate) fn awaits_plain(&self) -> bool {
        self.role == Role::Responder && self.phase == Phase::Telling && self.told && !self.confirm
    }

    /// Whether a packet sent now would be one more after so long a silence that the other end may have lost
    /// the session.
    #[inline]
    pub(crate) fn is_doubtful(&self, now: Time) -> bool {
        self.phase == Phase::Settled
            && self.silent_since != Time::ZERO
            && now.since(self.silent_since) >= SILENCE
    }

    /// Begins again if it is doubtful and `budget` allows it. Says whether it does; then the epoch has to rise.
    ///
    /// Where answers are lost because there is too much of everything, metadata for every session would make
    /// more of it. So only a few a second begin again.
    #[inline]
    pub(crate) fn break_silence(&mut self, now: Time, budget: &mut Budget) -> bool {
        let begins = self.is_doubtful(now) && budget.take(now);
        if begins {
            self.restart();
            self.silent_since = now;
        }
        begins
    }

    /// A packet is about to be sent on the hop.
    #[inline]
    pub(crate) fn transmit(&mut self, now: Time) -> Attach {
        self.heard = 0;
        if self.silent_since == Time::ZERO {
            self.silent_since = now;
        }
        match self.phase {
            Phase::Telling => {
                self.told = true;
                Attach::Metadata
            }
            Phase::Settled => Attach::Nothing,
        }
    }

    /// A packet without metadata arrived on the hop.
    #[inline]
    pub(crate) fn received_plain(&mut self) {
        self.silent_since = Time::ZERO;
        match self.role {
            Role::Initiator => {}
            Role::Responder if self.confirm || !self.told => {}
            Role::Responder => {
                self.settle();
                self.heard = 0;
            }
        }
    }

    fn settle(&mut self) {
        self.phase = Phase::Settled;
        self.lost = false;
    }

    /// The kernel has sent packets on the hop and received some since it was last asked: when the last
    /// ones. Says whether the other end has been silent for so long that it may have lost the session.
    pub(crate) fn carried(&mut self, sent: Option<Time>, received: Option<Time>) -> bool {
        if received.is_some() {
            self.silent_since = Time::ZERO;
        }
        let Some(sent) = sent.filter(|&sent| received.is_none_or(|received| sent > received)) else {
            return false;
        };
        if self.silent_since == Time::ZERO {
            self.silent_since = sent;
        }
        self.is_doubtful(sent)
    }

    /// A packet with metadata arrived on the hop; `changed` if it tells of a change.
    pub(crate) fn received_metadata(&mut self, now: Time, changed: bool) -> Reply {
        self.silent_since = Time::ZERO;
        if self.heard == 0 {
            self.heard_since = now;
        }
        self.heard = self.heard.saturating_add(1);
        let waited = now.since(self.heard_since) >= PATIENCE;
        match (self.role, self.phase) {
            (Role::Initiator, Phase::Telling) => {
                self.settle();
                Reply::Nothing
            }
            (Role::Initiator, Phase::Settled) if waited || (changed && self.heard == 1) => {
                self.heard = 0;
                Reply::DisableMetadata
            }
            (Role::Responder, Phase::Telling | Phase::Settled)
                if waited || self.heard >= OFFERS_BEFORE_ACKNOWLEDGEMENT =>
            {
                self.heard = 0;
                Reply::Acknowledge
            }
            (Role::Initiator | Role::Responder, Phase::Settled | Phase::Telling) => Reply::Nothing,
        }
    }

    /// The other end says it needs no more metadata (TLV 18, control 3).
    pub(crate) fn disabled(&mut self) {
        self.silent_since = Time::ZERO;
        self.settle();
        self.confirm = false;
    }

    /// Begins again, because the other end lost the session, or some of it.
    pub(crate) fn tell_all(&mut self) {
        self.restart();
        self.lost = true;
    }

    /// Begins again, because something about the session changed on this side.
    pub(crate) fn tell_change(&mut self) {
        self.restart();
        self.confirm = self.role == Role::Responder;
    }

    /// Begins again: the other end asked for it, or this side has something new to say.
    pub(crate) fn restart(&mut self) {
        self.phase = Phase::Telling;
        self.told = false;
        self.heard = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_secs(10);

    fn later(millis: u64) -> Time {
        START + Duration::from_millis(millis)
    }

    #[test]
    fn both_sides_stop_after_one_exchange() {
        let (mut initiator, mut responder) =
            (Handshake::new(Role::Initiator), Handshake::new(Role::Responder));
        assert_eq!(initiator.transmit(START), Attach::Metadata);
        assert_eq!(responder.received_metadata(START, false), Reply::Nothing);
        assert_eq!(responder.transmit(START), Attach::Metadata);
        assert_eq!(initiator.received_metadata(START, false), Reply::Nothing);
        assert_eq!(initiator.transmit(START), Attach::Nothing);
        assert_eq!(responder.transmit(START), Attach::Metadata);
        responder.received_plain();
        assert_eq!(responder.transmit(START), Attach::Nothing);
    }

    #[test]
    fn a_change_on_the_responder_is_told_until_the_initiator_confirms_it() {
        let (mut initiator, mut responder) =
            (Handshake::new(Role::Initiator), Handshake::new(Role::Responder));
        initiator.disabled();
        responder.disabled();
        responder.tell_change();
        assert_eq!(responder.transmit(START), Attach::Metadata);
        responder.received_plain();
        assert_eq!(responder.transmit(START), Attach::Metadata, "it may have been sent before");
        assert_eq!(initiator.received_metadata(START, true), Reply::DisableMetadata);
        responder.disabled();
        assert_eq!(responder.transmit(START), Attach::Nothing);
    }

    #[test]
    fn a_plain_answer_does_not_settle_an_initiator() {
        let mut initiator = Handshake::new(Role::Initiator);
        initiator.received_plain();
        assert_eq!(initiator.transmit(START), Attach::Metadata);
    }

    #[test]
    fn a_silent_responder_acknowledges_after_five_offers_or_a_second() {
        let mut responder = Handshake::new(Role::Responder);
        for _ in 0..4 {
            assert_eq!(responder.received_metadata(START, false), Reply::Nothing);
        }
        assert_eq!(responder.received_metadata(START, false), Reply::Acknowledge);
        assert_eq!(responder.received_metadata(START, false), Reply::Nothing);
        assert_eq!(responder.received_metadata(later(1000), false), Reply::Acknowledge);
    }

    #[test]
    fn an_initiator_with_nothing_to_send_stops_the_answers_after_a_second() {
        let mut initiator = Handshake::new(Role::Initiator);
        assert_eq!(initiator.received_metadata(START, false), Reply::Nothing);
        assert_eq!(initiator.received_metadata(later(500), false), Reply::Nothing);
        assert_eq!(initiator.received_metadata(later(1000), false), Reply::DisableMetadata);
        assert_eq!(initiator.received_metadata(later(1001), false), Reply::Nothing);
    }

    #[test]
    fn silence_makes_either_side_begin_again() {
        for role in [Role::Initiator, Role::Responder] {
            let mut side = Handshake::new(role);
            side.disabled();
            assert_eq!(side.transmit(START), Attach::Nothing);
            assert!(!side.is_doubtful(later(2999)));
            assert_eq!(side.transmit(later(2999)), Attach::Nothing);
            assert!(side.is_doubtful(later(3000)));
            assert_eq!(side.transmit(later(3000)), Attach::Nothing, "as long as it is not told to");
            let mut budget = Budget::new(1, START);
            assert!(!side.break_silence(later(2999), &mut budget));
            assert!(side.break_silence(later(3000), &mut budget));
            assert_eq!(side.transmit(later(3000)), Attach::Metadata);
            assert!(!side.is_doubtful(later(9000)), "it is telling already");
            side.disabled();
            assert!(!side.is_doubtful(later(9000)));
            assert_eq!(side.transmit(later(9000)), Attach::Nothing);
        }
    }

    #[test]
    fn an_answer_ends_the_silence() {
        let mut side = Handshake::new(Role::Initiator);
        side.disabled();
        assert_eq!(side.transmit(START), Attach::Nothing);
        side.received_plain();
        assert!(!side.is_doubtful(later(5000)));
        assert_eq!(side.transmit(later(5000)), Attach::Nothing);
    }
}
