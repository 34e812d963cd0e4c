//! Prometheus metrics, in the text format 0.0.4, over a small HTTP/1.0 responder.

use core::fmt::{Display, Write as _};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use fairway_types::{Counter, Counters};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::api::{Drop, Interface, Limit, Path, Peer, Waypoints, Worker};
use crate::command::Unanswered;
use crate::control::Control;
use crate::facts;
use crate::stop::Stop;
use crate::views;

/// How long one request may take to arrive, and its answer to be read.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest request that is read, in bytes.
const MAX_REQUEST: usize = 4096;

/// Opens the address that Prometheus asks.
pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("listen for metrics on {address}"))?;
    listener.set_nonblocking(true).context("set up the metrics socket")?;
    Ok(listener)
}

/// Answers one request after the other until told to stop.
pub(crate) fn serve(listener: &TcpListener, control: &Control, stop: &Stop) {
    loop {
        let mut entries =
            [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait is just another round.
        let _ = poll(&mut entries, PollTimeout::NONE);
        if stop.is_told() {
            return;
        }
        if let Ok((client, _)) = listener.accept()
            && let Err(error) = answer(client, control)
        {
            tracing::debug!(%error, "a request for metrics was not answered");
        }
    }
}

fn answer(mut client: TcpStream, control: &Control) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; MAX_REQUEST];
    let mut length = 0;
    let deadline = control.clock.mono() + PATIENCE;
    while !ends_with_blank_line(request.get(..length).unwrap_or_default()) {
        let room = request.get_mut(length..).unwrap_or_default();
        let read = client.read(room)?;
        length += read;
        if read == 0 || control.clock.mono() > deadline {
            break;
        }
    }
    let (status, body) = respond(request.get(..length).unwrap_or_default(), control);
    let header = format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(header.as_bytes())?;
    client.write_all(body.as_bytes())
}

fn ends_with_blank_line(request: &[u8]) -> bool {
    request.windows(4).any(|window| window == b"\r\n\r\n")
        || request.windows(2).any(|window| window == b"\n\n")
}

fn respond(request: &[u8], control: &Control) -> (&'static str, String) {
    let line = request.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let target = match (words.next(), words.next()) {
        (Some(b"GET"), Some(target)) => target,
        _ => return ("405 Method Not Allowed", "only GET is understood\n".into()),
    };
    if target != b"/metrics" && !target.starts_with(b"/metrics?") {
        return ("404 Not Found", "metrics are at /metrics\n".into());
    }
    match gather(control) {
        Ok(facts) => ("200 OK", facts.render()),
        Err(error) => ("503 Service Unavailable", format!("{error}\n")),
    }
}

/// What metrics are made of.
struct Facts {
    router: String,
    uptime_seconds: f64,
    applied_unix_seconds: u64,
    refused: bool,
    sessions: usize,
    capacity: usize,
    half_open: u32,
    counters: Counters,
    drops: Vec<Drop>,
    interfaces: Vec<Interface>,
    peers: Vec<Peer>,
    waypoints: Vec<Waypoints>,
    limits: Vec<Limit>,
    workers: Vec<Worker>,
}

fn gather(control: &Control) -> Result<Facts, Unanswered> {
    let (configuration, _) = control.configuration();
    let all = facts::gather(control)?;
    Ok(Facts {
        router: all.model().router.clone(),
        uptime_seconds: views::uptime(control.clock.mono()),
        applied_unix_seconds: configuration.applied_unix_seconds,
        refused: configuration.refused.is_some(),
        sessions: all.sessions(),
        capacity: all.capacity(),
        half_open: all.half_open(),
        counters: all.counters(),
        drops: all.drops(),
        interfaces: all.interfaces(),
        peers: all.peers.clone(),
        waypoints: all.waypoints(),
        limits: all.limits(),
        workers: all.workers(),
    })
}

impl Facts {
    fn render(&self) -> String {
        let mut page = Page::default();
        page.gauge("fairway_info", "The router and its version.");
        page.sample("fairway_info", &[("router", &self.router), ("version", env!("CARGO_PKG_VERSION"))], 1);
        page.single("fairway_uptime_seconds", "Time since the start.", self.uptime_seconds);
        page.single(
            "fairway_configuration_applied_timestamp_seconds",
            "When the configuration in force was applied.",
            self.applied_unix_seconds,
        );
        page.single(
            "fairway_configuration_refused",
            "Whether the last reload was refused.",
            u8::from(self.refused),
        );
        page.single("fairway_sessions", "Sessions held now.", self.sessions);
        page.single("fairway_sessions_limit", "Sessions that can be held at once.", self.capacity);
        page.single(
            "fairway_sessions_half_open",
            "TCP sessions that wait for their handshake.",
            self.half_open,
        );
        for &counter in Counter::ALL {
            let name = format!("fairway_{}_total", counter.name().replace('-', "_"));
            page.counter(&name, counter.help().trim());
            page.sample(&name, &[], self.counters.value(counter));
        }
        page.counter("fairway_drops_total", "Packets dropped, by reason.");
        for drop in &self.drops {
            page.sample(
                "fairway_drops_total",
                &[("reason", &drop.reason), ("culprit", &drop.culprit)],
                drop.count,
            );
        }
        self.render_interfaces(&mut page);
        self.render_paths(&mut page);
        self.render_limits(&mut page);
        self.render_workers(&mut page);
        page.0
    }

    fn render_interfaces(&self, page: &mut Page) {
        const FIGURES: &[Figure<Interface, u64>] = &[
            ("up", "Whether the interface can send and receive.", false, |i| u64::from(i.up)),
            ("mtu_bytes", "The longest packet the interface may send.", false, |i| u64::from(i.mtu_bytes)),
            ("received_packets_total", "Packets received.", true, |i| i.received.packets),
            ("received_bytes_total", "Bytes received, from the IP header on.", true, |i| i.received.bytes),
            ("sent_packets_total", "Packets sent.", true, |i| i.sent.packets),
            ("sent_bytes_total", "Bytes sent, from the IP header on.", true, |i| i.sent.bytes),
            ("receive_overruns_total", "Packets the kernel could not queue.", true, |i| i.receive_overruns),
            ("receive_unusable_total", "Packets that could not be received whole.", true, |i| {
                i.receive_unusable
            }),
            ("punted_total", "Packets handed to the host.", true, |i| i.punted),
            ("punts_discarded_total", "Packets for the host without a way to it.", true, |i| {
                i.punts_discarded
            }),
            ("held_total", "Packets that waited for a link address.", true, |i| i.held),
            ("link_asked_total", "Questions for next hops on a VLAN without kernel device.", true, |i| {
                i.link.map_or(0, |link| link.asked)
            }),
            ("link_answered_total", "Questions for its addresses that were answered there.", true, |i| {
                i.link.map_or(0, |link| link.answered + link.pings)
            }),
            ("link_ignored_total", "Messages there that were of no use.", true, |i| {
                i.link.map_or(0, |link| link.ignored + link.unasked)
            }),
            ("link_conflicts_total", "Claims of others to its addresses there.", true, |i| {
                i.link.map_or(0, |link| link.conflicts)
            }),
        ];
        let rows =
            self.interfaces.iter().map(|interface| (interface, vec![("interface", interface.name.clone())]));
        page.figures("interface", FIGURES, rows);
    }

    fn render_workers(&self, page: &mut Page) {
        const FIGURES: &[Figure<Worker, u64>] = &[
            ("sessions", "Sessions the worker holds now.", false, |w| w.sessions),
            ("received_packets_total", "Packets that came to the worker.", true, |w| w.received),
            ("handed_over_packets_total", "Packets handed over to their worker.", true, |w| w.handed_over),
            ("taken_over_packets_total", "Packets taken over from other workers.", true, |w| w.taken_over),
        ];
        let rows = self.workers.iter().map(|worker| (worker, vec![("worker", worker.worker.to_string())]));
        page.figures("worker", FIGURES, rows);
    }

    fn render_limits(&self, page: &mut Page) {
        const FIGURES: &[Figure<Limit, Option<u64>>] = &[
            ("most", "The most there may be.", false, |l| l.most.map(u64::from)),
            ("now", "How much there is, or was in the last second; of the busiest source.", false, |l| {
                l.now.map(u64::from)
            }),
            ("peak", "The most there was since the start.", false, |l| l.peak.map(u64::from)),
            ("allowed_total", "How many the limit let through.", true, |l| Some(l.allowed)),
            ("refused_total", "Packets the limit refused.", true, |l| Some(l.refused)),
            ("evicted_total", "Sessions without an answer that gave way at the limit.", true, |l| {
                Some(l.evicted)
            }),
        ];
        let rows = self.limits.iter().map(|limit| {
            // The busiest source is another one every time: a label of it would make ever new series.
            let whose = limit.name.clone().filter(|_| limit.scope != "source").unwrap_or_default();
            (limit, vec![("limit", limit.limit.clone()), ("scope", limit.scope.clone()), ("name", whose)])
        });
        page.figures("limit", FIGURES, rows);
    }

    fn render_paths(&self, page: &mut Page) {
        const FIGURES: &[Figure<Path, u64>] = &[
            ("up", "Whether sessions may use the peer path.", false, |p| u64::from(p.up)),
            ("liveness_sent_total", "Liveness messages sent.", true, |p| p.packets_sent),
            ("liveness_received_total", "Genuine liveness messages received.", true, |p| p.packets_received),
        ];
        let paths = self.peers.iter().flat_map(|peer| peer.paths.iter().map(move |path| (peer, path)));
        let rows =
            paths.map(|(peer, path)| (path, path_labels(&peer.name, &path.name, path.local, path.remote)));
        page.figures("path", FIGURES, rows);
        const PORTS: &[Figure<Waypoints, u64>] = &[
            ("used", "Pairs of waypoint ports in use.", false, |w| w.used),
            ("resting", "Pairs of waypoint ports that rest.", false, |w| w.resting),
            ("limit", "Pairs of waypoint ports that may be in use.", false, |w| w.capacity),
            ("exhausted_total", "Sessions refused for want of waypoint ports.", true, |w| w.exhausted),
        ];
        let rows = self.waypoints.iter().map(|ports| {
            let mut labels = path_labels(&ports.peer, &ports.path, ports.local, ports.remote);
            labels.push(("protocol", ports.protocol.clone()));
            (ports, labels)
        });
        page.figures("waypoints", PORTS, rows);
    }
}

fn path_labels(peer: &str, path: &str, local: IpAddr, remote: IpAddr) -> Labels {
    let labels = [
        ("peer", peer.to_owned()),
        ("path", path.to_owned()),
        ("local", local.to_string()),
        ("remote", remote.to_string()),
    ];
    labels.into()
}

/// The names and values of one sample's labels.
type Labels = Vec<(&'static str, String)>;

/// A number of each of several things: the end of its name, what it is, whether it only rises, and how it
/// is read.
type Figure<T, V> = (&'static str, &'static str, bool, fn(&T) -> V);

/// A page of metrics. Writing to a string cannot fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', " ");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, help, "gauge");
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.family(name, help, "counter");
    }

    fn single(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauge(name, help);
        self.sample(name, &[], value);
    }

    /// Figures of each row; those that a row does not have are left out.
    fn figures<'a, T: 'a, V: Into<Option<u64>>>(
        &mut self,
        of: &str,
        figures: &[Figure<T, V>],
        rows: impl Iterator<Item = (&'a T, Labels)> + Clone,
    ) {
        for (suffix, help, rises, value) in figures {
            let name = format!("fairway_{of}_{suffix}");
            self.family(&name, help, if *rises { "counter" } else { "gauge" });
            for (row, labels) in rows.clone() {
                let labels: Vec<_> = labels.iter().map(|(label, text)| (*label, text.as_str())).collect();
                if let Some(value) = value(row).into() {
                    self.sample(&name, &labels, value);
                }
            }
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (position, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if position == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_escaped_and_families_have_help() {
        let mut page = Page::default();
        page.single("fairway_sessions", "Sessions held now.", 7);
        page.counter("fairway_x_total", "A \\ and\na line.");
        page.sample("fairway_x_total", &[("interface", "a\"b\\c\nd"), ("path", "p")], 1.5);
        assert_eq!(
            page.0,
            "# HELP fairway_sessions Sessions held now.\n# TYPE fairway_sessions gauge\nfairway_sessions 7\n\
             # HELP fairway_x_total A \\\\ and a line.\n# TYPE fairway_x_total counter\n\
             fairway_x_total{interface=\"a\\\"b\\\\c\\nd\",path=\"p\"} 1.5\n"
        );
    }
}
