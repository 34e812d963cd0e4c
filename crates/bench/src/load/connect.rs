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
        let (mut done, mut failed) = (0, 0);
        while start.elapsed() < time {
            match once(SocketAddr::new(to, port)) {
                Ok(()) => done += 1,
                Err(_) => failed += 1,
            }
        }
        (done, failed)
    };
    let ports = CONNECT_PORT..CONNECT_PORT + CONNECTIONS;
    let counts: Vec<(u64, u64)> = thread::scope(|scope| {
        let threads: Vec<_> = ports.map(|port| scope.spawn(move || work(port))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    end(&Seen {
        count: counts.iter().map(|(done, _)| done).sum(),
        failed: counts.iter().map(|(_, failed)| failed).sum(),
        seconds: start.elapsed().as_secs_f64(),
        ..Seen::default()
    })
}

fn once(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut byte = [0x55];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}
