//! The process of a wire: packet sockets, a timer and a control socket around pure impairments.
//!
//! Time is CLOCK_MONOTONIC. A frame counts from the moment the kernel received it, not from the
//! moment this process got to it. With more than two ports the wire is a learning switch.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fairway_types::Time;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};
use serde::{Deserialize, Serialize};

use super::control::{Answer, MAX_MESSAGE, Report, Request, SenderReport};
use super::impairment::{Impairment, Stats};
use super::realtime;
use super::settings::{Change, Settings};
use super::socket::PacketSocket;

/// Frames taken from one port before the others have their turn.
const BURST: usize = 64;
/// The most a frame's receive time is dated back; beyond, the wall clock was set.
const MAX_AGE: Duration = Duration::from_millis(20);
/// Addresses remembered by a wire with more than two ports.
const MAX_ADDRESSES: usize = 4096;
const CONTROL: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// What a wire process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePlan {
    /// The link's name.
    pub link: String,
    /// Where the control socket is to be.
    pub control: PathBuf,
    /// Decides the fate of every frame, together with the names of link and sender.
    pub seed: u64,
    /// The ends: at least two.
    pub ports: Vec<PortPlan>,
}

/// One end of a wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    /// The node at that end.
    pub sender: String,
    /// The device towards it, in the wire's namespace.
    pub device: String,
    /// What becomes of the node's frames.
    pub settings: Settings,
}

/// A wire that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The plan cannot be read.
    #[error("the wire's plan {path} cannot be read: {reason}")]
    Plan {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A device cannot be opened.
    #[error("device {device}: {source}")]
    Device {
        /// The device.
        device: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused something else.
    #[error("wire: {0}")]
    System(#[from] io::Error),
}

/// Runs the wire that the JSON file `plan` describes, in the current network namespace, until the
/// process is ended.
///
/// # Errors
/// When the plan cannot be read, or a device or the control socket cannot be opened.
pub fn run(plan: &Path) -> Result<(), WireError> {
    let unreadable = |reason: String| WireError::Plan { path: plan.to_owned(), reason };
    let text = std::fs::read(plan).map_err(|error| unreadable(error.to_string()))?;
    let plan: WirePlan = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    let wire = Wire::open(&plan)?;
    // Where that is not allowed, delays are less exact on a busy machine, and nothing else.
    let _ = realtime::prefer_this_thread();
    wire.carry()
}

struct Port {
    sender: String,
    socket: PacketSocket,
    impairment: Impairment,
    /// Frames that the kernel could not hand over or take.
    overrun: u64,
}

struct Wire {
    link: String,
    ports: Vec<Port>,
    control: UnixDatagram,
    poll: Epoll,
    timer: TimerFd,
    addresses: HashMap<[u8; 6], usize>,
}

impl Wire {
    fn open(plan: &WirePlan) -> Result<Self, WireError> {
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
                .map_err(io::Error::from)?;
        let watch = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        poll.add(&timer, watch(TIMER)).map_err(io::Error::from)?;
        let mut ports = Vec::new();
        for (token, port) in (0u64..).zip(&plan.ports) {
            let socket = PacketSocket::open(&port.device)
                .map_err(|source| WireError::Device { device: port.device.clone(), source })?;
            poll.add(&socket, watch(token)).map_err(io::Error::from)?;
            let seed = seed_of(plan.seed, &plan.link, &port.sender);
            let impairment = Impairment::new(port.settings.clone(), seed);
            ports.push(Port { sender: port.sender.clone(), socket, impairment, overrun: 0 });
        }
        // Last, because its presence says that the wire carries frames.
        let control = UnixDatagram::bind(&plan.control)?;
        control.set_nonblocking(true)?;
        poll.add(&control, watch(CONTROL)).map_err(io::Error::from)?;
        Ok(Self { link: plan.link.clone(), ports, control, poll, timer, addresses: HashMap::new() })
    }

    fn carry(mut self) -> Result<(), WireError> {
        let mut events = [EpollEvent::empty(); 16];
        loop {
            let ready = match self.poll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(io::Error::from(error).into()),
            };
            for event in events.iter().take(ready) {
                match event.data() {
                    CONTROL => self.answer(),
                    TIMER => {
                        // Reading clears it; that it was already clear is no fault.
                        let _ = self.timer.wait();
                    }
                    port => self.take_in(usize::try_from(port).unwrap_or(usize::MAX)),
                }
            }
            self.deliver();
            self.arm()?;
        }
    }

    /// Takes what waits at one port.
    fn take_in(&mut self, index: usize) {
        let switching = self.ports.len() > 2;
        let Some(port) = self.ports.get_mut(index) else { return };
        for _ in 0..BURST {
            // An error is that of the link going down: there is nothing to carry then.
            let Ok(Some(received)) = port.socket.receive() else { break };
            if switching
                && self.addresses.len() < MAX_ADDRESSES
                && let Some(source) = address(&received.frame, 6)
            {
                self.addresses.insert(source, index);
            }
            port.impairment.handle_input(arrival(received.stamp), received.frame);
        }
    }

    /// Hands over every frame whose time has come.
    fn deliver(&mut self) {
        for from in 0..self.ports.len() {
            while let Some(frame) =
                self.ports.get_mut(from).and_then(|port| port.impairment.poll_transmit(monotonic()))
            {
                self.hand_over(from, &frame);
            }
        }
    }

    fn hand_over(&mut self, from: usize, frame: &[u8]) {
        let known = address(frame, 0).and_then(|destination| self.addresses.get(&destination)).copied();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let wanted = index != from && known.is_none_or(|known| known == index);
            if wanted && !port.socket.send(frame) {
                port.overrun += 1;
            }
        }
    }

    /// Sets the timer to the next frame's time.
    fn arm(&self) -> Result<(), WireError> {
        let next = self.ports.iter().filter_map(|port| port.impairment.poll_timeout()).min();
        let set = match next {
            None => self.timer.unset(),
            // A timer of zero would be no timer.
            Some(due) => self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(due.0.max(1)))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            ),
        };
        set.map_err(|error| io::Error::from(error).into())
    }

    fn answer(&mut self) {
        let mut message = vec![0; MAX_MESSAGE];
        let Ok((length, asking)) = self.control.recv_from(&mut message) else { return };
        let answer = match serde_json::from_slice(message.get(..length).unwrap_or_default()) {
            Ok(Request::Report) => Answer::Report(self.report()),
            Ok(Request::Change { from, change }) => match self.change(from.as_deref(), &change) {
                Ok(()) => Answer::Report(self.report()),
                Err(reason) => Answer::Refused(reason),
            },
            Err(error) => Answer::Refused(format!("not a request to a wire: {error}")),
        };
        if let (Some(path), Ok(answer)) = (asking.as_pathname(), serde_json::to_vec(&answer)) {
            // Who no longer waits for the answer needs none.
            let _ = self.control.send_to(&answer, path);
        }
    }

    fn change(&mut self, from: Option<&str>, change: &Change) -> Result<(), String> {
        let concerned = |port: &Port| from.is_none_or(|from| port.sender == from);
        if !self.ports.iter().any(concerned) {
            let names: Vec<&str> = self.ports.iter().map(|port| port.sender.as_str()).collect();
            return Err(format!("no such sender on link {}: it has {}", self.link, names.join(", ")));
        }
        let mut changed = Vec::new();
        for port in self.ports.iter().filter(|port| concerned(port)) {
            changed.push(port.impairment.settings().with(change).map_err(|error| error.to_string())?);
        }
        for (port, settings) in self.ports.iter_mut().filter(|port| concerned(port)).zip(changed) {
            port.impairment.configure(settings);
        }
        Ok(())
    }

    fn report(&mut self) -> Report {
        let senders = self.ports.iter_mut().map(Port::report).collect();
        Report { link: self.link.clone(), senders }
    }
}

impl Port {
    fn report(&mut self) -> SenderReport {
        self.overrun += self.socket.take_drops();
        let stats = self.impairment.stats();
        SenderReport {
            sender: self.sender.clone(),
            settings: self.impairment.settings().clone(),
            stats: Stats { overrun: stats.overrun + self.overrun, ..stats },
        }
    }
}

/// The MAC address at `offset`, unless it is a group address.
fn address(frame: &[u8], offset: usize) -> Option<[u8; 6]> {
    let bytes: [u8; 6] = frame.get(offset..offset + 6)?.try_into().ok()?;
    (bytes[0] & 1 == 0).then_some(bytes)
}

fn clock(clock: Clock) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

fn monotonic() -> Time {
    Time::ZERO + clock(Clock::CLOCK_MONOTONIC)
}

/// The monotonic time of a frame that the kernel received at wall time `stamp`.
fn arrival(stamp: Option<Duration>) -> Time {
    let now = monotonic();
    let age = stamp.and_then(|stamp| clock(Clock::CLOCK_REALTIME).checked_sub(stamp));
    let age = age.filter(|age| *age <= MAX_AGE).unwrap_or_default();
    Time(now.0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(0)))
}

/// A seed for each direction of each link (FNV-1a over the names).
fn seed_of(seed: u64, link: &str, sender: &str) -> u64 {
    let names = link.bytes().chain([0]).chain(sender.bytes());
    names.fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
