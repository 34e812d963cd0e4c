//! Steering as an eBPF program, with the meaning of [`super::reference`].
//!
//! The program runs for a fanout group, which sees packets from their network header on, tags taken
//! off; inside the program for XDP it goes on where the classifier ends. R6 is the context, R7 the offset of the header under inspection from there, R8 the protocol.
//! It returns the number of a worker.

use fairway_types::Protocol;
use fairway_types::steering::SPREAD;

use super::reference::EXTENSION_HEADERS;
use super::{TAG_SHIFT, key};
use crate::classifier::BFD_PORT;
use crate::classifier::asm::{Alu, Assembler, AssemblyError, Instruction, Label, Reg, Size, When, context};

/// Places on the stack, relative to R10.
mod stack {
    /// The key that exceptions are looked up with; see [`super::key`].
    pub(super) const KEY: i16 = -48;
    /// An IP header: up to 40 bytes.
    pub(super) const HEADER: i16 = -88;
    /// The start of a transport or extension header: 8 bytes.
    pub(super) const SMALL: i16 = -96;
}

/// How much of the stack this takes.
pub(crate) const STACK_BYTES: i16 = -stack::SMALL;

const fn field(offset: usize) -> i16 {
    stack::KEY + offset as i16
}

const REMOTE: i16 = field(key::REMOTE);
const LOCAL: i16 = field(key::LOCAL);
const REMOTE_PORT: i16 = field(key::REMOTE_PORT);
const LOCAL_PORT: i16 = field(key::LOCAL_PORT);
const PROTOCOL: i16 = field(key::PROTOCOL);
const IS_IPV6: i16 = field(key::IS_IPV6);
const TOKEN: i16 = field(key::TOKEN);

/// What a program is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    /// The descriptor of the map of exceptions.
    pub(crate) exceptions: i32,
    /// What stands for the device in keys.
    pub(crate) token: TokenOf,
    /// Whether the tag of each frame is to be added to it.
    pub(crate) tags: bool,
    /// How many workers there are.
    pub(crate) workers: u8,
}

/// Where a program has the token of its device from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenOf {
    /// It is made for one device.
    Device(u32),
    /// It is one for all, and finds them in this map, by the devices' numbers.
    Map(i32),
}

/// Which end of a header becomes which end of the key.
#[derive(Clone, Copy)]
struct Ends {
    source: (i16, i16),
    destination: (i16, i16),
}

/// Packets that arrived come from the remote end.
const ARRIVED: Ends = Ends { source: (REMOTE, REMOTE_PORT), destination: (LOCAL, LOCAL_PORT) };
/// Packets that are quoted went there.
const QUOTED: Ends = Ends { source: (LOCAL, LOCAL_PORT), destination: (REMOTE, REMOTE_PORT) };

struct Builder {
    asm: Assembler,
    parameters: Parameters,
    /// Nothing to steer by.
    first: Label,
    /// R7 is the start of a quoted packet.
    quoted: Label,
    /// The key is complete.
    decide: Label,
    /// Where the answer is wanted in R0; `None` to return it.
    answer: Option<Label>,
}

/// Assembles the program.
pub(crate) fn assemble(parameters: Parameters) -> Result<Vec<Instruction>, AssemblyError> {
    let mut asm = Assembler::default();
    asm.alu_reg(Alu::Move, Reg::R6, Reg::R1);
    asm.alu(Alu::Move, Reg::R7, 0);
    Builder::new(asm, parameters, None).build().finish()
}

/// Goes on with the same inside another program, which has the context in R6 and the offset of the
/// network header in R7. It comes to `answer` with the worker in R0; the other registers are lost, and the
/// stack from [`STACK_BYTES`] up.
pub(crate) fn inline(asm: Assembler, parameters: Parameters, answer: Label) -> Assembler {
    Builder::new(asm, parameters, Some(answer)).build()
}

impl Builder {
    fn new(mut asm: Assembler, parameters: Parameters, answer: Option<Label>) -> Self {
        let (first, quoted, decide) = (asm.label(), asm.label(), asm.label());
        Self { asm, parameters, first, quoted, decide, answer }
    }

    fn build(mut self) -> Assembler {
        self.begin();
        self.packet(ARRIVED);
        self.asm.place(self.quoted);
        self.packet(QUOTED);
        self.decide();
        self.asm
    }

    /// Gives the worker in R0 to whoever asked.
    fn answer(&mut self) {
        match self.answer {
            Some(answer) => self.asm.jump(answer),
            None => self.asm.exit(),
        }
    }

    /// Copies `length` bytes at R7 to `to`; without them, there is nothing to steer by.
    fn load_bytes(&mut self, to: i16, length: i32) {
        self.asm.load_bytes_or(to, length, self.first);
    }

    fn copy(&mut self, size: Size, to: i16, from: i16) {
        self.asm.load(size, Reg::R1, Reg::R10, from);
        self.asm.store(size, Reg::R10, to, Reg::R1);
    }

    fn begin(&mut self) {
        self.asm.store_immediate(Size::Word, Reg::R10, PROTOCOL, 0);
        match self.parameters.token {
            TokenOf::Device(token) if self.parameters.tags => {
                self.asm.load(Size::Word, Reg::R1, Reg::R6, context::VLAN_TCI);
                self.asm.alu(Alu::And, Reg::R1, 0xfff);
                self.asm.alu(Alu::ShiftLeft, Reg::R1, TAG_SHIFT as i32);
                self.asm.alu(Alu::Add, Reg::R1, token as i32);
                self.asm.store(Size::Word, Reg::R10, TOKEN, Reg::R1);
            }
            TokenOf::Device(token) => self.asm.store_immediate(Size::Word, Reg::R10, TOKEN, token as i32),
            TokenOf::Map(map) => self.look_up_token(map),
        }
    }

    fn look_up_token(&mut self, map: i32) {
        let (unknown, known) = (self.asm.label(), self.asm.label());
        self.asm.load(Size::Word, Reg::R1, Reg::R6, context::IFINDEX);
        self.asm.store(Size::Word, Reg::R10, TOKEN, Reg::R1);
        self.asm.lookup(map, TOKEN);
        self.asm.jump_if(Reg::R0, When::Equal, 0, unknown);
        self.asm.load(Size::Word, Reg::R1, Reg::R0, 0);
        self.asm.store(Size::Word, Reg::R10, TOKEN, Reg::R1);
        self.asm.jump(known);
        self.asm.place(unknown);
        // Nothing was placed for it.
        self.asm.store_immediate(Size::Word, Reg::R10, TOKEN, -1);
        self.asm.place(known);
    }

    /// Makes a key of the packet at R7.
    fn packet(&mut self, ends: Ends) {
        let ipv6 = self.asm.label();
        // Every header is at least as long as that of IPv4.
        self.load_bytes(stack::HEADER, 20);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER);
        self.asm.alu(Alu::ShiftRight, Reg::R1, 4);
        self.asm.jump_if(Reg::R1, When::Equal, 6, ipv6);
        self.asm.jump_if(Reg::R1, When::NotEqual, 4, self.first);
        self.ipv4(ends);
        self.asm.place(ipv6);
        self.ipv6(ends);
    }

    fn is_quoted(&self, ends: Ends) -> bool {
        ends.source.0 == QUOTED.source.0
    }

    fn ipv4(&mut self, ends: Ends) {
        for (key, from) in [(ends.source.0, 12), (ends.destination.0, 16)] {
            self.asm.store_immediate(Size::Double, Reg::R10, key, 0);
            self.asm.store_immediate(Size::Word, Reg::R10, key + 8, 0xffff_u32.to_be() as i32);
            self.copy(Size::Word, key + 12, stack::HEADER + from);
        }
        self.asm.store_immediate(Size::Byte, Reg::R10, IS_IPV6, 0);
        self.asm.load(Size::Byte, Reg::R8, Reg::R10, stack::HEADER + 9);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER);
        self.asm.alu(Alu::And, Reg::R1, 15);
        self.asm.jump_if(Reg::R1, When::Below, 5, self.first);
        self.asm.alu(Alu::ShiftLeft, Reg::R1, 2);
        self.asm.alu_reg(Alu::Add, Reg::R7, Reg::R1);
        self.asm.number16(stack::HEADER + 6);
        let portless = self.asm.label();
        if self.is_quoted(ends) {
            self.asm.alu(Alu::And, Reg::R1, 0x1fff);
            self.asm.jump_if(Reg::R1, When::NotEqual, 0, self.first);
        } else {
            self.asm.alu(Alu::And, Reg::R1, 0x3fff);
            self.asm.jump_if(Reg::R1, When::NotEqual, 0, portless);
        }
        let error = self.asm.label();
        self.transport(ends, Protocol::ICMP, [0, 8], error, portless);
        self.asm.place(error);
        for kind in [3, 4, 11, 12] {
            self.asm.jump_if(Reg::R1, When::Equal, kind, self.quoted_of(ends, portless));
        }
        self.portless(portless);
    }

    fn ipv6(&mut self, ends: Ends) {
        // The rest of the header.
        self.asm.alu(Alu::Add, Reg::R7, 20);
        self.load_bytes(stack::HEADER + 20, 20);
        self.asm.alu(Alu::Add, Reg::R7, 20);
        for (key, from) in [(ends.source.0, 8), (ends.destination.0, 24)] {
            self.copy(Size::Double, key, stack::HEADER + from);
            self.copy(Size::Double, key + 8, stack::HEADER + from + 8);
        }
        self.asm.store_immediate(Size::Byte, Reg::R10, IS_IPV6, 1);
        self.asm.load(Size::Byte, Reg::R8, Reg::R10, stack::HEADER + 6);
        let (transport, error, portless) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.extension_headers(ends, transport, portless);
        self.asm.place(transport);
        self.transport(ends, Protocol::ICMPV6, [128, 129], error, portless);
        self.asm.place(error);
        self.asm.jump_if(Reg::R1, When::Below, 128, self.quoted_of(ends, portless));
        self.portless(portless);
    }

    /// Follows extension headers until R8 is a transport protocol and R7 its header, or to a fragment.
    fn extension_headers(&mut self, ends: Ends, transport: Label, portless: Label) {
        for step in 0..=EXTENSION_HEADERS {
            let (options, fragment, next) = (self.asm.label(), self.asm.label(), self.asm.label());
            let after_others = if step == 0 { options } else { self.first };
            self.asm.jump_if(Reg::R8, When::Equal, 0, after_others);
            self.asm.jump_if(Reg::R8, When::Equal, 43, options);
            self.asm.jump_if(Reg::R8, When::Equal, 60, options);
            self.asm.jump_if(Reg::R8, When::Equal, 44, fragment);
            self.asm.jump(transport);
            self.asm.place(options);
            self.load_bytes(stack::SMALL, 8);
            self.asm.load(Size::Byte, Reg::R8, Reg::R10, stack::SMALL);
            self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::SMALL + 1);
            self.asm.alu(Alu::Add, Reg::R1, 1);
            self.asm.alu(Alu::ShiftLeft, Reg::R1, 3);
            self.asm.alu_reg(Alu::Add, Reg::R7, Reg::R1);
            self.asm.jump(next);
            self.asm.place(fragment);
            self.load_bytes(stack::SMALL, 8);
            self.asm.load(Size::Byte, Reg::R8, Reg::R10, stack::SMALL);
            self.asm.number16(stack::SMALL + 2);
            let (bits, to) = if self.is_quoted(ends) { (0xfff8, self.first) } else { (0xfff9, portless) };
            self.asm.alu(Alu::And, Reg::R1, bits);
            self.asm.jump_if(Reg::R1, When::NotEqual, 0, to);
            self.asm.alu(Alu::Add, Reg::R7, 8);
            self.asm.place(next);
        }
        self.asm.jump(self.first);
    }

    /// Where an ICMP error leads: a quoted one has no ports of its own, and is followed no further.
    fn quoted_of(&self, ends: Ends, portless: Label) -> Label {
        if self.is_quoted(ends) { portless } else { self.quoted }
    }

    /// Takes ports, or the identifier of an echo, at R7. For another ICMP message goes to `otherwise`
    /// with its type in R1 and, had it been an error, the quoted packet at R7; for other protocols to
    /// `portless`.
    fn transport(&mut self, ends: Ends, icmp: Protocol, echo: [i32; 2], otherwise: Label, portless: Label) {
        let (ports, identifier) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Reg::R8, When::Equal, i32::from(Protocol::TCP.0), ports);
        self.asm.jump_if(Reg::R8, When::Equal, i32::from(Protocol::UDP.0), ports);
        self.asm.jump_if(Reg::R8, When::NotEqual, i32::from(icmp.0), portless);
        self.load_bytes(stack::SMALL, 1);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::SMALL);
        for kind in echo {
            self.asm.jump_if(Reg::R1, When::Equal, kind, identifier);
        }
        self.asm.alu(Alu::Add, Reg::R7, 8);
        self.asm.jump(otherwise);
        self.asm.place(identifier);
        self.load_bytes(stack::SMALL, 6);
        self.copy(Size::Half, ends.source.1, stack::SMALL + 4);
        self.copy(Size::Half, ends.destination.1, stack::SMALL + 4);
        self.asm.jump(self.decide);
        self.asm.place(ports);
        self.load_bytes(stack::SMALL, 4);
        self.copy(Size::Half, ends.source.1, stack::SMALL);
        self.copy(Size::Half, ends.destination.1, stack::SMALL + 2);
        self.asm.jump(self.decide);
    }

    fn portless(&mut self, portless: Label) {
        self.asm.place(portless);
        self.asm.store_immediate(Size::Half, Reg::R10, REMOTE_PORT, 0);
        self.asm.store_immediate(Size::Half, Reg::R10, LOCAL_PORT, 0);
        self.asm.jump(self.decide);
    }

    /// Answers with an exception, or the class modulo the number of workers.
    fn decide(&mut self) {
        self.asm.place(self.decide);
        self.asm.store(Size::Byte, Reg::R10, PROTOCOL, Reg::R8);
        self.asm.lookup(self.parameters.exceptions, stack::KEY);
        let none = self.asm.label();
        self.asm.jump_if(Reg::R0, When::Equal, 0, none);
        self.asm.load(Size::Word, Reg::R0, Reg::R0, 0);
        self.answer();
        self.asm.place(none);
        let class = self.asm.label();
        self.asm.number16(LOCAL_PORT);
        self.asm.jump_if(Reg::R8, When::NotEqual, i32::from(Protocol::UDP.0), class);
        self.asm.jump_if(Reg::R1, When::Equal, i32::from(BFD_PORT), self.first);
        self.asm.place(class);
        self.class();
        self.asm.alu(Alu::Modulo, Reg::R0, i32::from(self.parameters.workers));
        self.answer();
        self.asm.place(self.first);
        self.asm.alu(Alu::Move, Reg::R0, 0);
        self.answer();
    }

    /// R0 = [`fairway_types::steering::class`]; the local port is in R1.
    fn class(&mut self) {
        self.asm.load(Size::Half, Reg::R2, Reg::R10, REMOTE_PORT);
        self.asm.be16_to_number(Reg::R2);
        self.asm.alu_reg(Alu::Add, Reg::R1, Reg::R2);
        self.asm.alu(Alu::ShiftLeft, Reg::R8, 24);
        self.asm.alu_reg(Alu::ExclusiveOr, Reg::R1, Reg::R8);
        self.asm.load(Size::Double, Reg::R0, Reg::R10, REMOTE);
        for at in [REMOTE + 8, LOCAL, LOCAL + 8] {
            self.asm.load(Size::Double, Reg::R2, Reg::R10, at);
            self.asm.alu_reg(Alu::ExclusiveOr, Reg::R0, Reg::R2);
        }
        // Words may be folded in any order of bytes, as long as all have the same.
        self.asm.alu_reg(Alu::Move, Reg::R2, Reg::R0);
        self.asm.alu(Alu::ShiftRight, Reg::R2, 32);
        self.asm.alu_reg(Alu::ExclusiveOr, Reg::R0, Reg::R2);
        self.asm.be32_to_number(Reg::R0);
        self.asm.alu_reg(Alu::ExclusiveOr, Reg::R0, Reg::R1);
        self.asm.multiply32(Reg::R0, SPREAD as i32);
        self.asm.alu(Alu::ShiftRight, Reg::R0, 26);
    }
}
