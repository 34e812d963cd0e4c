//! What was dropped: a count for each reason, and the last packet it happened to.

use fairway_types::{DropReason, InterfaceId, Time, Tuple};

use crate::key::FlowKey;

/// The last packet that was dropped for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropExample {
    /// When.
    pub at: Time,
    /// The interface it came in on.
    pub interface: InterfaceId,
    /// Its tuple, when it could be read.
    pub tuple: Option<Tuple>,
    /// Its length in bytes, from the IP header on.
    pub length: u32,
}

/// A reason with its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropRecord {
    /// The reason.
    pub reason: DropReason,
    /// How many packets.
    pub count: u64,
    /// The last of them.
    pub last: Option<DropExample>,
}

#[derive(Clone, Copy)]
struct Entry {
    count: u64,
    at: Time,
    length: u32,
    key: Option<FlowKey>,
    interface: InterfaceId,
    /// Whether the example is no longer to be shown.
    forgotten: bool,
}

/// The table of all reasons.
pub(crate) struct Drops {
    entries: [Entry; DropReason::ALL.len()],
}

impl Drops {
    pub(crate) fn new() -> Self {
        let empty = Entry {
            count: 0,
            at: Time::ZERO,
            length: 0,
            key: None,
            interface: InterfaceId(0),
            forgotten: true,
        };
        Self { entries: [empty; DropReason::ALL.len()] }
    }

    #[inline]
    pub(crate) fn record(
        &mut self,
        now: Time,
        reason: DropReason,
        interface: InterfaceId,
        key: Option<FlowKey>,
        length: usize,
    ) {
        let entry = &mut self.entries[reason as usize];
        *entry = Entry {
            count: entry.count + 1,
            at: now,
            length: length as u32,
            key,
            interface,
            forgotten: false,
        };
    }

    /// Follows interfaces that are numbered anew; examples from those that are gone are forgotten.
    pub(crate) fn renumber(&mut self, interface: impl Fn(InterfaceId) -> Option<InterfaceId>) {
        for entry in &mut self.entries {
            match interface(entry.interface) {
                Some(interface) => entry.interface = interface,
                None => entry.forgotten = true,
            }
        }
    }

    /// All reasons in their order, those that never happened included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = DropRecord> + '_ {
        DropReason::ALL.iter().zip(&self.entries).map(|(&reason, entry)| DropRecord {
            reason,
            count: entry.count,
            last: (!entry.forgotten).then(|| DropExample {
                at: entry.at,
                interface: entry.interface,
                tuple: entry.key.map(|key| key.tuple()),
                length: entry.length,
            }),
        })
    }
}
