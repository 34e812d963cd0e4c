//! The table as an eBPF program, with the meaning of [`super::rule::classify`].
//!
//! R6 is the context, R7 the offset of the header under inspection from the start of the frame, R8
//! the protocol. Everything is read with `bpf_skb_load_bytes`, which both program types have, or with
//! `bpf_xdp_load_bytes`.

mod serve;
mod xdp;

pub(crate) use self::serve::{Serve, assemble_serve};
pub(crate) use self::xdp::{DEVICE_BYTES, Redirect, assemble_redirect};
use super::asm::{Alu, Assembler, AssemblyError, Instruction, Label, Reg, Size, TC_DROP, When, context};
use super::rule::{BFD_PORT, EXTENSION_HEADERS, Rule};
use crate::{offload, steering};

/// Places on the stack, relative to R10.
mod stack {
    /// Destination address, as IPv6 or IPv4-mapped.
    pub(super) const DESTINATION: i16 = -16;
    /// Source address; later the source of a quoted packet.
    pub(super) const SOURCE: i16 = -32;
    /// An IP header: up to 40 bytes.
    pub(super) const HEADER: i16 = -80;
    /// The start of a transport or extension header: 8 bytes.
    pub(super) const SMALL: i16 = -88;
    /// First and last waypoint port, four bytes each.
    pub(super) const FIRST_PORT: i16 = -92;
    pub(super) const LAST_PORT: i16 = -96;
    /// The key of the counter.
    pub(super) const COUNTER: i16 = -100;
    /// The lowest identifier of echoes of source NAT.
    pub(super) const FIRST_ECHO: i16 = -104;
    /// Device and tag, four bytes each: the key of the tags.
    pub(super) const TAG: i16 = -112;
    /// 2 for an address whose ports the host shares.
    pub(super) const KIND: i16 = -116;
    /// Protocol and port: the key of the host's ports.
    pub(super) const HOST_PORT: i16 = -120;
}

/// The layout of values of the address map, in host byte order.
pub(crate) mod value {
    /// 1 for a waypoint, 2 for one some of whose ports are the host's, 0 for another address of the host.
    pub(crate) const IS_WAYPOINT: usize = 0;
    pub(crate) const FIRST_PORT: usize = 4;
    pub(crate) const LAST_PORT: usize = 8;
    /// The lowest identifier of an echo that source NAT gives out; out of reach where it does not.
    pub(crate) const FIRST_ECHO: usize = 12;
    pub(crate) const SIZE: usize = 16;
}

/// Which frames of a device a program decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Frames {
    /// Those without a tag, or with the priority tag 0. Tagged ones are left alone.
    Untagged,
    /// Those whose tag is Fairway's on this device. Untagged ones are left alone, and not counted.
    Tagged,
}

/// What a program answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// For tc: drop what is Fairway's, pass the rest to the next program; counts. `unless` there is a
    /// program in this array, which then does all of it.
    Drop { unless: Option<i32> },
    /// For packet sockets: all of what is Fairway's, nothing of the rest.
    Accept,
    /// For tests: the number of the rule.
    #[cfg(test)]
    Rule,
}

/// `TC_ACT_UNSPEC`, which is also `TCX_NEXT`.
const TC_NEXT: i32 = -1;

/// Descriptors of the maps that the program reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapFds {
    pub(crate) local: i32,
    pub(crate) peers: i32,
    pub(crate) counters: i32,
    pub(crate) tags: i32,
    pub(crate) host_ports: i32,
    /// Those of flows that the program for XDP forwards by itself, if it does.
    pub(crate) offload: Option<offload::MapFds>,
}

struct Builder {
    asm: Assembler,
    maps: MapFds,
    frames: Frames,
    rules: [Label; Rule::ALL.len()],
    fragment: Label,
    /// Not this program's to decide or to count.
    pass: Label,
}

/// Assembles the classifier.
pub(crate) fn assemble(
    maps: MapFds,
    frames: Frames,
    answer: Answer,
) -> Result<Vec<Instruction>, AssemblyError> {
    let mut builder = Builder::new(Assembler::default(), maps, frames);
    if let Answer::Drop { unless: Some(programs) } = answer {
        builder.asm.tail_call(programs, 0);
    }
    match frames {
        Frames::Untagged => builder.untagged_link_layer(),
        Frames::Tagged => builder.tagged_link_layer(),
    }
    builder.asm.load(Size::Word, Reg::R7, Reg::R6, context::PROTOCOL);
    builder.network_layer();
    builder.finish(answer);
    builder.asm.finish()
}

/// IPv4 protocol types that are errors, and the same of IPv6 (RFC 792, RFC 4443).
const ERRORS_V4: [i32; 3] = [3, 11, 12];
const ERRORS_V6: [i32; 4] = [1, 2, 3, 4];
/// EtherTypes of tags, of customers and of providers.
const TAG_8021Q: u16 = 0x8100;
const TAG_8021AD: u16 = 0x88a8;
/// `PACKET_OTHERHOST`: for another host on layer 2.
const OTHER_HOST: i32 = 3;
/// Where the network header starts.
const LINK_HEADER: i32 = 14;

impl Builder {
    /// The beginning of a program: R6 = the context.
    fn new(mut asm: Assembler, maps: MapFds, frames: Frames) -> Self {
        let rules = Rule::ALL.map(|_| asm.label());
        let (fragment, pass) = (asm.label(), asm.label());
        asm.alu_reg(Alu::Move, Reg::R6, Reg::R1);
        Self { asm, maps, frames, rules, fragment, pass }
    }

    fn rule(&self, rule: Rule) -> Label {
        self.rules[rule as usize]
    }

    fn untagged_link_layer(&mut self) {
        let untagged = self.asm.label();
        let asm = &mut self.asm;
        asm.load(Size::Word, Reg::R7, Reg::R6, context::PACKET_TYPE);
        asm.jump_if(Reg::R7, When::NotEqual, 0, self.rules[Rule::NotForHost as usize]);
        asm.load(Size::Word, Reg::R7, Reg::R6, context::VLAN_PRESENT);
        asm.jump_if(Reg::R7, When::Equal, 0, untagged);
        asm.load(Size::Word, Reg::R7, Reg::R6, context::VLAN_TCI);
        asm.alu(Alu::And, Reg::R7, 0xfff);
        asm.jump_if(Reg::R7, When::NotEqual, 0, self.rules[Rule::Tagged as usize]);
        asm.place(untagged);
    }

    /// Goes on with frames whose tag is Fairway's. What the kernel's own VLAN device would answer on
    /// the link is decided here: ARP and neighbour discovery, groups included.
    fn tagged_link_layer(&mut self) {
        let (pass, other, link) = (self.pass, self.rule(Rule::OtherTag), self.rule(Rule::TaggedLink));
        let (not_for_host, network) = (self.rule(Rule::NotForHost), self.asm.label());
        self.asm.load(Size::Word, Reg::R7, Reg::R6, context::VLAN_PRESENT);
        self.asm.jump_if(Reg::R7, When::Equal, 0, pass);
        self.asm.load(Size::Word, Reg::R7, Reg::R6, context::VLAN_TCI);
        self.asm.alu(Alu::And, Reg::R7, 0xfff);
        self.asm.jump_if(Reg::R7, When::Equal, 0, pass);
        self.asm.store(Size::Word, Reg::R10, stack::TAG + 4, Reg::R7);
        self.asm.load(Size::Word, Reg::R7, Reg::R6, context::VLAN_PROTOCOL);
        self.asm.jump_if(Reg::R7, When::NotEqual, i32::from(TAG_8021Q.to_be()), other);
        self.asm.load(Size::Word, Reg::R7, Reg::R6, context::IFINDEX);
        self.asm.store(Size::Word, Reg::R10, stack::TAG, Reg::R7);
        self.asm.lookup(self.maps.tags, stack::TAG);
        self.asm.jump_if(Reg::R0, When::Equal, 0, other);
        self.asm.load(Size::Word, Reg::R8, Reg::R6, context::PACKET_TYPE);
        self.asm.jump_if(Reg::R8, When::Equal, OTHER_HOST, not_for_host);
        self.asm.load(Size::Word, Reg::R7, Reg::R6, context::PROTOCOL);
        for second in [TAG_8021Q, TAG_8021AD] {
            self.asm.jump_if(Reg::R7, When::Equal, i32::from(second.to_be()), other);
        }
        self.asm.jump_if(Reg::R7, When::Equal, i32::from(0x0806u16.to_be()), link);
        let not_discovery = self.asm.label();
        self.asm.jump_if(Reg::R7, When::NotEqual, i32::from(0x86ddu16.to_be()), not_discovery);
        self.asm.alu(Alu::Move, Reg::R7, LINK_HEADER);
        self.asm.load_bytes_or(stack::HEADER, 41, not_discovery);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER + 6);
        self.asm.jump_if(Reg::R1, When::NotEqual, 58, not_discovery);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER + 40);
        for discovery in [135, 136] {
            self.asm.jump_if(Reg::R1, When::Equal, discovery, link);
        }
        self.asm.place(not_discovery);
        self.asm.jump_if(Reg::R8, When::Equal, 0, network);
        self.asm.jump(not_for_host);
        self.asm.place(network);
    }

    /// Decides by the network header, whose protocol in network order is in R7.
    fn network_layer(&mut self) {
        let (ipv4, ipv6) = (self.asm.label(), self.asm.label());
        let asm = &mut self.asm;
        asm.jump_if(Reg::R7, When::Equal, i32::from(0x0800u16.to_be()), ipv4);
        asm.jump_if(Reg::R7, When::Equal, i32::from(0x86ddu16.to_be()), ipv6);
        asm.jump(self.rules[Rule::NotIp as usize]);
        asm.place(ipv4);
        self.ipv4();
        self.asm.place(ipv6);
        self.ipv6();
        self.fragments();
    }

    fn ipv4(&mut self) {
        let malformed = self.rule(Rule::NotIp);
        self.asm.alu(Alu::Move, Reg::R7, LINK_HEADER);
        self.asm.load_bytes_or(stack::HEADER, 20, malformed);
        self.ipv4_length(malformed);
        let group = self.rule(Rule::GroupAddress);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER + 16);
        self.asm.jump_if(Reg::R1, When::NotBelow, 224, group);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::HEADER + 16);
        self.asm.jump_if(Reg::R1, When::Equal, 0, group);
        self.ipv4_key(stack::DESTINATION, 16);
        self.ipv4_key(stack::SOURCE, 12);
        self.asm.load(Size::Byte, Reg::R8, Reg::R10, stack::HEADER + 9);
        self.own_address();
        self.asm.number16(stack::HEADER + 6);
        self.asm.alu(Alu::And, Reg::R1, 0x1fff);
        self.asm.jump_if(Reg::R1, When::NotEqual, 0, self.fragment);
        let (ports, error) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Reg::R8, When::Equal, 6, ports);
        self.asm.jump_if(Reg::R8, When::Equal, 17, ports);
        self.asm.jump_if(Reg::R8, When::Equal, 1, error);
        self.asm.jump(self.rules[Rule::Own as usize]);
        self.asm.place(ports);
        self.ports();
        self.asm.place(error);
        self.error(&ERRORS_V4, 0);
        self.quoted_ipv4();
    }

    /// Checks version and length of the IPv4 header at `stack::HEADER`, and moves R7 behind it.
    fn ipv4_length(&mut self, malformed: Label) {
        self.version(4, malformed);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER);
        self.asm.alu(Alu::And, Reg::R1, 15);
        self.asm.jump_if(Reg::R1, When::Below, 5, malformed);
        self.asm.alu(Alu::ShiftLeft, Reg::R1, 2);
        self.asm.alu_reg(Alu::Add, Reg::R7, Reg::R1);
    }

    fn version(&mut self, version: i32, malformed: Label) {
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::HEADER);
        self.asm.alu(Alu::ShiftRight, Reg::R1, 4);
        self.asm.jump_if(Reg::R1, When::NotEqual, version, malformed);
    }

    /// Writes an address of the IPv4 header as an IPv4-mapped key.
    fn ipv4_key(&mut self, key: i16, field: i16) {
        self.asm.store_immediate(Size::Double, Reg::R10, key, 0);
        self.asm.store_immediate(Size::Word, Reg::R10, key + 8, 0xffff_u32.to_be() as i32);
        self.asm.load(Size::Word, Reg::R1, Reg::R10, stack::HEADER + field);
        self.asm.store(Size::Word, Reg::R10, key + 12, Reg::R1);
    }

    fn ipv6(&mut self) {
        let malformed = self.rule(Rule::NotIp);
        self.asm.alu(Alu::Move, Reg::R7, LINK_HEADER);
        self.asm.load_bytes_or(stack::HEADER, 40, malformed);
        self.version(6, malformed);
        self.asm.alu(Alu::Add, Reg::R7, 40);
        self.ipv6_key(stack::DESTINATION, 24);
        self.ipv6_key(stack::SOURCE, 8);
        self.ipv6_scopes();
        self.asm.load(Size::Byte, Reg::R8, Reg::R10, stack::HEADER + 6);
        self.own_address();
        let (transport, ports, error) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.extension_headers(transport);
        self.asm.place(transport);
        self.asm.jump_if(Reg::R8, When::Equal, 6, ports);
        self.asm.jump_if(Reg::R8, When::Equal, 17, ports);
        self.asm.jump_if(Reg::R8, When::Equal, 58, error);
        self.asm.jump(self.rules[Rule::Own as usize]);
        self.asm.place(ports);
        self.ports();
        self.asm.place(error);
        self.error(&ERRORS_V6, 129);
        self.quoted_ipv6();
    }

    fn ipv6_key(&mut self, key: i16, field: i16) {
        for half in [0, 8] {
            self.asm.load(Size::Double, Reg::R1, Reg::R10, stack::HEADER + field + half);
            self.asm.store(Size::Double, Reg::R10, key + half, Reg::R1);
        }
    }

    /// Groups and the unspecified address, then link-local addresses.
    fn ipv6_scopes(&mut self) {
        let (group, link_local) = (self.rule(Rule::GroupAddress), self.rule(Rule::LinkLocal));
        let specified = self.asm.label();
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::DESTINATION);
        self.asm.jump_if(Reg::R1, When::Equal, 0xff, group);
        self.asm.load(Size::Double, Reg::R1, Reg::R10, stack::DESTINATION);
        self.asm.jump_if(Reg::R1, When::NotEqual, 0, specified);
        self.asm.load(Size::Double, Reg::R1, Reg::R10, stack::DESTINATION + 8);
        self.asm.jump_if(Reg::R1, When::Equal, 0, group);
        self.asm.place(specified);
        for address in [stack::DESTINATION, stack::SOURCE] {
            self.asm.number16(address);
            self.asm.alu(Alu::And, Reg::R1, 0xffc0);
            self.asm.jump_if(Reg::R1, When::Equal, 0xfe80, link_local);
        }
    }

    /// Follows extension headers until R8 is a transport protocol and R7 its header.
    fn extension_headers(&mut self, transport: Label) {
        let own = self.rule(Rule::Own);
        for _ in 0..EXTENSION_HEADERS {
            let (options, fragment, next) = (self.asm.label(), self.asm.label(), self.asm.label());
            for protocol in [0, 43, 60] {
                self.asm.jump_if(Reg::R8, When::Equal, protocol, options);
            }
            self.asm.jump_if(Reg::R8, When::Equal, 44, fragment);
            self.asm.jump(transport);
            self.asm.place(options);
            self.asm.load_bytes_or(stack::SMALL, 2, own);
            self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::SMALL + 1);
            self.asm.alu(Alu::Add, Reg::R1, 1);
            self.asm.alu(Alu::ShiftLeft, Reg::R1, 3);
            self.asm.alu_reg(Alu::Add, Reg::R7, Reg::R1);
            self.asm.jump(next);
            self.asm.place(fragment);
            self.asm.load_bytes_or(stack::SMALL, 8, own);
            self.asm.number16(stack::SMALL + 2);
            self.asm.alu(Alu::And, Reg::R1, 0xfff8);
            self.asm.jump_if(Reg::R1, When::NotEqual, 0, self.fragment);
            self.asm.alu(Alu::Add, Reg::R7, 8);
            self.asm.place(next);
            self.asm.load(Size::Byte, Reg::R8, Reg::R10, stack::SMALL);
        }
        self.asm.jump(own);
    }

    /// Goes on only when the destination is a waypoint; its ports are then on the stack.
    fn own_address(&mut self) {
        let forwarded = self.rule(Rule::Forwarded);
        self.asm.lookup(self.maps.local, stack::DESTINATION);
        self.asm.jump_if(Reg::R0, When::Equal, 0, forwarded);
        self.waypoint_ports();
    }

    /// Takes the ports out of the value in R0, or decides for the kernel when it is no waypoint.
    fn waypoint_ports(&mut self) {
        let own = self.rule(Rule::Own);
        self.asm.load(Size::Word, Reg::R1, Reg::R0, value::IS_WAYPOINT as i16);
        self.asm.jump_if(Reg::R1, When::Equal, 0, own);
        self.asm.store(Size::Word, Reg::R10, stack::KIND, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R0, value::FIRST_PORT as i16);
        self.asm.store(Size::Word, Reg::R10, stack::FIRST_PORT, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R0, value::LAST_PORT as i16);
        self.asm.store(Size::Word, Reg::R10, stack::LAST_PORT, Reg::R1);
        self.asm.load(Size::Word, Reg::R1, Reg::R0, value::FIRST_ECHO as i16);
        self.asm.store(Size::Word, Reg::R10, stack::FIRST_ECHO, Reg::R1);
    }

    /// Decides by the identifier of the ICMP echo at R7.
    fn echo(&mut self, inside: Rule) {
        let (own, inside) = (self.rule(Rule::Own), self.rule(inside));
        self.asm.load_bytes_or(stack::SMALL, 6, own);
        self.asm.number16(stack::SMALL + 4);
        self.asm.load(Size::Word, Reg::R2, Reg::R10, stack::FIRST_ECHO);
        self.asm.jump_if_reg(Reg::R1, When::Below, Reg::R2, own);
        self.asm.jump(inside);
    }

    /// Decides by the destination port of the transport header at R7.
    fn ports(&mut self) {
        let own = self.rule(Rule::Own);
        self.asm.load_bytes_or(stack::SMALL, 4, own);
        self.asm.number16(stack::SMALL + 2);
        self.decide_port(Rule::WaypointBfd, Rule::WaypointPort);
    }

    /// Decides by the port in R1 and the protocol in R8.
    fn decide_port(&mut self, bfd: Rule, inside: Rule) {
        let range = self.asm.label();
        let (own, bfd, inside) = (self.rule(Rule::Own), self.rule(bfd), self.rule(inside));
        self.asm.jump_if(Reg::R8, When::NotEqual, 17, range);
        self.asm.jump_if(Reg::R1, When::Equal, i32::from(BFD_PORT), bfd);
        self.asm.place(range);
        self.asm.load(Size::Word, Reg::R2, Reg::R10, stack::FIRST_PORT);
        self.asm.jump_if_reg(Reg::R1, When::Below, Reg::R2, own);
        self.asm.load(Size::Word, Reg::R2, Reg::R10, stack::LAST_PORT);
        self.asm.jump_if_reg(Reg::R1, When::Above, Reg::R2, own);
        self.asm.load(Size::Word, Reg::R2, Reg::R10, stack::KIND);
        self.asm.jump_if(Reg::R2, When::NotEqual, 2, inside);
        self.asm.alu_reg(Alu::Move, Reg::R2, Reg::R8);
        self.asm.alu(Alu::ShiftLeft, Reg::R2, 16);
        self.asm.alu_reg(Alu::Add, Reg::R2, Reg::R1);
        self.asm.store(Size::Word, Reg::R10, stack::HOST_PORT, Reg::R2);
        self.asm.lookup(self.maps.host_ports, stack::HOST_PORT);
        self.asm.jump_if(Reg::R0, When::NotEqual, 0, own);
        self.asm.jump(inside);
    }

    /// Goes on only when R7 is an ICMP error of one of the `types`; R7 is then the quoted packet. An
    /// echo `reply` is decided about by its identifier.
    fn error(&mut self, types: &[i32], reply: i32) {
        let (own, quoted, echo) = (self.rule(Rule::Own), self.asm.label(), self.asm.label());
        self.asm.load_bytes_or(stack::SMALL, 1, own);
        self.asm.load(Size::Byte, Reg::R1, Reg::R10, stack::SMALL);
        self.asm.jump_if(Reg::R1, When::Equal, reply, echo);
        for &kind in types {
            self.asm.jump_if(Reg::R1, When::Equal, kind, quoted);
        }
        self.asm.jump(own);
        self.asm.place(echo);
        self.echo(Rule::NatEcho);
        self.asm.place(quoted);
        self.asm.alu(Alu::Add, Reg::R7, 8);
    }

    fn quoted_ipv4(&mut self) {
        let own = self.rule(Rule::Own);
        self.asm.load_bytes_or(stack::HEADER, 20, own);
        self.ipv4_length(own);
        self.asm.number16(stack::HEADER + 6);
        self.asm.alu(Alu::And, Reg::R1, 0x1fff);
        self.asm.jump_if(Reg::R1, When::NotEqual, 0, own);
        self.asm.load(Size::Byte, Reg::R8, Reg::R10, stack::HEADER + 9);
        self.ipv4_key(stack::SOURCE, 12);
        self.quoted_transport(1);
    }

    fn quoted_ipv6(&mut self) {
        let own = self.rule(Rule::Own);
        self.asm.load_bytes_or(stack::HEADER, 40, own);
        self.version(6, own);
        self.asm.alu(Alu::Add, Reg::R7, 40);
        self.asm.load(Size::Byte, Reg::R8, Reg::R10, stack::HEADER + 6);
        self.ipv6_key(stack::SOURCE, 8);
        self.quoted_transport(58);
    }

    /// Decides by the source of a quoted packet.
    fn quoted_transport(&mut self, icmp: i32) {
        let (own, known, echo) = (self.rule(Rule::Own), self.asm.label(), self.asm.label());
        for protocol in [6, icmp] {
            self.asm.jump_if(Reg::R8, When::Equal, protocol, known);
        }
        self.asm.jump_if(Reg::R8, When::NotEqual, 17, own);
        self.asm.place(known);
        self.asm.lookup(self.maps.local, stack::SOURCE);
        self.asm.jump_if(Reg::R0, When::Equal, 0, own);
        self.waypoint_ports();
        self.asm.jump_if(Reg::R8, When::Equal, icmp, echo);
        self.asm.load_bytes_or(stack::SMALL, 4, own);
        self.asm.number16(stack::SMALL);
        self.decide_port(Rule::WaypointError, Rule::WaypointError);
        self.asm.place(echo);
        self.echo(Rule::NatEcho);
    }

    /// Fragments other than the first, to a waypoint.
    fn fragments(&mut self) {
        self.asm.place(self.fragment);
        self.asm.lookup(self.maps.peers, stack::SOURCE);
        let (own, peer) = (self.rule(Rule::Own), self.rule(Rule::PeerFragment));
        self.asm.jump_if(Reg::R0, When::Equal, 0, own);
        self.asm.jump(peer);
    }

    /// One landing place for each rule, then the common end: R7 = the rule that decided.
    fn land(&mut self) {
        let end = self.asm.label();
        for rule in Rule::ALL {
            // The verifier refuses what nothing leads to.
            let decided = match (self.frames, rule) {
                (Frames::Untagged, Rule::OtherTag | Rule::TaggedLink | Rule::TaggedOwn)
                | (Frames::Tagged, Rule::Tagged | Rule::TaggedOwn) => continue,
                (Frames::Tagged, Rule::Own) => Rule::TaggedOwn,
                _ => rule,
            };
            self.asm.place(self.rule(rule));
            self.asm.alu(Alu::Move, Reg::R7, decided as i32);
            self.asm.jump(end);
        }
        self.asm.place(end);
    }

    /// R0 = the worker that a packet is for. The other registers but R6 are lost, and the stack from
    /// [`steering::STACK_BYTES`] up.
    fn steer(&mut self, steering: Option<steering::Parameters>) {
        let Some(parameters) = steering else {
            self.asm.alu(Alu::Move, Reg::R0, 0);
            return;
        };
        let chosen = self.asm.label();
        self.asm.alu(Alu::Move, Reg::R7, LINK_HEADER);
        self.asm = steering::inline(std::mem::take(&mut self.asm), parameters, chosen);
        self.asm.place(chosen);
    }

    fn finish(&mut self, answer: Answer) {
        self.land();
        let (taken, kernel) = match answer {
            Answer::Drop { .. } => {
                self.count();
                // Perhaps it is an answer to a ping of the host's own, which nothing tells apart. What
                // nobody waits for, the kernel forgets.
                let echo = self.asm.label();
                self.asm.jump_if(Reg::R7, When::NotEqual, Rule::NatEcho as i32, echo);
                self.asm.move32(Reg::R0, TC_NEXT);
                self.asm.exit();
                self.asm.place(echo);
                (TC_DROP, TC_NEXT)
            }
            Answer::Accept => (-1, 0),
            #[cfg(test)]
            Answer::Rule => {
                self.asm.alu_reg(Alu::Move, Reg::R0, Reg::R7);
                self.asm.exit();
                self.pass(-1);
                return;
            }
        };
        let keep = self.asm.label();
        self.asm.move32(Reg::R0, taken);
        self.asm.jump_if(Reg::R7, When::NotBelow, i32::from(Rule::FIRST_TAKEN), keep);
        self.asm.move32(Reg::R0, kernel);
        self.asm.place(keep);
        self.asm.exit();
        self.pass(kernel);
    }

    /// Where the program for tags lets go of a frame without one.
    fn pass(&mut self, answer: i32) {
        if self.frames == Frames::Tagged {
            self.asm.place(self.pass);
            self.asm.move32(Reg::R0, answer);
            self.asm.exit();
        }
    }

    /// Counts the rule in R7.
    fn count(&mut self) {
        self.asm.store(Size::Word, Reg::R10, stack::COUNTER, Reg::R7);
        self.count_stored();
    }

    /// Counts the rule on the stack.
    fn count_stored(&mut self) {
        let done = self.asm.label();
        self.asm.lookup(self.maps.counters, stack::COUNTER);
        self.asm.jump_if(Reg::R0, When::Equal, 0, done);
        self.asm.load(Size::Double, Reg::R1, Reg::R0, 0);
        self.asm.alu(Alu::Add, Reg::R1, 1);
        self.asm.store(Size::Double, Reg::R0, 0, Reg::R1);
        self.asm.place(done);
    }
}
