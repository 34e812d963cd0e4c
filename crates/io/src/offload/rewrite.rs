//! The part of a program that gives a packet its other addresses and ports, and sends it.
//!
//! As in [`super::decide`]: R6 is the context, R7 the slot of the flow, R8 the packet's length and R9 the offset
//! of its payload; R2 is the frame.

use super::decide::{self, Forwarding, IP, stack};
use super::layout::slot;
use crate::classifier::asm::{Alu, Ground, Reg, Size, When, context};

const HELPER_L4_CHECKSUM: i32 = 11;
const HELPER_CHECKSUM_UPDATE: i32 = 40;
/// The change is one of the pseudo-header; a UDP checksum of zero means none.
const PSEUDO_HEADER: i32 = 0x10;
const ZERO_IS_NONE: i32 = 0x20;

impl Forwarding<'_> {
    /// Rewrites the packet, whose transport header and its checksum are so far behind the frame's start, and
    /// sends it.
    pub(super) fn rewrite(&mut self, ipv6: bool, transport: i16, checksum: i16) {
        let slow = self.slow;
        let tcp = checksum - transport == 16;
        self.asm.frame(Reg::R2, i32::from(transport) + if tcp { 20 } else { 8 }, slow);
        if tcp {
            self.witness(transport);
        }
        for (size, at) in [(Size::Double, 0), (Size::Word, 8)] {
            self.write(size, at, slot::LINK as i16 + at);
        }
        if ipv6 {
            self.one_hop_less(IP + 7);
            for at in [0, 8, 16, 24] {
                self.write(Size::Double, IP + 8 + at, slot::ADDRESSES as i16 + at);
            }
        } else {
            self.one_hop_less(IP + 8);
            self.header_checksum(IP + 10);
            self.write(Size::Double, IP + 12, slot::ADDRESSES as i16);
        }
        self.write(Size::Word, transport, slot::PORTS as i16);
        match self.asm.ground() {
            Ground::Stack => self.checksum_of_the_stack(ipv6, checksum, tcp),
            Ground::Driver => self.checksum_of_a_frame(checksum, tcp),
        }
        self.count();
        self.asm.load(Size::Word, Reg::R1, Reg::R7, slot::DEVICE as i16);
        self.asm.send_by_device();
    }

    /// Writes a field of the slot into the frame.
    fn write(&mut self, size: Size, to: i16, from: i16) {
        self.asm.load(size, Reg::R1, Reg::R7, from);
        self.asm.store(size, Reg::R2, to, Reg::R1);
    }

    fn one_hop_less(&mut self, at: i16) {
        self.asm.load(Size::Byte, Reg::R1, Reg::R2, at);
        self.asm.alu(Alu::Subtract, Reg::R1, 1);
        self.asm.store(Size::Byte, Reg::R2, at, Reg::R1);
    }

    /// Changes the checksum of the IPv4 header (RFC 1624).
    fn header_checksum(&mut self, at: i16) {
        self.asm.load(Size::Half, Reg::R1, Reg::R2, at);
        self.asm.alu(Alu::ExclusiveOr, Reg::R1, 0xffff);
        self.asm.load(Size::Word, Reg::R4, Reg::R7, slot::HEADER_CHANGE as i16);
        self.asm.alu_reg(Alu::Add, Reg::R1, Reg::R4);
        self.asm.fold(Reg::R1, Reg::R4);
        self.asm.alu(Alu::ExclusiveOr, Reg::R1, 0xffff);
        self.asm.store(Size::Half, Reg::R2, at, Reg::R1);
    }

    /// Takes note of what TCP says.
    fn witness(&mut self, transport: i16) {
        self.asm.load(Size::Half, Reg::R1, Reg::R2, transport + 14);
        self.asm.be16_to_number(Reg::R1);
        self.asm.store(Size::Half, Reg::R7, slot::WINDOW as i16, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R2, transport + 4);
        self.asm.be32_to_number(Reg::R1);
        self.asm.alu_reg(Alu::Add, Reg::R1, Reg::R8);
        self.asm.alu_reg(Alu::Subtract, Reg::R1, Reg::R9);
        let goes_on = self.asm.label();
        self.asm.load(Size::Byte, Reg::R4, Reg::R2, transport + 13);
        self.asm.alu(Alu::And, Reg::R4, decide::FIN);
        self.asm.jump_if(Reg::R4, When::Equal, 0, goes_on);
        self.asm.alu(Alu::Add, Reg::R1, 1);
        self.asm.store_immediate(Size::Half, Reg::R7, slot::FINISHED as i16, 1);
        self.asm.place(goes_on);
        self.asm.load(Size::Word, Reg::R3, Reg::R7, slot::HAS_TCP as i16);
        self.newest(slot::NEXT as i16);
        self.asm.load(Size::Word, Reg::R1, Reg::R2, transport + 8);
        self.asm.be32_to_number(Reg::R1);
        self.newest(slot::ACKNOWLEDGED as i16);
        self.asm.store_immediate(Size::Word, Reg::R7, slot::HAS_TCP as i16, 1);
    }

    /// Stores the sequence number in R1 if it is after the one that is known (RFC 9293, section 3.4), or if
    /// R3 says that none is.
    fn newest(&mut self, at: i16) {
        let (store, done) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Reg::R3, When::Equal, 0, store);
        self.asm.load(Size::Word, Reg::R4, Reg::R7, at);
        self.asm.alu_reg(Alu::Move, Reg::R5, Reg::R1);
        self.asm.alu32_reg(Alu::Subtract, Reg::R5, Reg::R4);
        self.asm.jump_if(Reg::R5, When::Above, i32::MAX, done);
        self.asm.place(store);
        self.asm.store(Size::Word, Reg::R7, at, Reg::R1);
        self.asm.place(done);
    }

    fn count(&mut self) {
        let several = self.asm.label();
        match self.asm.ground() {
            Ground::Stack => {
                self.asm.load(Size::Word, Reg::R1, Reg::R6, context::SEGMENTS);
                self.asm.jump_if(Reg::R1, When::NotEqual, 0, several);
                self.asm.alu(Alu::Move, Reg::R1, 1);
                self.asm.place(several);
            }
            Ground::Driver => self.asm.alu(Alu::Move, Reg::R1, 1),
        }
        self.asm.atomic_add(Size::Double, Reg::R7, slot::PACKETS as i16, Reg::R1);
        self.asm.atomic_add(Size::Double, Reg::R7, slot::BYTES as i16, Reg::R8);
        self.asm.load(Size::Double, Reg::R1, Reg::R10, stack::TIME);
        self.asm.store(Size::Double, Reg::R7, slot::LAST as i16, Reg::R1);
    }

    /// Changes the checksum of TCP or UDP, finished or not: the kernel knows which. The frame is to be looked
    /// for anew after this.
    fn checksum_of_the_stack(&mut self, ipv6: bool, at: i16, tcp: bool) {
        for (change, of) in [(slot::ADDRESS_CHANGE, PSEUDO_HEADER), (slot::PORT_CHANGE, 0)] {
            self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
            self.asm.alu(Alu::Move, Reg::R2, i32::from(at));
            self.asm.alu(Alu::Move, Reg::R3, 0);
            self.asm.load(Size::Word, Reg::R4, Reg::R7, change as i16);
            self.asm.alu(Alu::Move, Reg::R5, of | if tcp { 0 } else { ZERO_IS_NONE });
            self.asm.call(HELPER_L4_CHECKSUM);
        }
        if ipv6 {
            // What a device has summed up covers addresses and hop limit, too.
            self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
            self.asm.load(Size::Word, Reg::R2, Reg::R7, slot::HEADER_CHANGE as i16);
            self.asm.call(HELPER_CHECKSUM_UPDATE);
        }
    }

    /// Changes the checksum of TCP or UDP (RFC 1624). UDP's may be zero for none (RFC 768).
    fn checksum_of_a_frame(&mut self, at: i16, tcp: bool) {
        let none = self.asm.label();
        self.asm.load(Size::Half, Reg::R1, Reg::R2, at);
        if !tcp {
            self.asm.jump_if(Reg::R1, When::Equal, 0, none);
        }
        self.asm.alu(Alu::ExclusiveOr, Reg::R1, 0xffff);
        for change in [slot::ADDRESS_CHANGE, slot::PORT_CHANGE] {
            self.asm.load(Size::Word, Reg::R4, Reg::R7, change as i16);
            self.asm.alu_reg(Alu::Add, Reg::R1, Reg::R4);
        }
        self.asm.fold(Reg::R1, Reg::R4);
        self.asm.alu(Alu::ExclusiveOr, Reg::R1, 0xffff);
        if !tcp {
            let some = self.asm.label();
            self.asm.jump_if(Reg::R1, When::NotEqual, 0, some);
            self.asm.alu(Alu::Move, Reg::R1, 0xffff);
            self.asm.place(some);
        }
        self.asm.store(Size::Half, Reg::R2, at, Reg::R1);
        self.asm.place(none);
    }
}
