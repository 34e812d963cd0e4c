//! How much of one router tenants, sources and peers may have: what is configured, and defaults that
//! follow from the router's own limits.

use std::collections::HashMap;

use fairway_types::model::{Peer, Quota, Quotas};

use crate::elements::{self, Authority, Limits, Router};

/// No source has less than this by default: many are gateways with hosts behind them.
const LEAST: u32 = 256;

/// The quotas that hold on a router with these peers.
pub(super) fn build(authority: &Authority, router: &Router, peers: &[Peer]) -> Quotas {
    let limits = &router.limits;
    let tenant = resolved(&limits.per_tenant, most(limits, limits.session_rate));
    let peer = resolved(&limits.per_peer, most(limits, limits.first_packet_rate));
    let configured: HashMap<&str, &elements::Quota> =
        router.peers.iter().map(|peer| (peer.name.as_str(), &peer.limits)).collect();
    let of_peer =
        |wanted: &Peer| configured.get(wanted.name.as_str()).map_or(peer, |quota| resolved(quota, peer));
    Quotas {
        tenants: authority.tenants.iter().map(|element| resolved(&element.limits, tenant)).collect(),
        without_tenant: tenant,
        peers: peers.iter().map(of_peer).collect(),
        source: resolved(&limits.per_source, part(limits)),
    }
}

fn resolved(configured: &elements::Quota, default: Quota) -> Quota {
    Quota {
        sessions: configured.max_sessions.unwrap_or(default.sessions),
        half_open: configured.half_open.unwrap_or(default.half_open),
        session_rate: configured.session_rate.unwrap_or(default.session_rate),
    }
}

/// Four fifths: the rest is out of reach of any single tenant or peer.
fn most(limits: &Limits, rate: u32) -> Quota {
    let most = |limit: u32| limit - limit / 5;
    Quota { sessions: most(limits.sessions), half_open: most(limits.half_open), session_rate: most(rate) }
}

/// A tenth, for one source.
fn part(limits: &Limits) -> Quota {
    let part = |limit: u32| (limit / 10).max(LEAST);
    Quota {
        sessions: part(limits.sessions),
        half_open: part(limits.half_open),
        session_rate: part(limits.session_rate),
    }
}
