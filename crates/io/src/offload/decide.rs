//! The part of a program that finds out which packets the kernel forwards by itself, and has them rewritten
//! at once.
//!
//! The program at tc and that for XDP are made of the same parts; where they differ, [`Ground`] says so. What is
//! the worker's is counted when a socket has it ([`count_left`], [`super::door`]), not here: until then the
//! flow is kept on the stack.
//!
//! R6 is the context, R7 the slot of the flow, R8 the packet's length and R9 first the frame, then the
//! offset of the payload; length and offset are from the IP header on.

use fairway_wire::svr;

use super::layout::{LINK_HEADER, device, flag, slot};
use super::turn::{self, Room};
use super::{MapFds, index};
use crate::classifier::asm::{
    Alu, Assembler, Ground, Label, Reg, Size, TC_DROP, When, context, driver_context,
};
use crate::steering::key;

/// Places on the stack, relative to R10, below those of the classifier and of steering.
pub(super) mod stack {
    pub(in crate::offload) const KEY: i16 = -176;
    /// The flow whose packet is left to its worker: its slot, or at tc its number and one; zero without one.
    pub(in crate::offload) const LEFT: i16 = -184;
    pub(in crate::offload) const TIME: i16 = -192;
    /// Keys of arrays.
    pub(in crate::offload) const INDEX: i16 = -196;
    /// The frame's length.
    pub(in crate::offload) const LENGTH: i16 = -200;
    /// Whether checksums may be unfinished.
    pub(in crate::offload) const DOUBTFUL: i16 = -204;
    /// The number of the slot.
    pub(in crate::offload) const NUMBER: i16 = -208;
    /// How many segments were looked at. The verifier counts along where numbers are at multiples of eight.
    pub(in crate::offload) const ROUNDS: i16 = -216;
    pub(in crate::offload) const SUM: i16 = -212;
    /// The offset of the payload, while R9 is needed for something else; the length, for R8.
    pub(in crate::offload) const PAYLOAD: i16 = -224;
    pub(in crate::offload) const PACKET: i16 = -232;
    /// The start of a payload.
    pub(in crate::offload) const COOKIE: i16 = -240;
    /// A block of a payload.
    pub(in crate::offload) const TAIL: i16 = -496;
}

/// Segments of a super-packet whose payloads are looked at; one with more is the worker's.
const SEGMENTS: i32 = 64;
/// The flags of TCP that a worker has to see, SYN and RST, and that which every other segment bears.
const WITNESSED: i32 = 0x06 | ACK;
const ACK: i32 = 0x10;
pub(super) const FIN: i32 = 0x01;

const TCP: i32 = 6;
const UDP: i32 = 17;

const HELPER_PULL: i32 = 39;
/// As much as the headers of most packets have.
const HEADERS: i32 = LINK_HEADER + 40 + 32;
const XDP_DROP: i32 = 1;

/// Where the IP header is in a frame.
pub(super) const IP: i16 = LINK_HEADER as i16;

/// A program that forwards, under construction.
pub(super) struct Forwarding<'a> {
    pub(super) asm: &'a mut Assembler,
    pub(super) maps: MapFds,
    /// Not a flow that the kernel forwards.
    pub(super) other: Label,
    /// One of such a flow, but the worker's.
    pub(super) slow: Label,
}

/// Says that no packet is left to a worker yet: what [`count_left`] and [`left`] find, if nothing else happens.
pub(crate) fn begin(asm: &mut Assembler) {
    asm.store_immediate(Size::Double, Reg::R10, stack::LEFT, 0);
}

/// Forwards what is for the kernel to forward, after [`begin`]. Goes on to `other` with everything else.
///
/// For XDP, R8 is what the program knows of the device: the link address, the longest frame, whether checksums are
/// in doubt.
pub(crate) fn forward(asm: &mut Assembler, maps: MapFds, other: Label) {
    let slow = asm.label();
    let mut forwarding = Forwarding { asm, maps, other, slow };
    match forwarding.asm.ground() {
        Ground::Stack => forwarding.stack_link_layer(),
        Ground::Driver => forwarding.driver_link_layer(),
    }
    forwarding.network_layer();
    forwarding.slow();
}

/// Counts the packet that an AF_XDP socket has been given, if it is one of a flow that the kernel forwards. Loses
/// R0 and R1.
pub(crate) fn count_left(asm: &mut Assembler) {
    let none = asm.label();
    asm.load(Size::Double, Reg::R1, Reg::R10, stack::LEFT);
    asm.jump_if(Reg::R1, When::Equal, 0, none);
    asm.alu(Alu::Move, Reg::R0, 1);
    // Whoever sees this count sees that of the socket, too.
    asm.atomic_fetch_add(Size::Word, Reg::R1, slot::QUEUED as i16, Reg::R0);
    asm.place(none);
}

/// At tc: one more than the number of the flow whose packet is left to its worker, or zero.
pub(crate) fn left(asm: &mut Assembler, number: Reg) {
    asm.load(Size::Double, number, Reg::R10, stack::LEFT);
}

pub(super) const fn field(offset: usize) -> i16 {
    stack::KEY + offset as i16
}

impl Forwarding<'_> {
    /// Goes on with untagged frames to this host. R9 = the frame.
    fn stack_link_layer(&mut self) {
        let (other, pull, ready) = (self.other, self.asm.label(), self.asm.label());
        for (field, wanted) in [(context::PACKET_TYPE, 0), (context::VLAN_PRESENT, 0)] {
            self.asm.load(Size::Word, Reg::R1, Reg::R6, field);
            self.asm.jump_if(Reg::R1, When::NotEqual, wanted, other);
        }
        self.asm.load(Size::Word, Reg::R2, Reg::R6, context::LENGTH);
        self.asm.store(Size::Word, Reg::R10, stack::LENGTH, Reg::R2);
        self.asm.frame(Reg::R9, i32::from(IP) + 20 + 8, pull);
        self.asm.jump(ready);
        self.asm.place(pull);
        // Some drivers leave headers in pages of their own.
        let whole = self.asm.label();
        self.asm.jump_if(Reg::R2, When::Below, HEADERS, whole);
        self.asm.alu(Alu::Move, Reg::R2, HEADERS);
        self.asm.place(whole);
        self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
        self.asm.call(HELPER_PULL);
        self.asm.frame(Reg::R9, i32::from(IP) + 20 + 8, other);
        self.asm.place(ready);
    }

    /// Goes on with frames to the device's own address that are not too long. R9 = the frame.
    fn driver_link_layer(&mut self) {
        let other = self.other;
        self.asm.load(Size::Word, Reg::R1, Reg::R8, device::DOUBTFUL);
        self.asm.store(Size::Word, Reg::R10, stack::DOUBTFUL, Reg::R1);
        self.asm.xdp_length();
        self.asm.load(Size::Half, Reg::R1, Reg::R8, device::LONGEST);
        self.asm.jump_if_reg(Reg::R0, When::Above, Reg::R1, other);
        self.asm.store(Size::Word, Reg::R10, stack::LENGTH, Reg::R0);
        self.asm.frame(Reg::R9, i32::from(IP) + 20 + 8, other);
        for (size, at) in [(Size::Word, 0), (Size::Half, 4)] {
            self.asm.load(size, Reg::R1, Reg::R9, at);
            self.asm.load(size, Reg::R2, Reg::R8, at);
            self.asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R2, other);
        }
    }

    fn network_layer(&mut self) {
        let (other, ipv6) = (self.other, self.asm.label());
        self.asm.load(Size::Half, Reg::R1, Reg::R9, 12);
        self.asm.jump_if(Reg::R1, When::Equal, i32::from(0x86ddu16.to_be()), ipv6);
        self.asm.jump_if(Reg::R1, When::NotEqual, i32::from(0x0800u16.to_be()), other);
        self.packet(false);
        self.asm.place(ipv6);
        self.asm.within(Reg::R9, i32::from(IP) + 40 + 8, other);
        self.packet(true);
    }

    /// Copies from the frame to the key.
    fn copy(&mut self, size: Size, to: i16, from: i16) {
        self.asm.load(size, Reg::R1, Reg::R9, from);
        self.asm.store(size, Reg::R10, to, Reg::R1);
    }

    fn packet(&mut self, ipv6: bool) {
        let other = self.other;
        let length: i16 = if ipv6 { 40 } else { 20 };
        let transport = IP + length;
        self.asm.load(Size::Byte, Reg::R1, Reg::R9, IP);
        if ipv6 {
            self.asm.alu(Alu::ShiftRight, Reg::R1, 4);
            self.asm.jump_if(Reg::R1, When::NotEqual, 6, other);
            for (key, from) in [(key::REMOTE, IP + 8), (key::LOCAL, IP + 24)] {
                self.copy(Size::Double, field(key), from);
                self.copy(Size::Double, field(key) + 8, from + 8);
            }
            self.asm.load(Size::Half, Reg::R8, Reg::R9, IP + 4);
            self.asm.be16_to_number(Reg::R8);
            self.asm.alu(Alu::Add, Reg::R8, i32::from(length));
            self.asm.load(Size::Byte, Reg::R1, Reg::R9, IP + 6);
        } else {
            // Without options, and no fragment.
            self.asm.jump_if(Reg::R1, When::NotEqual, 0x45, other);
            self.asm.load(Size::Half, Reg::R1, Reg::R9, IP + 6);
            self.asm.alu(Alu::And, Reg::R1, i32::from(0x3fffu16.to_be()));
            self.asm.jump_if(Reg::R1, When::NotEqual, 0, other);
            for (key, from) in [(key::REMOTE, IP + 12), (key::LOCAL, IP + 16)] {
                self.asm.store_immediate(Size::Double, Reg::R10, field(key), 0);
                self.asm.store_immediate(Size::Word, Reg::R10, field(key) + 8, 0xffff_u32.to_be() as i32);
                self.copy(Size::Word, field(key) + 12, from);
            }
            self.asm.load(Size::Half, Reg::R8, Reg::R9, IP + 2);
            self.asm.be16_to_number(Reg::R8);
            self.asm.load(Size::Byte, Reg::R1, Reg::R9, IP + 9);
        }
        let (known, udp) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Reg::R1, When::Equal, TCP, known);
        self.asm.jump_if(Reg::R1, When::NotEqual, UDP, other);
        self.asm.place(known);
        self.asm.store_immediate(Size::Word, Reg::R10, field(key::PROTOCOL), 0);
        self.asm.store(Size::Byte, Reg::R10, field(key::PROTOCOL), Reg::R1);
        self.asm.store_immediate(Size::Byte, Reg::R10, field(key::IS_IPV6), i32::from(ipv6));
        self.copy(Size::Word, field(key::REMOTE_PORT), transport);
        let arrival = match self.asm.ground() {
            Ground::Stack => context::IFINDEX,
            Ground::Driver => driver_context::IFINDEX,
        };
        self.asm.load(Size::Word, Reg::R1, Reg::R6, arrival);
        self.asm.store(Size::Word, Reg::R10, field(key::TOKEN), Reg::R1);
        index::find(self.asm, self.maps, stack::KEY, stack::NUMBER, other);
        turn::check(self.asm, self.maps, Room { index: stack::INDEX, time: stack::TIME }, self.slow);
        self.asm.load(Size::Byte, Reg::R1, Reg::R9, IP + if ipv6 { 7 } else { 8 });
        self.asm.jump_if(Reg::R1, When::Below, 2, self.slow);
        self.asm.alu_reg(Alu::Move, Reg::R2, Reg::R9);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, field(key::PROTOCOL));
        self.asm.jump_if(Reg::R1, When::Equal, UDP, udp);
        self.tcp(length);
        self.size();
        self.payload(length + 32, transport + 20);
        self.finish_checksum(ipv6, transport + 16);
        self.rewrite(ipv6, transport, transport + 16);
        self.asm.place(udp);
        self.udp(length);
        self.size();
        self.payload(length + 8, transport + 8);
        self.finish_checksum(ipv6, transport + 6);
        self.rewrite(ipv6, transport, transport + 6);
    }

    /// R9 = the offset of the payload; the TCP header behind R2 is there.
    fn tcp(&mut self, ip: i16) {
        let (slow, transport) = (self.slow, IP + ip);
        self.asm.within(Reg::R2, i32::from(transport) + 20, slow);
        self.asm.load(Size::Byte, Reg::R1, Reg::R2, transport + 13);
        self.asm.alu(Alu::And, Reg::R1, WITNESSED);
        self.asm.jump_if(Reg::R1, When::NotEqual, ACK, slow);
        self.asm.load(Size::Byte, Reg::R9, Reg::R2, transport + 12);
        self.asm.alu(Alu::ShiftRight, Reg::R9, 4);
        self.asm.jump_if(Reg::R9, When::Below, 5, slow);
        self.asm.alu(Alu::ShiftLeft, Reg::R9, 2);
        self.asm.alu(Alu::Add, Reg::R9, i32::from(ip));
    }

    fn udp(&mut self, ip: i16) {
        self.asm.load(Size::Half, Reg::R1, Reg::R2, IP + ip + 4);
        self.asm.be16_to_number(Reg::R1);
        self.asm.alu(Alu::Add, Reg::R1, i32::from(ip));
        self.asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R8, self.slow);
        self.asm.alu(Alu::Move, Reg::R9, i32::from(ip) + 8);
    }

    /// Goes on with packets that are as long as they say, and that the way out takes: a super-packet by
    /// the segments it stands for.
    fn size(&mut self) {
        let (slow, whole, fits) = (self.slow, self.asm.label(), self.asm.label());
        self.asm.jump_if_reg(Reg::R9, When::Above, Reg::R8, slow);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::LENGTH);
        self.asm.alu(Alu::Subtract, Reg::R1, LINK_HEADER);
        self.asm.load(Size::Word, Reg::R3, Reg::R7, slot::MTU as i16);
        if self.asm.ground() == Ground::Stack {
            self.asm.load(Size::Word, Reg::R4, Reg::R6, context::SEGMENT_SIZE);
            self.asm.jump_if(Reg::R4, When::Equal, 0, whole);
            self.asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R8, slow);
            self.asm.alu_reg(Alu::Add, Reg::R4, Reg::R9);
            self.asm.jump_if_reg(Reg::R4, When::Above, Reg::R3, slow);
            self.asm.jump(fits);
        }
        self.asm.place(whole);
        // Short frames are padded.
        self.asm.jump_if_reg(Reg::R8, When::Above, Reg::R1, slow);
        self.asm.jump_if_reg(Reg::R8, When::Above, Reg::R3, slow);
        self.asm.place(fits);
    }

    /// Goes on when no payload begins with the cookie: neither the packet's, nor that of a segment. Most
    /// payloads begin `usually` so far behind the IP header; others are looked at by a helper, since only root
    /// may add what a packet says to a pointer into the packet. R2 is the frame before and after, with the
    /// headers of `transport` there.
    fn payload(&mut self, usually: i16, transport: i16) {
        let (slow, clear) = (self.slow, self.asm.label());
        let cookie = svr::COOKIE.len() as i32;
        self.asm.load(Size::Word, Reg::R1, Reg::R7, slot::FLAGS as i16);
        self.asm.alu(Alu::And, Reg::R1, flag::GUARDED as i32);
        self.asm.jump_if(Reg::R1, When::Equal, 0, clear);
        // Eight bytes that are not there are no cookie.
        self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R9);
        self.asm.alu(Alu::Add, Reg::R1, cookie);
        self.asm.jump_if_reg(Reg::R1, When::Above, Reg::R8, clear);
        let (elsewhere, compare) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Reg::R9, When::NotEqual, i32::from(usually), elsewhere);
        // Payload may be in pages of its own.
        self.asm.within(Reg::R2, i32::from(IP + usually) + cookie, elsewhere);
        self.asm.load(Size::Double, Reg::R4, Reg::R2, IP + usually);
        self.asm.jump(compare);
        self.asm.place(elsewhere);
        self.asm.alu(Alu::Add, Reg::R9, LINK_HEADER);
        self.asm.load_bytes_at(Reg::R9, stack::COOKIE, cookie, slow);
        self.asm.alu(Alu::Subtract, Reg::R9, LINK_HEADER);
        self.asm.frame(Reg::R2, i32::from(transport), slow);
        self.asm.load(Size::Double, Reg::R4, Reg::R10, stack::COOKIE);
        self.asm.place(compare);
        self.asm.move64(Reg::R3, u64::from_ne_bytes(svr::COOKIE));
        self.asm.jump_if_reg(Reg::R4, When::Equal, Reg::R3, slow);
        if self.asm.ground() == Ground::Stack {
            self.segments(transport, clear);
        }
        self.asm.place(clear);
    }

    /// The same for the segments of a super-packet behind the first; `clear` is where ordinary packets go on.
    fn segments(&mut self, transport: i16, clear: Label) {
        let (slow, next, done) = (self.slow, self.asm.label(), self.asm.label());
        self.asm.load(Size::Word, Reg::R1, Reg::R6, context::SEGMENT_SIZE);
        self.asm.jump_if(Reg::R1, When::Equal, 0, clear);
        self.asm.store(Size::Double, Reg::R10, stack::PAYLOAD, Reg::R9);
        self.asm.alu(Alu::Add, Reg::R9, LINK_HEADER);
        self.asm.store_immediate(Size::Word, Reg::R10, stack::ROUNDS, 1);
        self.asm.load(Size::Word, Reg::R2, Reg::R7, slot::FLAGS as i16);
        self.asm.alu(Alu::And, Reg::R2, flag::ENDS as i32);
        self.asm.jump_if(Reg::R2, When::Equal, 0, next);
        self.last_segment();
        self.segment(done);
        self.asm.jump(done);
        self.asm.place(next);
        self.asm.load(Size::Word, Reg::R1, Reg::R6, context::SEGMENT_SIZE);
        self.asm.alu_reg(Alu::Add, Reg::R9, Reg::R1);
        self.segment(done);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::ROUNDS);
        self.asm.alu(Alu::Add, Reg::R1, 1);
        self.asm.store(Size::Word, Reg::R10, stack::ROUNDS, Reg::R1);
        self.asm.jump_if(Reg::R1, When::Below, SEGMENTS + 1, next);
        self.asm.jump(slow);
        self.asm.place(done);
        self.asm.load(Size::Double, Reg::R9, Reg::R10, stack::PAYLOAD);
        self.asm.frame(Reg::R2, i32::from(transport), slow);
    }

    /// R9 = the offset of the last payload in the frame, from that of the first; R1 is the size of the others.
    fn last_segment(&mut self) {
        // To the last byte, and back to where its segment begins.
        self.asm.alu_reg(Alu::Move, Reg::R2, Reg::R8);
        self.asm.alu(Alu::Add, Reg::R2, LINK_HEADER - 1);
        self.asm.alu_reg(Alu::Subtract, Reg::R2, Reg::R9);
        self.asm.alu_reg(Alu::Add, Reg::R9, Reg::R2);
        self.asm.alu_reg(Alu::Modulo, Reg::R2, Reg::R1);
        self.asm.alu_reg(Alu::Subtract, Reg::R9, Reg::R2);
    }

    /// Looks at the payload at the offset in R9; one that is shorter than the cookie is the last: on to `done`.
    fn segment(&mut self, done: Label) {
        let (slow, cookie) = (self.slow, svr::COOKIE.len() as i32);
        self.asm.alu_reg(Alu::Move, Reg::R1, Reg::R9);
        self.asm.alu(Alu::Subtract, Reg::R1, LINK_HEADER - cookie);
        self.asm.jump_if_reg(Reg::R1, When::Above, Reg::R8, done);
        self.asm.load_bytes_at(Reg::R9, stack::COOKIE, cookie, slow);
        self.asm.load(Size::Double, Reg::R1, Reg::R10, stack::COOKIE);
        self.asm.move64(Reg::R2, u64::from_ne_bytes(svr::COOKIE));
        self.asm.jump_if_reg(Reg::R1, When::Equal, Reg::R2, slow);
    }

    /// Leaves a packet to its worker; or drops it.
    fn slow(&mut self) {
        let (ground, shed) = (self.asm.ground(), self.asm.label());
        self.asm.place(self.slow);
        self.asm.load(Size::Word, Reg::R2, Reg::R7, slot::FLAGS as i16);
        self.asm.alu(Alu::And, Reg::R2, flag::SHED as i32);
        self.asm.jump_if(Reg::R2, When::NotEqual, 0, shed);
        match ground {
            Ground::Stack => {
                self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::NUMBER);
                self.asm.alu(Alu::Add, Reg::R1, 1);
                self.asm.store(Size::Double, Reg::R10, stack::LEFT, Reg::R1);
            }
            Ground::Driver => self.asm.store(Size::Double, Reg::R10, stack::LEFT, Reg::R7),
        }
        self.asm.jump(self.other);
        self.asm.place(shed);
        self.asm.alu(Alu::Move, Reg::R1, 1);
        self.asm.atomic_add(Size::Word, Reg::R7, slot::LOST as i16, Reg::R1);
        self.asm.move32(Reg::R0, if ground == Ground::Stack { TC_DROP } else { XDP_DROP });
        self.asm.exit();
    }
}
