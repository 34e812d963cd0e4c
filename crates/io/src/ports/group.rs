//! What the workers of a router share: the claim on the namespace, the classifier, and for each device
//! one group of packet sockets with a seat for each worker.
//!
//! The kernel numbers the members of a fanout group as they join, and closing one renumbers the others.
//! So all sockets of a device are made at once and in order, and live as long as any worker has a seat.
//! When a device goes down and up again, the kernel lets them leave and join again in the order in which
//! they were made.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fairway_types::steering::{CLASSES, WorkerId};

use super::door::Doors;
use super::tagged::Links;
use super::xdp::{self, Wanted, Xdp};
use crate::classifier::{Attachment, Classifier, Frames};
use crate::error::{Context, OpenError};
use crate::guard::Claim;
use crate::netlink;
use crate::spec::PortSpec;
use crate::steering::{Exceptions, Steering, TAG_SHIFT, Token};
use crate::sys::packet::Socket;
use crate::sys::tun::{self, Device};

/// What is one for all workers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) classifier: Classifier,
    /// By which untagged frames come, if this kernel has what that needs.
    doors: Option<Doors>,
    workers: u8,
    /// Only several workers have any.
    exceptions: Option<Arc<Exceptions>>,
    registry: Mutex<Registry>,
    /// What is known of neighbours where the kernel knows nothing.
    pub(super) links: Links,
    _claim: Claim,
}

/// What workers find what they share by. Nobody waits for it on a packet's way.
#[derive(Debug, Default)]
struct Registry {
    /// By device; kept for the life of the process.
    tokens: HashMap<String, Token>,
    groups: HashMap<(Token, Frames), Weak<Group>>,
    /// TUN devices by name, with the kernel's number.
    hosts: HashMap<String, (u32, Weak<Device>)>,
}

impl Shared {
    /// Claims the namespace and loads the classifier, which forwards as many sessions as it is to `offload`.
    pub(super) fn open(workers: u8, exceptions: u32, offload: Option<u32>) -> Result<Self, OpenError> {
        if workers == 0 || workers > CLASSES {
            return Err(OpenError::Workers { workers });
        }
        let claim = Claim::take_soon().map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => OpenError::AnotherRouter,
            _ => OpenError::System { action: "claim the network namespace", source },
        })?;
        let exceptions = match workers {
            1 => None,
            _ => Some(Arc::new(Exceptions::new(workers, exceptions)?)),
        };
        let (classifier, doors) =
            match offload.map(|sessions| with_doors(workers, sessions, exceptions.as_deref())) {
                Some(Ok((classifier, doors))) => (classifier, Some(doors)),
                Some(Err(error)) => {
                    tracing::warn!(%error, "the kernel does not forward sessions by itself here; workers do");
                    (Classifier::load(None)?, None)
                }
                None => (Classifier::load(None)?, None),
            };
        let links = Links::new(workers);
        Ok(Self { classifier, doors, workers, exceptions, registry: Mutex::default(), links, _claim: claim })
    }

    /// By which packets come to workers, if they do.
    pub(super) fn doors(&self) -> Option<&Doors> {
        self.doors.as_ref()
    }

    /// How many workers there are.
    pub(super) const fn workers(&self) -> u8 {
        self.workers
    }

    /// A handle for one worker, which knows no interfaces yet.
    pub(super) fn steering(&self) -> Steering {
        Steering::new(self.exceptions.clone())
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands for the device and tag of `spec` in keys of steering: a number of the device, with
    /// the tag above it, so that a program can make it of both.
    pub(super) fn token(&self, spec: &PortSpec) -> Token {
        self.device_token(&spec.device) | Token::from(spec.vlan) << TAG_SHIFT
    }

    fn device_token(&self, device: &str) -> Token {
        const MOST: Token = (1 << TAG_SHIFT) - 1;
        let mut registry = self.registry();
        let next = Token::try_from(registry.tokens.len()).unwrap_or(MOST).min(MOST);
        *registry.tokens.entry(device.to_owned()).or_insert(next)
    }

    /// The group of the device of `spec`, whose number is `index`: the one that another worker sits in,
    /// or a new one.
    ///
    /// For `frames` with tags it is that of all tags of the device. With what is known of the `device`,
    /// AF_XDP is looked into.
    pub(super) fn group(
        &self,
        spec: &PortSpec,
        index: u32,
        frames: Frames,
        device: Option<&netlink::Link>,
    ) -> Result<Arc<Group>, OpenError> {
        let token = match frames {
            Frames::Untagged => self.token(spec),
            Frames::Tagged => self.device_token(&spec.device),
        };
        let key = (token, frames);
        let mut registry = self.registry();
        registry.groups.retain(|_, group| group.strong_count() > 0);
        let present = registry.groups.get(&key).and_then(Weak::upgrade);
        if let Some(group) = present.filter(|group| group.serves(index)) {
            return Ok(group);
        }
        let mut group = self.open_group(spec, index, token, frames)?;
        if let Some(device) = device {
            let steering = self.exceptions.as_ref().map(|exceptions| exceptions.parameters(token, false));
            let wanted = Wanted { classifier: &self.classifier, device, steering, workers: self.workers };
            group.xdp = xdp::choose(spec, &wanted);
        }
        let group = Arc::new(group);
        registry.groups.insert(key, Arc::downgrade(&group));
        Ok(group)
    }

    fn open_group(
        &self,
        spec: &PortSpec,
        index: u32,
        token: Token,
        frames: Frames,
    ) -> Result<Group, OpenError> {
        const OPEN: &str = "open a packet socket";
        let attachment =
            self.classifier.attach(index, frames).on(&spec.name, "attach the classifier to the device")?;
        let filter = self.classifier.filter(frames);
        let tags = frames == Frames::Tagged;
        let doors = self.doors.as_ref().filter(|_| !tags);
        let sockets = match (doors, &self.exceptions) {
            (Some(doors), _) => {
                doors.know(index, token).on(&spec.name, "say what stands for the device")?;
                let sockets = (0..self.workers).map(|_| Socket::for_sending(index));
                sockets.collect::<io::Result<_>>().on(&spec.name, OPEN)?
            }
            (None, None) => vec![Socket::open(index, filter, tags).on(&spec.name, OPEN)?],
            (None, Some(exceptions)) => {
                let program = exceptions.program(token, tags)?;
                Socket::open_group(index, filter, program.fd(), self.workers, tags).on(&spec.name, OPEN)?
            }
        };
        let (by_door, stays) = (doors.is_some(), AtomicBool::new(false));
        Ok(Group { index, xdp: None, attachment: Some(attachment), sockets, by_door, stays })
    }

    /// Lets other workers send to a TUN device.
    pub(super) fn publish_host(&self, spec: &PortSpec, index: u32, device: &Arc<Device>) {
        self.registry().hosts.insert(spec.device.clone(), (index, Arc::downgrade(device)));
    }

    /// The TUN device of `spec`, if its number is `index`.
    pub(super) fn host(&self, spec: &PortSpec, index: u32) -> Option<Arc<Device>> {
        match self.registry().hosts.get(&spec.device) {
            Some((known, device)) if *known == index => device.upgrade(),
            _ => None,
        }
    }
}

/// The classifier and the sockets on one device.
#[derive(Debug)]
pub(super) struct Group {
    index: u32,
    // Dropped first: what no AF_XDP socket takes any more, the packet sockets and the classifier do.
    xdp: Option<Xdp>,
    // Dropped before the sockets: the kernel has the traffic again before they close.
    attachment: Option<Attachment>,
    sockets: Vec<Socket>,
    /// Whether frames come by a door. The sockets only send, then.
    by_door: bool,
    stays: AtomicBool,
}

fn with_doors(
    workers: u8,
    sessions: u32,
    exceptions: Option<&Exceptions>,
) -> Result<(Classifier, Doors), OpenError> {
    let doors = Doors::open(workers, sessions, tun::open)?;
    let classifier = Classifier::load(Some(&doors.entrance(exceptions)))?;
    Ok((classifier, doors))
}

impl Group {
    /// The socket of a worker.
    pub(super) fn seat(&self, worker: WorkerId) -> Option<&Socket> {
        self.sockets.get(worker.index())
    }

    /// Whether frames come by a door, and not to the sockets.
    pub(super) const fn by_door(&self) -> bool {
        self.by_door
    }

    /// The AF_XDP sockets, if there are any.
    pub(super) fn xdp(&self) -> Option<&Xdp> {
        self.xdp.as_ref()
    }

    /// Whether the sockets are still bound to the device with this number. They are not when the device
    /// was away, even if it has its number again.
    pub(super) fn serves(&self, index: u32) -> bool {
        self.index == index && self.sockets.iter().all(|socket| socket.is_bound_to(index))
    }

    /// Leaves the classifier at work when the last worker is gone.
    pub(super) fn stay(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.stays.load(Ordering::Relaxed)
            && let Some(attachment) = self.attachment.take()
        {
            attachment.leave();
        }
    }
}
