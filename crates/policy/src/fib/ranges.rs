//! Longest prefix match by disjoint ranges.
//!
//! Prefixes nest or are disjoint, so they cut the address space into ranges, each with one longest
//! prefix. The sorted starts of these ranges are searched through a tree of tables: a table divides
//! the stretch from its first to its last start into equal slots, about as many as there are starts,
//! and a slot that holds more than [`LINEAR`] starts has a table of its own. Evenly spread prefixes need
//! one table, clustered ones two or three, and the size is linear in the number of prefixes for IPv4
//! and IPv6 alike.

use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;

/// No value.
pub(crate) const NONE: u32 = u32::MAX;
/// The most starts that a slot holds without a table of its own.
const LINEAR: usize = 6;
/// Marks a slot that refers to a table.
const TABLE: u32 = 1 << 31;

/// An address as a number.
trait Key: Copy + Ord + fmt::Debug {
    /// How it is held in memory: tables are the smaller without padding.
    type Stored: Copy + fmt::Debug;
    const ZERO: Self;
    fn store(self) -> Self::Stored;
    fn load(stored: Self::Stored) -> Self;
    /// `(self - origin) >> shift`, at most `u32::MAX`. `self` is not less than `origin`.
    fn slot(self, origin: Self, shift: u32) -> u32;
    /// How many bits `self - origin` has. `self` is not less than `origin`.
    fn distance_bits(self, origin: Self) -> u32;
    fn successor(self) -> Option<Self>;
}

impl Key for u32 {
    type Stored = Self;
    const ZERO: Self = 0;

    fn store(self) -> Self {
        self
    }

    fn load(stored: Self) -> Self {
        stored
    }

    fn slot(self, origin: Self, shift: u32) -> u32 {
        self.wrapping_sub(origin).checked_shr(shift).unwrap_or(0)
    }

    fn distance_bits(self, origin: Self) -> u32 {
        Self::BITS - self.wrapping_sub(origin).leading_zeros()
    }

    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Key for u128 {
    type Stored = [u8; 16];
    const ZERO: Self = 0;

    fn store(self) -> [u8; 16] {
        self.to_ne_bytes()
    }

    fn load(stored: [u8; 16]) -> Self {
        Self::from_ne_bytes(stored)
    }

    fn slot(self, origin: Self, shift: u32) -> u32 {
        let slot = self.wrapping_sub(origin).checked_shr(shift).unwrap_or(0);
        u32::try_from(slot).unwrap_or(u32::MAX)
    }

    fn distance_bits(self, origin: Self) -> u32 {
        Self::BITS - self.wrapping_sub(origin).leading_zeros()
    }

    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// One prefix: its first and last address, and the value looked up.
#[derive(Clone, Copy)]
struct Span<K> {
    first: K,
    last: K,
    value: u32,
}

/// Where a range starts and the value of its longest prefix.
#[derive(Clone, Copy, Debug)]
struct Start<K: Key> {
    key: K::Stored,
    value: u32,
}

impl<K: Key> Start<K> {
    fn key(&self) -> K {
        K::load(self.key)
    }
}

/// Starts `first..first + count`, or table `first` when `count` is [`TABLE`].
#[derive(Clone, Copy, Debug)]
struct Slot {
    first: u32,
    count: u32,
}

#[derive(Clone, Copy, Debug)]
struct Table<K> {
    /// The first start in the table.
    origin: K,
    /// The value of addresses before `origin` that come to this table.
    below: u32,
    shift: u32,
    base: u32,
    last_slot: u32,
}

/// The ranges of one address family.
#[derive(Debug)]
struct Ranges<K: Key> {
    starts: Vec<Start<K>>,
    slots: Vec<Slot>,
    tables: Vec<Table<K>>,
}

impl<K: Key> Ranges<K> {
    /// Builds from spans sorted by first address, wider before narrower, each once. Appends to
    /// `parents` the value of the next wider span of each.
    fn build(spans: &[Span<K>], parents: &mut Vec<u32>) -> Self {
        let mut starts = vec![Start { key: K::ZERO.store(), value: NONE }];
        let mut open: Vec<Span<K>> = Vec::new();
        for span in spans {
            close_before(&mut open, &mut starts, Some(span.first));
            parents.push(open.last().map_or(NONE, |outer| outer.value));
            push_start(&mut starts, span.first, span.value);
            open.push(*span);
        }
        close_before(&mut open, &mut starts, None);
        let mut ranges = Self { starts, slots: Vec::new(), tables: Vec::new() };
        if ranges.starts.len() > 1 {
            ranges.build_table(1, ranges.starts.len());
        }
        ranges
    }

    /// Builds the table of `starts[from..to]`, which is not empty; answers its index.
    fn build_table(&mut self, from: usize, to: usize) -> u32 {
        let (origin, last) = (self.starts[from].key(), self.starts[to - 1].key());
        let bits = usize::BITS - (to - from - 1).leading_zeros();
        let shift = last.distance_bits(origin).saturating_sub(bits.max(1));
        let last_slot = last.slot(origin, shift);
        let base = self.slots.len();
        let index = self.tables.len();
        let below = self.starts[from - 1].value;
        self.tables.push(Table { origin, below, shift, base: base as u32, last_slot });
        self.slots.resize(base + last_slot as usize + 1, Slot { first: 0, count: 0 });
        let mut next = from;
        for number in 0..=last_slot {
            let first = next;
            while next < to && self.starts[next].key().slot(origin, shift) == number {
                next += 1;
            }
            let slot = if next - first <= LINEAR {
                Slot { first: first as u32, count: (next - first) as u32 }
            } else {
                Slot { first: self.build_table(first, next), count: TABLE }
            };
            self.slots[base + number as usize] = slot;
        }
        index as u32
    }

    #[inline]
    fn lookup(&self, key: K) -> u32 {
        let mut next = 0;
        while let Some(table) = self.tables.get(next) {
            if key < table.origin {
                return table.below;
            }
            let number = key.slot(table.origin, table.shift).min(table.last_slot);
            let Some(slot) = self.slots.get(table.base as usize + number as usize) else { break };
            if slot.count != TABLE {
                return self.last_start(key, *slot);
            }
            next = slot.first as usize;
        }
        self.starts.first().map_or(NONE, |start| start.value)
    }

    /// The value of the last start in or before the slot that is not after `key`.
    #[inline]
    fn last_start(&self, key: K, slot: Slot) -> u32 {
        let first = slot.first as usize;
        let inside = self.starts.get(first..first + slot.count as usize).unwrap_or_default();
        // They are sorted, but comparing them all spares a branch that nobody can predict.
        let behind = inside.iter().filter(|start| start.key() <= key).count();
        self.starts.get((first + behind).wrapping_sub(1)).map_or(NONE, |start| start.value)
    }
}

/// Ends the spans that end before `next`: from their end on the span around them holds.
fn close_before<K: Key>(open: &mut Vec<Span<K>>, starts: &mut Vec<Start<K>>, next: Option<K>) {
    while let Some(inner) = open.pop_if(|span| next.is_none_or(|next| span.last < next)) {
        if let Some(key) = inner.last.successor() {
            push_start(starts, key, open.last().map_or(NONE, |outer| outer.value));
        }
    }
}

fn push_start<K: Key>(starts: &mut Vec<Start<K>>, key: K, value: u32) {
    match starts.last_mut() {
        Some(last) if last.key() == key => last.value = value,
        _ => starts.push(Start { key: key.store(), value }),
    }
}

/// Longest prefix match over both address families.
#[derive(Debug)]
pub(crate) struct Lpm {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Lpm {
    /// Builds from prefixes with their values. The prefixes are truncated, sorted, and occur once.
    /// Answers also, for each prefix in order, the value of the next shorter prefix that holds it.
    pub(crate) fn build(prefixes: impl Iterator<Item = (IpNet, u32)>) -> (Self, Vec<u32>) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, value) in prefixes {
            match prefix {
                IpNet::V4(net) => {
                    v4.push(Span { first: net.network().to_bits(), last: net.broadcast().to_bits(), value });
                }
                IpNet::V6(net) => {
                    v6.push(Span { first: net.network().to_bits(), last: net.broadcast().to_bits(), value });
                }
            }
        }
        let mut parents = Vec::with_capacity(v4.len() + v6.len());
        let v4 = Ranges::build(&v4, &mut parents);
        let v6 = Ranges::build(&v6, &mut parents);
        (Self { v4, v6 }, parents)
    }

    /// The value of the longest prefix that holds the address, or [`NONE`].
    #[inline]
    pub(crate) fn lookup(&self, address: IpAddr) -> u32 {
        match address {
            IpAddr::V4(address) => self.v4.lookup(address.to_bits()),
            IpAddr::V6(address) => self.v6.lookup(address.to_bits()),
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn check(mut prefixes: Vec<IpNet>, addresses: &[IpAddr]) {
        prefixes.iter_mut().for_each(|prefix| *prefix = prefix.trunc());
        prefixes.sort_unstable();
        prefixes.dedup();
        let (lpm, parents) = Lpm::build(prefixes.iter().copied().zip(0..));
        for (prefix, &parent) in prefixes.iter().zip(&parents) {
            let wider = prefixes.iter().filter(|other| *other != prefix && other.contains(prefix));
            let expected = wider.max_by_key(|other| other.prefix_len());
            assert_eq!(prefixes.get(parent as usize), expected, "parent of {prefix}");
        }
        let edges = prefixes.iter().flat_map(|prefix| [prefix.network(), prefix.broadcast()]);
        let around = edges.flat_map(|edge| match edge {
            IpAddr::V4(edge) => {
                [-1i32, 0, 1].map(|step| Ipv4Addr::from_bits(edge.to_bits().wrapping_add_signed(step)).into())
            }
            IpAddr::V6(edge) => [-1i128, 0, 1]
                .map(|step| Ipv6Addr::from_bits(edge.to_bits().wrapping_add_signed(step)).into()),
        });
        for address in around.chain(addresses.iter().copied()) {
            let holding = prefixes.iter().filter(|prefix| prefix.contains(&address));
            let expected = holding.max_by_key(|prefix| prefix.prefix_len());
            assert_eq!(prefixes.get(lpm.lookup(address) as usize), expected, "{address}");
        }
    }

    proptest! {
        #[test]
        fn the_longest_prefix_is_found(
            v4 in prop::collection::vec((0u32..4, any::<u32>(), 0u8..=32), 0..60),
            v6 in prop::collection::vec((0u32..4, any::<u128>(), 0u8..=128), 0..60),
            narrow in 0u32..5,
            any4 in prop::collection::vec(any::<u32>(), 20),
            any6 in prop::collection::vec(any::<u128>(), 20),
        ) {
            // Clusters: most bits equal, so that tables nest.
            let v4 = v4.iter().map(|&(spread, bits, len)| {
                let bits = 0x0a00_0000 | (bits >> (8 + spread * narrow));
                IpNet::new(Ipv4Addr::from_bits(bits).into(), len).unwrap()
            });
            let v6 = v6.iter().map(|&(spread, bits, len)| {
                let bits = (0x2001_0db8 << 96) | (bits >> (32 + spread * narrow * 6));
                IpNet::new(Ipv6Addr::from_bits(bits).into(), len).unwrap()
            });
            let any4 = any4.iter().map(|&bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
            let any6 = any6.iter().map(|&bits| IpAddr::from(Ipv6Addr::from_bits(bits)));
            check(v4.chain(v6).collect(), &any4.chain(any6).collect::<Vec<_>>());
        }
    }

    #[test]
    fn dense_clusters_and_the_ends_of_the_address_space_are_found() {
        let dense = (0..3000u32).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n));
        let dense = dense.map(|address| IpNet::from(IpAddr::from(address)));
        let ends = ["0.0.0.0/0", "0.0.0.0/32", "255.255.255.255/32", "::/0", "::/128", "ff00::/8"];
        let ends = ends.iter().map(|text| text.parse().unwrap());
        check(dense.chain(ends).collect(), &[]);
        check(Vec::new(), &["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()]);
    }
}
