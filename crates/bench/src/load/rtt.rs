//! Requests and responses, one at a time.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use super::{ECHO_PORT, Seen, begin, end, now};

const BYTES: usize = 64;
/// How long an answer may take before it counts as lost.
const LIMIT: Duration = Duration::from_millis(500);
/// The first ones find routes, neighbours and sessions.
const WARM_UP: Duration = Duration::from_millis(200);

/// Asks for so long.
pub(super) fn ask(to: IpAddr, time: Duration) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect((to, ECHO_PORT))?;
    socket.set_read_timeout(Some(LIMIT))?;
    let start = now();
    let mut number = 0u64;
    while start.elapsed() < WARM_UP {
        once(&socket, &mut number);
    }
    begin();
    let start = now();
    let (mut times, mut failed) = (Vec::new(), 0);
    while start.elapsed() < time {
        let asked = now();
        match once(&socket, &mut number) {
            true => times.push(asked.elapsed().as_secs_f64() * 1e6),
            false => failed += 1,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    end(&Seen {
        count: times.len() as u64,
        seconds,
        failed,
        p50_us: at(0.5),
        p99_us: at(0.99),
        ..Seen::default()
    })
}

/// Whether the answer to this very question came.
fn once(socket: &UdpSocket, number: &mut u64) -> bool {
    *number += 1;
    let mut buffer = [0u8; BYTES];
    for (to, from) in buffer.iter_mut().zip(number.to_be_bytes()) {
        *to = from;
    }
    let question = buffer;
    if socket.send(&question).is_err() {
        return false;
    }
    // Answers to earlier questions, which were given up, are passed over.
    for _ in 0..16 {
        match socket.recv(&mut buffer) {
            Ok(BYTES) if buffer == question => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}
