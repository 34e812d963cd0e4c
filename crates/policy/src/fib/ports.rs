//! The ports of one protocol at one prefix, cut into disjoint ranges that each know the services of
//! the most specific transport.

use std::collections::BTreeSet;

use fairway_types::PortRange;

/// One transport of one service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) ports: PortRange,
    pub(super) service: u32,
}

/// Ports and the services, by name, whose transport is the most specific one there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) services: Vec<u32>,
}

/// Cuts the claims, which are sorted by ports and then by the name of the service, and hands each
/// cut to `emit`, in ascending order, until it fails.
pub(super) fn cut<E>(claims: &[Claim], mut emit: impl FnMut(Cut) -> Result<(), E>) -> Result<(), E> {
    let disjoint = claims.windows(2).all(|pair| match pair {
        [one, two] => one.ports == two.ports || one.ports.last() < two.ports.first(),
        _ => true,
    });
    let ranges: Vec<&[Claim]> = claims.chunk_by(|one, two| one.ports == two.ports).collect();
    if disjoint {
        for range in ranges {
            let Some(ports) = range.first().map(|claim| claim.ports) else { continue };
            let services = range.iter().map(|claim| claim.service).collect();
            emit(Cut { first: ports.first(), last: ports.last(), services })?;
        }
        return Ok(());
    }
    cut_overlapping(&ranges, emit)
}

/// Walks over all ports at which a range begins or ends, with the set of ranges open there.
fn cut_overlapping<E>(ranges: &[&[Claim]], mut emit: impl FnMut(Cut) -> Result<(), E>) -> Result<(), E> {
    let ports = |index: usize| ranges.get(index).and_then(|range| range.first()).map(|claim| claim.ports);
    // Begins come in order of `ranges`; ends are sorted apart. `ends` holds the port behind a range.
    let mut ends: Vec<(u32, usize)> = (0..ranges.len())
        .filter_map(|index| ports(index).map(|ports| (u32::from(ports.last()) + 1, index)))
        .collect();
    ends.sort_unstable();
    let mut points: Vec<u32> = ends.iter().map(|&(end, _)| end).collect();
    points.extend((0..ranges.len()).filter_map(|index| ports(index).map(|ports| u32::from(ports.first()))));
    points.sort_unstable();
    points.dedup();

    let mut open: BTreeSet<(u32, usize)> = BTreeSet::new();
    let (mut begun, mut ended) = (0, 0);
    for (at, point) in points.iter().enumerate() {
        while let Some(&(_, index)) = ends.get(ended).filter(|(end, _)| end <= point) {
            open.remove(&(ports(index).map_or(0, PortRange::count), index));
            ended += 1;
        }
        while let Some(begin) = ports(begun).filter(|begin| u32::from(begin.first()) <= *point) {
            open.insert((begin.count(), begun));
            begun += 1;
        }
        let (Some(&(narrowest, _)), Some(next)) = (open.first(), points.get(at + 1)) else { continue };
        let (Ok(first), Ok(last)) = (u16::try_from(*point), u16::try_from(next - 1)) else { continue };
        let most_specific = open.iter().take_while(|(count, _)| *count == narrowest);
        let services =
            most_specific.filter_map(|&(_, index)| ranges.get(index)).flat_map(|range| range.iter());
        emit(Cut { first, last, services: services.map(|claim| claim.service).collect() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn cuts(claims: &[(u16, u16, u32)]) -> Vec<(u16, u16, Vec<u32>)> {
        let mut claims: Vec<_> = claims
            .iter()
            .map(|&(first, last, service)| Claim { ports: PortRange::new(first, last).unwrap(), service })
            .collect();
        claims.sort_by_key(|claim| (claim.ports, claim.service));
        let mut cuts = Vec::new();
        let result = cut(&claims, |cut| {
            cuts.push((cut.first, cut.last, cut.services));
            Ok::<(), Infallible>(())
        });
        assert!(result.is_ok());
        cuts
    }

    #[test]
    fn the_narrowest_range_holds_its_ports() {
        assert_eq!(cuts(&[(443, 443, 7)]), [(443, 443, vec![7])]);
        assert_eq!(cuts(&[(80, 80, 1), (80, 80, 2), (90, 95, 3)]), [(80, 80, vec![1, 2]), (90, 95, vec![3])]);
        assert_eq!(
            cuts(&[(0, 65535, 1), (80, 80, 2), (65535, 65535, 3)]),
            [(0, 79, vec![1]), (80, 80, vec![2]), (81, 65534, vec![1]), (65535, 65535, vec![3])]
        );
        assert_eq!(
            cuts(&[(10, 19, 1), (15, 24, 2)]),
            [(10, 14, vec![1]), (15, 19, vec![1, 2]), (20, 24, vec![2])]
        );
    }

    proptest! {
        #[test]
        fn every_port_knows_its_most_specific_claims(
            claims in prop::collection::vec((0u16..40, 0u16..20, 0u32..5), 0..12),
        ) {
            let claims: Vec<_> = claims.iter().map(|&(first, more, s)| (first, first + more, s)).collect();
            let cuts = cuts(&claims);
            for port in 0..70u16 {
                let holding = || claims.iter().filter(|claim| claim.0 <= port && port <= claim.1);
                let narrowest = holding().map(|claim| claim.1 - claim.0).min();
                let mut expected: Vec<u32> =
                    holding().filter(|claim| Some(claim.1 - claim.0) == narrowest).map(|claim| claim.2).collect();
                expected.sort_unstable();
                let mut found: Vec<u32> = cuts.iter().filter(|cut| cut.0 <= port && port <= cut.1)
                    .flat_map(|cut| cut.2.iter().copied()).collect();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
            }
            prop_assert!(cuts.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
