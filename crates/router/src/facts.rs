//! What all workers know, gathered between two batches of each, as the API and metrics need it.

use std::sync::Arc;

use fairway_io::{PortStatus, SteeringStatistics};
use fairway_policy::Snapshot;
use fairway_session::{DropRecord, LimitView, NatUsage, WaypointUsage};
use fairway_types::model::RouterModel;
use fairway_types::{Counter, Counters, Now};

use crate::api;
use crate::command::Unanswered;
use crate::control::Control;
use crate::worker::Core;
use crate::{merge, views};

/// What one worker knows.
struct Worker {
    snapshot: Arc<Snapshot>,
    now: Now,
    sessions: usize,
    capacity: usize,
    busy_polled: std::time::Duration,
    lacks_door: bool,
    half_open: u32,
    counters: Counters,
    drops: Vec<DropRecord>,
    ports: Vec<PortStatus>,
    waypoints: Vec<WaypointUsage>,
    limits: Vec<LimitView>,
    /// The same for all workers: only the leader says it.
    nat: Vec<NatUsage>,
    peers: Vec<api::Peer>,
    steering: SteeringStatistics,
}

impl Worker {
    fn of(core: &mut Core) -> Self {
        core.report_all_offloads();
        let (engine, now) = (&core.engine, core.clock.now());
        Self {
            snapshot: Arc::clone(engine.snapshot()),
            now,
            sessions: engine.session_count(),
            capacity: engine.capacity(),
            busy_polled: core.ports.busy_polled(),
            lacks_door: core.ports.lacks_door(),
            half_open: engine.half_open_count(),
            counters: engine.counters().clone(),
            drops: engine.drops().collect(),
            ports: core.ports.status(),
            waypoints: engine.waypoints(),
            limits: engine.limits(now),
            nat: if core.leads() { engine.nat_usage() } else { Vec::new() },
            peers: if core.leads() { views::peers(engine, now.mono) } else { Vec::new() },
            steering: core.steering.statistics(),
        }
    }
}

/// What all workers know.
pub(crate) struct Facts {
    snapshot: Arc<Snapshot>,
    now: Now,
    /// The leader talks to peers for all.
    pub(crate) peers: Vec<api::Peer>,
    nat: Vec<NatUsage>,
    steering: SteeringStatistics,
    each: Vec<Worker>,
}

/// Asks all workers.
pub(crate) fn gather(control: &Control) -> Result<Facts, Unanswered> {
    let mut each = control.crew.ask_each(Worker::of)?;
    let leader = each.first_mut().ok_or(Unanswered::Ended)?;
    Ok(Facts {
        snapshot: Arc::clone(&leader.snapshot),
        now: leader.now,
        peers: std::mem::take(&mut leader.peers),
        nat: std::mem::take(&mut leader.nat),
        steering: leader.steering,
        each,
    })
}

impl Facts {
    pub(crate) fn model(&self) -> &RouterModel {
        self.snapshot.model()
    }

    fn gathered<T: Clone>(&self, part: impl Fn(&Worker) -> &Vec<T>) -> Vec<Vec<T>> {
        self.each.iter().map(|worker| part(worker).clone()).collect()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.each.iter().map(|worker| worker.sessions).sum()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.each.iter().map(|worker| worker.capacity).sum()
    }

    pub(crate) fn half_open(&self) -> u32 {
        self.each.iter().map(|worker| worker.half_open).sum()
    }

    pub(crate) fn counters(&self) -> Counters {
        merge::counters(self.each.iter().map(|worker| &worker.counters))
    }

    fn ports(&self) -> Vec<PortStatus> {
        merge::ports(self.gathered(|worker| &worker.ports))
    }

    pub(crate) fn interfaces(&self) -> Vec<api::Interface> {
        views::interfaces(self.model(), &self.ports())
    }

    pub(crate) fn waypoints(&self) -> Vec<api::Waypoints> {
        views::waypoints(self.model(), &merge::waypoints(self.gathered(|worker| &worker.waypoints)))
    }

    pub(crate) fn nat(&self) -> Vec<api::NatPorts> {
        views::nat(self.model(), &self.nat)
    }

    pub(crate) fn limits(&self) -> Vec<api::Limit> {
        let limits = merge::limits(self.gathered(|worker| &worker.limits));
        let waypoints = merge::waypoints(self.gathered(|worker| &worker.waypoints));
        views::limits(self.model(), &limits, &waypoints, &self.nat)
    }

    pub(crate) fn drops(&self) -> Vec<api::Drop> {
        let records = merge::drops(self.gathered(|worker| &worker.drops));
        views::drops(self.model(), self.now.mono, &records, &self.ports())
    }

    pub(crate) fn workers(&self) -> Vec<api::Worker> {
        let one = |(number, worker): (u8, &Worker)| {
            let count = |counter| worker.counters.value(counter);
            api::Worker {
                worker: number,
                sessions: worker.sessions as u64,
                session_capacity: worker.capacity as u64,
                received: count(Counter::PacketsReceived),
                forwarded: count(Counter::PacketsForwarded),
                handed_over: count(Counter::PacketsHandedOver),
                taken_over: count(Counter::PacketsTakenOver),
                held_for_order: count(Counter::PacketsHeldForOrder),
                busy_polled_milliseconds: u64::try_from(worker.busy_polled.as_millis()).unwrap_or(u64::MAX),
                without_door: worker.lacks_door,
                receive_overruns: worker.ports.iter().map(|port| port.statistics.rx_overruns).sum(),
            }
        };
        (0u8..).zip(&self.each).map(one).collect()
    }

    /// Flows that the kernel steers to another worker than their tuple says, and those it could not.
    pub(crate) const fn steering(&self) -> SteeringStatistics {
        self.steering
    }
}
