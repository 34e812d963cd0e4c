//! Floods: sessions are made first, with answers, then datagrams come at random as fast as the source
//! can make them. Some are answered while it is measured, as they would be: a router that never hears
//! an answer tells its peer of the session again.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::{GRACE, LONGER, Sample, Watch, expect, sample, seen};
use crate::child::{Program, run};
use crate::contender::{FIRST_SOURCE, SERVER};
use crate::line::{Line, own_command};
use crate::load::Seen;

/// How many datagrams of new sessions there are a second.
const NEW_RATE: u32 = 50_000;
/// How often the sessions are gone through at most until every one has its answers.
const MOST_PASSES: usize = 12;
/// After so many passes in which all but this part of the answers have come, sessions are established: two answers
/// are enough for one, and each pass loses others.
const WHOLE_PASSES: usize = 5;
const MISSING: f64 = 0.02;
/// Each session then carries so many datagrams more: it is offered to the kernel behind the fourth, or the eighth.
const MORE: u32 = 4;
/// The headers of a datagram on the WAN, that of the link included, and a few bytes; what has metadata
/// has much more.
const HEADERS: u64 = 42 + 6;

/// Measures once.
pub(super) fn measure(line: &Line, size: usize, seconds: f64) -> anyhow::Result<Sample> {
    if !line.flooded.get() {
        prepare(line, size)?;
        line.flooded.set(true);
    }
    let (own, time, longer) = (own_command()?, format!("{seconds}"), format!("{}", seconds + LONGER));
    let (size_text, limit) = (size.to_string(), Duration::from_secs_f64(seconds) + GRACE);
    let before = line.crossed()?;
    let answered = line.contender.flood_answers().to_string();
    let common = ["load", "tally", "--size", &size_text];
    let client =
        [&[own.as_str()], &common[..], &["--device", "lan", "--answers", "18446744073709551615"]].concat();
    let mut client = Program::start(&line.namespace("client"), &client)?;
    expect(&mut client, "ready")?;
    let counted = ["--device", "servers", "--seconds", &time, "--answer-one-in", &answered];
    let command = [&[own.as_str()], &common[..], &counted].concat();
    let mut tally = Program::start(&line.namespace("server"), &command)?;
    expect(&mut tally, "ready")?;
    let source = flood(line, size, &["--seconds", &longer])?;
    expect(&mut tally, "begin")?;
    let watch = Watch::begin(line);
    let seen = seen(&mut tally, limit)?;
    let usage = watch.end();
    let sent: Seen = serde_json::from_str(source.finish(limit)?.trim())?;
    ensure!(seen.count > 1000, "no more than {} datagrams arrived", seen.count);
    let crossed = line.crossed()?.since(&before);
    crossed.carried(seen.count * size as u64)?;
    let each = crossed.bytes / crossed.packets.max(1);
    // Of so many sessions each is heard of once in seconds, and a flood that does not wait loses some of
    // the answers: then metadata is sent again, as it has to be. How much is told.
    let many = line.contender.has_many_sessions();
    ensure!(
        many || each <= size as u64 + HEADERS,
        "datagrams have {each} bytes on the WAN: they are no plain sessions'"
    );
    let mut sample = sample(seen.count as f64 / seen.seconds / 1e3, seen.count as f64, seen.seconds, &usage);
    sample.beside.insert("offered kpps", sent.count as f64 / sent.seconds / 1e3);
    sample.beside.insert("bytes a datagram on the WAN", each as f64);
    sample.beside.insert("sessions", f64::from(line.flood_sessions));
    Ok(sample)
}

/// Makes the sessions, and has each answered until nothing is missing.
fn prepare(line: &Line, size: usize) -> anyhow::Result<()> {
    // A veth device takes frames made by eBPF only if its other end polls.
    run(&line.namespace("a"), &["ethtool", "-K", "lan", "gro", "on"], GRACE)?;
    let (own, size_text) = (own_command()?, size.to_string());
    let tally = |node: &str, device: &str, what: &[&str]| {
        let common = [&own, "load", "tally", "--device", device, "--size", &size_text];
        let mut program = Program::start(&line.namespace(node), &[&common[..], what].concat())?;
        expect(&mut program, "ready")?;
        anyhow::Ok(program)
    };
    let _echo = tally("server", "servers", &["--echo"])?;
    let sessions = line.flood_sessions;
    let (rate, answers) = (NEW_RATE.to_string(), sessions.to_string());
    // On a busy machine it takes much longer than the rate says.
    let limit = Duration::from_secs_f64(20.0 * f64::from(sessions) / f64::from(NEW_RATE)) + GRACE;
    let (mut whole, mut came) = (0, 0);
    for _ in 0..MOST_PASSES {
        let mut client = tally("client", "lan", &["--answers", &answers])?;
        let source = flood(line, size, &["--passes", "1", "--rate", &rate])?;
        source.finish(limit)?;
        came = seen(&mut client, limit).context("counting answers")?.count;
        whole += usize::from(came as f64 >= f64::from(sessions) * (1.0 - MISSING));
        if whole == WHOLE_PASSES {
            let more = MORE.to_string();
            flood(line, size, &["--passes", &more, "--rate", &rate])?.finish(MORE * limit)?;
            return Ok(());
        }
    }
    anyhow::bail!("of {sessions} sessions only {came} have answers")
}

fn flood(line: &Line, size: usize, what: &[&str]) -> anyhow::Result<Program> {
    let router = run(&line.namespace("a"), &["cat", "/sys/class/net/lan/address"], GRACE)?;
    let (own, size) = (own_command()?, size.to_string());
    let sessions = line.flood_sessions.to_string();
    let common = [
        &own,
        "load",
        "flood",
        SERVER,
        "--device",
        "lan",
        "--router",
        router.trim(),
        "--from",
        FIRST_SOURCE,
        "--size",
        &size,
        "--sessions",
        &sessions,
    ];
    Program::start(&line.namespace("client"), &[&common[..], what].concat())
}
