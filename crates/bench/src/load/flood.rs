//! Datagrams that no socket makes or counts: from eBPF programs of the client, to those of the server.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use fairway_io::traffic::{Fate, Flood, FloodPlan, Order, Side, Tally};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::{SINK_PORT, Seen, begin, end, now, pattern};

/// What a flood sends at once when it need not hurry. Beginning a test run takes the kernel some
/// milliseconds, in which workers carry as many.
const FEW: u32 = 1024;
/// What it sends at first when it need, and at most, in whole portions of the kernel's; and for how long it
/// goes on without beginning anew: compared with that, the beginning is nothing.
const AT_FIRST: u32 = 64 * 128;
const AT_MOST: u32 = 64 * 65_536;
const PORTION: u32 = 64;
const AT_ONCE: Duration = Duration::from_millis(500);
/// What passes between the first datagram and the window.
const WARM_UP: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(1);

/// What a flood is to be.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FloodOptions {
    /// The server.
    to: Ipv4Addr,
    /// The device it leaves by.
    #[arg(long)]
    device: String,
    /// The router's link address.
    #[arg(long)]
    router: String,
    /// The first of the addresses it comes from.
    #[arg(long)]
    from: Ipv4Addr,
    /// Bytes of payload in each.
    #[arg(long)]
    size: usize,
    /// How many sessions.
    #[arg(long)]
    sessions: u32,
    /// Each session so often, in turn, and no faster than `rate`.
    #[arg(long, conflicts_with = "seconds")]
    passes: Option<u32>,
    /// How many a second, with `passes`.
    #[arg(long, default_value_t = 50_000)]
    rate: u32,
    /// Any session at any time, as fast as it goes, for so long.
    #[arg(long)]
    seconds: Option<f64>,
}

/// What a tally is to count.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TallyOptions {
    /// The device where it counts.
    #[arg(long)]
    device: String,
    /// Bytes of payload in each.
    #[arg(long)]
    size: usize,
    /// How long to count, from a moment after the first one.
    #[arg(long)]
    seconds: Option<f64>,
    /// Answer one in so many, a power of two, while counting.
    #[arg(long, default_value_t = 64)]
    answer_one_in: u32,
    /// Send back what comes, until killed.
    #[arg(long)]
    echo: bool,
    /// Count what comes back, until it is so much or no more comes.
    #[arg(long)]
    answers: Option<u64>,
}

/// Sends.
pub(super) fn flood(options: &FloodOptions) -> anyhow::Result<()> {
    let (ifindex, own) = device(&options.device)?;
    let flood = Flood::new(&FloodPlan {
        ifindex,
        link: [link_address(&options.router)?, own],
        from: options.from,
        to: SocketAddrV4::new(options.to, SINK_PORT),
        payload: payload(options.size),
        sessions: options.sessions,
        order: if options.passes.is_some() { Order::InTurn } else { Order::Random },
    })?;
    // Always the last processor: who shares it with the flood is no matter of chance, and sessions are
    // counted on each processor by itself.
    let mut last = CpuSet::new();
    last.set(thread::available_parallelism()?.get() - 1)?;
    sched_setaffinity(Pid::from_raw(0), &last)?;
    let start = now();
    if let Some(passes) = options.passes {
        let all = u64::from(options.sessions) * u64::from(passes);
        let mut sent = 0;
        // What finds no room is the end of what was sent at once: in each pass, of other sessions.
        let mut at_once = u64::from(std::process::id() % FEW + 1);
        while sent < all {
            let few = at_once.min(all - sent);
            at_once = u64::from(FEW);
            flood.send(u32::try_from(few)?)?;
            sent += few;
            let due = Duration::from_secs_f64(sent as f64 / f64::from(options.rate));
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    } else {
        let time = Duration::from_secs_f64(options.seconds.context("say --passes or --seconds")?);
        let mut count = AT_FIRST;
        while start.elapsed() < time {
            let begun = start.elapsed();
            flood.send(count)?;
            let took = (start.elapsed() - begun).max(Duration::from_micros(1));
            let wanted = f64::from(count) * AT_ONCE.as_secs_f64() / took.as_secs_f64();
            // It is not to become many times as much by one look.
            let next = wanted.min(8.0 * f64::from(count)) as u32;
            count = (next / PORTION * PORTION).clamp(AT_FIRST, AT_MOST);
        }
    }
    end(&Seen { count: flood.sent()?, seconds: start.elapsed().as_secs_f64(), ..Seen::default() })
}

/// Counts.
pub(super) fn tally(options: &TallyOptions) -> anyhow::Result<()> {
    let (ifindex, _) = device(&options.device)?;
    let attach = |side, fate| Tally::attach(ifindex, side, SINK_PORT, options.size, fate);
    if options.echo {
        let _tally = attach(Side::Destination, Fate::Return)?;
        println!("ready");
        loop {
            thread::park();
        }
    }
    if let Some(answers) = options.answers {
        let tally = attach(Side::Source, Fate::DropAll)?;
        println!("ready");
        return count_answers(&tally, answers);
    }
    ensure!(options.answer_one_in.is_power_of_two(), "--answer-one-in takes a power of two");
    let seconds = options.seconds.context("say --seconds, --echo or --answers")?;
    let tally = attach(Side::Destination, Fate::AnswerOneIn(options.answer_one_in))?;
    count_arrivals(&tally, options.size, Duration::from_secs_f64(seconds))
}

/// After so long without another one, no more answers come.
const QUIET: Duration = Duration::from_millis(500);

/// Counts until there are so many, or none came for a while.
fn count_answers(tally: &Tally, answers: u64) -> anyhow::Result<()> {
    let (mut start, mut before) = (now(), 0);
    let mut count = 0;
    while count < answers && start.elapsed() < if before == 0 { LIMIT } else { QUIET } {
        thread::sleep(LOOK);
        count = tally.count()?;
        if count > before {
            (start, before) = (now(), count);
        }
    }
    end(&Seen { count, ..Seen::default() })
}

/// Counts for so long. Some of the datagrams come through to a socket, where their checksums are
/// looked at as always, and here their bytes.
fn count_arrivals(tally: &Tally, size: usize, time: Duration) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), SINK_PORT))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (ended, whole, broken) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut buffer, expected) = ([0; 2048], payload(size));
            while !ended.load(Ordering::Relaxed) {
                if let Ok(length) = socket.recv(&mut buffer) {
                    let same = buffer.get(..length) == Some(&expected);
                    if same { &whole } else { &broken }.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        println!("ready");
        let counted = arrivals(tally, time);
        ended.store(true, Ordering::Relaxed);
        counted
    })
    .and_then(|seen| {
        let (whole, broken) = (whole.into_inner(), broken.into_inner());
        ensure!(broken == 0, "{broken} datagrams arrived changed, {whole} as they were");
        ensure!(
            whole * 4096 * 8 > seen.count,
            "of {} datagrams only {whole} were seen to be whole",
            seen.count
        );
        end(&Seen { failed: broken, ..seen })
    })
}

fn arrivals(tally: &Tally, time: Duration) -> anyhow::Result<Seen> {
    let waiting = now();
    while tally.count()? == 0 {
        thread::sleep(LOOK);
        if waiting.elapsed() > LIMIT {
            bail!("nothing came");
        }
    }
    thread::sleep(WARM_UP);
    begin();
    let (start, before) = (now(), tally.count()?);
    thread::sleep(time);
    let count = tally.count()? - before;
    Ok(Seen { count, seconds: start.elapsed().as_secs_f64(), ..Seen::default() })
}

fn payload(size: usize) -> Vec<u8> {
    pattern(size, 64)
}

/// The number and the link address of a device of this namespace.
fn device(name: &str) -> anyhow::Result<(u32, [u8; 6])> {
    let read = |file: &str| {
        let path = format!("/sys/class/net/{name}/{file}");
        fs::read_to_string(&path).with_context(|| path)
    };
    Ok((read("ifindex")?.trim().parse()?, link_address(read("address")?.trim())?))
}

fn link_address(text: &str) -> anyhow::Result<[u8; 6]> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<u8>, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("`{text}` is no link address"))
}
