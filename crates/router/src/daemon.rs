//! The life of a router: start, signals, end.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use fairway_crypto::Keyring;
use fairway_io::Ports;
use fairway_session::{Engine, Shard, Shared};
use fairway_types::WorkerId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tracing::{info, warn};

use crate::api::Refused;
use crate::api::server::Listener;
use crate::clock::Clock;
use crate::command::Handle;
use crate::control::{self, Control, InForce};
use crate::crew::Crew;
use crate::load::{self, Loaded};
use crate::notify::Notifier;
use crate::options::{Offload, Options};
use crate::ring::rings;
use crate::session_log::{self, SessionLog};
use crate::stop::{Stop, TellOnDrop};
use crate::worker::{Core, RouterPorts};
use crate::{confined, logs, metrics};

/// Runs a router until SIGTERM or SIGINT.
///
/// SIGHUP reloads the configuration. The calling thread must be the only one: signals are blocked
/// and capabilities given up for it and all threads started from it.
///
/// # Errors
/// What keeps it from starting, or made a worker end.
pub fn run(options: Options) -> anyhow::Result<()> {
    logs::start(&options);
    let options = options.absolute()?;
    let signals = Signals::block()?;
    let clock = Clock::start();
    // All that needs privileges comes before they are given up, and before the first thread. What opens
    // files later starts first of all: it has never seen a key.
    let successor = confined::successor(&options)?;
    let files = confined::files(&options).context("start the process that opens files")?;
    let loaded = load::load(&files, &options.config, &options.name).map_err(|refused| refusal(&refused))?;
    control::log_faults(&loaded.warnings);
    let listener = Listener::bind(&options.socket, files.clone())?;
    let metrics = options.metrics.map(metrics::bind).transpose()?;
    let session_log =
        options.session_log.clone().map(|file| session_log::Output::open(files.clone(), file)).transpose()?;
    let wanted = RouterPorts::of(&loaded, &options.io);
    let sessions = loaded.snapshot.model().limits.sessions;
    let workers = options.workers.map_or_else(Options::usual_workers, core::num::NonZeroU8::get);
    let mut ports = wanted
        .open(workers, sessions, (options.offload == Offload::Auto).then_some(sessions))
        .context("attach to the interfaces")?;
    for ports in &mut ports {
        let opener = files.clone();
        ports.open_tun_with(move || opener.tun());
        ports.set_busy_poll(options.busy_poll);
    }
    let datagrams = fairway_io::takes_udp_super_packets();
    if !datagrams {
        warn!("this kernel sends each datagram by itself, which takes longer; Linux 6.2 and later do not");
    }
    confined::give_up(&options, successor)?;

    let session_log = session_log.map(|output| SessionLog::start(output, clock)).transpose()?;
    let (session_log, session_writer) = session_log.unzip();
    let in_force = InForce::first(wanted, sessions, loaded.warnings.clone());
    let (ended, stop) = (Stop::new()?, Stop::new()?);
    let mut engines = engines(loaded, clock, u8::try_from(ports.len()).context("too many workers")?)?;
    engines.iter_mut().for_each(|engine| engine.allow_udp_super_packets(datagrams));
    let (crew, workers) = start_workers(ports, engines, clock, session_log, &ended)?;
    fairway_crypto::scrub_stack();
    let notifier = Notifier::from_environment();
    let control = Control::new(options, files, crew, clock, notifier, in_force);
    let control = Arc::new(control);
    let mut servers = start_servers(listener, metrics, &control, &stop)?;
    // It ends when the workers, who have its other end, do.
    servers.extend(session_writer);
    info!(
        router = control.options.name,
        config = %control.options.config.display(),
        socket = %control.options.socket.display(),
        version = env!("CARGO_PKG_VERSION"),
        workers = control.crew.len(),
        "router is forwarding"
    );
    control.notifier.ready("forwarding");
    let result = attend(&control, &signals, &ended);
    control.notifier.stopping();
    control.crew.order_each(Core::stop);
    stop.tell();
    let mut worked = Ok(());
    for worker in workers {
        let ended = worker.join().map_err(|_| anyhow!("a worker panicked")).flatten();
        worked = worked.and(ended);
    }
    for server in servers {
        if server.join().is_err() {
            warn!("a server thread panicked");
        }
    }
    worked?;
    result?;
    info!("router has stopped");
    Ok(())
}

/// The faults that keep the router from starting, as one error for people.
fn refusal(refused: &Refused) -> anyhow::Error {
    const SHOWN: usize = 20;
    let mut text = String::from("the configuration is refused");
    for fault in refused.faults.iter().take(SHOWN) {
        let value = fault.value.as_ref().map(|value| format!("{value}: ")).unwrap_or_default();
        text.push_str(&format!(
            "\n{}: {}\n  {value}{}\n  fix: {}",
            fault.severity, fault.path, fault.problem, fault.fix
        ));
    }
    let others = refused.faults.len().saturating_sub(SHOWN) as u64 + refused.more;
    if others > 0 {
        text.push_str(&format!("\nand {others} more: see `fairway config validate`"));
    }
    anyhow!(text)
}

/// Starts a worker for each of the `ports`.
fn start_workers(
    ports: Vec<Ports>,
    engines: Vec<Engine>,
    clock: Clock,
    session_log: Option<SessionLog>,
    ended: &Stop,
) -> anyhow::Result<(Crew, Vec<JoinHandle<anyhow::Result<()>>>)> {
    let wakers: Vec<_> = ports.iter().map(Ports::waker).collect();
    let (mut handles, mut threads) = (Vec::new(), Vec::new());
    for (number, ((ports, engine), ring)) in (0u8..).zip(ports.into_iter().zip(engines).zip(rings(&wakers))) {
        let (handle, tasks) = Handle::new(ports.waker());
        let mut core = Core::new(engine, ports, ring, clock, session_log.clone());
        core.enable_offload(true);
        let tell = TellOnDrop(ended.clone());
        let worker = Builder::new().name(format!("worker-{number}")).spawn(move || {
            let _tell = tell;
            core.run(&tasks)
        })?;
        handles.push(handle);
        threads.push(worker);
    }
    let mut handles = handles.into_iter();
    let leader = handles.next().context("no workers")?;
    Ok((Crew::new(leader, handles.collect()), threads))
}

/// An engine for each of so many workers.
fn engines(loaded: Loaded, clock: Clock, workers: u8) -> anyhow::Result<Vec<Engine>> {
    let now = clock.now();
    let mut keyring = Keyring::new();
    keyring.replace(&loaded.snapshot.model().router, loaded.keys, now.unix)?;
    let (secret, boot_id) = (u64::from_ne_bytes(random()?), u64::from_ne_bytes(random()?));
    let shared = Shared::new(loaded.snapshot.model(), keyring, secret);
    let engine = |number| {
        let shard = Shard::new(WorkerId(number), workers).context("no such worker")?;
        let snapshot = Arc::clone(&loaded.snapshot);
        Ok(Engine::of_several(snapshot, shared.clone(), shard, random()?, boot_id, now))
    };
    (0..workers).map(engine).collect()
}

/// Random bytes of the kernel.
pub(crate) fn random<const LENGTH: usize>() -> anyhow::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(bytes)
}

fn start_servers(
    listener: Listener,
    metrics: Option<std::net::TcpListener>,
    control: &Arc<Control>,
    stop: &Stop,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut servers = Vec::new();
    let (shared, told) = (Arc::clone(control), stop.clone());
    let api = Builder::new().name("api".into()).spawn(move || listener.serve(&shared, &told))?;
    servers.push(api);
    if let Some(metrics) = metrics {
        let (shared, told) = (Arc::clone(control), stop.clone());
        let server =
            Builder::new().name("metrics".into()).spawn(move || metrics::serve(&metrics, &shared, &told));
        servers.push(server?);
    }
    Ok(servers)
}

/// Answers signals and the watchdog until it is time to end.
fn attend(control: &Control, signals: &Signals, ended: &Stop) -> anyhow::Result<()> {
    let interval = control.notifier.watchdog_interval();
    let mut watched = control.clock.mono();
    loop {
        let mut entries = [
            PollFd::new(signals.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait is just another round.
        let _ = poll(&mut entries, patience(interval));
        if ended.is_told() {
            bail!("a worker has ended");
        }
        match signals.next()? {
            Some(Signal::SIGHUP) => {
                info!("reloading the configuration (SIGHUP)");
                // Whatever comes of it is logged there.
                let _ = control.reload();
            }
            Some(signal) => {
                info!(signal = signal.as_str(), "stopping");
                return Ok(());
            }
            None => {}
        }
        let now = control.clock.mono();
        if interval.is_some_and(|interval| now.since(watched) >= interval / 2)
            && control.crew.ask_each(|_| ()).is_ok()
        {
            control.notifier.alive();
            watched = now;
        }
    }
}

fn patience(interval: Option<Duration>) -> PollTimeout {
    interval
        .map_or(PollTimeout::NONE, |interval| PollTimeout::try_from(interval / 2).unwrap_or(PollTimeout::MAX))
}

/// Signals as something to wait for.
struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals the router answers, for this thread and all it starts.
    fn block() -> anyhow::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT] {
            set.add(signal);
        }
        set.thread_block().context("block signals")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        Ok(Self(fd.context("wait for signals")?))
    }

    fn next(&self) -> anyhow::Result<Option<Signal>> {
        let info = self.0.read_signal().context("read a signal")?;
        Ok(info
            .and_then(|info| i32::try_from(info.ssi_signo).ok())
            .and_then(|number| Signal::try_from(number).ok()))
    }
}
