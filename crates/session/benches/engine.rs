//! What the engine costs, without any I/O: nanoseconds a packet, bytes a session.
//!
//! Two engines are joined as by a link. Batches of 64 packets are filled, and only
//! `Engine::process` is timed, a clock reading before and after each batch; so headers are in the
//! cache, sessions only as far as they fit. A batch that took ten times as long as the median batch
//! of its round was interrupted by another program and is left out; how many were is printed. Each
//! figure is the median of its rounds, with the fastest and the slowest one. `--json FILE` writes the
//! figures to a file; `--only PART` measures one part, such as `gcm`; `QUICK=1` takes three short rounds
//! and a tenth of the sessions.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::unwrap_used, reason = "everything measured is made here")]

#[allow(dead_code, reason = "shared with a test, which uses other parts of it")]
mod support;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairway_policy::Snapshot;
use fairway_session::Engine;
use fairway_types::model::{Quota, Quotas};
use fairway_types::{Batch, Checksum, Gso, GsoKind, InterfaceId, Now, Suite};
use fairway_wire::fragment::Cut;
use fairway_wire::protocol::{TCP, UDP};

use support::packets::{Template, templates};
use support::{BATCH, LAN, Pair, WAN};

/// Sessions that are in use at once, in the measurements that have a goal.
const HOT: u32 = 10_000;

/// How much is measured.
struct Effort {
    rounds: usize,
    packets: usize,
    many: u32,
    first: u32,
}

impl Effort {
    fn chosen() -> Self {
        if std::env::var_os("QUICK").is_some() {
            Self { rounds: 3, packets: 1 << 16, many: 100_000, first: 4096 }
        } else {
            Self { rounds: 15, packets: 1 << 18, many: 1_000_000, first: 8192 }
        }
    }
}

/// One figure with its goal.
struct Figure {
    name: String,
    unit: &'static str,
    goal: Option<f64>,
    rounds: Vec<f64>,
}

#[derive(Default)]
struct Report {
    figures: Vec<Figure>,
    interrupted: Interrupted,
}

impl Report {
    fn add(&mut self, name: &str, unit: &'static str, goal: Option<f64>, mut rounds: Vec<f64>) {
        rounds.sort_unstable_by(f64::total_cmp);
        let figure = Figure { name: name.into(), unit, goal, rounds };
        println!("{}", figure.line());
        self.figures.push(figure);
    }

    fn add_packets(&mut self, name: &str, goal: Option<f64>, rounds: Vec<Round>) {
        let rounds = rounds.into_iter().map(|round| round.nanoseconds(&mut self.interrupted)).collect();
        self.add(name, "ns", goal, rounds);
    }

    fn json(&self) -> String {
        let mut text = String::from("[\n");
        for (number, figure) in self.figures.iter().enumerate() {
            let goal = figure.goal.map_or("null".into(), |goal| goal.to_string());
            let _ = writeln!(
                text,
                r#"  {{"name": "{}", "unit": "{}", "median": {:.1}, "min": {:.1}, "max": {:.1}, "goal": {goal}}}{}"#,
                figure.name,
                figure.unit,
                figure.median(),
                figure.min(),
                figure.max(),
                if number + 1 < self.figures.len() { "," } else { "" },
            );
        }
        text + "]\n"
    }
}

impl Figure {
    fn median(&self) -> f64 {
        self.rounds[self.rounds.len() / 2]
    }

    fn min(&self) -> f64 {
        self.rounds[0]
    }

    fn max(&self) -> f64 {
        self.rounds[self.rounds.len() - 1]
    }

    fn line(&self) -> String {
        let goal = match self.goal {
            Some(goal) if self.median() <= goal => format!("goal {goal}: met"),
            Some(goal) => format!("goal {goal}: falls short"),
            None => String::new(),
        };
        format!(
            "{:<52} {:>9.1} {:>9.1} {:>9.1}  {:<8} {goal}",
            self.name,
            self.median(),
            self.min(),
            self.max(),
            self.unit
        )
    }
}

/// splitmix64: the same numbers on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(limit)) as u32
    }
}

/// Whose turn it is: `count` flows of `flows`, in turn or at random.
fn order(flows: u32, count: usize, random: bool) -> Vec<u32> {
    let mut numbers = Numbers(7);
    (0..count).map(|turn| if random { numbers.below(flows) } else { turn as u32 % flows }).collect()
}

/// The time each batch of a round took.
#[derive(Default)]
struct Round {
    batches: Vec<(Duration, usize)>,
}

impl Round {
    fn time(&mut self, engine: &mut Engine, now: Now, batch: &mut Batch) {
        let start = Instant::now();
        engine.process(now, batch);
        self.batches.push((start.elapsed(), batch.len()));
    }

    /// Nanoseconds a packet, without interrupted batches.
    fn nanoseconds(mut self, interrupted: &mut Interrupted) -> f64 {
        self.batches.sort_unstable();
        let limit = self.batches[self.batches.len() / 2].0 * 10;
        let kept = self.batches.partition_point(|&(spent, _)| spent <= limit);
        interrupted.batches += self.batches.len() - kept;
        interrupted.of += self.batches.len();
        let (spent, packets) = self.batches[..kept]
            .iter()
            .fold((Duration::ZERO, 0), |sum, &(spent, packets)| (sum.0 + spent, sum.1 + packets));
        spent.as_secs_f64() * 1e9 / packets as f64
    }
}

/// Something that is measured.
type Part = fn(&Effort, &mut Report);

/// How many batches were interrupted, of how many.
#[derive(Default)]
struct Interrupted {
    batches: usize,
    of: usize,
}

/// Packets that are alike but for their headers.
struct Traffic {
    interface: InterfaceId,
    templates: Vec<Template>,
    payload: Vec<u8>,
    gso: Option<Gso>,
}

fn established(
    engine: &mut Engine,
    now: &mut Now,
    batch: &mut Batch,
    traffic: &Traffic,
    order: &[u32],
) -> Round {
    let mut packet = [&[0; 40][..], &traffic.payload].concat();
    let mut round = Round::default();
    for turn in order.chunks(BATCH) {
        batch.clear();
        for &flow in turn {
            let headers = traffic.templates[flow as usize].headers();
            // Headers end where the payload begins.
            let start = 40 - headers.len();
            packet[start..40].copy_from_slice(headers);
            let slot = batch.receive().unwrap();
            assert!(slot.packet.fill(&packet[start..]));
            slot.interface = traffic.interface;
            slot.gso = traffic.gso;
            slot.checksum = if traffic.gso.is_some() { Checksum::Partial } else { Checksum::Unverified };
        }
        now.mono = now.mono + Duration::from_micros(1);
        round.time(engine, *now, batch);
        assert!(batch.received().iter().all(support::is_forwarded));
    }
    round
}

/// Measures both directions at the ingress. They take turns, so that no session is ever silent.
fn both_directions(
    pair: &mut Pair,
    name: &str,
    goal: Option<f64>,
    traffic: &[Traffic; 2],
    order: &[u32],
    report: &mut Report,
) {
    let mut rounds = [Vec::new(), Vec::new()];
    // The first round warms up.
    for number in 0..=Effort::chosen().rounds {
        for (traffic, rounds) in traffic.iter().zip(&mut rounds) {
            let Pair { ingress, now, batch, .. } = pair;
            let round = established(ingress, now, batch, traffic, order);
            if number > 0 {
                rounds.push(round);
            }
        }
    }
    let [out, back] = rounds;
    report.add_packets(&format!("{name}, LAN to WAN"), goal, out);
    report.add_packets(&format!("{name}, WAN to LAN"), goal, back);
}

fn plain_traffic(pair: &mut Pair, flows: u32, protocol: u8, length: usize) -> [Traffic; 2] {
    let payload = vec![0x55; length];
    let out = templates(0..flows, protocol, &payload);
    let back = pair.answers(&out, &payload);
    [(LAN, out), (WAN, back)].map(|(interface, templates)| Traffic {
        interface,
        templates,
        payload: payload.clone(),
        gso: None,
    })
}

/// Established sessions, ten thousand of them.
fn hot(effort: &Effort, report: &mut Report) {
    let mut pair = Pair::new(4 * HOT, true);
    for protocol in [UDP, TCP] {
        pair.establish(&templates(0..HOT, protocol, &[0x55; 64]), &[0x55; 64]);
    }
    let sequential = order(HOT, effort.packets, false);
    let random = order(HOT, effort.packets, true);
    for (name, protocol, length) in
        [("UDP 64 B", UDP, 64), ("UDP 1400 B", UDP, 1400), ("TCP 1400 B", TCP, 1400)]
    {
        let traffic = plain_traffic(&mut pair, HOT, protocol, length);
        for (manner, order) in [("in turn", &sequential), ("random", &random)] {
            both_directions(
                &mut pair,
                &format!("{name}, 10k sessions {manner}"),
                Some(100.0),
                &traffic,
                order,
                report,
            );
        }
    }
    super_packets(&mut pair, effort, report);
}

/// TCP super-packets as a host with segmentation offload sends them.
fn super_packets(pair: &mut Pair, effort: &Effort, report: &mut Report) {
    let payload = vec![0x55; 65_495];
    let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1400, ecn: false });
    let traffic = Traffic { interface: LAN, templates: templates(0..HOT, TCP, &payload), payload, gso };
    let order = order(HOT, effort.packets / 32, false);
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let Pair { ingress, now, batch, .. } = pair;
        rounds.push(established(ingress, now, batch, &traffic, &order));
    }
    report.add_packets("TCP super-packet of 64 KB, LAN to WAN", None, rounds);
}

/// Sessions whose payload is protected: sealed at the ingress, opened at the egress.
fn protected(suite: Suite, effort: &Effort, report: &mut Report) {
    let mut pair = Pair::with(HOT, true, Some(suite));
    pair.establish(&templates(0..HOT, UDP, &[0x55; 64]), &[0x55; 64]);
    for (sessions, length) in [(256, 64), (256, 1400), (HOT, 1400)] {
        let goal = (suite == Suite::Aes256Gcm && sessions < HOT).then_some(500.0);
        let [sealed, opened] = both_ends(&mut pair, effort, sessions, &vec![0x55; length]);
        let name = format!("{}, UDP {length} B, {sessions} sessions", suite.name());
        report.add_packets(&format!("{name}, sealed"), goal, sealed);
        report.add_packets(&format!("{name}, opened"), goal, opened);
    }
    let plain = Pair::new(HOT, true);
    let bytes = (pair.ingress_heap.saturating_sub(plain.ingress_heap)) as f64 / f64::from(HOT);
    report.add(&format!("heap of the keys of a session, {}", suite.name()), "bytes", None, vec![bytes]);
}

/// Rounds at the ingress and at the egress: what one seals, the other opens.
fn both_ends(pair: &mut Pair, effort: &Effort, sessions: u32, payload: &[u8]) -> [Vec<Round>; 2] {
    let flows = templates(0..sessions, UDP, payload);
    let mut rounds = [Vec::new(), Vec::new()];
    for number in 0..=effort.rounds {
        let mut round = [Round::default(), Round::default()];
        for chunk in flows.chunks(BATCH).cycle().take(effort.packets / BATCH / 8) {
            let packets: Vec<_> = chunk.iter().map(|flow| flow.packet(payload)).collect();
            let Pair { ingress, egress, now, batch, .. } = &mut *pair;
            now.mono = now.mono + Duration::from_micros(1);
            let crossing = timed(ingress, *now, batch, LAN, &packets, &mut round[0]);
            timed(egress, *now, batch, WAN, &crossing, &mut round[1]);
        }
        // The first round warms up.
        if number > 0 {
            rounds.iter_mut().zip(round).for_each(|(rounds, round)| rounds.push(round));
        }
    }
    rounds
}

/// Datagrams that do not fit their link, sealed: in pieces to the egress, which puts them together; what
/// came in fragments leaves in fragments. Nanoseconds a datagram.
fn in_parts(effort: &Effort, report: &mut Report) {
    const AT_ONCE: usize = 16;
    let mut pair = Pair::with(HOT, true, Some(Suite::Aes256Gcm));
    pair.establish(&templates(0..HOT, UDP, &[0x55; 64]), &[0x55; 64]);
    for length in [1472, 4000] {
        let payload = vec![0x55; length];
        let flows = templates(0..256, UDP, &payload);
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for number in 0..=effort.rounds {
            let mut rounds = [Round::default(), Round::default()];
            for (chunk, id) in flows.chunks(AT_ONCE).cycle().zip(0..(effort.packets / 64 / AT_ONCE) as u32) {
                let whole: Vec<_> = chunk.iter().map(|flow| flow.packet(&payload)).collect();
                let fragments: Vec<_> = whole.iter().flat_map(|packet| fragments(packet, id)).collect();
                let Pair { ingress, egress, now, batch, .. } = &mut pair;
                now.mono = now.mono + Duration::from_micros(1);
                let pieces = parts(ingress, *now, batch, LAN, &fragments, &mut rounds[0]);
                let delivered = parts(egress, *now, batch, WAN, &pieces, &mut rounds[1]);
                assert_eq!(delivered.len(), fragments.len());
                rounds.iter_mut().for_each(|round| round.batches.last_mut().unwrap().1 = AT_ONCE);
            }
            // The first round warms up.
            if number > 0 {
                let [at_ingress, at_egress] = rounds;
                sent.push(at_ingress);
                got.push(at_egress);
            }
        }
        let name = if length == 1472 {
            "UDP 1472 B, two pieces"
        } else {
            "UDP 4000 B, three fragments, three pieces"
        };
        report.add_packets(&format!("{name}, ingress"), None, sent);
        report.add_packets(&format!("{name}, egress"), None, got);
    }
}

/// A packet as its host sends it on a link with an MTU of 1500 bytes.
fn fragments(packet: &[u8], id: u32) -> Vec<Vec<u8>> {
    if packet.len() <= 1500 {
        return vec![packet.to_vec()];
    }
    let cut = Cut::new(packet, 1500, id).unwrap();
    let emit = |number| {
        let mut out = vec![0; 1500];
        let length = cut.emit(number, &mut out).unwrap();
        out.truncate(length);
        out
    };
    (0..cut.count()).map(emit).collect()
}

/// Lets an engine process packets; all that it sends.
fn parts(
    engine: &mut Engine,
    now: Now,
    batch: &mut Batch,
    interface: InterfaceId,
    packets: &[Vec<u8>],
    round: &mut Round,
) -> Vec<Vec<u8>> {
    support::fill(batch, interface, packets);
    round.time(engine, now, batch);
    let all = batch.emitted().iter().chain(batch.received());
    all.filter(|slot| support::is_forwarded(slot)).map(|slot| slot.packet.bytes().to_vec()).collect()
}

/// As many sessions as a router is asked to hold.
fn many(effort: &Effort, report: &mut Report) {
    let flows = effort.many;
    let mut pair = Pair::new(flows, true);
    pair.establish(&templates(0..flows, UDP, &[0x55; 64]), &[0x55; 64]);
    assert_eq!(pair.ingress.session_count(), flows as usize);
    let bytes = pair.ingress_heap as f64 / f64::from(flows);
    report.add("heap of a full engine, per session", "bytes", Some(512.0), vec![bytes]);
    report.add("sessions held", "sessions", None, vec![pair.ingress.session_count() as f64]);
    let traffic = plain_traffic(&mut pair, flows, UDP, 64);
    let random = order(flows, effort.packets, true);
    both_directions(&mut pair, "UDP 64 B, all sessions random", None, &traffic, &random, report);
}

/// Packets that make sessions: at the ingress, which signs, and at the egress, which verifies.
fn first_packets(encrypt: bool, effort: &Effort, report: &mut Report) {
    let count = effort.first;
    let mut pair = Pair::new(count * (effort.rounds as u32 + 1), encrypt);
    let (mut ingress, mut egress) = (Vec::new(), Vec::new());
    for number in 0..=effort.rounds as u32 {
        let flows = templates(number * count..(number + 1) * count, UDP, &[0x55; 64]);
        let mut rounds = [Round::default(), Round::default()];
        for chunk in flows.chunks(BATCH) {
            let packets: Vec<_> = chunk.iter().map(|flow| flow.packet(&[0x55; 64])).collect();
            let Pair { ingress, egress, now, batch, .. } = &mut pair;
            let crossing = timed(ingress, *now, batch, LAN, &packets, &mut rounds[0]);
            timed(egress, *now, batch, WAN, &crossing, &mut rounds[1]);
        }
        // The first round warms up.
        if number > 0 {
            let [at_ingress, at_egress] = rounds;
            ingress.push(at_ingress);
            egress.push(at_egress);
        }
    }
    let manner = if encrypt { "signed and encrypted" } else { "signed only" };
    report.add_packets(&format!("first packet, ingress, {manner}"), Some(5000.0), ingress);
    report.add_packets(&format!("first packet, egress, {manner}"), Some(5000.0), egress);
}

fn timed(
    engine: &mut Engine,
    now: Now,
    batch: &mut Batch,
    interface: InterfaceId,
    packets: &[Vec<u8>],
    round: &mut Round,
) -> Vec<Vec<u8>> {
    support::fill(batch, interface, packets);
    round.time(engine, now, batch);
    support::forwarded(batch)
}

/// First packets that are refused, by what refuses them: a source that begins sessions too fast, a full
/// table, and the configuration.
fn refused(effort: &Effort, report: &mut Report) {
    // Of one host, from ever other ports.
    let flow = |number| Template::of_flow(number * 60_000, UDP, &[0x55; 64]);
    let packets: Vec<_> = (0..HOT).map(|number| flow(number).packet(&[0x55; 64])).collect();
    let sources = Quotas { source: Quota { session_rate: 1, ..Quota::UNLIMITED }, ..Quotas::default() };
    let cases = [
        ("of a source at its limit", HOT * 2, sources, LAN),
        ("at a full table", 64, Quotas::default(), LAN),
        ("by the configuration", HOT * 2, Quotas::default(), WAN),
    ];
    for (name, sessions, quotas, interface) in cases {
        let Pair { mut now, mut batch, .. } = Pair::new(64, true);
        let mut engine = support::engine_with(sessions, quotas, now);
        let mut rounds = Vec::new();
        for number in 0..=effort.rounds {
            let mut round = Round::default();
            for chunk in packets.chunks(BATCH) {
                support::fill(&mut batch, interface, chunk);
                now.mono = now.mono + Duration::from_micros(1);
                round.time(&mut engine, now, &mut batch);
            }
            // The first round fills what is to be full.
            if number > 0 {
                rounds.push(round);
            }
        }
        report.add_packets(&format!("first packet refused {name}"), None, rounds);
    }
}

/// How long it takes to end so many sessions because a new configuration forbids them, in milliseconds.
fn forbid_all(sessions: u32, flows: &[Template]) -> f64 {
    let mut pair = Pair::new(sessions, true);
    pair.establish(flows, &[0x55; 64]);
    let mut model = support::model(sessions, true, None, 0);
    model.services.iter_mut().for_each(|service| service.access.clear());
    let snapshot = Arc::new(Snapshot::compile(model).unwrap());
    let start = Instant::now();
    let keyring = pair.ingress.next_keyring(&snapshot, support::keys(0), pair.now).unwrap();
    let applied = pair.ingress.apply(pair.now, snapshot, keyring);
    assert_eq!(applied.removed, sessions as usize);
    start.elapsed().as_secs_f64() * 1e3
}

/// What happens to all sessions at once: a new configuration, and their end.
fn all_at_once(effort: &Effort, report: &mut Report) {
    const SESSIONS: u32 = 100_000;
    let flows = templates(0..SESSIONS, UDP, &[0x55; 64]);
    let (mut reload, mut forbid, mut expire) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds.min(11) {
        let mut pair = Pair::new(SESSIONS, true);
        pair.establish(&flows, &[0x55; 64]);
        let Pair { ingress, now, batch, .. } = &mut pair;
        let (snapshot, keys) = (support::snapshot(SESSIONS, true, 0), support::keys(0));
        let start = Instant::now();
        let keyring = ingress.next_keyring(&snapshot, keys, *now).unwrap();
        let applied = ingress.apply(*now, snapshot, keyring);
        reload.push(start.elapsed().as_secs_f64() * 1e3);
        assert_eq!(applied.kept, SESSIONS as usize);
        forbid.push(forbid_all(SESSIONS, &flows));
        now.mono = now.mono + Duration::from_secs(200);
        let start = Instant::now();
        while ingress.session_count() > 0 {
            batch.clear();
            ingress.handle_timeout(*now, batch);
        }
        expire.push(start.elapsed().as_secs_f64() * 1e3);
    }
    report.add("a new configuration with 100,000 sessions", "ms", None, reload);
    report.add("one that ends 100,000 sessions", "ms", None, forbid);
    report.add("expiry of 100,000 sessions", "ms", None, expire);
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run with: cargo bench -p fairway-session");
        return;
    }
    let effort = Effort::chosen();
    let mut report = Report::default();
    println!("{} rounds\n{:<52} {:>9} {:>9} {:>9}", effort.rounds, "", "median", "min", "max");
    let parts: [(&str, Part); 10] = [
        ("hot", hot),
        ("first-encrypted", |effort, report| first_packets(true, effort, report)),
        ("first-signed", |effort, report| first_packets(false, effort, report)),
        ("gcm", |effort, report| protected(Suite::Aes256Gcm, effort, report)),
        ("cbc", |effort, report| protected(Suite::Aes256Cbc, effort, report)),
        ("hmac", |effort, report| protected(Suite::HmacSha256, effort, report)),
        ("in-parts", in_parts),
        ("refused", refused),
        ("all-at-once", all_at_once),
        ("many", many),
    ];
    let only = value_of(&arguments, "--only");
    for (_, part) in parts.iter().filter(|(name, _)| only.is_none_or(|only| only == name)) {
        part(&effort, &mut report);
    }
    let Interrupted { batches, of } = report.interrupted;
    println!("{batches} of {of} batches were interrupted and left out");
    if let Some(file) = value_of(&arguments, "--json") {
        std::fs::write(file, report.json()).unwrap();
    }
}

fn value_of<'a>(arguments: &'a [String], option: &str) -> Option<&'a String> {
    let at = arguments.iter().position(|argument| argument == option)?;
    Some(&arguments[at + 1])
}
