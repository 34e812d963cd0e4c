//! The ways out of this router, by service: service-routes, and the peer paths they expand to.

use fairway_types::model::{RouteTarget, RouterModel, ServiceRoute};
use fairway_types::{PathId, RouteId, ServiceId};

use crate::decision::{Candidate, CandidateHop};
use crate::error::CompileError;

/// The most candidates of all services together.
const LIMIT: usize = 1 << 26;

/// The candidates of all services.
#[derive(Debug)]
pub(crate) struct Ways {
    /// Where the candidates of each service begin; one more than there are services.
    starts: Vec<u32>,
    candidates: Vec<Candidate>,
}

impl Ways {
    /// Builds the lists; all ids are valid.
    pub(crate) fn build(model: &RouterModel) -> Result<Self, CompileError> {
        let mut paths_to: Vec<Vec<PathId>> = vec![Vec::new(); model.peers.len()];
        for (path, id) in model.paths.iter().zip(0u16..) {
            if let Some(list) = paths_to.get_mut(path.peer.index()) {
                list.push(PathId(id));
            }
        }
        let mut routes: Vec<(RouteId, &ServiceRoute)> = (0u32..).map(RouteId).zip(&model.routes).collect();
        routes.sort_by_key(|(_, route)| route.service);
        let mut ways = Self { starts: vec![0], candidates: Vec::with_capacity(routes.len()) };
        let mut routes = routes.into_iter().peekable();
        for service in (0u32..).map(ServiceId).take(model.services.len()) {
            let start = ways.candidates.len();
            while let Some((id, route)) = routes.next_if(|(_, route)| route.service == service) {
                expand(model, &paths_to, id, route, &mut ways.candidates);
                let count = ways.candidates.len();
                if count > LIMIT {
                    return Err(CompileError::TooMany { what: "ways of services", count, limit: LIMIT });
                }
            }
            let own = ways.candidates.get_mut(start..).unwrap_or_default();
            own.sort_by_key(|candidate| sort_key(model, candidate));
            ways.starts.push(ways.candidates.len() as u32);
        }
        Ok(ways)
    }

    pub(crate) fn of(&self, service: ServiceId) -> &[Candidate] {
        let bounds = self.starts.get(service.index()).zip(self.starts.get(service.index() + 1));
        let range = bounds.map_or(0..0, |(&start, &end)| start as usize..end as usize);
        self.candidates.get(range).unwrap_or_default()
    }
}

fn expand(
    model: &RouterModel,
    paths_to: &[Vec<PathId>],
    route: RouteId,
    service_route: &ServiceRoute,
    candidates: &mut Vec<Candidate>,
) {
    let cost = service_route.cost;
    match service_route.target {
        RouteTarget::Peer(peer) => {
            candidates.extend(paths_to.get(peer.index()).into_iter().flatten().map(|&path| {
                let more = model.path(path).map_or(0, |path| path.cost);
                Candidate { route, cost: cost.saturating_add(more), hop: CandidateHop::Path(path) }
            }));
        }
        RouteTarget::NextHop { interface, gateway } => {
            candidates.push(Candidate { route, cost, hop: CandidateHop::NextHop { interface, gateway } });
        }
        RouteTarget::Local => candidates.push(Candidate { route, cost, hop: CandidateHop::Local }),
    }
}

fn sort_key<'a>(model: &'a RouterModel, candidate: &Candidate) -> (u32, Option<&'a str>, Option<&'a str>) {
    let route = model.routes.get(candidate.route.index()).map(|route| route.name.as_str());
    let path = match candidate.hop {
        CandidateHop::Path(path) => model.path(path).map(|path| path.pathway.as_str()),
        CandidateHop::NextHop { .. } | CandidateHop::Local => None,
    };
    (candidate.cost, route, path)
}
