//! Checksums that a sender on this machine has left to a device, finished by the program for XDP.

use super::decide::{Forwarding, IP, field, stack};
use super::layout::LINK_HEADER;
use crate::classifier::asm::{Alu, Ground, Reg, Size, When};
use crate::steering::key;

const HELPER_CHECKSUM_DIFFERENCE: i32 = 28;
const HELPER_LOAD_BYTES: i32 = 189;

/// What one call can sum up, and how many of those a frame has at most.
const BLOCK: i32 = 512;
const BLOCKS: usize = 7;
/// What of the rest the stack has room for at once.
const TAIL: i32 = 256;

impl Forwarding<'_> {
    /// Finishes a checksum that a sender on this machine has left to a device: its field holds the sum of
    /// the pseudo-header, and nobody else can tell. Another frame with the same field is right already if
    /// it is right at all. R2 is the frame before and after.
    pub(super) fn finish_checksum(&mut self, ipv6: bool, at: i16) {
        if self.asm.ground() == Ground::Stack {
            // There, the kernel knows.
            return;
        }
        let (done, slow) = (self.asm.label(), self.slow);
        let transport = IP + if ipv6 { 40 } else { 20 };
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::DOUBTFUL);
        self.asm.jump_if(Reg::R1, When::Equal, 0, done);
        self.pseudo_header(ipv6);
        self.asm.load(Size::Half, Reg::R3, Reg::R2, at);
        self.asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R3, done);
        self.asm.store(Size::Double, Reg::R10, stack::PAYLOAD, Reg::R9);
        self.asm.store(Size::Double, Reg::R10, stack::PACKET, Reg::R8);
        self.asm.store_immediate(Size::Word, Reg::R10, stack::SUM, 0);
        self.asm.alu_reg(Alu::Move, Reg::R9, Reg::R2);
        self.asm.alu(Alu::Add, Reg::R9, i32::from(transport));
        self.asm.alu(Alu::Subtract, Reg::R8, i32::from(transport - IP));
        self.sum();
        self.asm.load(Size::Double, Reg::R9, Reg::R10, stack::PAYLOAD);
        self.asm.load(Size::Double, Reg::R8, Reg::R10, stack::PACKET);
        self.asm.load(Size::Word, Reg::R4, Reg::R10, stack::SUM);
        self.asm.fold(Reg::R4, Reg::R1);
        self.asm.frame(Reg::R2, i32::from(at) + 2, slow);
        self.asm.load(Size::Half, Reg::R1, Reg::R2, at);
        self.asm.alu_reg(Alu::Add, Reg::R1, Reg::R4);
        self.asm.fold(Reg::R1, Reg::R5);
        self.asm.jump_if(Reg::R1, When::Equal, 0xffff, done);
        self.asm.alu(Alu::ExclusiveOr, Reg::R4, 0xffff);
        let some = self.asm.label();
        self.asm.jump_if(Reg::R4, When::NotEqual, 0, some);
        self.asm.alu(Alu::Move, Reg::R4, 0xffff);
        self.asm.place(some);
        self.asm.store(Size::Half, Reg::R2, at, Reg::R4);
        self.asm.place(done);
    }

    /// R1 = the sum of the pseudo-header as the packet has it; loses R4.
    fn pseudo_header(&mut self, ipv6: bool) {
        let (first, words, header) = if ipv6 { (IP + 8, 8, 40) } else { (IP + 12, 2, 20) };
        self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R8);
        self.asm.alu(Alu::Subtract, Reg::R1, header);
        self.asm.be16_to_number(Reg::R1);
        self.asm.load(Size::Byte, Reg::R4, Reg::R10, field(key::PROTOCOL));
        self.asm.be16_to_number(Reg::R4);
        self.asm.alu_reg(Alu::Add, Reg::R1, Reg::R4);
        for word in 0..words {
            self.asm.load(Size::Word, Reg::R4, Reg::R2, first + 4 * word);
            self.asm.alu_reg(Alu::Add, Reg::R1, Reg::R4);
        }
        // More than 32 bits want one more round.
        self.asm.fold(Reg::R1, Reg::R4);
        self.asm.fold(Reg::R1, Reg::R4);
    }

    /// Sums up as many bytes from R9 on as R8 says, which are those at the end of the packet; both are lost.
    /// What is shorter than a block is copied into one of zeros: a way through the program for each length
    /// would take the verifier a second.
    fn sum(&mut self) {
        let slow = self.slow;
        for _ in 0..BLOCKS {
            let shorter = self.asm.label();
            self.asm.jump_if(Reg::R8, When::Below, BLOCK, shorter);
            self.asm.within(Reg::R9, BLOCK, slow);
            self.asm.alu_reg(Alu::Move, Reg::R3, Reg::R9);
            self.add(BLOCK);
            self.asm.alu(Alu::Add, Reg::R9, BLOCK);
            self.asm.alu(Alu::Subtract, Reg::R8, BLOCK);
            self.asm.place(shorter);
        }
        for _ in 0..BLOCK / TAIL {
            let (done, fits) = (self.asm.label(), self.asm.label());
            self.asm.jump_if(Reg::R8, When::Equal, 0, done);
            self.asm.alu_reg(Alu::Move, Reg::R9, Reg::R8);
            self.asm.jump_if(Reg::R9, When::Below, TAIL + 1, fits);
            self.asm.alu(Alu::Move, Reg::R9, TAIL);
            self.asm.place(fits);
            for at in (0..TAIL as i16).step_by(8) {
                self.asm.store_immediate(Size::Double, Reg::R10, stack::TAIL + at, 0);
            }
            self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
            self.asm.load(Size::Double, Reg::R2, Reg::R10, stack::PACKET);
            self.asm.alu(Alu::Add, Reg::R2, LINK_HEADER);
            self.asm.alu_reg(Alu::Subtract, Reg::R2, Reg::R8);
            self.tail();
            self.asm.alu_reg(Alu::Move, Reg::R4, Reg::R9);
            self.asm.call(HELPER_LOAD_BYTES);
            self.asm.jump_if(Reg::R0, When::NotEqual, 0, slow);
            self.tail();
            self.add(TAIL);
            self.asm.alu_reg(Alu::Subtract, Reg::R8, Reg::R9);
            self.asm.place(done);
        }
    }

    /// R3 = the block of zeros.
    fn tail(&mut self) {
        self.asm.alu_reg(Alu::Move, Reg::R3, Reg::R10);
        self.asm.alu(Alu::Add, Reg::R3, i32::from(stack::TAIL));
    }

    /// Adds as many bytes behind R3.
    fn add(&mut self, bytes: i32) {
        self.asm.load(Size::Word, Reg::R5, Reg::R10, stack::SUM);
        self.asm.alu(Alu::Move, Reg::R1, 0);
        self.asm.alu(Alu::Move, Reg::R2, 0);
        self.asm.alu(Alu::Move, Reg::R4, bytes);
        self.asm.call(HELPER_CHECKSUM_DIFFERENCE);
        self.asm.store(Size::Word, Reg::R10, stack::SUM, Reg::R0);
    }
}
