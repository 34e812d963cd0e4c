//! Whether the packets of a flow may take the kernel's way now: what both programs that decide ask.

use super::layout::{flag, pulse, slot};
use super::{BEAT_SHIFT, MapFds, SILENT};
use crate::classifier::asm::{Alu, Assembler, Label, Reg, Size, When};

/// `bpf_ktime_get_coarse_ns`.
const HELPER_COARSE_TIME: i32 = 160;

/// Where a program has room on its stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Four bytes, for keys of arrays.
    pub(super) index: i16,
    /// Eight bytes, in which the kernel's clock is left.
    pub(super) time: i16,
}

/// Goes on with the flow whose slot is R7 if nothing of it is with its worker, it need not wait for the other
/// direction, and the worker is at work; else to `slow`. Loses R0 to R5.
pub(super) fn check(asm: &mut Assembler, maps: MapFds, room: Room, slow: Label) {
    asm.load(Size::Word, Reg::R1, Reg::R7, slot::QUEUED as i16);
    asm.load(Size::Word, Reg::R2, Reg::R7, slot::DONE as i16);
    asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R2, slow);
    after_the_other(asm, maps, room, slow);
    asm.load(Size::Half, Reg::R1, Reg::R7, slot::WORKER as i16);
    asm.store(Size::Word, Reg::R10, room.index, Reg::R1);
    asm.lookup(maps.pulses, room.index);
    asm.jump_if(Reg::R0, When::Equal, 0, slow);
    asm.load(Size::Double, Reg::R1, Reg::R0, pulse::BEAT as i16);
    asm.store(Size::Double, Reg::R10, room.time, Reg::R1);
    asm.call(HELPER_COARSE_TIME);
    asm.load(Size::Double, Reg::R1, Reg::R10, room.time);
    asm.store(Size::Double, Reg::R10, room.time, Reg::R0);
    asm.alu_reg(Alu::Subtract, Reg::R0, Reg::R1);
    asm.alu(Alu::ShiftRight, Reg::R0, BEAT_SHIFT);
    asm.jump_if(Reg::R0, When::NotBelow, SILENT, slow);
}

/// Goes on if the flow need not wait for the other direction, or does not any more.
fn after_the_other(asm: &mut Assembler, maps: MapFds, room: Room, slow: Label) {
    let begun = asm.label();
    asm.load(Size::Word, Reg::R1, Reg::R7, slot::FLAGS as i16);
    asm.alu(Alu::And, Reg::R1, flag::AWAITS as i32);
    asm.jump_if(Reg::R1, When::Equal, 0, begun);
    asm.load(Size::Word, Reg::R1, Reg::R7, slot::OTHER as i16);
    asm.store(Size::Word, Reg::R10, room.index, Reg::R1);
    asm.lookup(maps.slots, room.index);
    asm.jump_if(Reg::R0, When::Equal, 0, slow);
    asm.load(Size::Double, Reg::R1, Reg::R0, slot::PACKETS as i16);
    asm.jump_if(Reg::R1, When::Equal, 0, slow);
    asm.place(begun);
}
