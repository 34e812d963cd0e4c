//! From a request to its answer.

use std::sync::Arc;

use fairway_policy::FibTenant;
use fairway_session::{SessionFilter as EngineFilter, SessionView};
use fairway_types::model::RouterModel;
use fairway_types::{IpNet, Now, PortRange};

use super::request::{
    Delete, FibFilter, FibQuery, LookupQuery, OffloadRequest, Request, SessionFilter, SessionQuery, Show,
};
use super::types::{Deleted, ErrorBody, FibRow, OffloadState, Page, Response, Status, Workers};
use super::{DEFAULT_PAGE, MAX_PAGE};
use crate::command::Unanswered;
use crate::control::Control;
use crate::{facts, views};

/// Sessions asked of a worker at once.
const AT_ONCE: usize = 256;
/// Questions to workers for one page; each looks at some thousand places of the table.
const QUESTIONS: usize = 64;

impl From<Unanswered> for ErrorBody {
    fn from(error: Unanswered) -> Self {
        let fix = match error {
            Unanswered::Busy => "ask again in a moment",
            Unanswered::Ended => "start the router again",
            Unanswered::Stuck => "look at the router's log and its load",
        };
        Self::new(error.to_string(), fix)
    }
}

/// Answers everything but captures.
pub(crate) fn answer(control: &Control, request: Request) -> Response {
    let result = match request {
        Request::Show(show) => answer_show(control, show),
        Request::Delete(delete) => delete_sessions(control, &delete).map(Response::Deleted),
        Request::Reload(_) => Ok(match control.reload() {
            Ok(reloaded) => Response::Reloaded(reloaded),
            Err(refused) => Response::Refused(refused),
        }),
        Request::Offload(request) => offload(control, request).map(Response::Offload),
        Request::Capture(_) => Err(ErrorBody::new("a capture is a stream", "use a connection of its own")),
    };
    result.unwrap_or_else(Response::Error)
}

fn answer_show(control: &Control, show: Show) -> Result<Response, ErrorBody> {
    Ok(match show {
        Show::Status(_) => Response::Status(Box::new(status(control)?)),
        Show::Sessions(query) => Response::Sessions(page(control, &query, |model, now, view, items| {
            items.push(views::session(model, now, view));
        })?),
        Show::Flows(query) => {
            // Two flows a session.
            let limit = Some(query.limit.unwrap_or(DEFAULT_PAGE).div_ceil(2));
            Response::Flows(page(control, &SessionQuery { limit, ..query }, |model, _, view, items| {
                items.extend(views::flows(model, view));
            })?)
        }
        Show::Fib(query) => Response::Fib(fib(control, &query)?),
        Show::Peers(_) => {
            Response::Peers(control.crew.leader().ask(|core| views::peers(&core.engine, core.clock.mono()))?)
        }
        Show::Interfaces(_) => Response::Interfaces(facts::gather(control)?.interfaces()),
        Show::Waypoints(_) => Response::Waypoints(facts::gather(control)?.waypoints()),
        Show::Nat(_) => Response::Nat(facts::gather(control)?.nat()),
        Show::Limits(_) => Response::Limits(facts::gather(control)?.limits()),
        Show::Workers(_) => Response::Workers(workers(control)?),
        Show::Counters(_) => Response::Counters(views::counters(&facts::gather(control)?.counters())),
        Show::Drops(_) => {
            let mut drops = facts::gather(control)?.drops();
            drops.retain(|drop| drop.count > 0);
            Response::Drops(drops)
        }
        Show::Lookup(query) => Response::Lookup(Box::new(lookup(control, query)?)),
    })
}

fn offload(control: &Control, request: OffloadRequest) -> Result<OffloadState, ErrorBody> {
    let each = control.crew.ask_each(move |core| {
        core.enable_offload(request.enabled);
        (core.ports.can_offload() && request.enabled, core.engine.offloaded_count() as u64)
    })?;
    Ok(OffloadState {
        enabled: each.iter().all(|(enabled, _)| *enabled),
        sessions: each.iter().map(|(_, sessions)| sessions).sum(),
    })
}

fn status(control: &Control) -> Result<Status, ErrorBody> {
    let (configuration, mut warnings) = control.configuration();
    let facts = facts::gather(control)?;
    let model = facts.model();
    let interfaces = facts.interfaces();
    let peers = &facts.peers;
    for interface in &interfaces {
        if !interface.up {
            warnings.push(format!("interface {} is down or missing", interface.name));
        }
        for address in &interface.missing_addresses {
            warnings.push(format!("device {} does not have the address {address}", interface.device));
        }
    }
    for peer in peers.iter().filter(|peer| !peer.up) {
        warnings.push(format!("no path to {} is up", peer.name));
    }
    let paths = || peers.iter().flat_map(|peer| &peer.paths);
    Ok(Status {
        router: model.router.clone(),
        authority: model.authority.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: views::uptime(control.clock.mono()),
        workers: control.crew.len(),
        sessions: facts.sessions() as u64,
        session_capacity: facts.capacity() as u64,
        interfaces_up: interfaces.iter().filter(|interface| interface.up).count(),
        interfaces: interfaces.len(),
        paths_up: paths().filter(|path| path.up).count(),
        paths: paths().count(),
        configuration,
        warnings,
    })
}

fn workers(control: &Control) -> Result<Workers, ErrorBody> {
    let facts = facts::gather(control)?;
    let steering = facts.steering();
    Ok(Workers {
        workers: facts.workers(),
        steered_flows: steering.placed,
        steering_refused: steering.refused,
    })
}

/// One page of sessions, asked of one worker after the other, a few at a time.
fn page<T>(
    control: &Control,
    query: &SessionQuery,
    convert: impl Fn(&RouterModel, Now, &SessionView, &mut Vec<T>),
) -> Result<Page<T>, ErrorBody> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let mut cursor = query.cursor.unwrap_or(0);
    let (mut items, mut sessions) = (Vec::new(), 0);
    let filter = engine_filter(&query.filter)?;
    for _ in 0..QUESTIONS {
        let room = (limit - sessions).min(AT_ONCE);
        let found = some_sessions(control, &filter, cursor, room)?;
        for view in found.views.iter().filter(|view| matches(&query.filter, &found.snapshot, view)) {
            convert(found.snapshot.model(), found.now, view, &mut items);
            sessions += 1;
        }
        let Some(next) = found.next else { return Ok(Page { items, next: None }) };
        cursor = next;
        if sessions >= limit {
            break;
        }
    }
    Ok(Page { items, next: Some(cursor) })
}

struct Found {
    snapshot: Arc<fairway_policy::Snapshot>,
    now: Now,
    views: Vec<SessionView>,
    next: Option<u64>,
}

fn some_sessions(
    control: &Control,
    filter: &EngineFilter,
    cursor: u64,
    limit: usize,
) -> Result<Found, ErrorBody> {
    // The worker, and the place in its table.
    let (worker, start) = ((cursor >> 32) as usize, cursor as u32);
    let Some(handle) = control.crew.get(worker) else {
        return Err(ErrorBody::new("`show.cursor` is too large", "take it from `next` of the page before"));
    };
    let filter = filter.clone();
    let mut found = handle.ask(move |core| {
        core.report_all_offloads();
        let now = core.clock.now();
        let (views, next) = core.engine.sessions(now, &filter, start, limit);
        Found { snapshot: Arc::clone(core.engine.snapshot()), now, views, next: next.map(u64::from) }
    })?;
    let here = (worker as u64) << 32;
    let further = (worker + 1 < control.crew.len()).then_some(((worker + 1) as u64) << 32);
    found.next = found.next.map(|place| here | place).or(further);
    Ok(found)
}

/// What the engine can hold sessions against; [`matches`] holds the rest.
fn engine_filter(filter: &SessionFilter) -> Result<EngineFilter, ErrorBody> {
    let uuid = match &filter.uuid {
        None => None,
        Some(text) => Some(views::parse_uuid(text).ok_or_else(|| {
            ErrorBody::new(
                "`filter.uuid` is no UUID",
                "give all 32 hexadecimal digits, as `show sessions` does",
            )
        })?),
    };
    let host =
        |prefix: Option<IpNet>| prefix.filter(|p| p.prefix_len() == p.max_prefix_len()).map(|p| p.addr());
    Ok(EngineFilter {
        service: filter.service.clone(),
        tenant: filter.tenant.clone(),
        protocol: filter.protocol.map(|protocol| protocol.0),
        address: host(filter.source).or_else(|| host(filter.destination)),
        port: filter.port.map(PortRange::single),
        peer: filter.peer.clone(),
        uuid,
    })
}

/// Whether the engine's filter says all that the request's does.
fn is_whole(filter: &SessionFilter) -> bool {
    let SessionFilter { uuid: _, tenant: _, service: _, peer: _, protocol: _, .. } = filter;
    filter.interface.is_none()
        && filter.source.is_none()
        && filter.destination.is_none()
        && filter.port.is_none()
}

fn matches(filter: &SessionFilter, snapshot: &fairway_policy::Snapshot, view: &SessionView) -> bool {
    let model = snapshot.model();
    let named = |id| model.interface(id).map(|interface| interface.name.as_str());
    let on = |name: &str| view.legs.iter().any(|leg| named(leg.interface) == Some(name));
    filter.interface.as_deref().is_none_or(on)
        && filter.source.is_none_or(|prefix| prefix.contains(&view.original.source.ip()))
        && filter.destination.is_none_or(|prefix| prefix.contains(&view.original.destination.ip()))
        && filter.port.is_none_or(|port| view.original.destination.port() == port)
}

fn delete_sessions(control: &Control, delete: &Delete) -> Result<Deleted, ErrorBody> {
    let filter = &delete.sessions;
    if filter.is_empty() && !delete.all {
        return Err(ErrorBody::new(
            "`delete.sessions` is empty: it would remove every session",
            "say which sessions, or set `delete.all` to true",
        ));
    }
    let whole = engine_filter(filter)?;
    let mut sessions = 0;
    if is_whole(filter) {
        sessions = delete_matching(control, &whole)?;
    } else {
        let mut cursor = 0;
        loop {
            let found = some_sessions(control, &whole, cursor, AT_ONCE)?;
            for view in found.views.iter().filter(|view| matches(filter, &found.snapshot, view)) {
                let one = EngineFilter { uuid: Some(view.uuid), ..EngineFilter::default() };
                sessions += delete_matching(control, &one)?;
            }
            match found.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
    }
    tracing::info!(sessions, "sessions deleted by an operator");
    Ok(Deleted { sessions })
}

fn delete_matching(control: &Control, filter: &EngineFilter) -> Result<u64, ErrorBody> {
    let mut sessions = 0;
    loop {
        let filter = filter.clone();
        let removed = control.crew.ask_each(move |core| {
            let removed = core.engine.delete(core.clock.now(), &filter, &mut core.batch);
            core.flush();
            removed as u64
        })?;
        let removed: u64 = removed.into_iter().sum();
        if removed == 0 {
            return Ok(sessions);
        }
        sessions += removed;
    }
}

fn fib(control: &Control, query: &FibQuery) -> Result<Page<FibRow>, ErrorBody> {
    let snapshot = control.crew.leader().ask(|core| Arc::clone(core.engine.snapshot()))?;
    let model = snapshot.model();
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let start = usize::try_from(query.cursor.unwrap_or(0)).unwrap_or(usize::MAX);
    let mut rows = snapshot.fib_rows().enumerate().skip(start);
    let mut items = Vec::new();
    while items.len() < limit {
        let Some((_, row)) = rows.next() else { return Ok(Page { items, next: None }) };
        if fib_matches(&query.filter, row.tenant, row.service_name, row.prefix) {
            items.push(views::fib_row(model, &row));
        }
    }
    Ok(Page { items, next: rows.next().map(|(position, _)| position as u64) })
}

fn fib_matches(filter: &FibFilter, tenant: FibTenant<'_>, service: &str, prefix: IpNet) -> bool {
    let tenant = || tenant.to_string();
    filter.tenant.as_ref().is_none_or(|wanted| *wanted == tenant())
        && filter.service.as_deref().is_none_or(|wanted| wanted == service)
        && filter.destination.is_none_or(|wanted| prefix.contains(&wanted))
}

fn lookup(control: &Control, query: LookupQuery) -> Result<super::types::Lookup, ErrorBody> {
    if query.tenant.is_some() && query.interface.is_some() {
        return Err(ErrorBody::new(
            "`show.tenant` and `show.interface` exclude each other",
            "give one of them",
        ));
    }
    if query.from.is_ipv4() != query.to.is_ipv4() {
        return Err(ErrorBody::new(
            "`show.from` and `show.to` are of two families",
            "give two of one family",
        ));
    }
    control.crew.leader().ask(move |core| {
        let snapshot = Arc::clone(core.engine.snapshot());
        let model = snapshot.model();
        let tenant = match (&query.tenant, &query.interface) {
            (Some(name), _) => Some(snapshot.tenant_named(name).ok_or_else(|| {
                ErrorBody::new(format!("there is no tenant `{name}`"), "the configuration lists all tenants")
            })?),
            (None, Some(name)) => {
                let position = model.interfaces.iter().position(|interface| interface.name == *name);
                let id = position.and_then(|index| u16::try_from(index).ok()).ok_or_else(|| {
                    ErrorBody::new(
                        format!("there is no interface `{name}`"),
                        "`fairway show interfaces` lists them",
                    )
                })?;
                snapshot.tenant_of(fairway_types::InterfaceId(id), query.from)
            }
            (None, None) => None,
        };
        let explanation = snapshot.explain(tenant, query.from, query.to, query.protocol.0, query.port);
        Ok(views::lookup(model, explanation, |hop| views::usable(&core.engine, &core.ports, hop, query.to)))
    })?
}
