//! Whether a line carries bytes as they are.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{ECHO_PORT, STREAM_PORT, pattern};

const LIMIT: Duration = Duration::from_secs(3);
const STREAM_BYTES: usize = 8 << 20;

/// Sends bytes both ways and compares.
pub(super) fn check(to: IpAddr) -> anyhow::Result<()> {
    datagrams(to).context("datagrams")?;
    stream(to).context("a stream")
}

fn datagrams(to: IpAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect((to, ECHO_PORT))?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut buffer = [0; 2048];
    for size in [1, 64, 512, 1400] {
        let payload = pattern(size, size as u64);
        socket.send(&payload)?;
        let length = socket.recv(&mut buffer).with_context(|| format!("{size} bytes"))?;
        ensure!(buffer.get(..length) == Some(&payload), "{size} bytes came back changed");
    }
    Ok(())
}

fn stream(to: IpAddr) -> anyhow::Result<()> {
    let stream = TcpStream::connect_timeout(&(to, STREAM_PORT).into(), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let payload = pattern(STREAM_BYTES, 99);
    let mut writer = stream.try_clone()?;
    let mut reader = stream;
    let mut back = vec![0; STREAM_BYTES];
    thread::scope(|scope| {
        let sending = scope.spawn(|| writer.write_all(&payload));
        reader.read_exact(&mut back)?;
        sending.join().map_or(Ok(()), |sent| sent)
    })?;
    ensure!(back == payload, "a stream came back changed");
    Ok(())
}
