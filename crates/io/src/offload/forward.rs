//! The part of the program at tc that forwards what the filter has left a note about.
//!
//! R6 is the context, R7 the note, R8 the slot of the flow and, once the packet's headers can be
//! written, R2 the frame.

use super::layout::{LINK_HEADER, context, flag, note, slot};
use super::{MapFds, decide};
use crate::classifier::asm::{Alu, Assembler, Label, Reg, Size, When};

const HELPER_L4_CHECKSUM: i32 = 11;
const HELPER_REDIRECT: i32 = 23;
const HELPER_PULL: i32 = 39;
const HELPER_CHECKSUM_UPDATE: i32 = 40;
/// The change is one of the pseudo-header; a UDP checksum of zero means none.
const PSEUDO_HEADER: i32 = 0x10;
const ZERO_IS_NONE: i32 = 0x20;
const TC_DROP: i32 = 2;

const INDEX: i16 = -4;
const KIND: i16 = -8;

/// Goes on to `other` with packets without a note.
pub(crate) fn forward(asm: &mut Assembler, maps: MapFds, other: Label) {
    let lost = asm.label();
    find_note(asm, maps, other);
    for ipv6 in [false, true] {
        rewrite(asm, ipv6, lost);
    }
    asm.place(lost);
    asm.move32(Reg::R0, TC_DROP);
    asm.exit();
}

/// R7 = the note about this very packet, which nobody reads again, R8 = its slot.
fn find_note(asm: &mut Assembler, maps: MapFds, other: Label) {
    asm.store_immediate(Size::Word, Reg::R10, INDEX, 0);
    asm.lookup(maps.notes, INDEX);
    asm.jump_if(Reg::R0, When::Equal, 0, other);
    asm.alu_reg(Alu::Move, Reg::R7, Reg::R0);
    asm.load(Size::Word, Reg::R1, Reg::R7, note::FRESH);
    asm.jump_if(Reg::R1, When::Equal, 0, other);
    asm.store_immediate(Size::Word, Reg::R7, note::FRESH, 0);
    asm.load(Size::Word, Reg::R1, Reg::R7, note::TOKEN);
    asm.load(Size::Word, Reg::R2, Reg::R6, context::CONTROL_BLOCK);
    asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R2, other);
    asm.load(Size::Word, Reg::R1, Reg::R7, note::SLOT);
    asm.store(Size::Word, Reg::R10, INDEX, Reg::R1);
    asm.lookup(maps.slots, INDEX);
    asm.jump_if(Reg::R0, When::Equal, 0, other);
    asm.alu_reg(Alu::Move, Reg::R8, Reg::R0);
}

/// Rewrites packets of one family and sends them. Those of the other go on behind this.
fn rewrite(asm: &mut Assembler, ipv6: bool, lost: Label) {
    let ip: i16 = if ipv6 { 40 } else { 20 };
    let transport = LINK_HEADER as i16 + ip;
    let next = asm.label();
    asm.load(Size::Word, Reg::R1, Reg::R8, slot::FLAGS as i16);
    asm.store(Size::Word, Reg::R10, KIND, Reg::R1);
    if !ipv6 {
        asm.alu(Alu::And, Reg::R1, flag::IPV6 as i32);
        asm.jump_if(Reg::R1, When::NotEqual, 0, next);
    }
    // From here on the headers are in one piece and nobody else's.
    asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
    asm.load(Size::Half, Reg::R2, Reg::R7, note::PAYLOAD);
    asm.alu(Alu::Add, Reg::R2, LINK_HEADER);
    asm.call(HELPER_PULL);
    asm.jump_if(Reg::R0, When::NotEqual, 0, lost);
    asm.load(Size::Word, Reg::R2, Reg::R6, context::DATA);
    asm.load(Size::Word, Reg::R3, Reg::R6, context::DATA_END);
    witness(asm, transport);
    asm.alu_reg(Alu::Move, Reg::R1, Reg::R2);
    asm.alu(Alu::Add, Reg::R1, i32::from(transport) + 8);
    asm.jump_if_reg(Reg::R1, When::Above, Reg::R3, lost);
    for (size, at) in [(Size::Double, 0), (Size::Word, 8)] {
        copy(asm, Reg::R8, size, at, slot::LINK as i16 + at);
    }
    if ipv6 {
        one_hop_less(asm, LINK_HEADER as i16 + 7);
        for at in [0, 8, 16, 24] {
            copy(asm, Reg::R8, Size::Double, LINK_HEADER as i16 + 8 + at, slot::ADDRESSES as i16 + at);
        }
    } else {
        one_hop_less(asm, LINK_HEADER as i16 + 8);
        header_checksum(asm, Reg::R8, LINK_HEADER as i16 + 10);
        copy(asm, Reg::R8, Size::Double, LINK_HEADER as i16 + 12, slot::ADDRESSES as i16);
    }
    copy(asm, Reg::R8, Size::Word, transport, slot::PORTS as i16);
    count(asm);
    transport_checksum(asm, transport);
    if ipv6 {
        // What a device has summed up covers addresses and hop limit, too.
        asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
        asm.load(Size::Word, Reg::R2, Reg::R8, slot::HEADER_CHANGE as i16);
        asm.call(HELPER_CHECKSUM_UPDATE);
    }
    asm.load(Size::Word, Reg::R1, Reg::R8, slot::DEVICE as i16);
    asm.alu(Alu::Move, Reg::R2, 0);
    asm.call(HELPER_REDIRECT);
    asm.exit();
    asm.place(next);
}

/// Writes a field of the slot into the frame.
pub(super) fn copy(asm: &mut Assembler, slot: Reg, size: Size, to: i16, from: i16) {
    asm.load(size, Reg::R1, slot, from);
    asm.store(size, Reg::R2, to, Reg::R1);
}

pub(super) fn one_hop_less(asm: &mut Assembler, at: i16) {
    asm.load(Size::Byte, Reg::R1, Reg::R2, at);
    asm.alu(Alu::Subtract, Reg::R1, 1);
    asm.store(Size::Byte, Reg::R2, at, Reg::R1);
}

/// Changes the checksum of the IPv4 header (RFC 1624).
pub(super) fn header_checksum(asm: &mut Assembler, slot: Reg, at: i16) {
    asm.load(Size::Half, Reg::R1, Reg::R2, at);
    asm.alu(Alu::ExclusiveOr, Reg::R1, 0xffff);
    asm.load(Size::Word, Reg::R4, slot, slot::HEADER_CHANGE as i16);
    asm.alu_reg(Alu::Add, Reg::R1, Reg::R4);
    asm.fold(Reg::R1, Reg::R4);
    asm.alu(Alu::ExclusiveOr, Reg::R1, 0xffff);
    asm.store(Size::Half, Reg::R2, at, Reg::R1);
}

/// Takes note of what TCP says. Another packet is none of its business.
fn witness(asm: &mut Assembler, transport: i16) {
    let (goes_on, done) = (asm.label(), asm.label());
    asm.load(Size::Word, Reg::R1, Reg::R10, KIND);
    asm.alu(Alu::And, Reg::R1, flag::TCP as i32);
    asm.jump_if(Reg::R1, When::Equal, 0, done);
    asm.alu_reg(Alu::Move, Reg::R1, Reg::R2);
    asm.alu(Alu::Add, Reg::R1, i32::from(transport) + 20);
    asm.jump_if_reg(Reg::R1, When::Above, Reg::R3, done);
    asm.load(Size::Half, Reg::R1, Reg::R2, transport + 14);
    asm.be16_to_number(Reg::R1);
    asm.store(Size::Half, Reg::R8, slot::WINDOW as i16, Reg::R1);
    asm.load(Size::Word, Reg::R9, Reg::R8, slot::HAS_TCP as i16);
    asm.load(Size::Word, Reg::R1, Reg::R2, transport + 4);
    asm.be32_to_number(Reg::R1);
    asm.load(Size::Half, Reg::R4, Reg::R7, note::LENGTH);
    asm.alu_reg(Alu::Add, Reg::R1, Reg::R4);
    asm.load(Size::Half, Reg::R4, Reg::R7, note::PAYLOAD);
    asm.alu_reg(Alu::Subtract, Reg::R1, Reg::R4);
    asm.load(Size::Byte, Reg::R5, Reg::R2, transport + 13);
    asm.alu(Alu::And, Reg::R5, decide::FIN);
    asm.jump_if(Reg::R5, When::Equal, 0, goes_on);
    asm.alu(Alu::Add, Reg::R1, 1);
    asm.store_immediate(Size::Half, Reg::R8, slot::FINISHED as i16, 1);
    asm.place(goes_on);
    newest(asm, Reg::R8, Reg::R9, slot::NEXT as i16);
    asm.load(Size::Word, Reg::R1, Reg::R2, transport + 8);
    asm.be32_to_number(Reg::R1);
    newest(asm, Reg::R8, Reg::R9, slot::ACKNOWLEDGED as i16);
    asm.store_immediate(Size::Word, Reg::R8, slot::HAS_TCP as i16, 1);
    asm.place(done);
}

/// Stores the sequence number in R1 if it is after the one that is known (RFC 9293, section 3.4), or if
/// `known` says that none is.
pub(super) fn newest(asm: &mut Assembler, slot: Reg, known: Reg, at: i16) {
    let (store, done) = (asm.label(), asm.label());
    asm.jump_if(known, When::Equal, 0, store);
    asm.load(Size::Word, Reg::R4, slot, at);
    asm.alu_reg(Alu::Move, Reg::R5, Reg::R1);
    asm.alu32_reg(Alu::Subtract, Reg::R5, Reg::R4);
    asm.jump_if(Reg::R5, When::Above, i32::MAX, done);
    asm.place(store);
    asm.store(Size::Word, slot, at, Reg::R1);
    asm.place(done);
}

fn count(asm: &mut Assembler) {
    let several = asm.label();
    asm.load(Size::Word, Reg::R1, Reg::R6, context::SEGMENTS);
    asm.jump_if(Reg::R1, When::NotEqual, 0, several);
    asm.alu(Alu::Move, Reg::R1, 1);
    asm.place(several);
    asm.atomic_add(Size::Double, Reg::R8, slot::PACKETS as i16, Reg::R1);
    asm.load(Size::Half, Reg::R1, Reg::R7, note::LENGTH);
    asm.atomic_add(Size::Double, Reg::R8, slot::BYTES as i16, Reg::R1);
    asm.load(Size::Double, Reg::R1, Reg::R7, note::TIME);
    asm.store(Size::Double, Reg::R8, slot::LAST as i16, Reg::R1);
}

/// The checksum of TCP or UDP, finished or not: the kernel knows which.
fn transport_checksum(asm: &mut Assembler, transport: i16) {
    let replace = asm.label();
    asm.load(Size::Word, Reg::R1, Reg::R10, KIND);
    asm.alu(Alu::And, Reg::R1, flag::TCP as i32);
    asm.alu(Alu::Move, Reg::R9, 0);
    asm.alu(Alu::Move, Reg::R7, i32::from(transport) + 16);
    asm.jump_if(Reg::R1, When::NotEqual, 0, replace);
    asm.alu(Alu::Move, Reg::R9, ZERO_IS_NONE);
    asm.alu(Alu::Move, Reg::R7, i32::from(transport) + 6);
    asm.place(replace);
    for (change, of) in [(slot::ADDRESS_CHANGE, PSEUDO_HEADER), (slot::PORT_CHANGE, 0)] {
        asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
        asm.alu_reg(Alu::Move, Reg::R2, Reg::R7);
        asm.alu(Alu::Move, Reg::R3, 0);
        asm.load(Size::Word, Reg::R4, Reg::R8, change as i16);
        asm.alu_reg(Alu::Move, Reg::R5, Reg::R9);
        asm.alu(Alu::Add, Reg::R5, of);
        asm.call(HELPER_L4_CHECKSUM);
    }
}
