//! What an ICMP error says of the packet it is about, in terms of the session's own protocol.
//!
//! On a leg between routers a packet may be carried, wrapped or sealed; the host that sent it must
//! recognise it. Of protected sessions only headers are quoted, so that no payload travels in the
//! clear.

use fairway_types::Protocol;
use fairway_wire::svr::tcp_header_len;

use crate::headers::{TCP_LEN, UDP_LEN};
use crate::key::FlowKey;
use crate::session::{Session, Side, is_wrapped};
use crate::vault::Protection;

/// How much of a transport header is quoted.
pub(crate) const QUOTED: usize = 64;
/// What every error quotes at least (RFC 792).
const LEAST: usize = 8;

/// The start of a transport part: ports and checksum mean nothing.
pub(crate) struct Quote {
    bytes: [u8; QUOTED],
    length: usize,
    /// Whether it is the start of a sealed payload, which only the end can read that sealed it.
    sealed: bool,
}

impl Quote {
    const EMPTY: Self = Self { bytes: [0; QUOTED], length: 0, sealed: false };

    /// Reads what was quoted of a packet as it was on the leg of `key`; `sender` is the side that it
    /// came from. `segment` starts with its transport header, and may be cut short.
    pub(crate) fn of_packet(
        session: &Session,
        protection: Option<&Protection>,
        key: &FlowKey,
        sender: Side,
        segment: &[u8],
    ) -> Self {
        let mut quote = Self::EMPTY;
        let inner = segment.get(UDP_LEN..).unwrap_or_default();
        if session.protocol() == Protocol::TCP && key.protocol == Protocol::UDP {
            quote.restore(session, sender, segment);
        } else if !is_wrapped(key, session) {
            quote.fill(segment);
        } else {
            quote.fill(inner);
            quote.sealed = protection.is_some_and(|entry| entry.is_sealed_here(sender));
        }
        quote.read(session, protection, sender);
        quote
    }

    /// Takes over what another router quoted.
    pub(crate) fn of_relayed(
        session: &Session,
        protection: Option<&Protection>,
        sender: Side,
        transport: &[u8],
    ) -> Self {
        let mut quote = Self::EMPTY;
        quote.fill(transport);
        // Of a portless protocol, headers in the clear are no longer than this.
        let is_portless = !session.protocol().has_ports();
        quote.sealed = protection.is_some() && is_portless && transport.len() > LEAST;
        quote.read(session, protection, sender);
        quote
    }

    /// Reads a sealed start where that can be done here, and leaves off payload.
    fn read(&mut self, session: &Session, protection: Option<&Protection>, sender: Side) {
        let Some(protection) = protection else { return };
        if self.sealed && protection.is_end() {
            let mut shown = [0; LEAST];
            if protection.reveal(sender, self.bytes(), &mut shown) == LEAST {
                self.fill(&shown);
            } else {
                self.guess(session.protocol(), sender);
            }
            self.sealed = false;
        }
        if !self.sealed {
            self.length = self.length.min(self.header_len(session.protocol()));
        }
    }

    /// The protocol whose ports and checksum are to be left out of a relayed error; none where the
    /// bytes must stay as they are.
    pub(crate) fn protocol(&self, session: &Session) -> u8 {
        if self.sealed { 0 } else { session.protocol().0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.bytes = [0; QUOTED];
        self.length = bytes.len().min(QUOTED);
        self.bytes[..self.length].copy_from_slice(&bytes[..self.length]);
    }

    /// A carried segment. Without its sequence number the host would not believe the error: where
    /// that was cut off, the oldest byte under way is as good.
    fn restore(&mut self, session: &Session, sender: Side, segment: &[u8]) {
        let sequence = match segment.get(16..TCP_LEN) {
            Some(sequence) => {
                self.fill(segment);
                self.bytes[16..TCP_LEN].fill(0);
                [sequence[0], sequence[1], sequence[2], sequence[3]]
            }
            None => {
                self.length = LEAST;
                let (_, acknowledged) = session.tcp.numbers(sender.other());
                acknowledged.to_be_bytes()
            }
        };
        self.bytes[4..8].copy_from_slice(&sequence);
    }

    /// A portless packet of which nothing can be read: of a ping, at least what it was.
    fn guess(&mut self, protocol: Protocol, sender: Side) {
        self.fill(&[0; LEAST]);
        self.bytes[0] = match (protocol, sender) {
            (Protocol::ICMP, Side::Initiator) => 8,
            (Protocol::ICMPV6, Side::Initiator) => 128,
            (Protocol::ICMPV6, Side::Responder) => 129,
            _ => 0,
        };
    }

    fn header_len(&self, protocol: Protocol) -> usize {
        match protocol {
            Protocol::TCP => tcp_header_len(self.bytes()).unwrap_or(LEAST),
            _ => LEAST,
        }
    }
}
