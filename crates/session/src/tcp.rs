//! What a router needs to know of a TCP connection (RFC 9293): whether it is open, closing or
//! closed, and whether a reset is genuine.
//!
//! The router is a witness, not an endpoint: it never refuses data. Only a reset is held against
//! the window (RFC 5961, section 3, as far as a witness can), since it ends the session.

/// TCP header flags (RFC 9293, section 3.1).
pub(crate) mod flags {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const ECE: u8 = 0x40;
    pub(crate) const CWR: u8 = 0x80;
}

use fairway_types::TcpReport;
use fairway_wire::ip::Parsed;
use fairway_wire::tcp;

use crate::session::Side;

/// The life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpPhase {
    /// The initiator's SYN was seen.
    SynSent,
    /// The responder's SYN was seen, too.
    SynReceived,
    /// Data may flow. A session that began in mid-flow starts here.
    Open,
    /// One side has finished sending.
    HalfClosed,
    /// Both sides have finished sending.
    Closing,
    /// A genuine reset was seen.
    Reset,
}

impl TcpPhase {
    /// The name on screens and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Open => "open",
            Self::HalfClosed => "half-closed",
            Self::Closing => "closing",
            Self::Reset => "reset",
        }
    }

    /// Whether the three-way handshake is still to be completed.
    #[must_use]
    pub const fn is_half_open(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived)
    }

    /// Whether no more data is expected.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closing | Self::Reset)
    }
}

/// What one side has said.
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    /// The sequence number after the last byte it sent.
    next: u32,
    /// What it acknowledged: the left edge of its receive window.
    acknowledged: u32,
    /// Its receive window, as last advertised, unscaled.
    window: u16,
    scale: u8,
    seen: bool,
    has_acknowledged: bool,
    finished: bool,
}

/// A segment, reduced to what matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) window: u16,
    /// Payload bytes.
    pub(crate) length: u32,
    /// The window scale option of a SYN (RFC 7323).
    pub(crate) scale: Option<u8>,
}

/// A connection as seen from between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp {
    phase: TcpPhase,
    halves: [Half; 2],
    /// Whether both SYNs were seen, so that window scales are known.
    scaled: bool,
    /// Whether a SYN brought data (RFC 7413): then both may send before the handshake is over.
    hasty: bool,
}

/// A reset that lies outside the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutsideWindow;

impl Tcp {
    /// A connection whose first segment has these flags.
    pub(crate) fn new(first: u8) -> Self {
        let opening = first & (flags::SYN | flags::ACK) == flags::SYN;
        let phase = if opening { TcpPhase::SynSent } else { TcpPhase::Open };
        Self { phase, halves: [Half::default(); 2], scaled: false, hasty: false }
    }

    pub(crate) const fn phase(&self) -> TcpPhase {
        self.phase
    }

    /// Whether both SYNs were seen, and the initiator's acknowledgement is the next thing to come from
    /// either side, but for SYNs again.
    pub(crate) fn awaits_acknowledgement(&self) -> bool {
        self.phase == TcpPhase::SynReceived && self.scaled && !self.hasty
    }

    /// Sequence and acknowledgement numbers for a segment without data that `side` could send now.
    pub(crate) const fn numbers(&self, side: Side) -> (u32, u32) {
        let half = &self.halves[side.index()];
        (half.next, half.acknowledged)
    }

    /// Takes note of a segment from `side`. An error means: a reset that is not to be believed.
    pub(crate) fn observe(&mut self, side: Side, segment: &Segment) -> Result<(), OutsideWindow> {
        if segment.flags & flags::RST != 0 {
            if !self.is_genuine_reset(side, segment) {
                return Err(OutsideWindow);
            }
            self.phase = TcpPhase::Reset;
            return Ok(());
        }
        self.note(side, segment);
        self.phase = self.advanced(side, segment.flags);
        Ok(())
    }

    /// Takes note of what `side` has said last where only the kernel saw it.
    pub(crate) fn heard(&mut self, side: Side, said: TcpReport) {
        let half = &mut self.halves[side.index()];
        if !half.seen || is_after(said.next, half.next) {
            half.next = said.next;
        }
        if !half.has_acknowledged || is_after(said.acknowledged, half.acknowledged) {
            half.acknowledged = said.acknowledged;
        }
        half.window = said.window;
        half.finished |= said.finished;
        (half.seen, half.has_acknowledged) = (true, true);
        // It may have opened the connection and closed it since.
        for _ in 0..2 {
            self.phase = self.advanced(side, 0);
        }
    }

    fn note(&mut self, side: Side, segment: &Segment) {
        let syn = segment.flags & flags::SYN != 0;
        let fin = segment.flags & flags::FIN != 0;
        let half = &mut self.halves[side.index()];
        let end = segment.sequence.wrapping_add(segment.length).wrapping_add(u32::from(syn) + u32::from(fin));
        if !half.seen || syn || is_after(end, half.next) {
            half.next = end;
        }
        half.seen = true;
        half.finished |= fin;
        self.hasty |= syn && segment.length > 0;
        half.window = segment.window;
        if syn {
            half.scale = segment.scale.unwrap_or(0).min(14);
        }
        if segment.flags & flags::ACK != 0
            && (!half.has_acknowledged || is_after(segment.acknowledgement, half.acknowledged))
        {
            half.acknowledged = segment.acknowledgement;
            half.has_acknowledged = true;
        }
    }

    fn advanced(&mut self, side: Side, flags: u8) -> TcpPhase {
        let syn = flags & flags::SYN != 0;
        let finished = self.halves.iter().filter(|half| half.finished).count();
        match (self.phase, side) {
            // A new connection on the ports of one that is over.
            (TcpPhase::Closing | TcpPhase::Reset, Side::Initiator) if syn => {
                self.halves[Side::Initiator.index()].finished = false;
                self.halves[Side::Responder.index()] = Half::default();
                TcpPhase::SynSent
            }
            (TcpPhase::SynSent, Side::Responder) if syn => {
                self.scaled = true;
                TcpPhase::SynReceived
            }
            (TcpPhase::SynReceived, Side::Initiator) if !syn => TcpPhase::Open,
            (TcpPhase::Open | TcpPhase::HalfClosed | TcpPhase::SynReceived, _) if finished == 1 => {
                TcpPhase::HalfClosed
            }
            (TcpPhase::Open | TcpPhase::HalfClosed | TcpPhase::SynReceived, _) if finished == 2 => {
                TcpPhase::Closing
            }
            (phase, _) => phase,
        }
    }

    /// RFC 9293, section 3.10.7: in SYN-SENT a reset must acknowledge the SYN; later its sequence
    /// number must lie in the receiver's window.
    fn is_genuine_reset(&self, side: Side, segment: &Segment) -> bool {
        let sender = &self.halves[side.index()];
        let receiver = &self.halves[side.other().index()];
        if self.phase == TcpPhase::Reset {
            return true;
        }
        if !receiver.has_acknowledged {
            let answers = segment.flags & flags::ACK != 0 && segment.acknowledgement == receiver.next;
            return if receiver.seen {
                answers || (sender.seen && segment.sequence == sender.next)
            } else {
                // Nothing is known of the receiver: the sender aborts what it began itself.
                !sender.seen || segment.sequence == sender.next
            };
        }
        let scale = if self.scaled { receiver.scale } else { 14 };
        let window = (u32::from(receiver.window) << scale).max(1);
        // A host that closed answers late data with a reset numbered by what that data acknowledged,
        // which may be one behind: its FIN was acknowledged since.
        let late = u32::from(sender.finished);
        segment.sequence.wrapping_sub(receiver.acknowledged.wrapping_sub(late)) < window + late
    }
}

/// Whether sequence number `a` is after `b` (RFC 9293, section 3.4).
fn is_after(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < 0x8000_0000
}

/// What the TCP state needs to know of a packet.
pub(crate) fn tcp_segment(bytes: &[u8], parsed: &Parsed) -> Segment {
    let view = tcp::Packet::new_unchecked(parsed.segment(bytes));
    let syn = parsed.tcp_flags & flags::SYN != 0;
    Segment {
        flags: parsed.tcp_flags,
        sequence: view.sequence(),
        acknowledgement: view.acknowledgement(),
        window: view.window(),
        length: parsed.payload_end.saturating_sub(u32::from(parsed.payload_offset)),
        scale: if syn { window_scale(view.options()) } else { None },
    }
}

/// The window scale option (RFC 7323, section 2.2).
pub(crate) fn window_scale(mut options: &[u8]) -> Option<u8> {
    loop {
        match *options {
            [3, 3, scale, ..] => return Some(scale),
            [1, ref rest @ ..] => options = rest,
            [0, ..] | [] | [_] => return None,
            [_, length, ..] => options = options.get(usize::from(length.max(2))..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, sequence: u32, acknowledgement: u32, length: u32) -> Segment {
        Segment { flags, sequence, acknowledgement, window: 1000, length, scale: Some(0) }
    }

    fn opened() -> Tcp {
        let mut tcp = Tcp::new(flags::SYN);
        tcp.observe(Side::Initiator, &segment(flags::SYN, 100, 0, 0)).unwrap();
        assert_eq!(tcp.phase(), TcpPhase::SynSent);
        tcp.observe(Side::Responder, &segment(flags::SYN | flags::ACK, 500, 101, 0)).unwrap();
        assert_eq!(tcp.phase(), TcpPhase::SynReceived);
        tcp.observe(Side::Initiator, &segment(flags::ACK, 101, 501, 0)).unwrap();
        assert_eq!(tcp.phase(), TcpPhase::Open);
        tcp
    }

    #[test]
    fn a_connection_opens_and_closes() {
        let mut tcp = opened();
        tcp.observe(Side::Initiator, &segment(flags::FIN | flags::ACK, 101, 501, 0)).unwrap();
        assert_eq!(tcp.phase(), TcpPhase::HalfClosed);
        tcp.observe(Side::Responder, &segment(flags::ACK, 501, 102, 300)).unwrap();
        assert_eq!(tcp.phase(), TcpPhase::HalfClosed);
        tcp.observe(Side::Responder, &segment(flags::FIN | flags::ACK, 801, 102, 0)).unwrap();
        assert_eq!(tcp.phase(), TcpPhase::Closing);
        tcp.observe(Side::Initiator, &segment(flags::SYN, 9000, 0, 0)).unwrap();
        assert_eq!(tcp.phase(), TcpPhase::SynSent);
    }

    #[test]
    fn a_reset_counts_only_inside_the_window() {
        for (sequence, genuine) in [(500, false), (501, true), (1500, true), (1501, false), (0, false)] {
            let mut tcp = opened();
            let result = tcp.observe(Side::Responder, &segment(flags::RST, sequence, 0, 0));
            assert_eq!(result.is_ok(), genuine, "{sequence}");
            assert_eq!(tcp.phase() == TcpPhase::Reset, genuine);
        }
    }

    #[test]
    fn a_closed_host_may_reset_one_number_behind() {
        let mut tcp = opened();
        tcp.observe(Side::Responder, &segment(flags::FIN | flags::ACK, 501, 101, 0)).unwrap();
        tcp.observe(Side::Initiator, &segment(flags::ACK, 101, 502, 0)).unwrap();
        assert!(tcp.observe(Side::Responder, &segment(flags::RST, 500, 0, 0)).is_err());
        assert!(tcp.observe(Side::Responder, &segment(flags::RST, 501, 0, 0)).is_ok());
    }

    #[test]
    fn a_refused_connection_is_reset_by_acknowledging_the_syn() {
        for (acknowledgement, genuine) in [(101, true), (100, false), (0, false)] {
            let mut tcp = Tcp::new(flags::SYN);
            tcp.observe(Side::Initiator, &segment(flags::SYN, 100, 0, 0)).unwrap();
            let reset = segment(flags::RST | flags::ACK, 0, acknowledgement, 0);
            assert_eq!(tcp.observe(Side::Responder, &reset).is_ok(), genuine);
        }
    }
}
