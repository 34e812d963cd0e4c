//! What happens inside of a router: packets and notices reach its workers, which decide.

use std::cmp::Reverse;

use fairway_session::{Audience, Notice};
use fairway_types::{Batch, InterfaceId, Slot, Verdict};

use super::{Arrival, Handed, Network, NodeId};
use crate::accounting::Books;
use crate::packet::finished;

impl Network {
    pub(super) fn timeout(&mut self, index: usize, worker: usize) {
        let now = self.clock();
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(0, 0, 0));
        batch.clear();
        self.nodes[index].engines[worker].handle_timeout(now, &mut batch);
        self.dispatch(index, worker, &mut batch);
        self.batch = batch;
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::AtHost(host, packet) => self.hosts[host].inbox.push(packet),
            Arrival::AtNode(index, interface, packet) if self.nodes[index].engines.len() == 1 => {
                let first = Handed { interface, times: 0, genuine: false, fragmented: false, packet };
                self.give(index, 0, &first, |network| {
                    let (interface, packet) = network.next_at(index)?;
                    Some(Handed { interface, times: 0, genuine: false, fragmented: false, packet })
                });
            }
            Arrival::AtNode(index, interface, packet) => {
                let Self { nodes, rng, now, .. } = self;
                let worker = nodes[index].worker_of(InterfaceId(interface), &packet);
                let turn = nodes[index].turn(*now, worker, rng);
                let handed = Handed { interface, times: 0, genuine: false, fragmented: false, packet };
                self.schedule(turn, Arrival::AtWorker(index, worker, handed));
            }
            Arrival::AtWorker(index, worker, handed) => {
                self.give(index, worker, &handed, |network| network.next_with(index, worker));
            }
            Arrival::Told(index, worker, number) => self.tell(index, worker, number),
            Arrival::Drained(index, worker, number) => {
                let Notice::Drain { flow, to } = self.notices[number] else { return };
                self.pass(index, worker, Audience::One(to), Notice::Drained(flow));
            }
        }
    }

    /// A worker hears a notice.
    fn tell(&mut self, index: usize, worker: usize, number: usize) {
        let notice = self.notices[number];
        if let Notice::Drain { .. } = notice {
            let at = self.nodes[index].drained(self.now, worker);
            return self.schedule(at, Arrival::Drained(index, worker, number));
        }
        let now = self.clock();
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(0, 0, 0));
        batch.clear();
        self.nodes[index].engines[worker].hear(now, notice, &mut batch);
        self.dispatch(index, worker, &mut batch);
        self.batch = batch;
    }

    /// Sends a notice from one worker to others.
    fn pass(&mut self, index: usize, from: usize, audience: Audience, notice: Notice) {
        self.notices.push(notice);
        let number = self.notices.len() - 1;
        for to in 0..self.nodes[index].engines.len() {
            let meant = match audience {
                Audience::Others => to != from,
                Audience::One(worker) => to == worker.index(),
            };
            if meant {
                let Self { nodes, rng, now, .. } = self;
                let at = nodes[index].passage(*now, from, to, rng);
                self.schedule(at, Arrival::Told(index, to, number));
            }
        }
    }

    /// Gives a worker a packet, and what comes next if it comes now.
    fn give(
        &mut self,
        index: usize,
        worker: usize,
        first: &Handed,
        mut next: impl FnMut(&mut Self) -> Option<Handed>,
    ) {
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(0, 0, 0));
        batch.clear();
        receive(&mut batch, first);
        while batch.room() > 0
            && let Some(handed) = next(self)
        {
            receive(&mut batch, &handed);
        }
        let now = self.clock();
        let engine = &mut self.nodes[index].engines[worker];
        let before = Books::of(engine);
        engine.process(now, &mut batch);
        Books::check(&before, &Books::of(engine), &batch, self.seed);
        // What follows one another leaves together, as a router sends it.
        engine.gather(&mut batch);
        self.dispatch(index, worker, &mut batch);
        self.batch = batch;
    }

    /// What comes next, if it comes now and to this worker.
    fn next_with(&mut self, index: usize, worker: usize) -> Option<Handed> {
        let Reverse((at, _, Arrival::AtWorker(node, of, _))) = self.queue.peek()? else { return None };
        if *at > self.now || (*node, *of) != (index, worker) {
            return None;
        }
        let Reverse((_, _, Arrival::AtWorker(_, _, handed))) = self.queue.pop()? else { return None };
        Some(handed)
    }

    /// What comes next, if it comes now and to this router.
    fn next_at(&mut self, index: usize) -> Option<(u16, Vec<u8>)> {
        let Reverse((at, _, Arrival::AtNode(node, ..))) = self.queue.peek()? else { return None };
        if *at > self.now || *node != index {
            return None;
        }
        let Reverse((_, _, Arrival::AtNode(_, interface, packet))) = self.queue.pop()? else { return None };
        Some((interface, packet))
    }

    pub(super) fn dispatch(&mut self, index: usize, worker: usize, batch: &mut Batch) {
        self.share(index, worker);
        batch.in_order(|slots| {
            for slot in slots {
                match slot.verdict {
                    Verdict::HandOver(to) => self.hand_over(index, worker, to.index(), slot),
                    _ => self.transmit(index, slot),
                }
            }
        });
        let node = &mut self.nodes[index];
        let engine = &mut node.engines[worker];
        while let Some(event) = engine.poll_event() {
            self.events.push((NodeId(index), event));
        }
        node.due[worker] = engine.poll_timeout();
    }

    /// Tells the kernel and other workers what a worker has to say.
    pub(super) fn share(&mut self, index: usize, worker: usize) {
        while let Some(placement) = self.nodes[index].engines[worker].poll_placement() {
            self.nodes[index].place(&placement);
        }
        while let Some((audience, notice)) = self.nodes[index].engines[worker].poll_notice() {
            self.pass(index, worker, audience, notice);
        }
    }

    fn hand_over(&mut self, index: usize, from: usize, to: usize, slot: &Slot) {
        assert_ne!(from, to, "seed {}: a packet is handed over to the worker that has it", self.seed);
        let Self { nodes, rng, now, .. } = self;
        let at = nodes[index].passage(*now, from, to, rng);
        let handed = Handed {
            interface: slot.interface.0,
            times: slot.handed + 1,
            genuine: slot.genuine,
            fragmented: slot.fragmented,
            packet: finished(slot),
        };
        self.schedule(at, Arrival::AtWorker(index, to, handed));
    }
}

fn receive(batch: &mut Batch, handed: &Handed) {
    let slot = batch.receive();
    assert!(slot.is_some(), "there is room");
    if let Some(slot) = slot {
        assert!(slot.packet.fill(&handed.packet), "packets of the simulation fit a slot");
        slot.interface = InterfaceId(handed.interface);
        (slot.handed, slot.genuine) = (handed.times, handed.genuine);
        slot.fragmented = handed.fragmented;
    }
}
