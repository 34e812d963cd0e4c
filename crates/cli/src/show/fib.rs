//! `fairway show fib`.

use fairway_router::api::{FibFilter, FibQuery, FibRow, Page, Response, Show, Way};
use fairway_types::Protocol;

use super::{connect, footer, present};
use crate::args::ShowFib;
use crate::failure::Failure;
use crate::table::{Column, Table};

/// Shows the FIB.
pub fn run(args: &ShowFib) -> Result<(), Failure> {
    let mut router = connect(&args.plain)?;
    let filter =
        FibFilter { tenant: args.tenant.clone(), service: args.service.clone(), destination: args.address };
    let local = args.protocol.is_some() || args.port.is_some();
    // What the router does not filter by is left out here, so more rows have to be looked at.
    let looked_at = if local { 100_000.max(args.limit) } else { args.limit };
    let ask = |cursor, limit| Show::Fib(FibQuery { filter: filter.clone(), cursor, limit: Some(limit) });
    let page = |response| match response {
        Response::Fib(page) => Ok::<Page<FibRow>, Response>(page),
        other => Err(other),
    };
    let (mut rows, mut more) = router.pages(looked_at, ask, page)?;
    rows.retain(|row| holds(row, args.protocol, args.port));
    more |= rows.len() > args.limit;
    rows.truncate(args.limit);
    present(&args.plain, &rows, |rows| table(rows) + &footer(rows.len(), more, "row", "rows"))
}

fn holds(row: &FibRow, protocol: Option<u8>, port: Option<u16>) -> bool {
    let protocol = protocol.map(|number| Protocol(number).to_string());
    let same = match (&protocol, &row.protocol) {
        (Some(wanted), Some(protocol)) => wanted == protocol,
        _ => true,
    };
    same && port.is_none_or(|port| (row.first_port..=row.last_port).contains(&port))
}

/// The table of `show fib`.
pub fn table(rows: &[FibRow]) -> String {
    let mut table = Table::new(&[
        Column::text("PREFIX"),
        Column::text("PROTO"),
        Column::text("PORTS"),
        Column::name("SERVICE"),
        Column::name("TENANT"),
        Column::text("FROM"),
        Column::text("ACCESS"),
        Column::name("ROUTE"),
        Column::name("VIA"),
        Column::number("COST"),
    ]);
    for row in rows {
        let route = row.route.as_ref();
        table.row([
            row.prefix.to_string(),
            row.protocol.clone().unwrap_or_else(|| "any".to_owned()),
            ports(row),
            row.service.clone(),
            row.tenant.clone(),
            row.source.map_or_else(|| "any".to_owned(), |source| source.to_string()),
            if row.permit { "allow" } else { "deny" }.to_owned(),
            route.map(|way| way.route.clone()).unwrap_or_default(),
            route.map_or_else(|| "no route".to_owned(), via),
            route.map(|way| way.cost.to_string()).unwrap_or_default(),
        ]);
    }
    table.render()
}

fn ports(row: &FibRow) -> String {
    match (row.first_port, row.last_port) {
        (0, u16::MAX) => "any".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

/// Where a way leads: `peer dc1`, `lan0 by 10.0.0.254`, `lan0`, `local`.
fn via(way: &Way) -> String {
    let mut text = match (&way.peer, &way.interface, way.gateway) {
        (Some(peer), _, _) => format!("peer {peer}"),
        (None, Some(interface), Some(gateway)) => format!("{interface} by {gateway}"),
        (None, Some(interface), None) => interface.clone(),
        (None, None, _) => "local".to_owned(),
    };
    if way.up == Some(false) {
        text.push_str(" (down)");
    }
    text
}
