//! What a process that runs may ask of the kernel: a filter of system calls, and nobody who looks in.
//!
//! What is listed works. A call that no router makes and an intruder would (a program, a mount, another
//! user, a look into other processes) ends the process. All others answer as on a kernel without them
//! (ENOSYS), so that a library that tries something new falls back to what it did before; a listed
//! call with arguments that are not is refused (EPERM).
//!
//! A call that is judged by its number alone is judged once: the kernel remembers (Linux 5.11), so that
//! packets pay nothing.

mod calls;
#[cfg(test)]
mod tests;

use std::io;

use self::calls::{Rule, Test, rules};
use crate::sys::seccomp::{self, Instruction};
use crate::sys::{caps, process};

/// Which program is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A router that forwards.
    Router,
    /// The program that opens a router's files for it.
    Files,
}

/// Gives this process no core files, and no other process of its user a look into its memory.
///
/// # Errors
/// Those of the kernel.
pub fn close_to_others() -> io::Result<()> {
    process::no_core_files()?;
    process::not_dumpable()
}

/// Confines all threads of this process, and those they start, to the system calls of `program`, for
/// good. They cannot gain privileges any more.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] when this kernel or machine has no such filter, and others of the
/// kernel.
pub fn confine(program: Program) -> io::Result<()> {
    let machine = seccomp::MACHINE.ok_or(io::ErrorKind::Unsupported)?;
    caps::no_new_privileges()?;
    seccomp::install(&assemble(machine, &rules(program))).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS) => io::ErrorKind::Unsupported.into(),
        _ => error,
    })
}

/// The program of the rules.
fn assemble(machine: u32, rules: &[Rule]) -> Vec<Instruction> {
    let mut program = Assembler::default();
    program.load(seccomp::ARCHITECTURE);
    program.unless_equal(machine, KILL);
    program.load(seccomp::NUMBER);
    if cfg!(target_arch = "x86_64") {
        // The numbers of x32, which mean other calls.
        program.jump(libc::BPF_JGE, X32, 0, 1);
        program.answer(KILL);
    }
    for rule in rules {
        match *rule {
            Rule::Allow(call) => program.when(call, &[answer(ALLOW)]),
            Rule::Kill(call) => program.when(call, &[answer(KILL)]),
            Rule::AllowIf(call, argument, test) => program.when(call, &examined(argument, test)),
        }
    }
    program.answer(UNKNOWN);
    program.0
}

/// What becomes of a call that has come so far.
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
/// The bit of system calls of the x32 ABI.
const X32: u32 = 0x4000_0000;

/// Allows what passes the test, and refuses the rest.
fn examined(argument: u32, test: Test) -> Vec<Instruction> {
    let mut code = vec![load(seccomp::argument(argument))];
    let one = |value: u32| [jump(libc::BPF_JEQ, value, 0, 1), answer(ALLOW)];
    match test {
        Test::Is(value) => code.extend(one(value)),
        Test::Among(values) => code.extend(values.iter().flat_map(|&value| one(value))),
        Test::Masked { mask, value } => {
            code.push(instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask, 0, 0));
            code.extend(one(value));
        }
    }
    code.push(answer(REFUSED));
    code
}

/// A program that is being written.
#[derive(Default)]
struct Assembler(Vec<Instruction>);

impl Assembler {
    fn load(&mut self, offset: u32) {
        self.0.push(load(offset));
    }

    fn jump(&mut self, condition: u32, value: u32, yes: u8, no: u8) {
        self.0.push(jump(condition, value, yes, no));
    }

    fn answer(&mut self, action: u32) {
        self.0.push(answer(action));
    }

    fn unless_equal(&mut self, value: u32, action: u32) {
        self.jump(libc::BPF_JEQ, value, 1, 0);
        self.answer(action);
    }

    /// Does this, which must end in an answer, for one system call.
    fn when(&mut self, call: libc::c_long, code: &[Instruction]) {
        // Numbers of system calls are small; one that is not would never be asked for.
        let number = u32::try_from(call).unwrap_or(u32::MAX);
        let over = u8::try_from(code.len()).unwrap_or(u8::MAX);
        debug_assert!(code.len() < usize::from(u8::MAX), "a jump reaches 255 instructions");
        self.jump(libc::BPF_JEQ, number, 0, over);
        self.0.extend_from_slice(code);
    }
}

const fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: code as u16, jt, jf, k }
}

const fn load(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

const fn jump(condition: u32, value: u32, yes: u8, no: u8) -> Instruction {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, value, yes, no)
}

const fn answer(action: u32) -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}
