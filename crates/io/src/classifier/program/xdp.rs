//! The table in front of the kernel's network stack: what is Fairway's goes to AF_XDP sockets.
//!
//! The program stands beside those at tc and of the packet sockets and never decides more than they would:
//! whatever it can't tell it passes on, and then they decide, and count. That is also the way of frames for
//! which there is no socket, and of those longer than the device's MTU, which several packets were put
//! together to.

use super::{Builder, LINK_HEADER, MapFds, TAG_8021Q, stack};
use crate::classifier::Frames;
use crate::classifier::asm::{Alu, Assembler, AssemblyError, Instruction, Reg, Size, When, driver_context};
use crate::classifier::rule::Rule;
use crate::{offload, steering};

const XDP_PASS: i32 = 2;
const XDP_REDIRECT: i32 = 4;

/// Bytes of [`Redirect::device_value`].
pub(crate) const DEVICE_BYTES: usize = 12;
/// The number of the socket, below what classifier and steering have on the stack.
const SOCKET: i16 = -124;

/// Where the frames of one device go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Redirect {
    /// The map of sockets: that of a worker is at the queue's number times the number of workers, plus
    /// the worker's.
    pub(crate) sockets: i32,
    /// The map with the device's [`Redirect::device_value`] at 0.
    pub(crate) device: i32,
    /// The map that counts how many frames each socket was given, by the same numbers as the sockets.
    pub(crate) given: i32,
    /// How many workers there are.
    pub(crate) workers: u8,
    /// Which of them gets a frame; `None` for one alone.
    pub(crate) steering: Option<steering::Parameters>,
}

impl Redirect {
    /// The link address of the device, the longest frame that is taken, and whether senders on this machine
    /// may have left checksums unfinished.
    pub(crate) fn device_value(mac: [u8; 6], longest: u16, doubtful: bool) -> [u8; DEVICE_BYTES] {
        let [low, high] = longest.to_ne_bytes();
        let [a, b, c, d, e, f] = mac;
        let [w, x, y, z] = u32::from(doubtful).to_ne_bytes();
        [a, b, c, d, e, f, low, high, w, x, y, z]
    }
}

// The classifier keeps the rule on the stack while steering decides.
const _: () = assert!(stack::COUNTER + 4 <= -steering::STACK_BYTES && SOCKET + 4 <= stack::HOST_PORT);

/// Assembles the program for XDP on one device.
pub(crate) fn assemble_redirect(maps: MapFds, redirect: Redirect) -> Result<Vec<Instruction>, AssemblyError> {
    let mut builder = Builder::new(Assembler::for_xdp(), maps, Frames::Untagged);
    if let Some(maps) = maps.offload {
        builder.forward_frames(redirect, maps);
    }
    builder.driver_link_layer(redirect);
    builder.network_layer();
    builder.redirect(redirect);
    builder.asm.finish()
}

impl Builder {
    /// What the kernel forwards by itself goes no further.
    fn forward_frames(&mut self, redirect: Redirect, maps: offload::MapFds) {
        let other = self.asm.label();
        offload::begin(&mut self.asm);
        self.asm.store_immediate(Size::Word, Reg::R10, stack::COUNTER, 0);
        self.asm.lookup(redirect.device, stack::COUNTER);
        self.asm.jump_if(Reg::R0, When::Equal, 0, self.pass);
        self.asm.alu_reg(Alu::Move, Reg::R8, Reg::R0);
        offload::forward(&mut self.asm, maps, other);
        self.asm.place(other);
    }

    /// Goes on with frames to the device's own address that are not too long, with their protocol in R7.
    fn driver_link_layer(&mut self, redirect: Redirect) {
        let (pass, other, tagged) = (self.pass, self.rule(Rule::NotForHost), self.rule(Rule::Tagged));
        self.asm.store_immediate(Size::Word, Reg::R10, stack::COUNTER, 0);
        self.asm.lookup(redirect.device, stack::COUNTER);
        self.asm.jump_if(Reg::R0, When::Equal, 0, pass);
        self.asm.alu_reg(Alu::Move, Reg::R8, Reg::R0);
        self.asm.alu(Alu::Move, Reg::R7, 0);
        self.asm.load_bytes_or(stack::HEADER, LINK_HEADER, pass);
        for (size, at) in [(Size::Word, 0), (Size::Half, 4)] {
            self.asm.load(size, Reg::R1, Reg::R10, stack::HEADER + at);
            self.asm.load(size, Reg::R2, Reg::R8, at);
            self.asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R2, other);
        }
        self.asm.xdp_length();
        self.asm.load(Size::Half, Reg::R2, Reg::R8, 6);
        self.asm.jump_if_reg(Reg::R0, When::Above, Reg::R2, pass);
        self.asm.load(Size::Half, Reg::R7, Reg::R10, stack::HEADER + 12);
        self.asm.jump_if(Reg::R7, When::Equal, i32::from(TAG_8021Q.to_be()), tagged);
    }

    /// One landing place for what is the kernel's, or its as well, and one for each rule of Fairway's.
    fn redirect(&mut self, redirect: Redirect) {
        let taken = self.asm.label();
        let is_taken = |rule: Rule| rule as u8 >= Rule::FIRST_TAKEN && rule != Rule::NatEcho;
        self.asm.place(self.pass);
        for rule in Rule::ALL.into_iter().filter(|&rule| !is_taken(rule)) {
            self.asm.place(self.rule(rule));
        }
        self.asm.move32(Reg::R0, XDP_PASS);
        self.asm.exit();
        for rule in Rule::ALL.into_iter().filter(|&rule| is_taken(rule)) {
            // The verifier refuses what nothing leads to.
            if matches!(rule, Rule::TaggedLink | Rule::TaggedOwn) {
                continue;
            }
            self.asm.place(self.rule(rule));
            self.asm.store_immediate(Size::Word, Reg::R10, stack::COUNTER, rule as i32);
            self.asm.jump(taken);
        }
        self.asm.place(taken);
        self.steer(redirect.steering);
        self.asm.load(Size::Word, Reg::R2, Reg::R6, driver_context::RX_QUEUE_INDEX);
        self.asm.multiply32(Reg::R2, i32::from(redirect.workers));
        self.asm.alu_reg(Alu::Add, Reg::R2, Reg::R0);
        self.asm.store(Size::Word, Reg::R10, SOCKET, Reg::R2);
        self.asm.redirect_map(redirect.sockets, XDP_PASS);
        let (end, given) = (self.asm.label(), self.asm.label());
        self.asm.alu_reg(Alu::Move, Reg::R8, Reg::R0);
        self.asm.jump_if(Reg::R0, When::NotEqual, XDP_REDIRECT, end);
        self.count_stored();
        if self.maps.offload.is_some() {
            self.asm.lookup(redirect.given, SOCKET);
            self.asm.jump_if(Reg::R0, When::Equal, 0, given);
            self.asm.alu(Alu::Move, Reg::R1, 1);
            self.asm.atomic_add(Size::Double, Reg::R0, 0, Reg::R1);
            self.asm.place(given);
            offload::count_left(&mut self.asm);
        } else {
            self.asm.place(given);
        }
        self.asm.place(end);
        self.asm.alu_reg(Alu::Move, Reg::R0, Reg::R8);
        self.asm.exit();
    }
}
