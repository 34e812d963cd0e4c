//! `fairway show counters` and `show drops`.

use core::cmp::Reverse;

use fairway_router::api::{Counter, Drop, Nothing, Request, Response, Show};
use fairway_types::DropReason;

use super::{connect, end, present, seconds};
use crate::args::{ShowCounters, ShowDrops};
use crate::failure::Failure;
use crate::table::{Column, Table, paragraph};
use crate::units;

/// Shows counters.
pub fn counters(args: &ShowCounters) -> Result<(), Failure> {
    let mut router = connect(&args.plain)?;
    let mut counters = match router.ask(&Request::Show(Show::Counters(Nothing {})))? {
        Response::Counters(counters) => counters,
        other => return Err(router.unexpected(&other)),
    };
    counters.retain(|counter| args.all || counter.value > 0);
    present(&args.plain, &counters, |counters| counters_table(counters, args.explain))
}

/// Shows drops.
pub fn drops(args: &ShowDrops) -> Result<(), Failure> {
    let mut router = connect(&args.plain)?;
    let answered = match router.ask(&Request::Show(Show::Drops(Nothing {})))? {
        Response::Drops(drops) => drops,
        other => return Err(router.unexpected(&other)),
    };
    let drops = arranged(answered, args.all);
    present(&args.plain, &drops, |drops| drops_table(drops, args.explain))
}

/// Most frequent first; with `all`, also the reasons that never occurred, in their own order.
pub fn arranged(mut drops: Vec<Drop>, all: bool) -> Vec<Drop> {
    drops.retain(|drop| drop.count > 0);
    drops.sort_by(|a, b| (Reverse(a.count), &a.reason).cmp(&(Reverse(b.count), &b.reason)));
    if all {
        let missing = |reason: &&DropReason| !drops.iter().any(|drop| drop.reason == reason.name());
        let zeros: Vec<Drop> = DropReason::ALL
            .iter()
            .filter(missing)
            .map(|reason| Drop {
                reason: reason.name().to_owned(),
                culprit: reason.culprit().name().to_owned(),
                count: 0,
                help: reason.help().trim().to_owned(),
                last: None,
            })
            .collect();
        drops.extend(zeros);
    }
    drops
}

/// The table of `show counters`.
pub fn counters_table(counters: &[Counter], explain: bool) -> String {
    if counters.is_empty() {
        return "nothing was counted yet; --all shows every counter\n".to_owned();
    }
    if explain {
        let lines = counters.iter().map(|counter| {
            paragraph(0, &counter.name, 26, &format!("{}: {}", counter.value, counter.help.trim()))
        });
        return lines.collect();
    }
    let mut table = Table::new(&[Column::text("COUNTER"), Column::number("VALUE"), Column::number("")]);
    for counter in counters {
        let size =
            if counter.name.starts_with("bytes") { units::bytes(counter.value) } else { String::new() };
        table.continued([counter.name.clone(), counter.value.to_string(), size]);
    }
    table.render()
}

/// The table of `show drops`: reason, count, and the last example.
pub fn drops_table(drops: &[Drop], explain: bool) -> String {
    if drops.is_empty() {
        return "nothing was dropped\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::text("REASON"),
        Column::number("COUNT"),
        Column::number("LAST"),
        Column::name("ON"),
        Column::text("PROTO"),
        Column::text("SOURCE"),
        Column::text("DESTINATION"),
    ]);
    for drop in drops {
        let last = drop.last.as_ref();
        let protocol = last.and_then(|last| last.protocol.clone()).unwrap_or_default();
        table.row([
            drop.reason.clone(),
            units::count(drop.count),
            last.map(|last| seconds(last.age_seconds)).unwrap_or_default(),
            last.and_then(|last| last.interface.clone()).unwrap_or_default(),
            protocol.clone(),
            last.and_then(|last| last.source).map(|source| end(source, &protocol)).unwrap_or_default(),
            last.and_then(|last| last.destination).map(|to| end(to, &protocol)).unwrap_or_default(),
        ]);
    }
    let mut text = table.render();
    if explain {
        text.push('\n');
        text.extend(drops.iter().map(|drop| {
            paragraph(0, &drop.reason, 26, &format!("{} Cause: {}.", drop.help.trim(), drop.culprit))
        }));
    }
    text
}
