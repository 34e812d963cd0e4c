//! `fairway show peers` and `show waypoints`.

use fairway_router::api::{NatPorts, Nothing, Path, Peer, Request, Response, Show, Waypoints};

use super::{connect, present, seconds};
use crate::args::ShowPlain;
use crate::failure::Failure;
use crate::table::{Column, Table, paragraph};
use crate::units;

/// Shows peers and paths.
pub fn peers(args: &ShowPlain) -> Result<(), Failure> {
    let mut router = connect(args)?;
    match router.ask(&Request::Show(Show::Peers(Nothing {})))? {
        Response::Peers(peers) => present(args, &peers, |peers| peers_table(peers)),
        other => Err(router.unexpected(&other)),
    }
}

/// Shows waypoint ports.
pub fn waypoints(args: &ShowPlain) -> Result<(), Failure> {
    let mut router = connect(args)?;
    match router.ask(&Request::Show(Show::Waypoints(Nothing {})))? {
        Response::Waypoints(waypoints) => present(args, &waypoints, |waypoints| waypoints_table(waypoints)),
        other => Err(router.unexpected(&other)),
    }
}

/// Shows the ports of source NAT.
pub fn nat(args: &ShowPlain) -> Result<(), Failure> {
    let mut router = connect(args)?;
    match router.ask(&Request::Show(Show::Nat(Nothing {})))? {
        Response::Nat(ports) => present(args, &ports, |ports| nat_table(ports)),
        other => Err(router.unexpected(&other)),
    }
}

/// The table of `show nat`.
pub fn nat_table(ports: &[NatPorts]) -> String {
    if ports.is_empty() {
        return "no source NAT: no interface has source-nat true\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::name("INTERFACE"),
        Column::text("ADDRESS"),
        Column::text("PROTO"),
        Column::number("USED"),
        Column::number("RESTING"),
        Column::number("CAPACITY"),
        Column::number("IN USE"),
        Column::number("PEAK"),
        Column::number("SESSIONS"),
        Column::number("REFUSED"),
    ]);
    for row in ports {
        table.row([
            row.interface.clone(),
            row.address.to_string(),
            row.protocol.clone(),
            row.used.to_string(),
            row.resting.to_string(),
            row.capacity.to_string(),
            share(row.used + row.resting, row.capacity),
            row.peak.to_string(),
            row.given.to_string(),
            row.refused.to_string(),
        ]);
    }
    table.render()
}

/// The table of `show peers`: a line for each path with its liveness packets, and below why paths are
/// not up.
pub fn peers_table(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "no peers: the configuration gives this router no adjacency\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::name("PEER"),
        Column::text("STATE"),
        Column::text("SINCE"),
        Column::name("INTERFACE"),
        Column::text("LOCAL"),
        Column::text("REMOTE"),
        Column::number("COST"),
        Column::number("SENT"),
        Column::number("RECEIVED"),
    ]);
    let mut notes = String::new();
    for peer in peers {
        if peer.paths.is_empty() {
            table.row([peer.name.clone(), "no path".to_owned()]);
        }
        for path in &peer.paths {
            table.row([
                peer.name.clone(),
                state(path),
                seconds(path.since_seconds),
                path.interface.clone(),
                path.local.to_string(),
                path.remote.to_string(),
                path.cost.to_string(),
                units::count(path.packets_sent),
                units::count(path.packets_received),
            ]);
            notes.push_str(&note(peer, path));
        }
    }
    table.render() + &notes
}

/// Whether sessions may use a path, and if not, why.
fn state(path: &Path) -> String {
    match path.held_down_seconds {
        Some(left) if !path.up => format!("held {}", seconds(left)),
        _ if path.up => "up".to_owned(),
        _ => path.state.clone(),
    }
}

fn note(peer: &Peer, path: &Path) -> String {
    match &path.diagnostic {
        Some(diagnostic) if !path.up => {
            let Path { local, remote, remote_state, .. } = path;
            let words =
                format!("{}: {local} → {remote}: {diagnostic}; the peer says {remote_state}", peer.name);
            paragraph(0, "", 0, &units::printable(&words))
        }
        _ => String::new(),
    }
}

/// The table of `show waypoints`.
pub fn waypoints_table(waypoints: &[Waypoints]) -> String {
    if waypoints.is_empty() {
        return "no waypoints: this router has no peer paths\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::name("PEER"),
        Column::name("INTERFACE"),
        Column::text("LOCAL"),
        Column::text("REMOTE"),
        Column::text("PROTO"),
        Column::number("USED"),
        Column::number("RESTING"),
        Column::number("CAPACITY"),
        Column::number("IN USE"),
        Column::number("REFUSED"),
    ]);
    for row in waypoints {
        table.row([
            row.peer.clone(),
            row.interface.clone(),
            row.local.to_string(),
            row.remote.to_string(),
            row.protocol.clone(),
            row.used.to_string(),
            row.resting.to_string(),
            row.capacity.to_string(),
            share(row.used, row.capacity),
            row.exhausted.to_string(),
        ]);
    }
    table.render()
}

/// A share in percent: `0 %` for none, `<1 %` for little.
pub fn share(part: u64, whole: u64) -> String {
    match (part, whole) {
        (0, _) => "0 %".to_owned(),
        (_, 0) => "-".to_owned(),
        (part, whole) => match u128::from(part) * 100 / u128::from(whole) {
            0 => "<1 %".to_owned(),
            percent => format!("{percent} %"),
        },
    }
}
