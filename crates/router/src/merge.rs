//! What several workers know, as if it were one's.

use core::net::IpAddr;

use fairway_io::PortStatus;
use fairway_session::{DropRecord, LimitScope, LimitView, WaypointUsage};
use fairway_types::{Counters, InterfaceId};

/// The sum of all counters.
pub(crate) fn counters<'a>(each: impl Iterator<Item = &'a Counters>) -> Counters {
    let mut sum = Counters::default();
    for counters in each {
        counters.iter().for_each(|(counter, value)| sum.add(counter, value));
    }
    sum
}

/// Each interface once, with what all workers received and sent on it. State and addresses are the
/// same for all.
pub(crate) fn ports(each: Vec<Vec<PortStatus>>) -> Vec<PortStatus> {
    let mut workers = each.into_iter();
    let mut sum = workers.next().unwrap_or_default();
    for status in workers.flatten() {
        if let Some(port) = sum.iter_mut().find(|port| port.id == status.id) {
            port.statistics.add(&status.statistics);
        }
    }
    sum
}

/// Each path and protocol once.
pub(crate) fn waypoints(each: Vec<Vec<WaypointUsage>>) -> Vec<WaypointUsage> {
    let mut sum: Vec<WaypointUsage> = Vec::new();
    for usage in each.into_iter().flatten() {
        match sum.iter_mut().find(|seen| (seen.path, seen.protocol) == (usage.path, usage.protocol)) {
            Some(seen) => {
                seen.used += usage.used;
                seen.resting += usage.resting;
                seen.capacity = seen.capacity.saturating_add(usage.capacity);
                seen.peak += usage.peak;
                seen.given += usage.given;
                seen.exhausted += usage.exhausted;
                seen.evicted += usage.evicted;
            }
            None => sum.push(usage),
        }
    }
    sum
}

/// Each drop reason once, with its last example.
pub(crate) fn drops(each: Vec<Vec<DropRecord>>) -> Vec<DropRecord> {
    let mut workers = each.into_iter();
    let mut sum = workers.next().unwrap_or_default();
    for record in workers.flatten() {
        if let Some(seen) = sum.iter_mut().find(|seen| seen.reason == record.reason) {
            seen.count += record.count;
            let younger = record.last.filter(|last| seen.last.is_none_or(|seen| seen.at < last.at));
            seen.last = younger.or(seen.last);
        }
    }
    sum
}

/// Each limit once: workers hold shares of it. What a source has is the sum if it is the busiest of
/// several workers.
pub(crate) fn limits(each: Vec<Vec<LimitView>>) -> Vec<LimitView> {
    let mut sum: Vec<LimitView> = Vec::new();
    for view in each.into_iter().flatten() {
        let key = |view: &LimitView| (view.limit.kind, place(&view.limit.scope));
        match sum.iter_mut().find(|seen| key(seen) == key(&view)) {
            Some(seen) => merge_limit(seen, &view),
            None => sum.push(view),
        }
    }
    sum
}

/// Which limit it is, whoever is the busiest source.
fn place(scope: &LimitScope) -> LimitScope {
    match scope {
        LimitScope::Source(_) => LimitScope::Source(None),
        other => *other,
    }
}

fn merge_limit(seen: &mut LimitView, view: &LimitView) {
    let both = |a: Option<u32>, b: Option<u32>| Some(a?.saturating_add(b?));
    seen.most = both(seen.most, view.most);
    seen.allowed += view.allowed;
    seen.refused += view.refused;
    seen.evicted += view.evicted;
    match (source(seen), source(view)) {
        (Some(one), Some(other)) if one != other => {
            if view.now > seen.now {
                (seen.limit, seen.now, seen.peak) = (view.limit, view.now, view.peak);
            }
        }
        (None, Some(_)) => (seen.limit, seen.now, seen.peak) = (view.limit, view.now, view.peak),
        (Some(_), None) if matches!(view.limit.scope, LimitScope::Source(_)) => {}
        _ => {
            seen.now = both(seen.now, view.now);
            seen.peak = both(seen.peak, view.peak);
        }
    }
}

fn source(view: &LimitView) -> Option<(InterfaceId, IpAddr)> {
    match view.limit.scope {
        LimitScope::Source(source) => source,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use fairway_session::{Limit, LimitKind};

    use super::*;

    fn view(scope: LimitScope, now: u32) -> LimitView {
        LimitView {
            limit: Limit { scope, kind: LimitKind::Sessions },
            most: Some(50),
            now: Some(now),
            peak: Some(now + 1),
            allowed: 7,
            refused: 1,
            evicted: 0,
        }
    }

    #[test]
    fn shares_of_a_limit_are_added_up() {
        let merged = limits(vec![vec![view(LimitScope::Router, 3)], vec![view(LimitScope::Router, 4)]]);
        let [one] = &merged[..] else { panic!("{merged:?}") };
        assert_eq!((one.most, one.now, one.peak, one.allowed), (Some(100), Some(7), Some(9), 14));
    }

    #[test]
    fn the_busiest_source_is_that_of_all_workers() {
        let source = |last| LimitScope::Source(Some((InterfaceId(0), IpAddr::from([10, 0, 0, last]))));
        let merge = |a, b| limits(vec![vec![a], vec![b]]);
        let merged = merge(view(source(1), 3), view(source(2), 9));
        assert_eq!((merged[0].limit.scope, merged[0].now), (source(2), Some(9)));
        let merged = merge(view(source(1), 3), view(source(1), 9));
        assert_eq!((merged.len(), merged[0].now), (1, Some(12)));
        let merged = merge(view(LimitScope::Source(None), 0), view(source(1), 9));
        assert_eq!((merged[0].limit.scope, merged[0].now), (source(1), Some(9)));
    }
}
