//! One measurement: a load on a line, and what was seen meanwhile.

pub(crate) mod engine;
mod flood;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::child::Program;
use crate::contender::SERVER;
use crate::line::{Line, own_command};
use crate::load::Seen;
use crate::usage::{Snapshot, Usage};

/// What a program may take beyond the time it was given.
const GRACE: Duration = Duration::from_secs(10);
/// How much longer than they are counted datagrams are sent, so that some come to the end.
const LONGER: f64 = 0.5;
/// The payload of a full segment, by which TCP is counted in packets.
const SEGMENT: f64 = 1448.0;

/// What traffic is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// One TCP stream of iperf3.
    Stream,
    /// Datagrams with so much payload, from an ordinary socket.
    Datagrams(usize),
    /// Datagrams with so much payload, of many sessions at random, made in the kernel.
    Flood(usize),
    /// Connections.
    Connections,
    /// Requests and responses.
    RoundTrips,
    /// Packets of the engine alone, without a line.
    Engine,
}

/// What one measurement gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// The figure, in the unit of the traffic.
    pub(crate) value: f64,
    /// Nanoseconds of all processors for each packet that arrived: everything that was not foreign,
    /// hosts included.
    pub(crate) cpu_ns: f64,
    /// The same for each program of the contender.
    pub(crate) programs_ns: BTreeMap<String, f64>,
    /// The part of all processors' time that programs used which have nothing to do with it.
    pub(crate) foreign: f64,
    /// What else is worth knowing, by name.
    pub(crate) beside: BTreeMap<&'static str, f64>,
}

impl Traffic {
    /// The unit of its figure.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Stream => "Gbit/s",
            Self::Datagrams(_) | Self::Flood(_) => "kpps",
            Self::Connections => "k/s",
            Self::RoundTrips => "µs",
            Self::Engine => "Mpps",
        }
    }

    /// Measures once.
    pub(crate) fn measure(self, line: &Line, seconds: f64) -> anyhow::Result<Sample> {
        match self {
            Self::Stream => stream(line, seconds),
            Self::Datagrams(size) => datagrams(line, size, seconds),
            Self::Flood(size) => flood::measure(line, size, seconds),
            Self::Connections => {
                asked(line, "connect", seconds, |seen| seen.count as f64 / seen.seconds / 1e3)
            }
            Self::RoundTrips => asked(line, "rtt", seconds, |seen| seen.p50_us),
            Self::Engine => anyhow::bail!("the engine needs no line"),
        }
    }
}

/// What is being watched while traffic flows.
struct Watch<'a> {
    line: &'a Line,
    before: Snapshot,
}

impl<'a> Watch<'a> {
    fn begin(line: &'a Line) -> Self {
        Self { line, before: Snapshot::take() }
    }

    fn end(self) -> Usage {
        Snapshot::take().since(&self.before, &self.line.lab)
    }
}

fn sample(value: f64, packets: f64, seconds: f64, usage: &Usage) -> Sample {
    let each = |time: &Duration| time.as_secs_f64() * 1e9 / packets.max(1.0);
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    Sample {
        value,
        cpu_ns: each(&usage.machine.saturating_sub(usage.foreign)),
        programs_ns: usage.programs.iter().map(|(name, time)| (name.clone(), each(time))).collect(),
        foreign: usage.foreign.as_secs_f64() / (seconds * processors),
        beside: BTreeMap::new(),
    }
}

fn stream(line: &Line, seconds: f64) -> anyhow::Result<Sample> {
    let before = line.crossed()?;
    // iperf3 knows whole seconds only, and goes on for ever with none.
    let seconds = seconds.round().max(1.0);
    let time = format!("{seconds:.0}");
    let watch = Watch::begin(line);
    let command = ["iperf3", "-c", SERVER, "-t", &time, "-i", "0", "-J", "--connect-timeout", "3000"];
    let program = Program::start(&line.namespace("client"), &command)?;
    let text = program.finish(Duration::from_secs_f64(seconds) + GRACE)?;
    let usage = watch.end();
    let report: Value = serde_json::from_str(&text).context("reading what iperf3 says")?;
    let sum = &report["end"]["sum_received"];
    let number = |name: &str| sum[name].as_f64().with_context(|| format!("iperf3 says nothing of {name}"));
    let (bytes, rate, seconds) = (number("bytes")?, number("bits_per_second")?, number("seconds")?);
    ensure!(bytes > 1e6, "no more than {bytes} bytes arrived");
    let crossed = line.crossed()?.since(&before);
    crossed.carried(bytes as u64)?;
    let mut sample = sample(rate / 1e9, bytes / SEGMENT, seconds, &usage);
    let again = report["end"]["sum_sent"]["retransmits"].as_f64().unwrap_or_default();
    sample.beside.insert("retransmits", again);
    sample.beside.insert("bytes a frame on the WAN", crossed.bytes as f64 / crossed.packets.max(1) as f64);
    Ok(sample)
}

fn datagrams(line: &Line, size: usize, seconds: f64) -> anyhow::Result<Sample> {
    let (own, time) = (own_command()?, format!("{seconds}"));
    let limit = Duration::from_secs_f64(seconds) + GRACE;
    let before = line.crossed()?;
    let mut sink = Program::start(&line.namespace("server"), &[&own, "load", "sink", "--seconds", &time])?;
    expect(&mut sink, "ready")?;
    // The source goes on until after the window of the sink is closed.
    let (size_text, longer) = (size.to_string(), format!("{}", seconds + LONGER));
    let command = [&own, "load", "send", SERVER, "--size", &size_text, "--seconds", &longer];
    let source = Program::start(&line.namespace("client"), &command)?;
    expect(&mut sink, "begin")?;
    let watch = Watch::begin(line);
    let seen = seen(&mut sink, limit)?;
    let usage = watch.end();
    let sent: Seen = serde_json::from_str(source.finish(limit)?.trim())?;
    ensure!(seen.count > 100, "no more than {} datagrams arrived", seen.count);
    line.crossed()?.since(&before).carried(seen.count * size as u64)?;
    let rate = seen.count as f64 / seen.seconds;
    let mut sample = sample(rate / 1e3, seen.count as f64, seen.seconds, &usage);
    sample.beside.insert("offered kpps", sent.count as f64 / sent.seconds / 1e3);
    Ok(sample)
}

/// A program of the client that tells itself what it saw.
fn asked(line: &Line, what: &str, seconds: f64, value: impl Fn(&Seen) -> f64) -> anyhow::Result<Sample> {
    let (own, time) = (own_command()?, format!("{seconds}"));
    let before = line.crossed()?;
    let command = [&own, "load", what, SERVER, "--seconds", &time];
    let mut program = Program::start(&line.namespace("client"), &command)?;
    expect(&mut program, "begin")?;
    let watch = Watch::begin(line);
    let seen = seen(&mut program, Duration::from_secs_f64(seconds) + GRACE)?;
    let usage = watch.end();
    ensure!(seen.count > 100, "no more than {} answers came", seen.count);
    let crossed = line.crossed()?.since(&before);
    ensure!(crossed.packets >= seen.count, "{} answers, but {} packets", seen.count, crossed.packets);
    let mut sample = sample(value(&seen), seen.count as f64, seen.seconds, &usage);
    sample.beside.insert("failed", seen.failed as f64);
    for (what, longest) in ["longest ms to connect", "longest ms to an answer"].iter().zip(seen.longest_ms) {
        if longest > 0.0 {
            sample.beside.insert(what, longest);
        }
    }
    if seen.p99_us > 0.0 {
        sample.beside.insert("p99 µs", seen.p99_us);
    }
    Ok(sample)
}

fn expect(program: &mut Program, word: &str) -> anyhow::Result<()> {
    let line = program.line(GRACE)?;
    ensure!(line.as_deref() == Some(word), "`{word}` was expected, not {line:?}");
    Ok(())
}

fn seen(program: &mut Program, limit: Duration) -> anyhow::Result<Seen> {
    let line = program.line(limit)?.context("the program ended without a word")?;
    Ok(serde_json::from_str(&line)?)
}
