//! A worker: a thread that owns an engine and its own sockets on the interfaces.
//!
//! A round is: wait, receive, decide, send; then what other workers handed over, what the kernel
//! reported, what is due, and what others asked for. Each part of a round is bounded, so that none
//! starves the others.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::Context;
use fairway_crypto::Keyring;
use fairway_io::{PortEvent, Ports, Steering};
use fairway_policy::Snapshot;
use fairway_session::{Applied, Engine, Event};
use fairway_types::model::RouterModel;
use fairway_types::{Batch, InterfaceId, Time, WorkerId};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::interfaces;
use crate::load::Loaded;
use crate::logs::Limiter;
use crate::offload::Reports;
use crate::options::IoOptions;
use crate::ring::{Drains, Inbox, Outboxes};
use crate::session_log::{self, Line, SessionLog};
use crate::views;

/// Packets received at once.
const RECEIVE: usize = 64;
/// Packets the engine may make at once: every segment of a batch of super-packets whose payload is
/// protected.
const EMIT: usize = 4096;
/// The longest packet the engine makes: a segment on a link with jumbo frames.
const EMIT_BYTES: usize = 9728;
/// Super-packets among them, 4 MiB in all: for each that is received, what does not fit one when it is
/// sealed.
const EMIT_LARGE: usize = RECEIVE;
/// Batches in one round.
const BATCHES: usize = 8;
/// Tasks in one round.
const TASKS: usize = 4;
/// Events logged in one round.
const EVENTS: usize = 32;
/// Lines of the session log in one round.
const RECORDS: usize = 512;
/// The longest wait, so that a clock or a driver that misbehaves costs seconds, not for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What a worker does between two batches. It must be quick: packets wait meanwhile.
pub(crate) type Task = Box<dyn FnOnce(&mut Core) + Send>;

/// What a worker owns.
pub(crate) struct Core {
    pub(crate) engine: Engine,
    pub(crate) ports: Ports,
    pub(crate) batch: Batch,
    pub(crate) clock: Clock,
    pub(crate) steering: Steering,
    pub(crate) inbox: Inbox,
    pub(crate) outboxes: Outboxes,
    pub(crate) drains: Drains,
    pub(crate) reports: Reports,
    limiter: Limiter,
    session_log: Option<SessionLog>,
    stopping: bool,
}

impl Core {
    pub(crate) fn new(
        mut engine: Engine,
        ports: Ports,
        (inbox, outboxes): (Inbox, Outboxes),
        clock: Clock,
        session_log: Option<SessionLog>,
    ) -> Self {
        engine.record_sessions(session_log.is_some());
        let mut core = Self {
            engine,
            steering: ports.steering(),
            ports,
            inbox,
            outboxes,
            drains: Drains::new(),
            batch: Batch::new(RECEIVE, EMIT, EMIT_BYTES).with_large(EMIT_LARGE),
            clock,
            reports: Reports::default(),
            limiter: Limiter::default(),
            session_log,
            stopping: false,
        };
        // What is reported of opening is read from the ports themselves.
        while core.ports.poll_event().is_some() {}
        core.read_mtus();
        core.examine_interfaces();
        core
    }

    /// Runs until told to stop, or the ports fail.
    pub(crate) fn run(mut self, tasks: &Receiver<Task>) -> anyhow::Result<()> {
        // It came here from another thread, by value.
        self.engine.reseed(&zeroize::Zeroizing::new(crate::daemon::random()?));
        let mut waiting = false;
        while !self.stopping {
            let timeout = if waiting { Duration::ZERO } else { self.timeout() };
            let ready = self.ports.wait(Some(timeout)).context("wait for packets")?;
            let dry = !ready.packets || self.forward();
            if dry && !self.drains.is_empty() {
                self.answer_drains();
            }
            waiting = self.take_over();
            self.attend(ready.events);
            waiting |= self.recall_changed();
            waiting |= self.report_offloads();
            waiting |= self.perform(tasks);
            waiting |= !self.drains.is_empty() || self.outboxes.is_behind();
            fairway_crypto::scrub_stack();
        }
        self.recall_offloads();
        self.say_goodbye();
        self.log_sessions();
        self.ports.leave_guarded();
        Ok(())
    }

    fn timeout(&self) -> Duration {
        let now = self.clock.mono();
        let due = [self.engine.poll_timeout(), self.ports.poll_timeout(), self.reports.due()];
        let due = due.into_iter().flatten().min();
        due.map_or(LONGEST_WAIT, |due| due.since(now).min(LONGEST_WAIT))
    }

    /// Receives, decides and sends, a bounded number of batches. Says whether nothing is left.
    fn forward(&mut self) -> bool {
        for _ in 0..BATCHES {
            if self.ports.receive(&mut self.batch) == 0 {
                return true;
            }
            self.decide();
        }
        false
    }

    /// Does what the kernel reported and what is due.
    fn attend(&mut self, reported: bool) {
        let now = self.clock.now();
        if (reported || is_due(self.ports.poll_timeout(), now.mono))
            && let Err(error) = self.ports.handle_events(now)
        {
            self.report(now.mono, "netlink", || warn!(%error, "the kernel's reports cannot be read"));
        }
        self.carry_out_offloads();
        for _ in 0..EVENTS {
            let Some(event) = self.ports.poll_event() else { break };
            self.port_changed(now.mono, event);
        }
        if is_due(self.engine.poll_timeout(), now.mono) {
            self.engine.handle_timeout(now, &mut self.batch);
            self.flush();
        }
        for _ in 0..EVENTS {
            let Some(event) = self.engine.poll_event() else { break };
            self.session_event(now.mono, event);
        }
        self.log_sessions();
    }

    /// Passes on what sessions began and ended.
    fn log_sessions(&mut self) {
        let Some(log) = &self.session_log else { return };
        let snapshot = Arc::clone(self.engine.snapshot());
        for _ in 0..RECORDS {
            let Some(record) = self.engine.poll_record() else { break };
            let line = Line {
                time: session_log::rfc3339(record.at.unix),
                event: if record.end.is_some() { "end" } else { "start" },
                reason: record.end,
                router: snapshot.model().router.clone(),
                session: views::session(snapshot.model(), record.at, &record.session),
            };
            if !log.take(line) {
                self.engine.lose_record();
            }
        }
    }

    /// Runs some of the tasks that wait; says whether more do.
    fn perform(&mut self, tasks: &Receiver<Task>) -> bool {
        for _ in 0..TASKS {
            let Ok(task) = tasks.try_recv() else { return false };
            task(self);
        }
        true
    }

    /// Goes over to the interfaces of another configuration, or stays where it is. No packet may be
    /// decided until [`Self::go_over`] or [`Self::go_back`].
    pub(crate) fn prepare(&mut self, after: &RouterPorts, before: &RouterPorts) -> Result<(), String> {
        // What stays in the kernel until all sessions are decided about must mean there what it meant.
        if !self.ports.keeps_offloads(&after.specs) {
            self.recall_offloads();
        }
        if !after.has_interfaces_of(before) {
            // It would name packets by the wrong interfaces.
            self.ports.set_capture(None);
        }
        self.ports.apply(&after.specs, &after.waypoints).map_err(|error| error.to_string())
    }

    /// Goes back to the interfaces of the configuration in force.
    pub(crate) fn go_back(&mut self, before: &RouterPorts) {
        if let Err(error) = self.ports.apply(&before.specs, &before.waypoints) {
            warn!(%error, "interfaces of the refused configuration stay");
        }
    }

    /// Goes over to another configuration.
    pub(crate) fn go_over(&mut self, snapshot: Arc<Snapshot>, keyring: Keyring) -> Applied {
        let now = self.clock.now();
        let mut transition = self.engine.begin_transition(snapshot, keyring);
        while self.engine.review_some(now, &mut transition) {
            self.carry_out_offloads();
            self.ports.beat();
        }
        let applied = self.engine.complete(now, transition);
        self.flush();
        self.read_mtus();
        self.examine_interfaces();
        applied
    }

    /// Whether it speaks for all workers where they would all say the same.
    pub(crate) fn leads(&self) -> bool {
        self.engine.worker() == WorkerId(0)
    }

    /// Ends the worker after this round.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    fn say_goodbye(&mut self) {
        let now = self.clock.now();
        self.engine.shut_down(now);
        self.engine.handle_timeout(now, &mut self.batch);
        self.flush();
    }

    /// Tells the engine what it must know of interfaces.
    fn read_mtus(&mut self) {
        for id in interface_ids(self.engine.snapshot().model()) {
            self.read_mtu(id);
        }
    }

    /// Tells the operator what is wrong with interfaces that the kernel reports nothing about.
    fn examine_interfaces(&self) {
        if !self.leads() {
            return;
        }
        let snapshot = Arc::clone(self.engine.snapshot());
        for id in interface_ids(snapshot.model()) {
            self.warn_of_addresses(snapshot.model(), id);
            let exists = self.ports.mtu(id).is_some();
            if let Some(interface) =
                snapshot.model().interface(id).filter(|_| exists && !self.ports.is_up(id))
            {
                warn!(interface = %interface.name, device = %interface.device, "interface is down; waiting for it");
            }
        }
    }

    fn read_mtu(&mut self, id: InterfaceId) {
        if let Some(mtu) = self.ports.mtu(id) {
            self.engine.set_mtu(id, u32::from(mtu));
        }
    }

    fn warn_of_addresses(&self, model: &RouterModel, id: InterfaceId) {
        // While the interface is down, its addresses are not what is missing.
        let Some(interface) = model.interface(id).filter(|_| self.ports.is_up(id)) else { return };
        for address in interfaces::missing_addresses(interface, &self.ports.addresses(id)) {
            warn!(
                interface = %interface.name, %address,
                "the device does not have this address; waiting for it (ip address add {address} dev {})",
                interface.device
            );
        }
    }

    fn port_changed(&mut self, now: Time, event: PortEvent) {
        let snapshot = Arc::clone(self.engine.snapshot());
        let model = snapshot.model();
        let named = |id: InterfaceId| model.interface(id).map_or("", |i| i.name.as_str());
        if !self.leads() {
            if let PortEvent::Up(id) | PortEvent::MtuChanged(id) = event {
                self.read_mtu(id);
            }
            return;
        }
        match event {
            PortEvent::Up(id) => {
                self.read_mtu(id);
                self.report(now, "interface-up", || info!(interface = named(id), "interface is up"));
                self.warn_of_addresses(model, id);
            }
            PortEvent::Down(id) => {
                self.report(now, "interface-down", || {
                    warn!(interface = named(id), "interface is down or missing; waiting for it");
                });
            }
            PortEvent::AddressesChanged(id) => self.warn_of_addresses(model, id),
            PortEvent::MtuChanged(id) => {
                self.read_mtu(id);
                let mtu = self.ports.mtu(id);
                self.report(now, "mtu", || info!(interface = named(id), mtu, "MTU changed"));
            }
        }
    }

    fn session_event(&mut self, now: Time, event: Event) {
        let snapshot = Arc::clone(self.engine.snapshot());
        let model = snapshot.model();
        let path = match event {
            Event::PathUp(path) | Event::PathDown(path) | Event::WaypointsExhausted(path) => model.path(path),
            Event::PeerRestarted { .. }
            | Event::LimitReached(_)
            | Event::NatScarce(..)
            | Event::NatExhausted(..) => None,
        };
        let peer = match event {
            Event::PeerRestarted { peer, .. } => model.peer(peer),
            _ => path.and_then(|path| model.peer(path.peer)),
        };
        let peer = peer.map(|peer| peer.name.as_str());
        let (pathway, remote) = (path.map(|p| p.pathway.as_str()), path.map(|p| p.remote.to_string()));
        let name = event.name();
        self.report(now, name, || match event {
            Event::PathUp(_) => info!(event = name, peer, path = pathway, remote, "peer path is up"),
            Event::PathDown(_) => warn!(event = name, peer, path = pathway, remote, "peer path is down"),
            Event::WaypointsExhausted(_) => {
                warn!(
                    event = name,
                    peer,
                    path = pathway,
                    remote,
                    "no waypoint ports are left; raise max-way-points or add a path"
                );
            }
            Event::PeerRestarted { sessions, .. } => {
                info!(event = name, peer, sessions, "peer restarted; its sessions are re-established");
            }
            Event::NatScarce(interface, protocol) | Event::NatExhausted(interface, protocol) => {
                let interface = model.interface(interface).map(|i| i.name.as_str());
                warn!(event = name, interface, %protocol, "{event}; fairway show nat says how many are in use");
            }
            Event::LimitReached(limit) => {
                let (scope, whose) = views::scope(model, &limit.scope);
                warn!(
                    event = name,
                    limit = limit.kind.name(),
                    scope,
                    name = whose,
                    "a limit was reached; `fairway show limits` tells what came of it"
                );
            }
        });
    }

    pub(crate) fn report(&mut self, now: Time, kind: &'static str, write: impl FnOnce()) {
        let Some(withheld) = self.limiter.admit(now, kind) else { return };
        if withheld > 0 {
            info!(kind, withheld, "lines of this kind were left out");
        }
        write();
    }
}

fn interface_ids(model: &RouterModel) -> impl Iterator<Item = InterfaceId> + use<> {
    let count = u16::try_from(model.interfaces.len()).unwrap_or(u16::MAX);
    (0..count).map(InterfaceId)
}

fn is_due(due: Option<Time>, now: Time) -> bool {
    due.is_some_and(|due| due <= now)
}

/// What the backend was asked for, kept to be able to go back to it.
#[derive(Clone, Debug)]
pub(crate) struct RouterPorts {
    specs: Vec<fairway_io::PortSpec>,
    waypoints: Vec<core::net::IpAddr>,
}

impl RouterPorts {
    pub(crate) fn of(loaded: &Loaded, io: &IoOptions) -> Self {
        let mut specs = loaded.ports.clone();
        specs.iter_mut().for_each(|spec| spec.io = io.of(&spec.name));
        for (name, _) in io.named.iter().filter(|(name, _)| specs.iter().all(|spec| spec.name != *name)) {
            warn!(interface = %name, "--io names an interface that the router does not have");
        }
        Self { specs, waypoints: loaded.waypoints.clone() }
    }

    /// Whether ids name the same interfaces.
    fn has_interfaces_of(&self, other: &Self) -> bool {
        let names = |ports: &Self| ports.specs.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>();
        names(self) == names(other)
    }

    /// Attaches to the interfaces, for so many workers that have so many sessions at most.
    /// With `offload`, the kernel may forward so many by itself.
    pub(crate) fn open(
        &self,
        workers: u8,
        sessions: u32,
        offload: Option<u32>,
    ) -> Result<Vec<Ports>, fairway_io::OpenError> {
        let shared = (workers, sessions.saturating_mul(2));
        Ports::open_with(&self.specs, &self.waypoints, shared, offload)
    }
}
