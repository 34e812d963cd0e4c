//! The programs, and the frame that a flood begins with.

use super::{COUNTED, FIRST_PORT, Fate, FloodPlan, Order, SOURCES, Side};
use crate::classifier::asm::{Alu, Assembler, AssemblyError, Instruction, Label, Reg, Size, When};

// Helpers of the kernel (include/uapi/linux/bpf.h).
const RANDOM: i32 = 7;
const REDIRECT: i32 = 23;
const PULL_DATA: i32 = 39;

const XDP_ABORTED: i32 = 0;
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;

// Offsets in a frame.
const IP: usize = 14;
const IP_LENGTH: usize = IP + 2;
const PROTOCOL: usize = IP + 9;
const IP_CHECKSUM: usize = IP + 10;
const SOURCE: usize = IP + 12;
const DESTINATION: usize = IP + 16;
const UDP: usize = IP + 20;
const UDP_LENGTH: usize = UDP + 4;
const UDP_CHECKSUM: usize = UDP + 6;
const PAYLOAD: usize = UDP + 8;

const KEY: i16 = -4;
const HEADERS: i16 = -64;
/// One of so many datagrams goes on to a socket.
const PASSED: i32 = 4096;

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// A frame of the plan, with zeros where the program writes.
pub(super) fn frame(plan: &FloodPlan) -> Vec<u8> {
    let mut frame = vec![0; PAYLOAD + plan.payload.len()];
    let length = (frame.len() - IP) as u16;
    put(&mut frame, 0, &plan.link.concat());
    put(&mut frame, 12, &[0x08, 0x00, 0x45]);
    put(&mut frame, IP_LENGTH, &length.to_be_bytes());
    // Not to be fragmented, and 64 routers at most.
    put(&mut frame, IP + 6, &[0x40, 0, 64, 17]);
    put(&mut frame, SOURCE, &plan.from.octets()[..3]);
    put(&mut frame, DESTINATION, &plan.to.ip().octets());
    put(&mut frame, UDP + 2, &plan.to.port().to_be_bytes());
    put(&mut frame, UDP_LENGTH, &(length - 20).to_be_bytes());
    put(&mut frame, PAYLOAD, &plan.payload);
    frame
}

/// The ones' complement sum of bytes as numbers of 16 bits, folded.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        rest => rest.iter().map(|&byte| u32::from(byte) << 8).sum(),
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The sum under the UDP checksum of a frame, pseudo-header included.
fn udp_sum(frame: &[u8]) -> u32 {
    let part = |range: core::ops::Range<usize>| sum(frame.get(range).unwrap_or_default());
    17 + part(SOURCE..UDP) + part(UDP_LENGTH..UDP_LENGTH + 2) + part(UDP..frame.len())
}

/// Counts on the counter, whose number before is then in `number` if one is given; loses R1 to R5.
fn count(asm: &mut Assembler, counters: i32, number: Option<Reg>, lost: Label) {
    asm.store_immediate(Size::Word, Reg::R10, KEY, COUNTED as i32);
    asm.lookup(counters, KEY);
    asm.jump_if(Reg::R0, When::Equal, 0, lost);
    asm.load(Size::Double, Reg::R1, Reg::R0, 0);
    if let Some(number) = number {
        asm.alu_reg(Alu::Move, number, Reg::R1);
    }
    asm.alu(Alu::Add, Reg::R1, 1);
    asm.store(Size::Double, Reg::R0, 0, Reg::R1);
}

/// Writes the checksum that follows from the sum in R1 behind R2.
fn store_checksum(asm: &mut Assembler, at: usize) {
    asm.fold(Reg::R1, Reg::R0);
    // The complement of 0xffff would be zero, which says that there is no checksum; of IPv4, both
    // are the same.
    asm.alu(Alu::ExclusiveOr, Reg::R1, 0xffff);
    let some = asm.label();
    asm.jump_if(Reg::R1, When::NotEqual, 0, some);
    asm.alu(Alu::Move, Reg::R1, 0xffff);
    asm.place(some);
    asm.be16_to_number(Reg::R1);
    asm.store(Size::Half, Reg::R2, at as i16, Reg::R1);
}

/// Writes the headers behind R2. The kernel uses the memory of frames again as those left it that had
/// them: with another TTL, another address.
fn store_headers(asm: &mut Assembler, frame: &[u8]) {
    for (number, word) in frame.chunks(4).enumerate().take(PAYLOAD.div_ceil(4)) {
        let at = (4 * number) as i16;
        match *word {
            [a, b, c, d] if 4 * number + 4 <= PAYLOAD => {
                asm.store_immediate(Size::Word, Reg::R2, at, i32::from_ne_bytes([a, b, c, d]));
            }
            [a, b, ..] => {
                asm.store_immediate(Size::Half, Reg::R2, at, i32::from(i16::from_ne_bytes([a, b])));
            }
            _ => {}
        }
    }
}

/// The XDP program that makes each frame one of the next session and sends it.
pub(super) fn flood(
    plan: &FloodPlan,
    frame: &[u8],
    counters: i32,
) -> Result<Vec<Instruction>, AssemblyError> {
    let mut asm = Assembler::default();
    let lost = asm.label();
    asm.alu_reg(Alu::Move, Reg::R6, Reg::R1);
    count(&mut asm, counters, Some(Reg::R7), lost);
    if plan.order == Order::Random {
        asm.call(RANDOM);
        asm.alu_reg(Alu::Move, Reg::R7, Reg::R0);
    }
    asm.alu(Alu::Modulo, Reg::R7, plan.sessions as i32);
    // R7 = the number of the source; R8 = the port.
    asm.alu_reg(Alu::Move, Reg::R8, Reg::R7);
    asm.alu(Alu::And, Reg::R7, SOURCES as i32 - 1);
    asm.alu(Alu::Add, Reg::R7, i32::from(plan.from.octets()[3]));
    asm.alu(Alu::ShiftRight, Reg::R8, SOURCES.ilog2() as i32);
    asm.alu(Alu::Add, Reg::R8, FIRST_PORT as i32);
    // data and data_end of struct xdp_md.
    asm.load(Size::Word, Reg::R2, Reg::R6, 0);
    asm.load(Size::Word, Reg::R3, Reg::R6, 4);
    asm.alu_reg(Alu::Move, Reg::R4, Reg::R2);
    asm.alu(Alu::Add, Reg::R4, PAYLOAD as i32);
    asm.jump_if_reg(Reg::R4, When::Above, Reg::R3, lost);
    store_headers(&mut asm, frame);
    asm.store(Size::Byte, Reg::R2, SOURCE as i16 + 3, Reg::R7);
    asm.alu(Alu::Move, Reg::R1, sum(frame.get(IP..UDP).unwrap_or_default()) as i32);
    asm.alu_reg(Alu::Add, Reg::R1, Reg::R7);
    store_checksum(&mut asm, IP_CHECKSUM);
    asm.alu(Alu::Move, Reg::R1, udp_sum(frame) as i32);
    asm.alu_reg(Alu::Add, Reg::R1, Reg::R7);
    asm.alu_reg(Alu::Add, Reg::R1, Reg::R8);
    store_checksum(&mut asm, UDP_CHECKSUM);
    asm.be16_to_number(Reg::R8);
    asm.store(Size::Half, Reg::R2, UDP as i16, Reg::R8);
    asm.alu(Alu::Move, Reg::R1, plan.ifindex as i32);
    asm.alu(Alu::Move, Reg::R2, 0);
    asm.call(REDIRECT);
    asm.exit();
    asm.place(lost);
    asm.alu(Alu::Move, Reg::R0, XDP_ABORTED);
    asm.exit();
    asm.finish()
}

/// The tc program that counts.
pub(super) fn tally(
    ifindex: u32,
    side: Side,
    port: u16,
    payload: usize,
    fate: Fate,
    counters: i32,
) -> Result<Vec<Instruction>, AssemblyError> {
    let mut asm = Assembler::default();
    let other = asm.label();
    let at = |offset: usize| HEADERS + offset as i16;
    asm.alu_reg(Alu::Move, Reg::R6, Reg::R1);
    asm.alu(Alu::Move, Reg::R7, 0);
    asm.load_bytes_or(HEADERS, PAYLOAD as i32, other);
    for (offset, number) in [(12, 0x0800), (UDP_LENGTH, payload as i32 + 8)] {
        asm.number16(at(offset));
        asm.jump_if(Reg::R1, When::NotEqual, number, other);
    }
    asm.load(Size::Byte, Reg::R1, Reg::R10, at(PROTOCOL));
    asm.jump_if(Reg::R1, When::NotEqual, 17, other);
    asm.number16(at(if side == Side::Source { UDP } else { UDP + 2 }));
    asm.jump_if(Reg::R1, When::NotEqual, i32::from(port), other);
    count(&mut asm, counters, None, other);
    match fate {
        Fate::AnswerOneIn(many) => {
            let dropped = asm.label();
            asm.call(RANDOM);
            asm.alu_reg(Alu::Move, Reg::R1, Reg::R0);
            asm.alu(Alu::And, Reg::R1, PASSED - 1);
            asm.jump_if(Reg::R1, When::Equal, 0, other);
            asm.alu(Alu::ShiftRight, Reg::R0, PASSED.ilog2() as i32);
            asm.alu(Alu::And, Reg::R0, many as i32 - 1);
            asm.jump_if(Reg::R0, When::NotEqual, 0, dropped);
            send_back(&mut asm, ifindex);
            asm.exit();
            asm.place(dropped);
            asm.alu(Alu::Move, Reg::R0, TCX_DROP);
        }
        Fate::DropAll => asm.alu(Alu::Move, Reg::R0, TCX_DROP),
        Fate::Return => send_back(&mut asm, ifindex),
    }
    asm.exit();
    asm.place(other);
    asm.alu(Alu::Move, Reg::R0, TCX_NEXT);
    asm.exit();
    asm.finish()
}

/// Changes source and destination on every layer, which leaves checksums as they are, and sends the
/// packet out of the device it came by.
fn send_back(asm: &mut Assembler, ifindex: u32) {
    let lost = asm.label();
    asm.alu_reg(Alu::Move, Reg::R1, Reg::R6);
    asm.alu(Alu::Move, Reg::R2, PAYLOAD as i32);
    asm.call(PULL_DATA);
    // data and data_end of struct __sk_buff.
    asm.load(Size::Word, Reg::R2, Reg::R6, 76);
    asm.load(Size::Word, Reg::R3, Reg::R6, 80);
    asm.alu_reg(Alu::Move, Reg::R4, Reg::R2);
    asm.alu(Alu::Add, Reg::R4, PAYLOAD as i32);
    asm.jump_if_reg(Reg::R4, When::Above, Reg::R3, lost);
    // The two link addresses, of six bytes each; addresses of four; ports of two.
    for (one, other, length) in [(0, 6, 6), (SOURCE, DESTINATION, 4), (UDP, UDP + 2, 2)] {
        for step in (0..length).step_by(2) {
            let (one, other) = ((one + step) as i16, (other + step) as i16);
            asm.load(Size::Half, Reg::R0, Reg::R2, one);
            asm.load(Size::Half, Reg::R1, Reg::R2, other);
            asm.store(Size::Half, Reg::R2, one, Reg::R1);
            asm.store(Size::Half, Reg::R2, other, Reg::R0);
        }
    }
    asm.alu(Alu::Move, Reg::R1, ifindex as i32);
    asm.alu(Alu::Move, Reg::R2, 0);
    asm.call(REDIRECT);
    asm.exit();
    asm.place(lost);
    asm.alu(Alu::Move, Reg::R0, TCX_DROP);
}
