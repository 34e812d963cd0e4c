//! `fairway show sessions` and `show flows`.

use core::cmp::Reverse;

use fairway_router::api::{Flow, Leg, Page, ProtocolName, Response, Session, SessionQuery, Show};
use fairway_types::Protocol;

use super::{connect, end, footer, present, seconds};
use crate::args::{SessionFilter, SessionOrder, ShowSessions};
use crate::client::Connection;
use crate::failure::Failure;
use crate::table::{Column, Table, paragraph};
use crate::units;

/// So many sessions are looked at, at most, to find the first ones of an order.
const LOOKED_AT: usize = 50_000;
/// Characters of a UUID in a table; `--uuid` takes them.
const SHORT_UUID: usize = 8;

/// Shows sessions.
pub fn sessions(args: &ShowSessions) -> Result<(), Failure> {
    let mut router = connect(&args.plain)?;
    let (mut sessions, mut more) = find(&mut router, &args.filter, LOOKED_AT.max(args.limit))?;
    sort(&mut sessions, args.sort);
    more |= sessions.len() > args.limit;
    sessions.truncate(args.limit);
    let one = args.filter.uuid.is_some() && sessions.len() == 1;
    present(&args.plain, &sessions, |sessions| match sessions.as_slice() {
        [session] if one => detail(session),
        sessions => table(sessions) + &footer(sessions.len(), more, "session", "sessions"),
    })
}

/// Shows the flows of sessions.
pub fn flows(args: &ShowSessions) -> Result<(), Failure> {
    let mut router = connect(&args.plain)?;
    let (mut flows, mut more) = (Vec::new(), false);
    for filter in api_filters(&args.filter) {
        let ask =
            |cursor, limit| Show::Flows(SessionQuery { filter: filter.clone(), cursor, limit: Some(limit) });
        let page = |response| match response {
            Response::Flows(page) => Ok::<Page<Flow>, Response>(page),
            other => Err(other),
        };
        let (found, rest) = router.pages(LOOKED_AT.max(args.limit), ask, page)?;
        flows.extend(found);
        more |= rest;
    }
    flows.retain(|flow| matches_uuid(&args.filter, &flow.session));
    // Both flows of a session stay together, the forward one first.
    flows.sort_by(|a, b| {
        (&a.service, &a.tenant, &a.session, &a.direction).cmp(&(
            &b.service,
            &b.tenant,
            &b.session,
            &b.direction,
        ))
    });
    flows.dedup_by(|a, b| a.session == b.session && a.direction == b.direction);
    more |= flows.len() > args.limit;
    flows.truncate(args.limit);
    present(&args.plain, &flows, |flows| flows_table(flows) + &footer(flows.len(), more, "flow", "flows"))
}

/// The sessions that a filter describes, at most `limit`, and whether there are more.
///
/// # Errors
/// When the router refuses.
pub fn find(
    router: &mut Connection,
    filter: &SessionFilter,
    limit: usize,
) -> Result<(Vec<Session>, bool), Failure> {
    let (mut sessions, mut more) = (Vec::new(), false);
    for query in api_filters(filter) {
        let ask = |cursor, limit| {
            Show::Sessions(SessionQuery { filter: query.clone(), cursor, limit: Some(limit) })
        };
        let page = |response| match response {
            Response::Sessions(page) => Ok::<Page<Session>, Response>(page),
            other => Err(other),
        };
        let (found, rest) = router.pages(limit, ask, page)?;
        sessions.extend(found);
        more |= rest;
    }
    sessions.retain(|session| matches_uuid(filter, &session.uuid));
    if filter.address.is_some() {
        // A session between two hosts of the prefix was found twice.
        sessions.sort_by(|a, b| a.uuid.cmp(&b.uuid));
        sessions.dedup_by(|a, b| a.uuid == b.uuid);
    }
    Ok((sessions, more))
}

/// The filters of the API that together find what the options describe: one, or two for an address
/// on either side.
pub fn api_filters(filter: &SessionFilter) -> Vec<fairway_router::api::SessionFilter> {
    let whole = filter.uuid.as_ref().filter(|uuid| digits(uuid).len() == 32);
    let base = fairway_router::api::SessionFilter {
        uuid: whole.cloned(),
        tenant: filter.tenant.clone(),
        service: filter.service.clone(),
        peer: filter.peer.clone(),
        interface: filter.interface.clone(),
        protocol: filter.protocol.map(|number| ProtocolName(Protocol(number))),
        source: filter.source,
        destination: filter.destination,
        port: filter.port,
    };
    match filter.address {
        None => vec![base],
        Some(address) => vec![
            fairway_router::api::SessionFilter { source: Some(address), ..base.clone() },
            fairway_router::api::SessionFilter { destination: Some(address), ..base },
        ],
    }
}

/// Whether a UUID begins as the option says.
fn matches_uuid(filter: &SessionFilter, uuid: &str) -> bool {
    filter.uuid.as_ref().is_none_or(|wanted| digits(uuid).starts_with(&digits(wanted)))
}

fn digits(uuid: &str) -> String {
    uuid.chars().filter(|&c| c != '-').map(|c| c.to_ascii_lowercase()).collect()
}

fn sort(sessions: &mut [Session], order: SessionOrder) {
    let ends = |s: &Session| (s.protocol.clone(), s.source, s.destination);
    match order {
        SessionOrder::Bytes => {
            sessions.sort_by_cached_key(|s| (Reverse(s.forward.bytes + s.reverse.bytes), ends(s)))
        }
        SessionOrder::Age => sessions.sort_by(|a, b| a.age_seconds.total_cmp(&b.age_seconds)),
        SessionOrder::Idle => sessions.sort_by(|a, b| a.idle_seconds.total_cmp(&b.idle_seconds)),
        SessionOrder::Service => {
            sessions.sort_by_cached_key(|s| (s.service.clone(), s.tenant.clone(), ends(s)))
        }
        SessionOrder::Tenant => {
            sessions.sort_by_cached_key(|s| (s.tenant.clone(), s.service.clone(), ends(s)))
        }
    }
}

/// The table of `show sessions`.
pub fn table(sessions: &[Session]) -> String {
    let mut table = Table::new(&[
        Column::name("SERVICE"),
        Column::name("TENANT"),
        Column::text("PROTO"),
        Column::text("SOURCE"),
        Column::text("DESTINATION"),
        Column::name("PATH"),
        Column::text("PAYLOAD"),
        Column::number("SENT"),
        Column::number("RECEIVED"),
        Column::text("UUID"),
    ]);
    for session in sessions {
        table.row([
            session.service.clone(),
            session.tenant.clone().unwrap_or_default(),
            session.protocol.clone(),
            end(session.source, &session.protocol),
            end(session.destination, &session.protocol),
            format!("{}→{}", side(&session.initiator), side(&session.responder)),
            payload(session),
            units::bytes(session.forward.bytes),
            units::bytes(session.reverse.bytes),
            session.uuid.chars().take(SHORT_UUID).collect(),
        ]);
    }
    table.render()
}

/// How payload is protected, in a word.
fn payload(session: &Session) -> String {
    let Some(protection) = &session.protection else { return "plain".to_owned() };
    let ways = [&protection.forward, &protection.reverse];
    if ways.iter().any(|way| *way == "sealed") {
        protection
            .cipher
            .split('-')
            .find(|part| ["gcm", "cbc", "hmac"].contains(part))
            .unwrap_or("sealed")
            .to_owned()
    } else if ways.iter().any(|way| *way == "clear") {
        "clear".to_owned()
    } else {
        String::new()
    }
}

/// Who forwards it, and why not the kernel if that was asked to.
fn handled_by(session: &Session) -> String {
    match &session.kernel_refused {
        Some(why) => format!("{} ({why})", session.forwarded_by),
        None => session.forwarded_by.clone(),
    }
}

/// How payload is protected, in full.
fn payload_in_full(session: &Session) -> String {
    let Some(protection) = &session.protection else { return "travels as it is".to_owned() };
    let say = |way: &str| match way {
        "clear" => "encrypted by the hosts already, and left so".to_owned(),
        "undecided" => "none seen yet".to_owned(),
        _ => protection.cipher.clone(),
    };
    let [forward, reverse] = [&protection.forward, &protection.reverse].map(|way| say(way));
    if forward == reverse { forward } else { format!("sent: {forward}; received: {reverse}") }
}

/// Whom a leg leads to: a peer, or the hosts behind an interface.
fn side(leg: &Leg) -> &str {
    leg.peer.as_deref().unwrap_or(&leg.interface)
}

/// Everything about one session.
pub fn detail(session: &Session) -> String {
    let or_none = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
    let traffic = |traffic: &fairway_router::api::Traffic| {
        format!("{} in {} packets", units::bytes(traffic.bytes), units::count(traffic.packets))
    };
    let lines = [
        ("session", session.uuid.clone()),
        ("service", session.service.clone()),
        ("tenant", or_none(&session.tenant)),
        (
            "flow",
            format!(
                "{} {} → {}",
                session.protocol,
                end(session.source, &session.protocol),
                end(session.destination, &session.protocol)
            ),
        ),
        ("state", session.state.clone()),
        ("handled by", handled_by(session)),
        ("this router", session.role.clone()),
        ("entered at", or_none(&session.ingress_router)),
        ("from", leg(&session.initiator)),
        ("to", leg(&session.responder)),
        ("route", or_none(&session.route)),
        ("payload", payload_in_full(session)),
        ("sent", traffic(&session.forward)),
        ("received", traffic(&session.reverse)),
        (
            "time",
            format!(
                "{} old, idle {}, ends in {} if idle",
                seconds(session.age_seconds),
                seconds(session.idle_seconds),
                seconds(session.remaining_seconds)
            ),
        ),
    ];
    lines.iter().map(|(label, value)| paragraph(0, label, 12, &units::printable(value))).collect()
}

fn leg(leg: &Leg) -> String {
    let ends =
        format!("{} {} ↔ {}", leg.protocol, end(leg.local, &leg.protocol), end(leg.remote, &leg.protocol));
    match &leg.peer {
        Some(peer) => {
            let handshake = leg.handshake.as_deref().unwrap_or("unknown");
            format!("peer {peer} by {}, waypoints {ends}, metadata {handshake}", leg.interface)
        }
        None => {
            let hop = leg.next_hop.map_or_else(String::new, |hop| format!(", next hop {hop}"));
            format!("hosts by {}, {ends}{hop}", leg.interface)
        }
    }
}

/// The table of `show flows`: on the first line what is matched, on the second what leaves.
pub fn flows_table(flows: &[Flow]) -> String {
    let mut table = Table::new(&[
        Column::text("UUID"),
        Column::text("FLOW"),
        Column::name("FROM"),
        Column::text("PROTO"),
        Column::text("SOURCE"),
        Column::text("DESTINATION"),
        Column::number("PACKETS").on_next_line(),
        Column::number("BYTES"),
        Column::name("TO"),
        Column::text("PROTO"),
        Column::text("SOURCE"),
        Column::text("DESTINATION"),
    ]);
    let whom = |end: &fairway_router::api::FlowEnd| match &end.peer {
        Some(peer) => format!("{peer} ({})", end.interface),
        None => end.interface.clone(),
    };
    for flow in flows {
        let (ingress, egress) = (&flow.ingress, &flow.egress);
        table.row([
            flow.session.chars().take(SHORT_UUID).collect(),
            flow.direction.clone(),
            whom(ingress),
            ingress.protocol.clone(),
            end(ingress.source, &ingress.protocol),
            end(ingress.destination, &ingress.protocol),
            units::count(flow.traffic.packets),
            units::bytes(flow.traffic.bytes),
            whom(egress),
            egress.protocol.clone(),
            end(egress.source, &egress.protocol),
            end(egress.destination, &egress.protocol),
        ]);
    }
    table.render()
}
