//! A bench of namespaces: host A, the router, host B, joined by veth pairs, and a forwarder that sends
//! everything from one side out of the other.

use core::net::IpAddr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fairway_types::{Batch, DropReason, Egress, InterfaceId, Now, PortRange, Slot, Time, Verdict};

use crate::sys::{enter_namespace, is_root};
use crate::{IoChoice, PortSpec, Ports, Waker};

pub(super) const LEFT: InterfaceId = InterfaceId(10);
pub(super) const RIGHT: InterfaceId = InterfaceId(20);
/// How many sessions the kernel has room for.
pub(super) const SESSIONS: u32 = 1000;
/// Nothing runs longer, whatever happens.
const LIFETIME: Duration = Duration::from_secs(120);

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Runs a program and returns its output, whatever its status.
pub(super) fn run(program: &str, arguments: &str) -> Output {
    Command::new(program).args(arguments.split_whitespace()).output().unwrap()
}

/// Runs `ip` and insists on success.
pub(super) fn ip(arguments: &str) {
    let output = run("ip", arguments);
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Three namespaces, removed when this is dropped.
pub(super) struct Bench {
    prefix: String,
    names: &'static [&'static str],
}

impl Bench {
    /// Raises the bench; `None`, with a printed reason, without the rights to.
    pub(super) fn raise() -> Option<Self> {
        let bench = Self::raise_bare(&["a", "r", "b"])?;
        bench.join("a", "left", 1);
        bench.join("b", "right", 2);
        Some(bench)
    }

    /// These namespaces, with nothing between them.
    pub(super) fn raise_bare(names: &'static [&'static str]) -> Option<Self> {
        if !is_root() {
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let bench = Self { prefix: format!("fwio-{}-{serial}", std::process::id()), names };
        for name in names {
            ip(&format!("netns add {}", bench.namespace(name)));
            ip(&format!("-n {} link set lo up", bench.namespace(name)));
            // While its link-local address is being checked, the kernel asks for no neighbour.
            bench.exec(
                name,
                "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0",
            );
        }
        // A forwarding kernel would answer and forward what the classifier let through.
        bench.exec("r", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        Some(bench)
    }

    /// Joins a host to the router: device `eth0` there, `router_device` here.
    pub(super) fn join(&self, host: &str, router_device: &str, net: u8) {
        self.join_with(host, router_device, net, 1);
    }

    /// The same with so many queues on both devices.
    pub(super) fn join_with(&self, host: &str, router_device: &str, net: u8, queues: u8) {
        let (host, router) = (self.namespace(host), self.namespace("r"));
        let many = format!("numrxqueues {queues} numtxqueues {queues}");
        ip(&format!("-n {host} link add {router_device} {many} type veth peer name eth0 {many}"));
        for device in [router_device, "eth0"] {
            // So that AF_XDP is possible: it sees no tag that is not in its frame.
            ip(&format!("netns exec {host} ethtool -K {device} rxvlan off txvlan off"));
        }
        ip(&format!("-n {host} link set {router_device} netns {router}"));
        for (namespace, device, last) in [(&host, "eth0", 2), (&router, router_device, 1)] {
            ip(&format!("-n {namespace} addr add 10.77.{net}.{last}/24 dev {device}"));
            ip(&format!("-n {namespace} addr add 2001:db8:77:{net}::{last}/64 dev {device} nodad"));
            ip(&format!("-n {namespace} link set {device} up"));
        }
        ip(&format!("-n {host} route add default via 10.77.{net}.1"));
        ip(&format!("-n {host} -6 route add default via 2001:db8:77:{net}::1"));
        self.wait_for("the link is up", || {
            [(&host, "eth0"), (&router, router_device)].iter().all(|(namespace, device)| {
                let shown = run("ip", &format!("-n {namespace} -brief link show dev {device}"));
                String::from_utf8_lossy(&shown.stdout).split_whitespace().nth(1) == Some("UP")
            })
        });
    }

    /// Looks again and again until the condition holds. The kernel notices that a device has a link when it
    /// has the time to; until then it may ask for no neighbour and hear no solicitation.
    pub(super) fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "{}: not within 10 s: {what}", self.prefix);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Runs a program in a namespace.
    pub(super) fn exec(&self, name: &str, command: &str) -> Output {
        run("ip", &format!("netns exec {} {command}", self.namespace(name)))
    }

    /// The lines a program prints; it must succeed.
    pub(super) fn output(&self, name: &str, command: &str) -> String {
        let output = self.exec(name, command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Switches every offload of the four devices.
    pub(super) fn set_offloads(&self, state: &str) {
        for (name, device) in [("a", "eth0"), ("r", "left"), ("r", "right"), ("b", "eth0")] {
            self.output(name, &format!("ethtool -K {device} tx {state} tso {state} gso {state} gro {state}"));
        }
    }

    /// Runs `work` in a thread inside a namespace.
    pub(super) fn inside<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let namespace = self.namespace(name);
        let thread = std::thread::spawn(move || {
            enter_namespace(&namespace).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    /// The two Ethernet interfaces of the router; their addresses are waypoints.
    pub(super) fn specs() -> Vec<PortSpec> {
        let port = |id, device: &str, net: u8| PortSpec {
            waypoints: vec![
                (format!("10.77.{net}.1").parse().unwrap(), PortRange::WAYPOINTS),
                (format!("2001:db8:77:{net}::1").parse().unwrap(), PortRange::WAYPOINTS),
            ],
            io: method(),
            ..PortSpec::ethernet(id, device, device)
        };
        vec![port(LEFT, "left", 1), port(RIGHT, "right", 2)]
    }

    /// A forwarder between the two hosts.
    pub(super) fn forwarder(&self) -> Forwarder {
        self.forwarder_with(Self::specs(), Box::new(across))
    }

    /// A forwarder with an engine of the caller's.
    pub(super) fn forwarder_with(&self, specs: Vec<PortSpec>, engine: Engine) -> Forwarder {
        let open =
            move || Ports::open_with(&specs, &[], (1, 0), doors().then_some(SESSIONS)).unwrap().remove(0);
        Forwarder::start(self.namespace("r"), open, engine)
    }

    /// A forwarder by ports of the caller's.
    pub(super) fn forwarder_of(
        &self,
        open: impl FnOnce() -> Ports + Send + 'static,
        engine: Engine,
    ) -> Forwarder {
        Forwarder::start(self.namespace("r"), open, engine)
    }

    /// Several workers, each with an engine of its own.
    pub(super) fn workers(&self, specs: Vec<PortSpec>, engines: Vec<Engine>) -> Vec<Forwarder> {
        let count = u8::try_from(engines.len()).unwrap();
        let opened = self.inside("r", move || {
            Ports::open_with(&specs, &[], (count, 1000), doors().then_some(SESSIONS)).unwrap()
        });
        let start = |(ports, engine)| Forwarder::start(self.namespace("r"), move || ports, engine);
        opened.into_iter().zip(engines).map(start).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for name in self.names {
            run("ip", &format!("netns del {}", self.namespace(name)));
        }
    }
}

/// How interfaces of tests exchange frames with the kernel where a test does not say.
fn method() -> IoChoice {
    match std::env::var("FAIRWAY_TEST_IO").as_deref() {
        Ok("xdp") => IoChoice::Xdp,
        _ => IoChoice::Packet,
    }
}

/// Whether packets come to workers by doors where a test does not say.
pub(super) fn doors() -> bool {
    std::env::var("FAIRWAY_TEST_DOORS").as_deref() != Ok("off")
}

/// Decides about one received packet.
pub(super) type Engine = Box<dyn FnMut(&mut Slot) + Send>;

/// Sends everything out of the other side; what is for the router itself is dropped.
pub(super) fn across(slot: &mut Slot) {
    let (interface, net) = if slot.interface == LEFT { (RIGHT, 2) } else { (LEFT, 1) };
    let packet = slot.packet.bytes();
    let next_hop: IpAddr = if packet[0] >> 4 == 4 {
        format!("10.77.{net}.2").parse().unwrap()
    } else {
        format!("2001:db8:77:{net}::2").parse().unwrap()
    };
    let for_router = if packet[0] >> 4 == 4 { packet[19] == 1 } else { packet[38..40] == [0, 1] };
    slot.verdict = if for_router {
        Verdict::Drop(DropReason::UnknownWaypoint)
    } else {
        Verdict::Forward(Egress { interface, next_hop })
    };
}

type Task = Box<dyn FnOnce(&mut Ports, &mut Batch, Now) + Send>;

/// A worker thread that owns `Ports`, and does what it is asked between batches.
pub(super) struct Forwarder {
    thread: Option<JoinHandle<()>>,
    tasks: Sender<Task>,
    waker: Waker,
    stop: std::sync::Arc<AtomicBool>,
}

impl Forwarder {
    fn start(namespace: String, open: impl FnOnce() -> Ports + Send + 'static, engine: Engine) -> Self {
        let (tasks, inbox) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            enter_namespace(&namespace).unwrap();
            let ports = open();
            ready.send(ports.waker()).unwrap();
            work(ports, engine, &inbox, &stopped);
        });
        let waker = started.recv_timeout(Duration::from_secs(10)).unwrap();
        Self { thread: Some(thread), tasks, waker, stop }
    }

    /// Runs `task` in the worker and returns what it returned.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Ports, &mut Batch, Now) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = mpsc::channel();
        let task: Task = Box::new(move |ports, batch, now| {
            let _ = reply.send(task(ports, batch, now));
        });
        self.tasks.send(task).unwrap();
        self.waker.wake();
        answer.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// Asks again and again until the answer is yes.
    pub(super) fn wait_for(
        &self,
        what: &str,
        condition: impl Fn(&mut Ports) -> bool + Clone + Send + 'static,
    ) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let condition = condition.clone();
            if self.ask(move |ports, _, _| condition(ports)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: not within 10 s");
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(mut ports: Ports, mut engine: Engine, inbox: &Receiver<Task>, stop: &AtomicBool) {
    let start = Instant::now();
    let mut batch = Batch::new(64, 64, 65_536);
    while !stop.load(Ordering::Relaxed) && start.elapsed() < LIFETIME {
        let now = Now { mono: Time(start.elapsed().as_nanos() as u64), unix: 0 };
        let due = ports.poll_timeout().map_or(Duration::from_secs(1), |time| time.since(now.mono));
        let ready = ports.wait(Some(due)).unwrap();
        let now = Now { mono: Time(start.elapsed().as_nanos() as u64), unix: 0 };
        if ready.packets {
            ports.receive(&mut batch);
            batch.received_mut().iter_mut().for_each(&mut engine);
            ports.transmit(now, &mut batch);
            batch.clear();
        }
        if ready.events || ports.poll_timeout().is_some_and(|time| time <= now.mono) {
            ports.handle_events(now).unwrap();
        }
        while let Ok(task) = inbox.try_recv() {
            task(&mut ports, &mut batch, now);
            batch.clear();
        }
    }
}
