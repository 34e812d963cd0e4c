//! What sealing and opening costs by itself: nanoseconds a payload of 1400 bytes, one after the other and
//! forty at once, as the segments of a super-packet are. The median of the rounds, and the fastest one;
//! both ways take turns. `QUICK=1` takes few rounds.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::unwrap_used, reason = "everything measured is made here")]

use std::time::Instant;

use fairway_crypto::session::{Direction, End, Opening, Sealing, SessionSecret, Suite};
use fairway_types::Time;

const PAYLOAD: usize = 1400;
const SEGMENTS: usize = 40;
const START: Time = Time::from_secs(100);

/// Both ends of a session, which know each other's salts.
fn ends(suite: Suite) -> (End, End) {
    let end = |sends, salt: u8| {
        End::new(suite, SessionSecret::from_bytes([7; 32]), sends, [salt; 16], 0, START).unwrap()
    };
    let (mut ingress, mut egress) = (end(Direction::Forward, 1), end(Direction::Reverse, 2));
    ingress.learn(egress.salt(), START).unwrap();
    egress.learn(ingress.salt(), START).unwrap();
    (ingress, egress)
}

fn pieces<'a>(suite: Suite, blocks: &'a mut [Vec<u8>]) -> Vec<Sealing<'a>> {
    for block in blocks.iter_mut() {
        block.resize(suite.front() + PAYLOAD + suite.back(PAYLOAD), 0);
    }
    blocks.iter_mut().map(|block| Sealing { associated: &[0x11; 28], block, length: PAYLOAD }).collect()
}

/// Nanoseconds for each of the segments.
fn each(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e9 / SEGMENTS as f64
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run with: cargo bench -p fairway-crypto");
        return;
    }
    let rounds = if std::env::var_os("QUICK").is_some() { 200 } else { 4000 };
    println!("{:<40} {:>9} {:>9}   faster by", "nanoseconds a payload of 1400 bytes", "median", "min");
    for suite in Suite::ALL {
        let (mut ingress, mut egress) = ends(suite);
        let mut blocks = vec![vec![0x55; PAYLOAD]; SEGMENTS];
        let mut figures = [const { Vec::new() }; 4];
        for _ in 0..rounds {
            let mut alone = pieces(suite, &mut blocks);
            figures[0].push(each(|| {
                for Sealing { associated, block, length } in &mut alone {
                    let piece = Sealing { associated, block, length: *length };
                    ingress.seal(piece, START).unwrap();
                }
            }));
            let mut all = pieces(suite, &mut blocks);
            figures[1].push(each(|| ingress.seal_all(&mut all, START).unwrap()));
            figures[2].push(each(|| {
                for block in &mut blocks {
                    egress.open(&[0x11; 28], block, START).unwrap();
                }
            }));
            ingress.seal_all(&mut pieces(suite, &mut blocks), START).unwrap();
            let mut sealed: Vec<_> =
                blocks.iter_mut().map(|block| Opening::new(&[0x11; 28], block)).collect();
            figures[3].push(each(|| egress.open_all(&mut sealed, START)));
            assert!(sealed.iter().all(|sealed| sealed.opened.is_ok()));
        }
        let medians = figures.each_mut().map(|figures| {
            figures.sort_unstable_by(f64::total_cmp);
            figures[figures.len() / 2]
        });
        let names = ["sealed one by one", "sealed 40 at once", "opened one by one", "opened 40 at once"];
        for (at, name) in names.into_iter().enumerate() {
            let ratio =
                if at % 2 == 1 { format!("{:.2}", medians[at - 1] / medians[at]) } else { String::new() };
            let name = format!("{}, {name}", suite.name());
            println!("{name:<40} {:>9.0} {:>9.0}   {ratio}", medians[at], figures[at][0]);
        }
    }
}
