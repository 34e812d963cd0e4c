//! The table at tc while a router runs: what is Fairway's goes through the door of a worker.
//!
//! What the kernel forwards by itself goes no further than this. In what goes through a door, the device's
//! number stands in place of the destination's link address, which was this host's, and the mark names the flow
//! that is left to the worker (`offload::left`).

use super::{Builder, LINK_HEADER, MapFds, TC_NEXT, stack};
use crate::classifier::Frames;
use crate::classifier::asm::{
    Alu, Assembler, AssemblyError, Instruction, Label, Reg, Size, TC_DROP, When, context,
};
use crate::classifier::rule::Rule;
use crate::{offload, steering};

const HELPER_CLONE_REDIRECT: i32 = 13;

/// The number of the worker, and the packet's own mark, below what classifier and steering have on the stack.
const WORKER: i16 = -124;
const MARK: i16 = -128;

/// Where packets go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Serve {
    /// The maps of flows that the kernel forwards.
    pub(crate) flows: offload::MapFds,
    /// The map with the device of each worker's door at the worker's number; zero for none.
    pub(crate) doors: i32,
    /// Which worker gets a packet; `None` for one alone.
    pub(crate) steering: Option<steering::Parameters>,
}

// The classifier keeps the rule on the stack while steering decides.
const _: () = assert!(stack::COUNTER + 4 <= -steering::STACK_BYTES && WORKER + 4 <= stack::HOST_PORT);

/// Assembles the program for tc, for all devices.
pub(crate) fn assemble_serve(maps: MapFds, serve: Serve) -> Result<Vec<Instruction>, AssemblyError> {
    let mut builder = Builder::new(Assembler::default(), maps, Frames::Untagged);
    let other = builder.asm.label();
    offload::begin(&mut builder.asm);
    offload::forward(&mut builder.asm, serve.flows, other);
    builder.asm.place(other);
    builder.untagged_link_layer();
    builder.asm.load(Size::Word, Reg::R7, Reg::R6, context::PROTOCOL);
    builder.network_layer();
    builder.serve(serve);
    builder.asm.finish()
}

impl Builder {
    fn serve(&mut self, serve: Serve) {
        let (taken, drop, echo) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.land();
        self.count();
        self.asm.jump_if(Reg::R7, When::NotBelow, i32::from(Rule::FIRST_TAKEN), taken);
        self.asm.move32(Reg::R0, TC_NEXT);
        self.asm.exit();
        self.asm.place(taken);
        self.steer(serve.steering);
        self.asm.store(Size::Word, Reg::R10, WORKER, Reg::R0);
        self.asm.lookup(serve.doors, WORKER);
        self.asm.jump_if(Reg::R0, When::Equal, 0, drop);
        self.asm.load(Size::Word, Reg::R8, Reg::R0, 0);
        self.asm.frame(Reg::R2, LINK_HEADER, drop);
        self.asm.load(Size::Word, Reg::R9, Reg::R2, 0);
        self.asm.load(Size::Word, Reg::R1, Reg::R6, context::IFINDEX);
        self.asm.store(Size::Word, Reg::R2, 0, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R6, context::MARK);
        self.asm.store(Size::Word, Reg::R10, MARK, Reg::R1);
        offload::left(&mut self.asm, Reg::R1);
        self.asm.store(Size::Word, Reg::R6, context::MARK, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::COUNTER);
        self.asm.jump_if(Reg::R1, When::Equal, Rule::NatEcho as i32, echo);
        self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R8);
        self.asm.send_by_device();
        self.asm.place(echo);
        self.both(drop);
        self.asm.place(drop);
        self.asm.move32(Reg::R0, TC_DROP);
        self.asm.exit();
    }

    /// Perhaps it is an answer to a ping of the host's own, which nothing tells apart: worker and kernel get it,
    /// the kernel as it was. What nobody waits for, it forgets.
    fn both(&mut self, drop: Label) {
        self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
        self.asm.alu_reg(Alu::Move, Reg::R2, Reg::R8);
        self.asm.alu(Alu::Move, Reg::R3, 0);
        self.asm.call(HELPER_CLONE_REDIRECT);
        self.asm.frame(Reg::R2, LINK_HEADER, drop);
        self.asm.store(Size::Word, Reg::R2, 0, Reg::R9);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, MARK);
        self.asm.store(Size::Word, Reg::R6, context::MARK, Reg::R1);
        self.asm.move32(Reg::R0, TC_NEXT);
        self.asm.exit();
    }
}
