//! Datagrams one way: a source that sends as fast as the kernel takes them, and a sink that counts.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt::RcvBufForce,
    sockopt::SndBufForce,
};

use super::{SINK_PORT, Seen, begin, end, now, pattern};

const BATCH: usize = 32;
/// The sink's and the source's buffers.
const BUFFER: usize = 8 << 20;
/// What passes between the first datagram and the window.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long the sink waits for a datagram.
const LIMIT: Duration = Duration::from_secs(5);

/// Sends for so long.
pub(super) fn send(to: IpAddr, size: usize, time: Duration) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    setsockopt(&socket, SndBufForce, &BUFFER)?;
    socket.connect((to, SINK_PORT))?;
    let payload = pattern(size, 7);
    let slices = [[IoSlice::new(&payload)]; BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let (start, mut sent, mut failed) = (now(), 0, 0);
    while start.elapsed() < time {
        match sendmmsg(socket.as_raw_fd(), &mut headers, &slices, [None; BATCH], [], MsgFlags::empty()) {
            Ok(results) => sent += results.count() as u64,
            // Nobody listens yet, or a queue is full.
            Err(_) => failed += 1,
        }
    }
    end(&Seen { count: sent, failed, seconds: start.elapsed().as_secs_f64(), ..Seen::default() })
}

/// Counts for so long, from a moment after the first.
pub(super) fn sink(time: Duration) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", SINK_PORT))?;
    setsockopt(&socket, RcvBufForce, &BUFFER)?;
    socket.set_read_timeout(Some(LIMIT))?;
    println!("ready");
    receive(&socket)?;
    let start = now();
    while start.elapsed() < WARM_UP {
        receive(&socket)?;
    }
    begin();
    let (start, mut count) = (now(), 0);
    while start.elapsed() < time {
        count += receive(&socket)?;
    }
    end(&Seen { count, seconds: start.elapsed().as_secs_f64(), ..Seen::default() })
}

/// Takes what is there, at least one.
fn receive(socket: &UdpSocket) -> anyhow::Result<u64> {
    let mut memory = [[0u8; 2048]; BATCH];
    let mut slices: Vec<[IoSliceMut<'_>; 1]> =
        memory.iter_mut().map(|part| [IoSliceMut::new(part)]).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let results =
        recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None)?;
    let count = results.count() as u64;
    ensure!(count > 0, "nothing came");
    Ok(count)
}
