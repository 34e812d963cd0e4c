//! Connections, as many as can be made one after the other on each of a few threads.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::{CONNECT_PORT, CONNECTIONS, Seen, begin, end, now};

/// How long one may take before it counts as failed.
const LIMIT: Duration = Duration::from_secs(2);

/// Connects for so long.
pub(super) fn connect(to: IpAddr, time: Duration) -> anyhow::Result<()> {
    begin();
    let start = now();
    let work = |port: u16| {
        let mut seen = Seen::default();
        while start.elapsed() < time {
            match once(SocketAddr::new(to, port)) {
                Ok(took) => {
                    seen.count += 1;
                    seen.longest_ms = longer(seen.longest_ms, took.map(|time| time.as_secs_f64() * 1e3));
                }
                Err(_) => seen.failed += 1,
            }
        }
        seen
    };
    let ports = CONNECT_PORT..CONNECT_PORT + CONNECTIONS;
    let all: Vec<Seen> = thread::scope(|scope| {
        let threads: Vec<_> = ports.map(|port| scope.spawn(move || work(port))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    end(&Seen {
        count: all.iter().map(|seen| seen.count).sum(),
        failed: all.iter().map(|seen| seen.failed).sum(),
        seconds: start.elapsed().as_secs_f64(),
        longest_ms: all.iter().map(|seen| seen.longest_ms).fold([0.0; 2], longer),
        ..Seen::default()
    })
}

fn longer(one: [f64; 2], other: [f64; 2]) -> [f64; 2] {
    [one[0].max(other[0]), one[1].max(other[1])]
}

/// How long it took to be connected, and then to be answered.
fn once(to: SocketAddr) -> std::io::Result<[Duration; 2]> {
    let begun = now();
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    let connected = now();
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut byte = [0x55];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    Ok([connected - begun, connected.elapsed()])
}
