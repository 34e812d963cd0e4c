//! The doors by which packets come to their workers: for each worker a device of Fairway's own, and the
//! worker's packet socket on it.
//!
//! A packet socket on a network's device would see all frames of that device, those that the kernel forwards
//! for a router too, and before anything could be decided about them. So the program at tc decides, and sends
//! what is a worker's by the worker's door. There the kernel shows it to the socket; the device itself, a TAP,
//! throws it away. It is gone with the router that made it, and what was to go through it is dropped.
//!
//! All interfaces of a worker share its door. Where a frame came in stands in it: see
//! `classifier::program::serve`.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fairway_types::{Batch, WorkerId};

use super::Ports;
use super::endpoint::Port;
use super::intake::Intake;
use crate::classifier::Entrance;
use crate::error::{Context, OpenError};
use crate::frame::VNET;
use crate::netlink::Requests;
use crate::offload::{GIVEN, Kernel};
use crate::steering::Exceptions;
use crate::sys::bpf::Map;
use crate::sys::packet::Socket;
use crate::sys::shared::SharedArray;
use crate::sys::tun::Device;

/// How many devices may be steered by.
const TOKENS: u32 = 4096;

/// What a worker knows of its door.
#[derive(Debug, Default)]
pub(super) struct Doorway {
    pub(super) intake: Intake,
    /// May have packets to receive.
    pub(super) ready: bool,
    /// Frames without room that interfaces were told of.
    told: u64,
}

/// The doors of all workers.
#[derive(Debug)]
pub(super) struct Doors {
    kernel: Arc<Kernel>,
    doors: Vec<Door>,
    /// The devices of the doors, by worker.
    devices: Map<4, 4>,
    /// How many frames came through each door, by worker and device: see [`crate::offload::GIVEN`].
    given: SharedArray<8>,
    /// The tokens of devices, by their numbers: which packets were placed where goes by these.
    tokens: Map<4, 4>,
}

/// The door of one worker.
#[derive(Debug)]
pub(super) struct Door {
    // The frames come out here.
    socket: Socket,
    _device: Device,
}

impl Doors {
    /// Makes the doors of so many workers.
    pub(super) fn open(workers: u8, mut open: impl FnMut() -> io::Result<File>) -> Result<Self, OpenError> {
        const MAPS: &str = "create the maps of flows";
        let kernel = Arc::new(Kernel::new().context(MAPS)?);
        let given = SharedArray::new("fw_given", u32::from(workers) * GIVEN).context(MAPS)?;
        let devices = Map::array("fw_doors", u32::from(workers)).context(MAPS)?;
        let tokens = Map::hash("fw_tokens", TOKENS).context(MAPS)?;
        let mut requests = Requests::open().context("open a netlink socket")?;
        let mut doors = Vec::with_capacity(usize::from(workers));
        for worker in 0..workers {
            let name = format!("fairway-{worker}");
            let file = open().context("open /dev/net/tun")?;
            let filter = kernel.door_filter(given.fd(), u32::from(worker) * GIVEN)?;
            let device = Device::ethernet(file, &name, filter.fd()).context("make a door for packets")?;
            let index = Device::index_of(&name).context("find the door for packets")?;
            // Without IPv6 in the kernel there is nothing to refuse.
            let _ = requests.refuse_link_local(index);
            requests.send_at_once(index).context("take the queue off the door for packets")?;
            let socket = Socket::at_door(index).context("open a packet socket")?;
            requests.set_up(index, None).context("set the door for packets up")?;
            devices.insert(&u32::from(worker).to_ne_bytes(), &index.to_ne_bytes()).context(MAPS)?;
            doors.push(Door { socket, _device: device });
        }
        Ok(Self { kernel, doors, devices, given, tokens })
    }

    /// What programs have to know of it.
    pub(super) fn entrance(&self, exceptions: Option<&Exceptions>) -> Entrance {
        let steering = exceptions.map(|exceptions| exceptions.parameters_of_all(self.tokens.fd()));
        Entrance { kernel: Arc::clone(&self.kernel), doors: self.devices.fd(), steering }
    }

    /// Says which token stands for a device.
    pub(super) fn know(&self, device: u32, token: u32) -> io::Result<()> {
        self.tokens.insert(&device.to_ne_bytes(), &token.to_ne_bytes())
    }

    /// How many frames of a device came through the door of a worker.
    pub(super) fn given(&self, worker: WorkerId, device: u32) -> u64 {
        let place = u32::from(worker.0) * GIVEN + device % GIVEN;
        self.given.double(place, 0).load(Ordering::Acquire)
    }

    /// The socket of a worker.
    pub(super) fn seat(&self, worker: WorkerId) -> Option<&Socket> {
        self.doors.get(worker.index()).map(|door| &door.socket)
    }
}

impl Ports {
    /// Receives from the door of this worker into the free slots of `batch`, and returns how many packets came.
    pub(super) fn receive_by_door(&mut self, batch: &mut Batch) -> usize {
        let Self { shared, worker, ports, doorway, flows, tap, .. } = self;
        let Doorway { intake, ready, .. } = doorway;
        let Some(socket) = shared.doors().and_then(|doors| doors.seat(*worker)).filter(|_| *ready) else {
            return 0;
        };
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
        let Self { shared, worker, doorway, .. } = self;
        if let Some(socket) = shared.doors().and_then(|doors| doors.seat(*worker)) {
            doorway.intake.count(socket);
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
}
