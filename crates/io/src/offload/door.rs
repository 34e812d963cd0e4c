//! Counting what went through a door: see `ports::door`.
//!
//! The kernel shows a packet to the sockets on a device, and then to the device. So when this program sees
//! it, as the device's filter, the worker's socket has it already, and to count it now keeps the order: the next
//! packet of the flow comes after this one, on the same CPU.

use std::io;

use super::Kernel;
use super::layout::slot;
use crate::classifier::asm::{Alu, Assembler, AssemblyError, Instruction, Reg, Size, When, context};
use crate::error::OpenError;
use crate::sys::bpf::{Program, ProgramKind};

/// How many devices are counted apart, by their numbers modulo this.
pub(crate) const GIVEN: u32 = 1024;
const _: () = assert!(GIVEN.is_power_of_two());

const INDEX: i16 = -4;

impl Kernel {
    /// The filter of a door. It lets nothing in: whoever was to see it has seen it. Frames are counted in the
    /// map `given`, from `first` on by device.
    pub(crate) fn door_filter(&self, given: i32, first: u32) -> Result<Program, OpenError> {
        let code = assemble(self.slots.fd(), given, first).map_err(|error| OpenError::Classifier {
            source: io::Error::new(io::ErrorKind::InvalidData, error),
            log: String::new(),
        })?;
        Program::load(ProgramKind::SocketFilter, "fairway_door", &code)
            .map_err(|(source, log)| OpenError::Classifier { source, log })
    }
}

fn assemble(slots: i32, given: i32, first: u32) -> Result<Vec<Instruction>, AssemblyError> {
    let mut asm = Assembler::default();
    let (uncounted, done) = (asm.label(), asm.label());
    asm.alu_reg(Alu::Move, Reg::R6, Reg::R1);
    asm.load(Size::Word, Reg::R1, Reg::R6, context::INGRESS);
    asm.alu(Alu::And, Reg::R1, (GIVEN - 1) as i32);
    asm.alu(Alu::Add, Reg::R1, first as i32);
    asm.store(Size::Word, Reg::R10, INDEX, Reg::R1);
    asm.lookup(given, INDEX);
    asm.jump_if(Reg::R0, When::Equal, 0, uncounted);
    asm.alu(Alu::Move, Reg::R1, 1);
    asm.atomic_add(Size::Double, Reg::R0, 0, Reg::R1);
    asm.place(uncounted);
    asm.load(Size::Word, Reg::R1, Reg::R6, context::MARK);
    asm.jump_if(Reg::R1, When::Equal, 0, done);
    asm.alu(Alu::Subtract, Reg::R1, 1);
    asm.store(Size::Word, Reg::R10, INDEX, Reg::R1);
    asm.lookup(slots, INDEX);
    asm.jump_if(Reg::R0, When::Equal, 0, done);
    asm.alu(Alu::Move, Reg::R1, 1);
    // Whoever sees this count finds the packet in the socket.
    asm.atomic_fetch_add(Size::Word, Reg::R0, slot::QUEUED as i16, Reg::R1);
    asm.place(done);
    asm.alu(Alu::Move, Reg::R0, 0);
    asm.exit();
    asm.finish()
}
