//! The doors by which packets come to their workers: for each worker a device of Fairway's own, and the
//! worker's packet socket on it.
//!
//! A packet socket on a network's device would see all frames of that device, those that the kernel forwards
//! for a router too, and before anything could be decided about them. So the program at tc decides, and sends
//! what is a worker's by the worker's door. There the kernel shows it to the socket; the device itself, a TAP,
//! throws it away. It is gone with the router that made it, and what was to go through it is dropped. One that
//! somebody else took away is made again: see `doorway`.
//!
//! All interfaces of a worker share its door. Where a frame came in stands in it: see
//! `classifier::program::serve`.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use fairway_types::WorkerId;

use crate::classifier::Entrance;
use crate::error::{Context, OpenError};
use crate::netlink::Requests;
use crate::offload::{GIVEN, Kernel};
use crate::steering::Exceptions;
use crate::sys::bpf::{Map, Program};
use crate::sys::packet::Socket;
use crate::sys::shared::SharedArray;
use crate::sys::tun::Device;

/// How many devices may be steered by.
const TOKENS: u32 = 4096;

/// The MTU of doors. With less than 1280 the kernel has no IPv6 there (RFC 8200, 5), and so nothing of its own
/// to send: no link-local address, no reports of groups. What is redirected has no need of an MTU.
pub(super) const NO_IPV6: u16 = 1279;

/// What the doors of all workers have in common.
#[derive(Debug)]
pub(super) struct Doors {
    kernel: Arc<Kernel>,
    /// The doors that no worker has taken yet.
    made: Mutex<Vec<Option<Door>>>,
    /// What counts in each door.
    filters: Vec<Program>,
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
    pub(super) socket: Socket,
    pub(super) index: u32,
    _device: Device,
}

impl Door {
    /// Whether its device is there. Once it was away, another one is needed.
    pub(super) fn stands(&self) -> bool {
        self.socket.is_bound_to(self.index)
    }
}

/// The name of a worker's door.
pub(super) fn name_of(worker: WorkerId) -> String {
    format!("fairway-{}", worker.0)
}

impl Doors {
    /// Makes the doors of so many workers that have so many sessions at most.
    pub(super) fn open(
        workers: u8,
        sessions: u32,
        mut open: impl FnMut() -> io::Result<File>,
    ) -> Result<Self, OpenError> {
        const MAPS: &str = "create the maps of flows";
        let kernel = Arc::new(Kernel::new(sessions).context(MAPS)?);
        let given = SharedArray::new("fw_given", u32::from(workers) * GIVEN).context(MAPS)?;
        let devices = Map::array("fw_doors", u32::from(workers)).context(MAPS)?;
        let tokens = Map::hash("fw_tokens", TOKENS).context(MAPS)?;
        let filters = (0..u32::from(workers)).map(|worker| kernel.door_filter(given.fd(), worker * GIVEN));
        let filters = filters.collect::<Result<_, _>>()?;
        let doors = Self { kernel, made: Mutex::default(), filters, devices, given, tokens };
        let mut requests = Requests::open().context("open a netlink socket")?;
        let made = (0..workers).map(|worker| {
            let worker = WorkerId(worker);
            soon(|| doors.make(worker, open().context("open /dev/net/tun")?, &mut requests)).map(Some)
        });
        let made = made.collect::<Result<_, _>>()?;
        Ok(Self { made: Mutex::new(made), ..doors })
    }

    /// Makes the door of a worker. Nothing else may have its name, an earlier door of the worker neither.
    pub(super) fn make(
        &self,
        worker: WorkerId,
        file: File,
        requests: &mut Requests,
    ) -> Result<Door, OpenError> {
        let name = name_of(worker);
        let Some(filter) = self.filters.get(worker.index()) else {
            return Err(OpenError::Workers { workers: worker.0 });
        };
        let device = Device::ethernet(file, &name, filter.fd());
        let device = device.on(&name, "make this device, by which packets come to a worker")?;
        let index = Device::index_of(&name).on(&name, "find the device")?;
        requests.send_at_once(index).on(&name, "take the queue off the device")?;
        let socket = Socket::at_door(index).on(&name, "open a packet socket")?;
        requests.set_up(index, Some(NO_IPV6)).on(&name, "set the device up")?;
        let key = u32::from(worker.0).to_ne_bytes();
        self.devices.insert(&key, &index.to_ne_bytes()).on(&name, "enter the device for programs")?;
        Ok(Door { socket, index, _device: device })
    }

    /// The door that was made for a worker, once.
    pub(super) fn take(&self, worker: WorkerId) -> Option<Door> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get_mut(worker.index()).and_then(Option::take)
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
}

/// Tries again for a moment while the name is taken: a router that has just ended may still have it.
fn soon<T>(mut make: impl FnMut() -> Result<T, OpenError>) -> Result<T, OpenError> {
    const TRIES: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 1..TRIES {
        match make() {
            Err(OpenError::Interface { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {
                sleep(PAUSE);
            }
            made => return made,
        }
    }
    make()
}
