//! `fairway show limits`.

use core::cmp::Reverse;

use fairway_router::api::{Limit, Nothing, Request, Response, Show};

use super::{connect, present};
use crate::args::ShowLimits;
use crate::failure::Failure;
use crate::table::{Column, Table, paragraph};
use crate::units;

/// Shows limits.
pub fn run(args: &ShowLimits) -> Result<(), Failure> {
    let mut router = connect(&args.plain)?;
    let limits = match router.ask(&Request::Show(Show::Limits(Nothing {})))? {
        Response::Limits(limits) => limits,
        other => return Err(router.unexpected(&other)),
    };
    present(&args.plain, &arranged(limits, args.all), |limits| limits_table(limits))
}

/// Nearest to the limit first, and of two that are as near the one that refused more. Without `all`,
/// tenants, peers and paths that never had anything are left out.
pub fn arranged(mut limits: Vec<Limit>, all: bool) -> Vec<Limit> {
    limits.retain(|limit| {
        let own = limit.scope == "router" || limit.scope == "source";
        all || own || limit.allowed > 0 || limit.refused > 0
    });
    limits.sort_by_key(|limit| Reverse((nearness(limit), limit.refused)));
    limits
}

/// How much of the limit is used, in millionths.
fn nearness(limit: &Limit) -> u64 {
    let (now, most) = (limit.now.unwrap_or(0), limit.most.unwrap_or(u32::MAX));
    u64::from(now) * 1_000_000 / u64::from(most.max(1))
}

/// The table of `show limits`, and under it whose the numbers of sources are.
pub fn limits_table(limits: &[Limit]) -> String {
    let mut table = Table::new(&[
        Column::text("LIMIT"),
        Column::text("SCOPE"),
        Column::name("NAME"),
        Column::number("MOST"),
        Column::number("NOW"),
        Column::number("PEAK"),
        Column::number("ALLOWED"),
        Column::number("REFUSED"),
        Column::number("EVICTED"),
    ]);
    for limit in limits {
        let number = |value: Option<u32>| value.map_or_else(String::new, |value| value.to_string());
        table.row([
            limit.limit.clone(),
            limit.scope.clone(),
            name(limit),
            number(limit.most),
            number(limit.now),
            number(limit.peak),
            units::count(limit.allowed),
            units::count(limit.refused),
            units::count(limit.evicted),
        ]);
    }
    let mut text = table.render();
    text.push_str("rates are a second\n");
    for limit in limits.iter().filter(|limit| limit.scope == "source") {
        if let (Some(source), Some(now)) = (&limit.name, limit.now) {
            let words = format!("the source with the most {}: {source} ({now})", limit.limit);
            text.push_str(&paragraph(0, "", 0, &units::printable(&words)));
        }
    }
    text
}

fn name(limit: &Limit) -> String {
    match (limit.scope.as_str(), &limit.name) {
        ("source", _) => "(each)".to_owned(),
        ("tenant", None) => "(none)".to_owned(),
        (_, name) => name.clone().unwrap_or_default(),
    }
}
