//! The server's side of everything but the sink.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use super::{CONNECT_PORT, CONNECTIONS, ECHO_PORT, STREAM_PORT};

/// Answers until it is ended.
pub(super) fn serve() -> anyhow::Result<()> {
    let echo = UdpSocket::bind(("0.0.0.0", ECHO_PORT))?;
    let stream = TcpListener::bind(("0.0.0.0", STREAM_PORT))?;
    let ports = CONNECT_PORT..CONNECT_PORT + CONNECTIONS;
    let listeners = ports.map(|port| TcpListener::bind(("0.0.0.0", port))).collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        scope.spawn(|| echo_datagrams(&echo));
        scope.spawn(|| {
            stream.incoming().flatten().for_each(|stream| drop(thread::spawn(|| echo_stream(stream))))
        });
        for listener in &listeners {
            scope.spawn(|| listener.incoming().flatten().for_each(|stream| drop(answer(stream))));
        }
    });
    Ok(())
}

fn echo_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    // An error is that of one datagram: the sender is gone.
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
        }
    }
}

fn echo_stream(mut stream: TcpStream) {
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
            return;
        }
    }
}

/// How long one connection may keep others waiting: where the client was reset, nothing comes any more.
const PATIENCE: Duration = Duration::from_millis(250);

/// One byte for one byte; then it waits for the other side to close.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.read_exact(&mut byte)?;
    stream.write_all(&byte)?;
    stream.read(&mut byte).map(drop)
}
