//! A worker at its door: reading, counting, and making the door again if somebody took it away.

use fairway_types::Batch;
use tracing::warn;

use super::door::{Door, NO_IPV6, name_of};
use super::endpoint::Port;
use super::intake::Intake;
use super::{Ports, TOKEN_DOOR};
use crate::error::{Context, OpenError};
use crate::frame::VNET;

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
}

impl Doorway {
    /// A worker that has read nothing yet.
    pub(super) fn at(door: Option<Door>) -> Self {
        Self { door, ..Self::default() }
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
        for port in ports.iter_mut().filter(|port| port.at_door().is_some()) {
            let Some(endpoint) = &mut port.endpoint else { continue };
            let given = doors.given(*worker, endpoint.device).wrapping_sub(endpoint.by_door.before);
            let missing = given.saturating_sub(endpoint.by_door.taken + endpoint.by_door.lost);
            let lost = missing.min(left);
            endpoint.by_door.lost += lost;
            port.statistics.rx_overruns += lost;
            left -= lost;
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
            Ok(()) => warn!(device, "was gone, by which packets come to a worker; made again"),
            Err(error) => warn!(device, %error, "this worker receives nothing; trying again"),
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
