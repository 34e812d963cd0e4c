//! Whether a model keeps what it promises: references that exist, names that are unique.

use fairway_types::model::{RouteTarget, RouterModel};
use fairway_types::{InterfaceId, ServiceId};

use crate::error::CompileError;

/// The most services: one bit of an id is needed otherwise.
const SERVICE_LIMIT: usize = 1 << 31;
/// The most tenants, interfaces, peers, paths and so on that a 16-bit id counts.
const SHORT_LIMIT: usize = 1 << 16;

/// Checks all references of a model.
pub(crate) fn check(model: &RouterModel) -> Result<(), CompileError> {
    check_counts(model)?;
    check_access(model)?;
    check_fabric(model)
}

fn check_counts(model: &RouterModel) -> Result<(), CompileError> {
    let counts = [
        ("services", model.services.len(), SERVICE_LIMIT),
        ("service-routes", model.routes.len(), u32::MAX as usize),
        ("tenants", model.tenants.len(), SHORT_LIMIT),
        ("interfaces", model.interfaces.len(), InterfaceId::COUNT),
        ("peers", model.peers.len(), SHORT_LIMIT),
        ("peer paths", model.paths.len(), SHORT_LIMIT),
        ("security policies", model.security.len(), SHORT_LIMIT),
        ("session-types", model.session_types.len(), SHORT_LIMIT),
    ];
    match counts.into_iter().find(|(_, count, limit)| count > limit) {
        Some((what, count, limit)) => Err(CompileError::TooMany { what, count, limit }),
        None => Ok(()),
    }
}

fn exists(origin: &str, kind: &'static str, index: usize, count: usize) -> Result<(), CompileError> {
    if index < count {
        return Ok(());
    }
    Err(CompileError::Dangling { origin: origin.to_owned(), kind, index, count })
}

/// Tenants, memberships, services and session-types.
fn check_access(model: &RouterModel) -> Result<(), CompileError> {
    let tenant = |origin: &str, index: usize| exists(origin, "tenant", index, model.tenants.len());
    let session_type =
        |origin: &str, index: usize| exists(origin, "session-type", index, model.session_types.len());
    for child in &model.tenants {
        child.parent.map_or(Ok(()), |parent| tenant(&child.origin, parent.index()))?;
    }
    for membership in &model.memberships {
        let interface = membership.interface.index();
        exists(&membership.origin, "interface", interface, model.interfaces.len())?;
        tenant(&membership.origin, membership.tenant.index())?;
    }
    for service in &model.services {
        let origin = &service.origin;
        let parent = service.parent.map_or(0, ServiceId::index);
        exists(origin, "service", parent, model.services.len())?;
        exists(origin, "security policy", service.security.index(), model.security.len())?;
        service.session_type.map_or(Ok(()), |id| session_type(origin, id.index()))?;
        for line in &service.access {
            line.tenant.map_or(Ok(()), |id| tenant(&line.origin, id.index()))?;
        }
    }
    let defaults = model.default_session_types;
    for id in [defaults.tcp, defaults.udp, defaults.dns, defaults.icmp, defaults.other] {
        session_type("default session-types", id.index())?;
    }
    Ok(())
}

/// Interfaces, peers, paths and service-routes.
fn check_fabric(model: &RouterModel) -> Result<(), CompileError> {
    let tenant = |origin: &str, index: usize| exists(origin, "tenant", index, model.tenants.len());
    let interface = |origin: &str, index: usize| exists(origin, "interface", index, model.interfaces.len());
    let peer = |origin: &str, index: usize| exists(origin, "peer", index, model.peers.len());
    for holder in &model.interfaces {
        holder.tenant.map_or(Ok(()), |id| tenant(&holder.origin, id.index()))?;
    }
    for holder in &model.peers {
        for id in holder.tenants.iter().flatten() {
            tenant(&holder.origin, id.index())?;
        }
    }
    for path in &model.paths {
        peer(&path.origin, path.peer.index())?;
        interface(&path.origin, path.interface.index())?;
        exists(&path.origin, "security policy", path.security.index(), model.security.len())?;
    }
    for route in &model.routes {
        exists(&route.origin, "service", route.service.index(), model.services.len())?;
        match route.target {
            RouteTarget::Peer(id) => peer(&route.origin, id.index())?,
            RouteTarget::NextHop { interface: id, .. } => interface(&route.origin, id.index())?,
            RouteTarget::Local => {}
        }
    }
    Ok(())
}
