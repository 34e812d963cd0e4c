//! A small assembler for eBPF (RFC 9669) with labels, just enough for the classifier, in all its forms, and
//! for steering.

use std::collections::HashMap;

/// One encoded instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Instruction {
    opcode: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}
/// Numbers of the kernel's helpers (include/uapi/linux/bpf.h).
const HELPER_MAP_LOOKUP: i32 = 1;
const HELPER_TAIL_CALL: i32 = 12;
const HELPER_REDIRECT: i32 = 23;
const HELPER_SKB_LOAD_BYTES: i32 = 26;
const HELPER_REDIRECT_MAP: i32 = 51;
const HELPER_XDP_LENGTH: i32 = 188;
const HELPER_XDP_LOAD_BYTES: i32 = 189;

const _: () = assert!(size_of::<Instruction>() == 8);

/// A register. R0 holds results, R1–R5 arguments and are lost in calls, R6–R9 survive calls, R10 is
/// the frame pointer and read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R5 = 5,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
}

/// The width of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Size {
    /// 32 bits.
    Word = 0x00,
    /// 16 bits.
    Half = 0x08,
    /// 8 bits.
    Byte = 0x10,
    /// 64 bits.
    Double = 0x18,
}

/// A condition; all comparisons are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum When {
    /// Equal.
    Equal = 0x10,
    /// Greater than.
    Above = 0x20,
    /// Greater or equal.
    NotBelow = 0x30,
    /// Not equal.
    NotEqual = 0x50,
    /// Less than.
    Below = 0xa0,
}

/// An operation on 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Alu {
    Add = 0x00,
    Subtract = 0x10,
    Multiply = 0x20,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Modulo = 0x90,
    ExclusiveOr = 0xa0,
    Move = 0xb0,
}

/// A place in the program that jumps can name before it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label(usize);

/// Why a program could not be put together: an error in the program, not in its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AssemblyError {
    #[error("a jump names a label that was never placed")]
    UnplacedLabel,
    #[error("a jump is longer than 32767 instructions")]
    JumpTooLong,
}

const CLASS_LOAD_IMMEDIATE: u8 = 0x18;
const CLASS_LOAD: u8 = 0x61;
const CLASS_STORE_IMMEDIATE: u8 = 0x62;
const CLASS_STORE: u8 = 0x63;
const CLASS_ATOMIC: u8 = 0xc3;
const ATOMIC_FETCH: i32 = 1;
const CLASS_ALU64: u8 = 0x07;
const CLASS_ALU32: u8 = 0x04;
const CLASS_JUMP: u8 = 0x05;
const MULTIPLY: u8 = 0x20;
const SOURCE_REGISTER: u8 = 0x08;
const BYTE_SWAP_TO_BIG_ENDIAN: u8 = 0xdc;
const PSEUDO_MAP_FD: u8 = 1;

/// Where a program runs, and what its context stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ground {
    /// A packet of the kernel's network stack (`struct __sk_buff`).
    #[default]
    Stack,
    /// A frame of a device's driver (`struct xdp_md`, Linux 5.18).
    Driver,
}

/// Offsets in `struct __sk_buff`, the context on the [`Ground::Stack`] (include/uapi/linux/bpf.h).
pub(crate) mod context {
    pub(crate) const LENGTH: i16 = 0;
    pub(crate) const PACKET_TYPE: i16 = 4;
    pub(crate) const MARK: i16 = 8;
    pub(crate) const PROTOCOL: i16 = 16;
    pub(crate) const VLAN_PRESENT: i16 = 20;
    pub(crate) const VLAN_TCI: i16 = 24;
    pub(crate) const VLAN_PROTOCOL: i16 = 28;
    pub(crate) const INGRESS: i16 = 36;
    pub(crate) const IFINDEX: i16 = 40;
    pub(crate) const DATA: i16 = 76;
    pub(crate) const DATA_END: i16 = 80;
    pub(crate) const SEGMENTS: i16 = 164;
    pub(crate) const SEGMENT_SIZE: i16 = 176;
}

/// Offsets in `struct xdp_md`, the context of a [`Ground::Driver`].
pub(crate) mod driver_context {
    pub(crate) const DATA: i16 = 0;
    pub(crate) const DATA_END: i16 = 4;
    pub(crate) const IFINDEX: i16 = 12;
    pub(crate) const RX_QUEUE_INDEX: i16 = 16;
}

/// What programs at tc answer with to drop a packet: `TC_ACT_SHOT`, which is also `TCX_DROP`.
pub(crate) const TC_DROP: i32 = 2;

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    ground: Ground,
    code: Vec<Instruction>,
    labels: usize,
    placed: HashMap<Label, usize>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A program for XDP.
    pub(crate) fn for_xdp() -> Self {
        Self { ground: Ground::Driver, ..Self::default() }
    }

    /// Where the program is to run.
    pub(crate) const fn ground(&self) -> Ground {
        self.ground
    }

    /// A new label, not placed yet.
    pub(crate) fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels)
    }

    /// Places `label` before the next instruction.
    pub(crate) fn place(&mut self, label: Label) {
        self.placed.insert(label, self.code.len());
    }

    fn push(&mut self, opcode: u8, destination: Reg, source: u8, offset: i16, immediate: i32) {
        let registers = destination as u8 | source << 4;
        self.code.push(Instruction { opcode, registers, offset, immediate });
    }

    /// `destination = destination op value`.
    pub(crate) fn alu(&mut self, op: Alu, destination: Reg, value: i32) {
        self.push(CLASS_ALU64 | op as u8, destination, 0, 0, value);
    }

    /// `destination = destination op source`.
    pub(crate) fn alu_reg(&mut self, op: Alu, destination: Reg, source: Reg) {
        self.push(CLASS_ALU64 | SOURCE_REGISTER | op as u8, destination, source as u8, 0, 0);
    }

    /// `destination = value`, the upper half zero.
    pub(crate) fn move32(&mut self, destination: Reg, value: i32) {
        self.push(CLASS_ALU32 | Alu::Move as u8, destination, 0, 0, value);
    }

    /// `destination = destination op source` on 32 bits, the upper half zero.
    pub(crate) fn alu32_reg(&mut self, op: Alu, destination: Reg, source: Reg) {
        self.push(CLASS_ALU32 | SOURCE_REGISTER | op as u8, destination, source as u8, 0, 0);
    }

    /// `destination = value` of 64 bits.
    pub(crate) fn move64(&mut self, destination: Reg, value: u64) {
        self.push(CLASS_LOAD_IMMEDIATE, destination, 0, 0, value as i32);
        self.code.push(Instruction { immediate: (value >> 32) as i32, ..Instruction::default() });
    }

    /// `*(base + offset) += source`, whoever else does the same; `size` is a word or a double.
    pub(crate) fn atomic_add(&mut self, size: Size, base: Reg, offset: i16, source: Reg) {
        self.push(CLASS_ATOMIC | size as u8, base, source as u8, offset, 0);
    }

    /// The same, and `source` is what was there before; everything that came before is seen before.
    pub(crate) fn atomic_fetch_add(&mut self, size: Size, base: Reg, offset: i16, source: Reg) {
        self.push(CLASS_ATOMIC | size as u8, base, source as u8, offset, ATOMIC_FETCH);
    }

    /// `destination = destination * value` on 32 bits, the upper half zero.
    pub(crate) fn multiply32(&mut self, destination: Reg, value: i32) {
        self.push(CLASS_ALU32 | MULTIPLY, destination, 0, 0, value);
    }

    /// Turns the lower 16 bits from big-endian into a number.
    pub(crate) fn be16_to_number(&mut self, register: Reg) {
        self.push(BYTE_SWAP_TO_BIG_ENDIAN, register, 0, 0, 16);
    }

    /// Turns the lower 32 bits from big-endian into a number.
    pub(crate) fn be32_to_number(&mut self, register: Reg) {
        self.push(BYTE_SWAP_TO_BIG_ENDIAN, register, 0, 0, 32);
    }

    /// Brings a sum of 32 bits down to 16, carries added (RFC 1071).
    pub(crate) fn fold(&mut self, sum: Reg, scratch: Reg) {
        for _ in 0..2 {
            self.alu_reg(Alu::Move, scratch, sum);
            self.alu(Alu::ShiftRight, scratch, 16);
            self.alu(Alu::And, sum, 0xffff);
            self.alu_reg(Alu::Add, sum, scratch);
        }
    }

    /// `destination = *(base + offset)`.
    pub(crate) fn load(&mut self, size: Size, destination: Reg, base: Reg, offset: i16) {
        self.push(CLASS_LOAD | size as u8, destination, base as u8, offset, 0);
    }

    /// `*(base + offset) = source`.
    pub(crate) fn store(&mut self, size: Size, base: Reg, offset: i16, source: Reg) {
        self.push(CLASS_STORE | size as u8, base, source as u8, offset, 0);
    }

    /// `*(base + offset) = value`.
    pub(crate) fn store_immediate(&mut self, size: Size, base: Reg, offset: i16, value: i32) {
        self.push(CLASS_STORE_IMMEDIATE | size as u8, base, 0, offset, value);
    }

    /// `destination = the map behind fd`.
    pub(crate) fn load_map(&mut self, destination: Reg, fd: i32) {
        self.push(CLASS_LOAD_IMMEDIATE, destination, PSEUDO_MAP_FD, 0, fd);
        self.code.push(Instruction::default());
    }

    /// Jumps when `register` compares so to `value`.
    pub(crate) fn jump_if(&mut self, register: Reg, when: When, value: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(CLASS_JUMP | when as u8, register, 0, 0, value);
    }

    /// Jumps when `register` compares so to `other`.
    pub(crate) fn jump_if_reg(&mut self, register: Reg, when: When, other: Reg, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(CLASS_JUMP | SOURCE_REGISTER | when as u8, register, other as u8, 0, 0);
    }

    /// Jumps.
    pub(crate) fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(CLASS_JUMP, Reg::R0, 0, 0, 0);
    }

    /// Calls a helper of the kernel.
    pub(crate) fn call(&mut self, helper: i32) {
        self.push(CLASS_JUMP | 0x80, Reg::R0, 0, 0, helper);
    }

    /// R0 = 0 when `length` bytes of the packet behind the context in R6, from the offset in R7 on, were
    /// copied to the stack at `to`. All types of program have this, wherever the packet lies.
    pub(crate) fn load_bytes(&mut self, to: i16, length: i32) {
        self.alu_reg(Alu::Move, Reg::R1, Reg::R6);
        self.alu_reg(Alu::Move, Reg::R2, Reg::R7);
        self.alu_reg(Alu::Move, Reg::R3, Reg::R10);
        self.alu(Alu::Add, Reg::R3, i32::from(to));
        self.alu(Alu::Move, Reg::R4, length);
        self.call(self.load_helper());
    }

    const fn load_helper(&self) -> i32 {
        match self.ground {
            Ground::Stack => HELPER_SKB_LOAD_BYTES,
            Ground::Driver => HELPER_XDP_LOAD_BYTES,
        }
    }

    /// R0 = the length of the frame behind the context of XDP in R6.
    pub(crate) fn xdp_length(&mut self) {
        self.alu_reg(Alu::Move, Reg::R1, Reg::R6);
        self.call(HELPER_XDP_LENGTH);
    }

    /// R0 = `XDP_REDIRECT` when the frame will go to what the map has at the index in R2, else
    /// `otherwise`.
    pub(crate) fn redirect_map(&mut self, map: i32, otherwise: i32) {
        self.load_map(Reg::R1, map);
        self.alu(Alu::Move, Reg::R3, otherwise);
        self.call(HELPER_REDIRECT_MAP);
    }

    /// Goes on when the frame that `data` points to has so many bytes; loses R1 and R3. R6 = the context.
    pub(crate) fn within(&mut self, data: Reg, bytes: i32, otherwise: Label) {
        let end = match self.ground {
            Ground::Stack => context::DATA_END,
            Ground::Driver => driver_context::DATA_END,
        };
        self.load(Size::Word, Reg::R3, Reg::R6, end);
        self.alu_reg(Alu::Move, Reg::R1, data);
        self.alu(Alu::Add, Reg::R1, bytes);
        self.jump_if_reg(Reg::R1, When::Above, Reg::R3, otherwise);
    }

    /// `data` = the frame, of which so many bytes can be read and written; loses R1 and R3.
    pub(crate) fn frame(&mut self, data: Reg, bytes: i32, otherwise: Label) {
        let start = match self.ground {
            Ground::Stack => context::DATA,
            Ground::Driver => driver_context::DATA,
        };
        self.load(Size::Word, data, Reg::R6, start);
        self.within(data, bytes, otherwise);
    }

    /// Sends the packet by the device in R1, and ends the program.
    pub(crate) fn send_by_device(&mut self) {
        self.alu(Alu::Move, Reg::R2, 0);
        self.call(HELPER_REDIRECT);
        self.exit();
    }

    /// Goes on in the program that the map has at an index, and does not come back; without one, goes on
    /// here. Loses R1 to R5.
    pub(crate) fn tail_call(&mut self, map: i32, index: i32) {
        self.alu_reg(Alu::Move, Reg::R1, Reg::R6);
        self.load_map(Reg::R2, map);
        self.alu(Alu::Move, Reg::R3, index);
        self.call(HELPER_TAIL_CALL);
    }

    /// The same as [`Self::load_bytes`] from the offset in `from`, or on to `otherwise`.
    pub(crate) fn load_bytes_at(&mut self, from: Reg, to: i16, length: i32, otherwise: Label) {
        self.alu_reg(Alu::Move, Reg::R2, from);
        self.alu_reg(Alu::Move, Reg::R1, Reg::R6);
        self.alu_reg(Alu::Move, Reg::R3, Reg::R10);
        self.alu(Alu::Add, Reg::R3, i32::from(to));
        self.alu(Alu::Move, Reg::R4, length);
        self.call(self.load_helper());
        self.jump_if(Reg::R0, When::NotEqual, 0, otherwise);
    }

    /// [`Self::load_bytes`], or on to `otherwise`.
    pub(crate) fn load_bytes_or(&mut self, to: i16, length: i32, otherwise: Label) {
        self.load_bytes(to, length);
        self.jump_if(Reg::R0, When::NotEqual, 0, otherwise);
    }

    /// R0 = the value of the map under the key on the stack at `key`, or null.
    pub(crate) fn lookup(&mut self, map: i32, key: i16) {
        self.load_map(Reg::R1, map);
        self.alu_reg(Alu::Move, Reg::R2, Reg::R10);
        self.alu(Alu::Add, Reg::R2, i32::from(key));
        self.call(HELPER_MAP_LOOKUP);
    }

    /// R1 = the number of 16 bits in network order on the stack at `at`.
    pub(crate) fn number16(&mut self, at: i16) {
        self.load(Size::Half, Reg::R1, Reg::R10, at);
        self.be16_to_number(Reg::R1);
    }

    /// Returns R0.
    pub(crate) fn exit(&mut self) {
        self.push(CLASS_JUMP | 0x90, Reg::R0, 0, 0, 0);
    }

    /// The finished program.
    pub(crate) fn finish(mut self) -> Result<Vec<Instruction>, AssemblyError> {
        for (at, label) in self.jumps {
            let target = *self.placed.get(&label).ok_or(AssemblyError::UnplacedLabel)?;
            let distance = target as i64 - at as i64 - 1;
            let distance = i16::try_from(distance).map_err(|_| AssemblyError::JumpTooLong)?;
            if let Some(jump) = self.code.get_mut(at) {
                jump.offset = distance;
            }
        }
        Ok(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_the_encoding_of_rfc_9669() {
        let mut asm = Assembler::default();
        let out = asm.label();
        asm.jump_if(Reg::R1, When::Equal, 7, out);
        asm.load(Size::Half, Reg::R2, Reg::R10, -6);
        asm.place(out);
        asm.alu(Alu::Move, Reg::R0, 1);
        asm.exit();
        let code = asm.finish().unwrap();
        let words = [
            Instruction { opcode: 0x15, registers: 0x01, offset: 1, immediate: 7 },
            Instruction { opcode: 0x69, registers: 0xa2, offset: -6, immediate: 0 },
            Instruction { opcode: 0xb7, registers: 0x00, offset: 0, immediate: 1 },
            Instruction { opcode: 0x95, registers: 0x00, offset: 0, immediate: 0 },
        ];
        assert_eq!(code, words);
    }

    #[test]
    fn a_label_that_was_never_placed_is_an_error() {
        let mut asm = Assembler::default();
        let nowhere = asm.label();
        asm.jump(nowhere);
        assert_eq!(asm.finish(), Err(AssemblyError::UnplacedLabel));
    }
}
