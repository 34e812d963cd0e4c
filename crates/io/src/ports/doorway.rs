//! A worker at its door: reading, counting, and making the door again if somebody took it away.

use fairway_types::Batch;
use tracing::{debug, warn};

use super::door::{Door, NO_IPV6, name_of};
use super::endpoint::{Endpoint, Port};
use super::intake::Intake;
use super::{Ports, TOKEN_DOOR};
use crate::error::{Context, OpenError};
use crate::frame::VNET;

/// By which interfaces lost frames came in is known when nothing waits. After so many seconds in which something
/// always did when they were asked for, it is estimated.
const PATIENCE: u8 = 2;

/// What a worker knows of its door.
#[derive(Debug, Default)]
pub(super) struct Doorway {
    pub(super) intake: Intake,
    /// May have packets to receive.
    pub(super) ready: bool,
    /// `None` where there are no doors, or while it can't be made again.
    pub(super) door: Option<Door>,
    /// Frames without room that interfaces were told of.
    told: u64,
    /// For how many seconds they have been owed that.
    owed: u8,
    /// Whether it was said that there is no door; it is tried again each second.
    complained: bool,
}

impl Doorway {
    /// A worker that has read nothing yet.
    pub(super) fn at(door: Option<Door>) -> Self {
        Self { door, ..Self::default() }
    }

    /// A second has passed.
    pub(super) fn pass_second(&mut self) {
        self.owed = if self.told < self.intake.lost { self.owed.saturating_add(1) } else { 0 };
    }
}

impl Ports {
    /// Receives from the door of this worker into the free slots of `batch`, and returns how many packets came.
    pub(super) fn receive_by_door(&mut self, batch: &mut Batch) -> usize {
        let Self { ports, doorway, flows, tap, .. } = self;
        let Doorway { intake, ready, door: Some(Door { socket, .. }), .. } = doorway else { return 0 };
        if !*ready {
            return 0;
        }
        let pending = flows.has_pending();
        let alone = |port: &&Port| port.at_door().is_some() && !port.has_xdp();
        if pending {
            ports.iter().filter(alone).for_each(|port| flows.before_read(port.spec.id));
            intake.count(socket);
            for port in ports.iter().filter(alone) {
                flows.mark(port.spec.id, intake.accepted, intake.lost);
            }
        }
        let mut unusable = 0;
        let mut unknown = 0;
        let (kept, more) = intake.read(socket, batch, &mut unusable, |slot, header, arrival| {
            let device = header.get(VNET..VNET + 4).and_then(|bytes| bytes.first_chunk());
            let device = device.map(|bytes| u32::from_ne_bytes(*bytes));
            let port = ports.iter_mut().find(|port| port.at_door().is_some() && port.at_door() == device);
            match port {
                Some(port) => port.take_from_door(slot, header, arrival, tap),
                None => {
                    unknown += 1;
                    false
                }
            }
        });
        *ready = more;
        if let Some(port) = ports.iter_mut().find(|port| port.at_door().is_some()) {
            // Of which interface these were, nobody knows; it may be gone.
            port.statistics.rx_unusable += unusable + unknown;
        }
        if pending {
            for port in ports.iter().filter(alone) {
                flows.after_read(port.spec.id, intake.taken, !more);
            }
        }
        kept
    }

    /// Whether this worker receives nothing by its door, since that is gone and could not be made again. It is
    /// tried again each second.
    #[must_use]
    pub fn lacks_door(&self) -> bool {
        self.shared.doors().is_some() && self.doorway.door.is_none()
    }

    /// Takes over how many frames came to the door.
    pub(super) fn look_at_door(&mut self) {
        let Doorway { intake, door, .. } = &mut self.doorway;
        if let Some(door) = door {
            intake.count(&door.socket);
        }
    }

    /// Takes over how many frames found no room in sockets.
    pub(super) fn count_overruns(&mut self) {
        self.ports.iter_mut().for_each(Port::count_overruns);
        self.look_at_door();
        let Self { shared, worker, ports, doorway, .. } = self;
        let Some(doors) = shared.doors() else { return };
        // The kernel says how many there were in all; what an interface did not get is one of them, or waits.
        let mut left = doorway.intake.lost - doorway.told;
        let drained = doorway.intake.taken >= doorway.intake.accepted;
        if left == 0 || (!drained && doorway.owed < PATIENCE) {
            return;
        }
        doorway.owed = 0;
        let missing = |endpoint: &Endpoint| {
            let given = doors.given(*worker, endpoint.device);
            given.saturating_sub(endpoint.by_door.taken + endpoint.by_door.lost)
        };
        let (lost, all) = (left, ports.iter().filter(|port| port.at_door().is_some()));
        let all: u64 = all.filter_map(|port| port.endpoint.as_ref()).map(missing).sum();
        for port in ports.iter_mut().filter(|port| port.at_door().is_some()) {
            let Some(endpoint) = &mut port.endpoint else { continue };
            // While some wait, each has its part of what is lost.
            let of = u128::from(missing(endpoint)) * u128::from(lost.min(all)) / u128::from(all.max(1));
            let share = u64::try_from(of).unwrap_or(u64::MAX).min(left);
            endpoint.by_door.lost += share;
            port.statistics.rx_overruns += share;
            left -= share;
        }
        doorway.told = doorway.intake.lost - left;
    }

    /// Makes the door again if its device is gone, and sets it up if somebody set it down: without it this
    /// worker hears of nothing.
    pub(super) fn keep_door(&mut self) {
        let Self { shared, worker, watch, doorway, .. } = self;
        if shared.doors().is_none() {
            return;
        }
        match &doorway.door {
            Some(door) if door.stands() => {
                // What has just been made may not be known yet.
                let index = door.index;
                if watch.state().link(index).is_some_and(|link| !link.up) {
                    let device = name_of(*worker);
                    match watch.requests().set_up(index, Some(NO_IPV6)) {
                        Ok(()) => warn!(device, "was down, by which packets come to a worker; set up again"),
                        Err(error) => warn!(device, %error, "is down, by which packets come to a worker"),
                    }
                }
                return;
            }
            _ => {}
        }
        if let Some(door) = doorway.door.take() {
            doorway.intake.close(&door.socket);
        }
        let device = name_of(*worker);
        match self.make_door() {
            Ok(()) => {
                self.doorway.complained = false;
                warn!(device, "was gone, by which packets come to a worker; made again");
            }
            Err(error) if self.doorway.complained => debug!(device, %error, "there is still no door"),
            Err(error) => {
                self.doorway.complained = true;
                warn!(device, %error, "this worker receives nothing; trying again each second");
            }
        }
    }

    fn make_door(&mut self) -> Result<(), OpenError> {
        let Self { shared, worker, watch, doorway, poller, open_tun, .. } = self;
        let Some(doors) = shared.doors() else { return Ok(()) };
        let file = open_tun().context("open /dev/net/tun")?;
        let door = doors.make(*worker, file, watch.requests())?;
        poller.add(door.socket.fd(), TOKEN_DOOR).context("wait for packets")?;
        doorway.door = Some(door);
        doorway.ready = true;
        Ok(())
    }
}
