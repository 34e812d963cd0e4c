//! Which worker a packet belongs to.
//!
//! Several workers share the sessions of a router. Whose a session is follows from its original
//! tuple, and does not depend on direction. Where a tuple that packets arrive with leads elsewhere,
//! that is an exception, which is kept beside.

use core::net::IpAddr;

use crate::{Protocol, Tuple};

/// How many classes tuples fall into; more workers than that have nothing to do.
pub const CLASSES: u8 = 64;

/// The odd number nearest to 2³² divided by the golden ratio: numbers that follow one another are
/// spread by a multiplication with it.
pub const SPREAD: u32 = 0x9e37_79b1;

/// One of the workers of a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u8);

impl WorkerId {
    /// The place in a list of all workers.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whose a class is when there are so many workers.
    #[must_use]
    pub const fn of_class(class: u8, workers: u8) -> Self {
        Self(if workers == 0 { 0 } else { class % workers })
    }
}

/// The class of a tuple, below [`CLASSES`], the same for both directions.
///
/// Addresses are those of IPv6, or IPv4-mapped. Ports are those of TCP and UDP, or twice the
/// identifier of an ICMP echo; of what has none, and of fragments, they are 0.
#[must_use]
pub fn class(a: &[u8; 16], b: &[u8; 16], ports: (u16, u16), protocol: Protocol) -> u8 {
    Classes::between(a, b, protocol).of_ports(ports)
}

/// The classes of the tuples between two addresses, which differ in their ports.
#[derive(Clone, Copy, Debug)]
pub struct Classes(u32);

impl Classes {
    /// Addresses as in [`class`].
    #[must_use]
    pub fn between(a: &[u8; 16], b: &[u8; 16], protocol: Protocol) -> Self {
        let words = a.as_chunks::<4>().0.iter().chain(b.as_chunks::<4>().0);
        let addresses = words.fold(0, |sum, word| sum ^ u32::from_be_bytes(*word));
        Self(addresses ^ u32::from(protocol.0) << 24)
    }

    /// The class of the tuple with these ports.
    #[must_use]
    pub const fn of_ports(self, ports: (u16, u16)) -> u8 {
        let mixed = (self.0 ^ (ports.0 as u32 + ports.1 as u32)).wrapping_mul(SPREAD);
        (mixed >> 26) as u8
    }
}

/// [`class`] of a tuple.
#[must_use]
pub fn class_of(tuple: &Tuple) -> u8 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let (source, destination) = (tuple.source, tuple.destination);
    class(
        &octets(source.ip()),
        &octets(destination.ip()),
        (source.port(), destination.port()),
        tuple.protocol,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: &str, destination: &str) -> Tuple {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Tuple { source, destination, protocol: Protocol::TCP }
    }

    #[test]
    fn both_directions_are_of_one_class() {
        for (a, b) in [("10.0.0.1:4000", "10.0.9.1:443"), ("[2001:db8::1]:4000", "[2001:db8:9::1]:53")] {
            assert_eq!(class_of(&tuple(a, b)), class_of(&tuple(b, a)));
        }
    }

    #[test]
    fn ports_that_follow_one_another_are_spread_evenly() {
        // Linux gives connections ports of one parity.
        for step in [1, 2, 4] {
            for workers in [2, 3, 4, 8, 16] {
                let mut counts = vec![0u32; usize::from(workers)];
                for number in 0..8192u16 {
                    let source = format!("10.0.0.1:{}", 32_768 + number * step);
                    let class = class_of(&tuple(&source, "10.0.9.1:443"));
                    assert!(class < CLASSES);
                    counts[WorkerId::of_class(class, workers).index()] += 1;
                }
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(most * 4 <= least * 5, "step {step}, {workers} workers: {counts:?}");
            }
        }
    }
}
