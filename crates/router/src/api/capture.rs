//! Captures: from the worker's tap to a client's stream.
//!
//! The tap copies packets into a bounded queue and counts what does not fit: a slow client never
//! holds up the worker.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use fairway_io::{CaptureHook, CaptureRecord, Direction, PortKind};
use fairway_types::InterfaceId;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::packets::{CaptureInterface, Captured, Capturing, Packet};
use super::request::CaptureRequest;
use super::server::send;
use super::types::{ErrorBody, Response};
use crate::command::Unanswered;
use crate::control::Control;

/// Packets that wait for the client at most.
const PACKETS: usize = 4096;
/// Their bytes at most.
const BYTES: usize = 16 << 20;
/// How often the client is looked at while there are no packets.
const GLANCE: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Queue {
    bytes: AtomicUsize,
    lost: AtomicU64,
}

/// Streams packets until a limit is reached, the client says or closes something, the interfaces change, or the router
/// ends.
pub(crate) fn stream(
    control: &Control,
    request: &CaptureRequest,
    client: &UnixStream,
) -> Result<(), std::io::Error> {
    // Once the last line is sent, another client may capture.
    let last = match control.begin_capture() {
        Some(_right) => capture(control, request, client)?,
        None => {
            let fix = "wait until it ends, or end it";
            Response::Error(ErrorBody::new("another capture is running", fix))
        }
    };
    send(client, &last)
}

/// Streams packets, and gives the last line.
fn capture(
    control: &Control,
    request: &CaptureRequest,
    client: &UnixStream,
) -> Result<Response, std::io::Error> {
    let queue = Arc::new(Queue::default());
    let (capturing, packets) = match start(control, request, &queue) {
        Ok(started) => started,
        Err(error) => return Ok(Response::Error(error)),
    };
    send(client, &Response::Capturing(capturing))?;
    let streamed = forward(control, request, client, &packets, &queue)?;
    Ok(Response::Captured(Captured { packets: streamed, lost: queue.lost.load(Ordering::Relaxed) }))
}

fn forward(
    control: &Control,
    request: &CaptureRequest,
    client: &UnixStream,
    packets: &Receiver<Packet>,
    queue: &Queue,
) -> Result<u64, std::io::Error> {
    let start = control.clock.mono();
    let end = request.seconds.map(|seconds| start + Duration::from_secs(seconds.min(u64::from(u32::MAX))));
    let mut streamed = 0;
    while request.packets.is_none_or(|limit| streamed < limit) {
        let now = control.clock.mono();
        if end.is_some_and(|end| now >= end) || has_something_to_say(client) {
            break;
        }
        let patience = end.map_or(GLANCE, |end| end.since(now).min(GLANCE));
        match packets.recv_timeout(patience) {
            Ok(packet) => {
                queue.bytes.fetch_sub(packet.data.len(), Ordering::Relaxed);
                send(client, &Response::Packet(packet))?;
                streamed += 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(streamed)
}

/// Whether the client wrote something or hung up.
fn has_something_to_say(client: &UnixStream) -> bool {
    let mut entry = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
    poll(&mut entry, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn start(
    control: &Control,
    request: &CaptureRequest,
    queue: &Arc<Queue>,
) -> Result<(Capturing, Receiver<Packet>), ErrorBody> {
    let (sender, receiver) = sync_channel(PACKETS);
    let (request, queue) = (request.clone(), Arc::clone(queue));
    let each = control.crew.ask_each(move |core| {
        let status = core.ports.status();
        for name in &request.interfaces {
            if !status.iter().any(|port| port.name == *name) {
                let message = format!("`capture.interfaces`: there is no interface `{name}`");
                return Err(ErrorBody::new(message, "`fairway show interfaces` lists them"));
            }
        }
        let wanted = |name: &String| request.interfaces.is_empty() || request.interfaces.contains(name);
        let mut interfaces = Vec::new();
        let mut positions = HashMap::new();
        for (port, position) in status.iter().filter(|port| wanted(&port.name)).zip(0u32..) {
            positions.insert(port.id, position);
            interfaces.push(CaptureInterface {
                name: port.name.clone(),
                device: port.device.clone(),
                ethernet: port.kind == PortKind::Ethernet,
            });
        }
        let keep = request.snap_bytes.map_or(usize::MAX, |bytes| bytes as usize);
        core.ports.set_capture(Some(tap(sender.clone(), Arc::clone(&queue), positions, keep)));
        Ok(Capturing { router: core.engine.snapshot().model().router.clone(), interfaces })
    })?;
    // All of them say the same.
    let mut each = each.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
    let capturing = each.next().ok_or(Unanswered::Ended)?;
    Ok((capturing, receiver))
}

fn tap(
    sender: SyncSender<Packet>,
    queue: Arc<Queue>,
    positions: HashMap<InterfaceId, u32>,
    keep: usize,
) -> CaptureHook {
    Box::new(move |record: &CaptureRecord<'_>| {
        let Some(&interface) = positions.get(&record.interface) else { return };
        let length = record.link_header.len() + record.packet.len();
        let kept = length.min(keep);
        if queue.bytes.load(Ordering::Relaxed) + kept > BYTES {
            queue.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let packet = Packet {
            interface,
            sent: record.direction == Direction::Outbound,
            timestamp_nanoseconds: u64::try_from(record.timestamp.as_nanos()).unwrap_or(u64::MAX),
            length_bytes: u32::try_from(length).unwrap_or(u32::MAX),
            data: record.link_header.iter().chain(record.packet).take(kept).copied().collect(),
        };
        queue.bytes.fetch_add(kept, Ordering::Relaxed);
        if sender.try_send(packet).is_err() {
            queue.bytes.fetch_sub(kept, Ordering::Relaxed);
            queue.lost.fetch_add(1, Ordering::Relaxed);
        }
    })
}
