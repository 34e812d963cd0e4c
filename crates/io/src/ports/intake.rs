//! Reading frames from a packet socket.

use fairway_types::packet::TAILROOM;
use fairway_types::{Batch, Slot};

use crate::frame::{VNET, ip_length, read_vnet};
use crate::sys::packet::{Arrival, BATCH, FEW, HEADER, Header, Socket};
use crate::sys::tun::Device;

/// How many times a socket is read for many packets after there were many.
const EAGER: u8 = 32;
/// How many errors of a socket one call to receive gets over.
const RECEIVE_ERRORS: u32 = 16;

/// A packet socket as its reader knows it.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Frames that were put into the socket, as far as is known, and those taken out of it.
    pub(super) accepted: u64,
    pub(super) taken: u64,
    /// Frames that found no room in it.
    pub(super) lost: u64,
    /// Had more than a few when it was read so many times less than [`EAGER`] ago.
    eager: u8,
}

impl Intake {
    /// Receives into the free slots of `batch` and keeps what `use_frame` can use. Returns how many that were,
    /// and whether more may wait. Frames that never came into a slot are counted as `unusable`.
    pub(super) fn read(
        &mut self,
        socket: &Socket,
        batch: &mut Batch,
        unusable: &mut u64,
        use_frame: impl FnMut(&mut Slot, &mut Header, Arrival) -> bool,
    ) -> (usize, bool) {
        // Most of the time few packets wait, and slots that stay empty cost, too.
        let room = batch.room().min(if self.eager > 0 { BATCH } else { FEW });
        let first = batch.len();
        for _ in 0..room {
            batch.receive();
        }
        let slots = batch.received_mut().get_mut(first..).unwrap_or_default();
        let (kept, more, taken) = match slots.len() {
            0 => (0, true, 0),
            1..=FEW => receive_up_to::<FEW>(socket, slots, unusable, use_frame),
            _ => receive_up_to::<BATCH>(socket, slots, unusable, use_frame),
        };
        self.taken += taken as u64;
        let many = more || taken > FEW;
        self.eager = if many { EAGER } else { self.eager.saturating_sub(1) };
        if !more {
            // What was taken and could not be counted is gone, too.
            self.taken = self.taken.max(self.accepted);
        }
        (kept..room).for_each(|_| batch.unreceive());
        (kept, more)
    }

    /// Takes over how many frames came into the socket; returns how many more found no room since.
    pub(super) fn count(&mut self, socket: &Socket) -> u64 {
        let (accepted, lost) = socket.arrivals().unwrap_or_default();
        self.accepted += u64::from(accepted);
        self.lost += u64::from(lost);
        u64::from(lost)
    }

    /// The socket is about to be closed: what is in it is lost.
    pub(super) fn close(&mut self, socket: &Socket) {
        self.count(socket);
        self.lost += self.accepted.saturating_sub(self.taken);
        self.taken = self.accepted;
    }
}

/// Receives into `slots`; usable packets come first. Returns how many those are, whether more may wait, and
/// how many frames there were in all.
fn receive_up_to<const MOST: usize>(
    socket: &Socket,
    slots: &mut [Slot],
    unusable: &mut u64,
    mut use_frame: impl FnMut(&mut Slot, &mut Header, Arrival) -> bool,
) -> (usize, bool, usize) {
    let mut headers = [[0; HEADER]; MOST];
    let mut arrivals = [Arrival::default(); MOST];
    let Some(count) = receive_some(socket, slots, &mut headers, &mut arrivals, unusable) else {
        return (0, false, 0);
    };
    let more = count == slots.len().min(MOST);
    let mut kept = 0;
    for (at, (header, arrival)) in headers.iter_mut().zip(&arrivals).take(count).enumerate() {
        let Some(slot) = slots.get_mut(at) else { break };
        if use_frame(slot, header, *arrival) {
            slots.swap(kept, at);
            kept += 1;
        } else {
            slot.packet.clear();
        }
    }
    (kept, more, count)
}

/// One batch from the socket, past the errors that concern single frames; `None` when nothing waits.
pub(super) fn receive_some<const MOST: usize>(
    socket: &Socket,
    slots: &mut [Slot],
    headers: &mut [Header; MOST],
    arrivals: &mut [Arrival; MOST],
    unusable: &mut u64,
) -> Option<usize> {
    for _ in 0..RECEIVE_ERRORS {
        match socket.receive(slots, headers, arrivals) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => return None,
                // A frame whose offloads have no vnet header is lost.
                Some(libc::EINVAL) => *unusable += 1,
                // The device went down; the socket remembers that once. EINTR is nothing.
                _ => {}
            },
        }
    }
    None
}

/// Completes a slot that a frame was received into; `None` when it can't be used.
pub(super) fn finish_frame(slot: &mut Slot, header: &Header, arrival: Arrival) -> Option<()> {
    let length = arrival.length.checked_sub(HEADER).filter(|_| !arrival.truncated)?;
    let (checksum, gso) = read_vnet(header.first_chunk::<VNET>()?).ok()?;
    slot.packet.set_len(length);
    slot.checksum = checksum;
    slot.gso = gso;
    if let (None, Some(real)) = (gso, ip_length(slot.packet.bytes())) {
        slot.packet.truncate(real);
    }
    Some(())
}

/// Receives from a TUN until it is empty or the batch is full, and shows each packet to `packet`, which completes
/// its slot; says whether more may wait.
pub(super) fn receive_packets(
    device: &Device,
    batch: &mut Batch,
    unusable: &mut u64,
    mut packet: impl FnMut(&mut Slot),
) -> bool {
    for _ in 0..BATCH {
        let Some(slot) = batch.receive() else { return true };
        let mut header = [0; VNET];
        let spare = slot.packet.spare_mut();
        let room = spare.len().saturating_sub(TAILROOM);
        let received = device.receive(&mut header, spare.get_mut(..room).unwrap_or_default());
        let (Ok(length), Ok((checksum, gso))) = (&received, read_vnet(&header)) else {
            batch.unreceive();
            if received.is_ok() {
                *unusable += 1;
                continue;
            }
            return false;
        };
        slot.packet.set_len(length.saturating_sub(VNET));
        (slot.checksum, slot.gso) = (checksum, gso);
        packet(slot);
    }
    true
}
