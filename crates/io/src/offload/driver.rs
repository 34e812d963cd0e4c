//! The part of the program for XDP that forwards flows by itself, before the kernel makes a packet of a
//! frame.
//!
//! It decides as `decide` does for packet sockets, and rewrites at once what is the kernel's to forward.
//! What is the worker's is counted where a socket gets it ([`count_left`]), not here: until then the slot
//! is kept on the stack.
//!
//! R6 is the context, R7 the slot of the flow, R8 the packet's length and R9 first the frame, then the
//! offset of the payload; length and offset are from the IP header on.

use fairway_wire::svr;

use super::layout::{LINK_HEADER, flag, frame, slot};
use super::turn::{self, Room};
use super::{MapFds, decide, forward, index};
use crate::classifier::asm::{Alu, Assembler, Label, Reg, Size, When};
use crate::steering::key;

/// Places on the stack, relative to R10, below those of the classifier.
mod stack {
    pub(super) const KEY: i16 = -176;
    /// The slot of the flow whose packet is left to its worker; zero without one.
    pub(super) const LEFT: i16 = -184;
    pub(super) const TIME: i16 = -192;
    /// Keys of arrays.
    pub(super) const INDEX: i16 = -196;
    /// The frame's length.
    pub(super) const LENGTH: i16 = -200;
    /// Whether checksums may be unfinished.
    pub(super) const DOUBTFUL: i16 = -204;
    pub(super) const SUM: i16 = -208;
    /// The start of a payload.
    pub(super) const COOKIE: i16 = -232;
    /// A block of a payload.
    pub(super) const TAIL: i16 = -488;
    /// The offset of the payload, while R9 is needed for something else; the length, for R8.
    pub(super) const PAYLOAD: i16 = -216;
    pub(super) const PACKET: i16 = -224;
}

const HELPER_REDIRECT: i32 = 23;
const HELPER_CHECKSUM_DIFFERENCE: i32 = 28;
const HELPER_LOAD_BYTES: i32 = 189;
const XDP_DROP: i32 = 1;

/// What one call can sum up, and how many of those a frame has at most.
const BLOCK: i32 = 512;
const BLOCKS: usize = 7;
/// What of the rest the stack has room for at once.
const TAIL: i32 = 256;

struct Driver<'a> {
    asm: &'a mut Assembler,
    maps: MapFds,
    /// Not a flow that the kernel forwards.
    other: Label,
    /// One of such a flow, but the worker's.
    slow: Label,
}

/// Says that no packet is left to a worker yet: what [`count_left`] finds, if nothing else happens.
pub(crate) fn begin(asm: &mut Assembler) {
    asm.store_immediate(Size::Double, Reg::R10, stack::LEFT, 0);
}

/// Forwards what is for the kernel to forward; R8 is what the program knows of the device (the link address, the
/// longest frame, whether checksums are in doubt). Goes on to `other` with everything else.
pub(crate) fn forward_frame(asm: &mut Assembler, maps: MapFds, other: Label) {
    let slow = asm.label();
    let mut driver = Driver { asm, maps, other, slow };
    driver.link_layer();
    driver.slow();
}

/// Counts the packet that a socket has been given, if it is one of a flow that the kernel forwards. Loses
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

const fn field(offset: usize) -> i16 {
    stack::KEY + offset as i16
}

const IP: i16 = LINK_HEADER as i16;

impl Driver<'_> {
    /// Goes on with frames to the device's own address that are not too long.
    fn link_layer(&mut self) {
        let (other, ipv6) = (self.other, self.asm.label());
        self.asm.load(Size::Word, Reg::R1, Reg::R8, frame::DOUBTFUL);
        self.asm.store(Size::Word, Reg::R10, stack::DOUBTFUL, Reg::R1);
        self.asm.xdp_length();
        self.asm.load(Size::Half, Reg::R1, Reg::R8, frame::LONGEST);
        self.asm.jump_if_reg(Reg::R0, When::Above, Reg::R1, other);
        self.asm.store(Size::Word, Reg::R10, stack::LENGTH, Reg::R0);
        self.asm.load(Size::Word, Reg::R9, Reg::R6, frame::DATA);
        self.within(Reg::R9, i32::from(IP) + 20 + 8, other);
        for (size, at) in [(Size::Word, 0), (Size::Half, 4)] {
            self.asm.load(size, Reg::R1, Reg::R9, at);
            self.asm.load(size, Reg::R2, Reg::R8, at);
            self.asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R2, other);
        }
        self.asm.load(Size::Half, Reg::R1, Reg::R9, 12);
        self.asm.jump_if(Reg::R1, When::Equal, i32::from(0x86ddu16.to_be()), ipv6);
        self.asm.jump_if(Reg::R1, When::NotEqual, i32::from(0x0800u16.to_be()), other);
        self.network_layer(false);
        self.asm.place(ipv6);
        self.within(Reg::R9, i32::from(IP) + 40 + 8, other);
        self.network_layer(true);
    }

    /// Goes on when the frame that `data` points to has so many bytes; loses R1 and R3.
    fn within(&mut self, data: Reg, bytes: i32, otherwise: Label) {
        self.asm.load(Size::Word, Reg::R3, Reg::R6, frame::END);
        self.asm.alu_reg(Alu::Move, Reg::R1, data);
        self.asm.alu(Alu::Add, Reg::R1, bytes);
        self.asm.jump_if_reg(Reg::R1, When::Above, Reg::R3, otherwise);
    }

    /// R2 = the frame, of which so many bytes can be read and written.
    fn frame(&mut self, bytes: i32, otherwise: Label) {
        self.asm.load(Size::Word, Reg::R2, Reg::R6, frame::DATA);
        self.within(Reg::R2, bytes, otherwise);
    }

    /// Copies from the frame to the key.
    fn copy(&mut self, size: Size, to: i16, from: i16) {
        self.asm.load(size, Reg::R1, Reg::R9, from);
        self.asm.store(size, Reg::R10, to, Reg::R1);
    }

    fn network_layer(&mut self, ipv6: bool) {
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
        self.asm.jump_if(Reg::R1, When::Equal, decide::TCP, known);
        self.asm.jump_if(Reg::R1, When::NotEqual, decide::UDP, other);
        self.asm.place(known);
        self.asm.store_immediate(Size::Word, Reg::R10, field(key::PROTOCOL), 0);
        self.asm.store(Size::Byte, Reg::R10, field(key::PROTOCOL), Reg::R1);
        self.asm.store_immediate(Size::Byte, Reg::R10, field(key::IS_IPV6), i32::from(ipv6));
        self.copy(Size::Word, field(key::REMOTE_PORT), transport);
        self.asm.load(Size::Word, Reg::R1, Reg::R6, frame::IFINDEX);
        self.asm.store(Size::Word, Reg::R10, field(key::TOKEN), Reg::R1);
        self.flow();
        turn::check(self.asm, self.maps, Room { index: stack::INDEX, time: stack::TIME }, self.slow);
        self.asm.load(Size::Byte, Reg::R1, Reg::R9, IP + if ipv6 { 7 } else { 8 });
        self.asm.jump_if(Reg::R1, When::Below, 2, self.slow);
        self.asm.alu_reg(Alu::Move, Reg::R2, Reg::R9);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, field(key::PROTOCOL));
        self.asm.jump_if(Reg::R1, When::Equal, decide::UDP, udp);
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

    /// R7 = the slot of the flow.
    fn flow(&mut self) {
        index::find(self.asm, self.maps, stack::KEY, stack::INDEX, self.other);
    }

    /// R9 = the offset of the payload; the TCP header behind R2 is there.
    fn tcp(&mut self, ip: i16) {
        let (slow, transport) = (self.slow, IP + ip);
        self.within(Reg::R2, i32::from(transport) + 20, slow);
        self.asm.load(Size::Byte, Reg::R1, Reg::R2, transport + 13);
        self.asm.alu(Alu::And, Reg::R1, decide::WITNESSED);
        self.asm.jump_if(Reg::R1, When::NotEqual, decide::ACK, slow);
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

    /// Goes on with packets that are as long as they say, and that the way out takes.
    fn size(&mut self) {
        let slow = self.slow;
        self.asm.jump_if_reg(Reg::R9, When::Above, Reg::R8, slow);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::LENGTH);
        self.asm.alu(Alu::Subtract, Reg::R1, LINK_HEADER);
        // Short frames are padded.
        self.asm.jump_if_reg(Reg::R8, When::Above, Reg::R1, slow);
        self.asm.load(Size::Word, Reg::R1, Reg::R7, slot::MTU as i16);
        self.asm.jump_if_reg(Reg::R8, When::Above, Reg::R1, slow);
    }

    /// Goes on when the payload does not begin with the cookie. Most payloads begin `usually` so far behind the
    /// IP header; others are looked at by a helper, since only root may add what a packet says to a pointer
    /// into the packet. R2 is the frame before and after, with the headers of `transport` there.
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
        self.within(Reg::R2, i32::from(IP + usually) + cookie, slow);
        self.asm.load(Size::Double, Reg::R4, Reg::R2, IP + usually);
        self.asm.jump(compare);
        self.asm.place(elsewhere);
        self.asm.alu(Alu::Add, Reg::R9, LINK_HEADER);
        self.asm.load_bytes_at(Reg::R9, stack::COOKIE, cookie, slow);
        self.asm.alu(Alu::Subtract, Reg::R9, LINK_HEADER);
        self.frame(i32::from(transport), slow);
        self.asm.load(Size::Double, Reg::R4, Reg::R10, stack::COOKIE);
        self.asm.place(compare);
        self.asm.move64(Reg::R3, u64::from_ne_bytes(svr::COOKIE));
        self.asm.jump_if_reg(Reg::R4, When::Equal, Reg::R3, slow);
        self.asm.place(clear);
    }

    /// Finishes a checksum that a sender on this machine has left to a device: its field holds the sum of
    /// the pseudo-header, and nobody else can tell. Another frame with the same field is right already if
    /// it is right at all. R2 is the frame before and after.
    fn finish_checksum(&mut self, ipv6: bool, at: i16) {
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
        self.frame(i32::from(at) + 2, slow);
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
            self.within(Reg::R9, BLOCK, slow);
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

    /// Rewrites the packet whose frame is R2, and sends it.
    fn rewrite(&mut self, ipv6: bool, transport: i16, checksum: i16) {
        let slow = self.slow;
        let tcp = checksum - transport == 16;
        self.frame(i32::from(transport) + if tcp { 20 } else { 8 }, slow);
        if tcp {
            self.witness(transport);
        }
        for (size, at) in [(Size::Double, 0), (Size::Word, 8)] {
            forward::copy(self.asm, Reg::R7, size, at, slot::LINK as i16 + at);
        }
        if ipv6 {
            forward::one_hop_less(self.asm, IP + 7);
            for at in [0, 8, 16, 24] {
                forward::copy(self.asm, Reg::R7, Size::Double, IP + 8 + at, slot::ADDRESSES as i16 + at);
            }
        } else {
            forward::one_hop_less(self.asm, IP + 8);
            forward::header_checksum(self.asm, Reg::R7, IP + 10);
            forward::copy(self.asm, Reg::R7, Size::Double, IP + 12, slot::ADDRESSES as i16);
        }
        forward::copy(self.asm, Reg::R7, Size::Word, transport, slot::PORTS as i16);
        self.transport_checksum(checksum, tcp);
        self.asm.alu(Alu::Move, Reg::R1, 1);
        self.asm.atomic_add(Size::Double, Reg::R7, slot::PACKETS as i16, Reg::R1);
        self.asm.atomic_add(Size::Double, Reg::R7, slot::BYTES as i16, Reg::R8);
        self.asm.load(Size::Double, Reg::R1, Reg::R10, stack::TIME);
        self.asm.store(Size::Double, Reg::R7, slot::LAST as i16, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R7, slot::DEVICE as i16);
        self.asm.alu(Alu::Move, Reg::R2, 0);
        self.asm.call(HELPER_REDIRECT);
        self.asm.exit();
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
        forward::newest(self.asm, Reg::R7, Reg::R3, slot::NEXT as i16);
        self.asm.load(Size::Word, Reg::R1, Reg::R2, transport + 8);
        self.asm.be32_to_number(Reg::R1);
        forward::newest(self.asm, Reg::R7, Reg::R3, slot::ACKNOWLEDGED as i16);
        self.asm.store_immediate(Size::Word, Reg::R7, slot::HAS_TCP as i16, 1);
    }

    /// Changes the checksum of TCP or UDP (RFC 1624). UDP's may be zero for none (RFC 768).
    fn transport_checksum(&mut self, at: i16, tcp: bool) {
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

    /// Leaves a packet to its worker; or drops it.
    fn slow(&mut self) {
        let shed = self.asm.label();
        self.asm.place(self.slow);
        self.asm.load(Size::Word, Reg::R2, Reg::R7, slot::FLAGS as i16);
        self.asm.alu(Alu::And, Reg::R2, flag::SHED as i32);
        self.asm.jump_if(Reg::R2, When::NotEqual, 0, shed);
        self.asm.store(Size::Double, Reg::R10, stack::LEFT, Reg::R7);
        self.asm.jump(self.other);
        self.asm.place(shed);
        self.asm.alu(Alu::Move, Reg::R1, 1);
        self.asm.atomic_add(Size::Word, Reg::R7, slot::LOST as i16, Reg::R1);
        self.asm.move32(Reg::R0, XDP_DROP);
        self.asm.exit();
    }
}
