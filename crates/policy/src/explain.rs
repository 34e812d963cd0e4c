//! Why a decision is what it is, for `fairway trace`.

use core::fmt;

use fairway_types::{PortRange, Protocol, ServiceId};
use ipnet::IpNet;

use crate::decision::{AccessLine, Candidate, CandidateHop, Decision};
use crate::fib::{Hit, Row, ScopeRows};
use crate::snapshot::{Query, Snapshot};

/// How many services that were passed over an explanation lists.
const LISTED: usize = 64;

/// A service with the row of the FIB that it was considered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The service.
    pub service: ServiceId,
    /// Its name.
    pub name: String,
    /// Where it is configured.
    pub origin: String,
    /// The destination prefix.
    pub prefix: IpNet,
    /// The protocol; `None` means every protocol.
    pub protocol: Option<Protocol>,
    /// The destination ports.
    pub ports: PortRange,
}

/// Why a service that holds the destination did not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedReason {
    /// It does not speak the protocol or port.
    OtherTransport,
    /// A service on a longer prefix decided.
    ShorterPrefix,
    /// A service with a more specific transport decided.
    WiderTransport,
    /// A service of the same prefix and transport says more about the source, or comes first by name.
    LessSpecificAccess,
}

impl fmt::Display for PassedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OtherTransport => "does not speak this protocol and port",
            Self::ShorterPrefix => "its prefix is shorter",
            Self::WiderTransport => "its transport is less specific",
            Self::LessSpecificAccess => "its access-policy says less about this source",
        })
    }
}

/// A service that holds the destination but did not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The service and its row.
    pub row: Match,
    /// Why it did not decide.
    pub reason: PassedReason,
}

/// The access line that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineChoice {
    /// Which line.
    pub line: AccessLine,
    /// Whether it permits.
    pub permit: bool,
    /// The name of the service that holds it: the matched one, or a parent of it.
    pub service: String,
    /// Where it is configured: the line, or for public scope the service.
    pub origin: String,
}

/// A way the session may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChoice {
    /// The way and its cost.
    pub candidate: Candidate,
    /// The name of the service-route.
    pub name: String,
    /// Where the service-route is configured.
    pub origin: String,
    /// The name of the peer router, when it leads over a path.
    pub peer: Option<String>,
    /// Where the path is configured, when it leads over one.
    pub path_origin: Option<String>,
}

/// A decision with everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What [`crate::Snapshot::decide`] answers.
    pub decision: Decision,
    /// The tenant's dotted name.
    pub tenant: Option<String>,
    /// The row that matched; `None` when no service matches.
    pub matched: Option<Match>,
    /// The services that hold the destination but did not decide, longest prefix first.
    pub passed_over: Vec<PassedOver>,
    /// How many more were passed over than `passed_over` lists.
    pub passed_over_more: usize,
    /// The access line that decided; `None` when no line speaks about the source.
    pub line: Option<LineChoice>,
    /// The ways of the matched service, best first, whether they are up or not.
    pub routes: Vec<RouteChoice>,
}

pub(crate) fn explain(snapshot: &Snapshot, query: &Query) -> Explanation {
    let hit = snapshot.hit(query);
    let decision = snapshot.decide(query.tenant, query.source, query.destination, query.protocol, query.port);
    let mut walk = Walk { snapshot, query, hit, matched: None, passed_over: Vec::new(), passed_over_more: 0 };
    let mut after_hit = false;
    for (at, scope) in snapshot.fib.scopes_around(query.destination) {
        let here = hit.is_some_and(|hit| hit.scope == at);
        walk.visit(scope, here, after_hit);
        after_hit |= here;
    }
    let tenant = query.tenant.and_then(|id| snapshot.model().tenants.get(id.index()));
    Explanation {
        decision,
        tenant: tenant.map(|tenant| tenant.name.clone()),
        matched: walk.matched,
        passed_over: walk.passed_over,
        passed_over_more: walk.passed_over_more,
        line: line_choice(snapshot, &decision),
        routes: hit.map(|hit| routes(snapshot, hit.service)).unwrap_or_default(),
    }
}

/// The walk from the longest prefix to the shortest.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    query: &'a Query,
    hit: Option<Hit>,
    matched: Option<Match>,
    passed_over: Vec<PassedOver>,
    passed_over_more: usize,
}

impl Walk<'_> {
    fn visit(&mut self, scope: &ScopeRows, here: bool, after_hit: bool) {
        let rows = self.snapshot.fib.rows(scope);
        let holds = |row: &&Row| row.holds(self.query.protocol, self.query.port);
        let narrowest = rows.iter().filter(holds).map(Row::breadth).min();
        let decided = self.hit.map(|hit| hit.service);
        for row in rows {
            let holds = holds(&row);
            let own = decided == Some(row.service);
            if here && own && holds && Some(row.breadth()) == narrowest {
                self.matched = self.describe(scope, row);
            }
            if own {
                continue;
            }
            let reason = match (holds, here) {
                // Behind the prefix that decided, other transports explain nothing.
                (false, _) if after_hit => continue,
                (false, _) => PassedReason::OtherTransport,
                (true, true) if Some(row.breadth()) != narrowest => PassedReason::WiderTransport,
                (true, true) => PassedReason::LessSpecificAccess,
                (true, false) => PassedReason::ShorterPrefix,
            };
            self.pass_over(scope, row, reason);
        }
    }

    fn pass_over(&mut self, scope: &ScopeRows, row: &Row, reason: PassedReason) {
        if self.passed_over.len() >= LISTED {
            self.passed_over_more += 1;
        } else if let Some(row) = self.describe(scope, row) {
            self.passed_over.push(PassedOver { row, reason });
        }
    }

    fn describe(&self, scope: &ScopeRows, row: &Row) -> Option<Match> {
        let service = self.snapshot.model().services.get(row.service.index())?;
        Some(Match {
            service: row.service,
            name: service.name.clone(),
            origin: service.origin.clone(),
            prefix: scope.prefix,
            protocol: row.protocol(),
            ports: row.ports,
        })
    }
}

fn line_choice(snapshot: &Snapshot, decision: &Decision) -> Option<LineChoice> {
    let (decided, line) = match *decision {
        Decision::Permit { service, line } => (service, line),
        Decision::Deny { service, line, .. } => (service?, line?),
    };
    let permit = decision.is_permit();
    let services = &snapshot.model().services;
    let (service, origin) = match line {
        AccessLine::Line { service, index } => {
            let service = services.get(service.index())?;
            (service, service.access.get(index as usize)?.origin.clone())
        }
        AccessLine::Public => {
            let service = services.get(decided.index())?;
            (service, service.origin.clone())
        }
    };
    Some(LineChoice { line, permit, service: service.name.clone(), origin })
}

fn routes(snapshot: &Snapshot, service: ServiceId) -> Vec<RouteChoice> {
    let model = snapshot.model();
    let choices = snapshot.candidates(service).iter().filter_map(|&candidate| {
        let route = model.routes.get(candidate.route.index())?;
        let path = match candidate.hop {
            CandidateHop::Path(path) => model.path(path),
            CandidateHop::NextHop { .. } | CandidateHop::Local => None,
        };
        Some(RouteChoice {
            candidate,
            name: route.name.clone(),
            origin: route.origin.clone(),
            peer: path.and_then(|path| model.peer(path.peer)).map(|peer| peer.name.clone()),
            path_origin: path.map(|path| path.origin.clone()),
        })
    });
    choices.collect()
}
