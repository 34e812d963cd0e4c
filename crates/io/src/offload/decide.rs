//! The part of the packet sockets' filter that finds out which packets the kernel forwards by itself.
//!
//! R6 is the context, R7 the slot of the flow, R8 the packet's length and R9 an offset in it, both from
//! the IP header on.

use fairway_wire::svr;

use super::layout::{LINK_HEADER, context, flag, note, slot};
use super::turn::{self, Room};
use super::{MapFds, index};
use crate::classifier::asm::{Alu, Assembler, Label, Reg, Size, When};
use crate::steering::key;

/// Places on the stack, relative to R10.
mod stack {
    pub(super) const KEY: i16 = -48;
    /// IP and transport header: up to 60 bytes.
    pub(super) const HEADER: i16 = -112;
    /// The start of a payload.
    pub(super) const PAYLOAD: i16 = -120;
    /// Keys of arrays.
    pub(super) const INDEX: i16 = -124;
    pub(super) const TIME: i16 = -136;
    pub(super) const SEGMENT: i16 = -140;
    pub(super) const ROUNDS: i16 = -144;
}

/// Segments of a super-packet whose payloads are looked at; one with more is the worker's.
const SEGMENTS: i32 = 64;
/// The flags of TCP that a worker has to see, SYN and RST, and that which every other segment bears.
pub(super) const WITNESSED: i32 = 0x06 | ACK;
pub(super) const ACK: i32 = 0x10;
pub(super) const FIN: i32 = 0x01;

pub(super) const TCP: i32 = 6;
pub(super) const UDP: i32 = 17;

struct Decision<'a> {
    asm: &'a mut Assembler,
    maps: MapFds,
    /// Not a flow that the kernel forwards.
    other: Label,
    /// One of such a flow, but the worker's.
    slow: Label,
    /// The key of the flow is complete but for its ports.
    known: [Label; 2],
}

/// Goes on to `other` with what is not for the kernel to forward. What is leaves the program: the socket
/// does not get it, and a note says so to [`super::forward`].
pub(crate) fn decide(asm: &mut Assembler, maps: MapFds, other: Label) {
    let (slow, known) = (asm.label(), [asm.label(), asm.label()]);
    let mut decision = Decision { asm, maps, other, slow, known };
    decision.link_layer();
    for ipv6 in [false, true] {
        decision.network_layer(ipv6);
    }
    decision.slow();
}

const fn ip_length(ipv6: bool) -> i16 {
    if ipv6 { 40 } else { 20 }
}

const fn field(offset: usize) -> i16 {
    stack::KEY + offset as i16
}

impl Decision<'_> {
    fn link_layer(&mut self) {
        for (field, wanted) in [(context::PACKET_TYPE, 0), (context::VLAN_PRESENT, 0)] {
            self.asm.load(Size::Word, Reg::R1, Reg::R6, field);
            self.asm.jump_if(Reg::R1, When::NotEqual, wanted, self.other);
        }
        self.asm.load(Size::Word, Reg::R1, Reg::R6, context::PROTOCOL);
        let [ipv4, ipv6] = self.known;
        self.asm.jump_if(Reg::R1, When::Equal, i32::from(0x0800u16.to_be()), ipv4);
        self.asm.jump_if(Reg::R1, When::Equal, i32::from(0x86ddu16.to_be()), ipv6);
        self.asm.jump(self.other);
    }

    fn copy(&mut self, size: Size, to: i16, from: i16) {
        self.asm.load(size, Reg::R1, Reg::R10, from);
        self.asm.store(size, Reg::R10, to, Reg::R1);
    }

    fn network_layer(&mut self, ipv6: bool) {
        let (other, length) = (self.other, ip_length(ipv6));
        self.asm.place(self.known[usize::from(ipv6)]);
        self.asm.alu(Alu::Move, Reg::R7, LINK_HEADER);
        // As much as UDP has; the rest of TCP's header comes later.
        self.asm.load_bytes_or(stack::HEADER, i32::from(length) + 8, other);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER);
        if ipv6 {
            self.asm.alu(Alu::ShiftRight, Reg::R1, 4);
            self.asm.jump_if(Reg::R1, When::NotEqual, 6, other);
            for (key, from) in [(key::REMOTE, 8), (key::LOCAL, 24)] {
                self.copy(Size::Double, field(key), stack::HEADER + from);
                self.copy(Size::Double, field(key) + 8, stack::HEADER + from + 8);
            }
            self.asm.load(Size::Half, Reg::R8, Reg::R10, stack::HEADER + 4);
            self.asm.be16_to_number(Reg::R8);
            self.asm.alu(Alu::Add, Reg::R8, i32::from(length));
            self.asm.load(Size::Byte, Reg::R9, Reg::R10, stack::HEADER + 6);
        } else {
            // Without options, and no fragment.
            self.asm.jump_if(Reg::R1, When::NotEqual, 0x45, other);
            self.asm.number16(stack::HEADER + 6);
            self.asm.alu(Alu::And, Reg::R1, 0x3fff);
            self.asm.jump_if(Reg::R1, When::NotEqual, 0, other);
            for (key, from) in [(key::REMOTE, 12), (key::LOCAL, 16)] {
                self.asm.store_immediate(Size::Double, Reg::R10, field(key), 0);
                self.asm.store_immediate(Size::Word, Reg::R10, field(key) + 8, 0xffff_u32.to_be() as i32);
                self.copy(Size::Word, field(key) + 12, stack::HEADER + from);
            }
            self.asm.load(Size::Half, Reg::R8, Reg::R10, stack::HEADER + 2);
            self.asm.be16_to_number(Reg::R8);
            self.asm.load(Size::Byte, Reg::R9, Reg::R10, stack::HEADER + 9);
        }
        let (transport, udp) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Reg::R9, When::Equal, TCP, transport);
        self.asm.jump_if(Reg::R9, When::NotEqual, UDP, other);
        self.asm.place(transport);
        self.asm.store_immediate(Size::Word, Reg::R10, field(key::PROTOCOL), 0);
        self.asm.store(Size::Byte, Reg::R10, field(key::PROTOCOL), Reg::R9);
        self.asm.store_immediate(Size::Byte, Reg::R10, field(key::IS_IPV6), i32::from(ipv6));
        self.copy(Size::Word, field(key::REMOTE_PORT), stack::HEADER + length);
        self.asm.load(Size::Word, Reg::R1, Reg::R6, context::IFINDEX);
        self.asm.store(Size::Word, Reg::R10, field(key::TOKEN), Reg::R1);
        self.flow();
        self.order_and_hop(if ipv6 { 7 } else { 8 });
        self.asm.jump_if(Reg::R9, When::Equal, UDP, udp);
        self.tcp(length);
        let payload = self.asm.label();
        self.asm.jump(payload);
        self.asm.place(udp);
        self.udp(length);
        self.asm.place(payload);
        self.size();
        self.payload();
        self.note();
    }

    /// R7 = the slot of the flow.
    fn flow(&mut self) {
        index::find(self.asm, self.maps, stack::KEY, stack::INDEX, self.other);
    }

    /// Goes on while the worker is at work, nothing of the flow is still with it, and the packet may
    /// take another hop.
    fn order_and_hop(&mut self, hop_limit: i16) {
        let slow = self.slow;
        self.copy(Size::Word, stack::SEGMENT, stack::INDEX);
        turn::check(self.asm, self.maps, Room { index: stack::INDEX, time: stack::TIME }, slow);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER + hop_limit);
        self.asm.jump_if(Reg::R1, When::Below, 2, slow);
    }

    /// R9 = the offset of the payload.
    fn tcp(&mut self, ip: i16) {
        let slow = self.slow;
        self.asm.alu(Alu::Move, Reg::R9, LINK_HEADER + i32::from(ip) + 8);
        self.asm.load_bytes_at(Reg::R9, stack::HEADER + ip + 8, 12, slow);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER + ip + 13);
        self.asm.alu(Alu::And, Reg::R1, WITNESSED);
        self.asm.jump_if(Reg::R1, When::NotEqual, ACK, slow);
        self.asm.load(Size::Byte, Reg::R9, Reg::R10, stack::HEADER + ip + 12);
        self.asm.alu(Alu::ShiftRight, Reg::R9, 4);
        self.asm.jump_if(Reg::R9, When::Below, 5, slow);
        self.asm.alu(Alu::ShiftLeft, Reg::R9, 2);
        self.asm.alu(Alu::Add, Reg::R9, i32::from(ip));
    }

    fn udp(&mut self, ip: i16) {
        self.asm.number16(stack::HEADER + ip + 4);
        self.asm.alu(Alu::Add, Reg::R1, i32::from(ip));
        self.asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R8, self.slow);
        self.asm.alu(Alu::Move, Reg::R9, i32::from(ip) + 8);
    }

    /// Goes on with packets that are as long as they say, and that the way out takes: a super-packet by
    /// the segments it stands for.
    fn size(&mut self) {
        let (slow, whole, fits) = (self.slow, self.asm.label(), self.asm.label());
        self.asm.jump_if_reg(Reg::R9, When::Above, Reg::R8, slow);
        self.asm.load(Size::Word, Reg::R1, Reg::R6, context::LENGTH);
        self.asm.alu(Alu::Subtract, Reg::R1, LINK_HEADER);
        self.asm.load(Size::Word, Reg::R3, Reg::R7, slot::MTU as i16);
        self.asm.load(Size::Word, Reg::R2, Reg::R6, context::SEGMENT_SIZE);
        self.asm.jump_if(Reg::R2, When::Equal, 0, whole);
        self.asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R8, slow);
        self.asm.alu_reg(Alu::Add, Reg::R2, Reg::R9);
        self.asm.jump_if_reg(Reg::R2, When::Above, Reg::R3, slow);
        self.asm.jump(fits);
        self.asm.place(whole);
        // Short frames are padded.
        self.asm.jump_if_reg(Reg::R8, When::Above, Reg::R1, slow);
        self.asm.jump_if_reg(Reg::R8, When::Above, Reg::R3, slow);
        self.asm.place(fits);
    }

    /// Goes on when no payload begins with the cookie: neither the packet's, nor that of a segment.
    fn payload(&mut self) {
        let (slow, clear, next) = (self.slow, self.asm.label(), self.asm.label());
        // The slot's index and the payload's offset are needed once more.
        self.copy(Size::Word, stack::INDEX, stack::SEGMENT);
        self.asm.store(Size::Word, Reg::R10, stack::SEGMENT, Reg::R9);
        self.asm.load(Size::Word, Reg::R1, Reg::R7, slot::FLAGS as i16);
        self.asm.alu(Alu::And, Reg::R1, flag::GUARDED as i32);
        self.asm.jump_if(Reg::R1, When::Equal, 0, clear);
        self.asm.alu(Alu::Add, Reg::R9, LINK_HEADER);
        self.asm.store_immediate(Size::Word, Reg::R10, stack::ROUNDS, 0);
        self.asm.place(next);
        // Eight bytes that are not there are no cookie.
        self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R9);
        self.asm.alu(Alu::Subtract, Reg::R1, LINK_HEADER - svr::COOKIE.len() as i32);
        self.asm.jump_if_reg(Reg::R1, When::Above, Reg::R8, clear);
        self.asm.load_bytes_at(Reg::R9, stack::PAYLOAD, svr::COOKIE.len() as i32, slow);
        self.asm.load(Size::Double, Reg::R1, Reg::R10, stack::PAYLOAD);
        self.asm.move64(Reg::R2, u64::from_ne_bytes(svr::COOKIE));
        self.asm.jump_if_reg(Reg::R1, When::Equal, Reg::R2, slow);
        self.asm.load(Size::Word, Reg::R1, Reg::R6, context::SEGMENT_SIZE);
        self.asm.jump_if(Reg::R1, When::Equal, 0, clear);
        self.asm.alu_reg(Alu::Add, Reg::R9, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::ROUNDS);
        self.asm.alu(Alu::Add, Reg::R1, 1);
        self.asm.store(Size::Word, Reg::R10, stack::ROUNDS, Reg::R1);
        self.asm.jump_if(Reg::R1, When::Below, SEGMENTS, next);
        self.asm.jump(slow);
        self.asm.place(clear);
    }

    /// Leaves a note for tc, and ends: the socket does not get the packet.
    fn note(&mut self) {
        self.copy(Size::Word, stack::ROUNDS, stack::INDEX);
        self.asm.store_immediate(Size::Word, Reg::R10, stack::INDEX, 0);
        self.asm.lookup(self.maps.notes, stack::INDEX);
        self.asm.jump_if(Reg::R0, When::Equal, 0, self.slow);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::ROUNDS);
        self.asm.store(Size::Word, Reg::R0, note::SLOT, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::SEGMENT);
        self.asm.store(Size::Half, Reg::R0, note::PAYLOAD, Reg::R1);
        self.asm.store(Size::Half, Reg::R0, note::LENGTH, Reg::R8);
        self.asm.load(Size::Double, Reg::R1, Reg::R10, stack::TIME);
        self.asm.store(Size::Double, Reg::R0, note::TIME, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R0, note::TOKEN);
        self.asm.alu(Alu::Add, Reg::R1, 1);
        self.asm.store(Size::Word, Reg::R0, note::TOKEN, Reg::R1);
        self.asm.store_immediate(Size::Word, Reg::R0, note::FRESH, 1);
        self.asm.store(Size::Word, Reg::R6, context::CONTROL_BLOCK, Reg::R1);
        self.asm.alu(Alu::Move, Reg::R0, 0);
        self.asm.exit();
    }

    /// Counts what the worker gets, and goes on as with any other packet; or drops it.
    fn slow(&mut self) {
        let shed = self.asm.label();
        self.asm.place(self.slow);
        self.asm.load(Size::Word, Reg::R2, Reg::R7, slot::FLAGS as i16);
        self.asm.alu(Alu::And, Reg::R2, flag::SHED as i32);
        self.asm.alu(Alu::Move, Reg::R1, 1);
        self.asm.jump_if(Reg::R2, When::NotEqual, 0, shed);
        self.asm.atomic_add(Size::Word, Reg::R7, slot::QUEUED as i16, Reg::R1);
        self.asm.jump(self.other);
        self.asm.place(shed);
        // Without a note, it is Fairway's at tc, and dropped.
        self.asm.atomic_add(Size::Word, Reg::R7, slot::LOST as i16, Reg::R1);
        self.asm.alu(Alu::Move, Reg::R0, 0);
        self.asm.exit();
    }
}
