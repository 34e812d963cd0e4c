//! A worker's dealings with the others: what it hands over, takes over, hears and tells.

use fairway_io::SteeringError;
use fairway_session::{Audience, Notice};
use fairway_types::{Batch, Slot, Verdict};
use tracing::warn;

use crate::ring::Passed;
use crate::worker::Core;

/// Things from other workers in one round.
const PASSED: usize = 256;

impl Core {
    /// Tells the kernel where flows are from now on, hands over what belongs to others, and then sends.
    pub(crate) fn flush(&mut self) {
        self.tell_kernel();
        self.carry_out_offloads();
        self.hand_over();
        self.engine.gather(&mut self.batch);
        self.ports.transmit(self.clock.now(), &mut self.batch);
        self.batch.clear();
        while let Some((audience, notice)) = self.engine.poll_notice() {
            self.outboxes.tell(audience, notice);
        }
        self.outboxes.wake();
    }

    /// An answer may come as soon as a packet was sent: it has to find its worker.
    fn tell_kernel(&mut self) {
        while let Some(placement) = self.engine.poll_placement() {
            let (interface, tuple) = (placement.interface, &placement.tuple);
            let told = match placement.worker {
                // What comes out of a TUN is handed over anyway.
                Some(worker) => match self.steering.place(interface, tuple, worker) {
                    Ok(()) | Err(SteeringError::NotSteered) => Ok(()),
                    Err(error) => Err(error.to_string()),
                },
                None => self.steering.forget(interface, tuple).map_err(|error| error.to_string()),
            };
            if let Err(error) = told {
                // Its packets are handed over one by one.
                let now = self.clock.mono();
                self.report(now, "steering", || warn!(error, "a flow could not be steered to its worker"));
            }
        }
    }

    fn hand_over(&mut self) {
        let Self { batch, outboxes, engine, clock, .. } = self;
        let mut hand_over = |slot: &mut Slot| {
            if let Verdict::HandOver(worker) = slot.verdict
                && !outboxes.hand_over(worker, slot)
            {
                slot.verdict = engine.lose_handover(clock.now(), slot);
            }
        };
        batch.in_order(|slots| slots.iter_mut().for_each(&mut hand_over));
    }

    /// Takes what other workers have handed over or said; says whether there may be more.
    pub(crate) fn take_over(&mut self) -> bool {
        for _ in 0..PASSED {
            match self.inbox.next() {
                Some(Passed::Packet(slot)) => {
                    if self.batch.room() == 0 {
                        self.decide();
                    }
                    put(&mut self.batch, &slot);
                }
                Some(Passed::Notice(notice)) => {
                    // What came before it is decided before it.
                    self.decide();
                    self.hear(notice);
                }
                None => {
                    self.decide();
                    return false;
                }
            }
        }
        self.decide();
        true
    }

    /// Decides about what is in the batch, and sends.
    pub(crate) fn decide(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.engine.process(self.clock.now(), &mut self.batch);
        self.flush();
    }

    fn hear(&mut self, notice: Notice) {
        if let Notice::Drain { flow, to } = notice {
            return self.drains.push((flow, to));
        }
        self.engine.hear(self.clock.now(), notice, &mut self.batch);
        self.flush();
    }

    /// This worker has received everything that waited when it was told of these flows.
    pub(crate) fn answer_drains(&mut self) {
        for (flow, to) in self.drains.drain(..) {
            self.outboxes.tell(Audience::One(to), Notice::Drained(flow));
        }
        self.outboxes.wake();
    }
}

fn put(batch: &mut Batch, slot: &Slot) {
    let Some(place) = batch.receive() else { return };
    place.interface = slot.interface;
    place.checksum = slot.checksum;
    place.gso = slot.gso;
    (place.handed, place.genuine) = (slot.handed, slot.genuine);
    place.fragmented = slot.fragmented;
    // It was in a slot of the same size.
    if !place.packet.fill(slot.packet.bytes()) {
        batch.unreceive();
    }
}
