//! A group of packets before the first of them is decided: parsed, and what is known of them on its way into the
//! cache.

use fairway_types::Slot;
use fairway_wire::ParseError;
use fairway_wire::ip::{self, Parsed};

use crate::engine::Engine;
use crate::key::FlowKey;
use crate::table::Hint;

/// How many packets are parsed before the first of them is decided.
pub(crate) const GROUP: usize = 64;

/// How many packets before its turn the keys for a packet are asked for: with more, others' payloads would
/// have displaced them by then.
pub(crate) const KEYS_AHEAD: usize = 2;

/// A packet before it is decided.
pub(crate) struct Arrival {
    pub(crate) headers: Result<(Parsed, FlowKey), ParseError>,
    pub(crate) hint: Hint,
}

impl Engine {
    /// Parses packets, and brings what the table has for them into the cache before the first of
    /// them is decided: waiting for memory is most of what a packet would cost otherwise.
    pub(crate) fn approach(&mut self, group: &[Slot], arrivals: &mut Vec<Arrival>) {
        arrivals.clear();
        arrivals.extend(group.iter().map(|packet| self.arrival(packet)));
        self.table.guess(arrivals.iter_mut().map(|arrival| &mut arrival.hint));
        self.table.touch(arrivals.iter().map(|arrival| &arrival.hint));
        self.keys.clear();
        if self.vault.len() > 0 {
            self.keys.extend(arrivals.iter().map(|arrival| self.table.guessed_protection(&arrival.hint)));
        }
    }

    /// Brings what the packet in a place needs of its session's keys into the cache.
    #[inline]
    pub(crate) fn bring_keys(&self, place: usize) {
        if let Some(Some((protection, side))) = self.keys.get(place) {
            self.vault.bring(Some(*protection), *side);
        }
    }

    #[inline]
    pub(crate) fn arrival(&self, packet: &Slot) -> Arrival {
        let headers = ip::parse(packet.packet.bytes())
            .map(|parsed| (parsed, FlowKey::of_packet(packet.interface, &parsed)));
        let hint = match &headers {
            Ok((_, key)) => self.table.hint(key),
            Err(_) => Hint::NONE,
        };
        Arrival { headers, hint }
    }
}
