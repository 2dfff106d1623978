//! A 32-bit RISC-V processor without floating point: start-up code and the instruction counter, for programs
//! that an emulator loads into RAM (QEMU's `virt`). Traps end the program; there are no interrupts.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::ptr::addr_of;

use crate::port::Meter;

// The loader has put everything in place but zeros.
global_asm!(
    r#"
    .section .init, "ax"
    .global _start
_start:
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la t0, qmend_trap
    csrw mtvec, t0
    la sp, _stack_start
    la t0, __sbss
    la t1, __ebss
1:  bgeu t0, t1, 2f
    sw zero, 0(t0)
    addi t0, t0, 4
    j 1b
2:  call qmend_main
    .balign 4
qmend_trap:
    call qmend_trapped
"#
);

/// Where a trap ends: the program has failed.
#[unsafe(no_mangle)]
extern "C" fn qmend_trapped() -> ! {
    crate::semihosting::print(c"trap\n");
    crate::semihosting::exit(false)
}

unsafe extern "C" {
    static __stext: u32;
    static __edata: u32;
}

/// Bytes of code, constants and initial values.
pub fn code_bytes() -> u32 {
    addr_of!(__edata) as u32 - addr_of!(__stext) as u32
}

/// The counter of instructions, as a clock with one tick an instruction: with `-icount shift=0` these are
/// nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct InstructionMeter {
    begin: u64,
}

impl InstructionMeter {
    /// Not started.
    pub const fn new() -> Self {
        Self { begin: 0 }
    }

    fn now() -> u64 {
        loop {
            let (high, low, again): (u32, u32, u32);
            // SAFETY: reading the counter changes nothing.
            unsafe {
                asm!(
                    "csrr {0}, minstreth",
                    "csrr {1}, minstret",
                    "csrr {2}, minstreth",
                    out(reg) high, out(reg) low, out(reg) again
                );
            }
            if high == again {
                return (high as u64) << 32 | low as u64;
            }
        }
    }
}

impl Meter for InstructionMeter {
    fn ticks_per_second(&self) -> u32 {
        1_000_000_000
    }

    fn start(&mut self) {
        self.begin = Self::now();
    }

    fn stop(&mut self) -> u64 {
        Self::now() - self.begin
    }
}

/// A program's memory, which its entry takes once.
pub struct Once<T>(UnsafeCell<T>);

// SAFETY: there is one thread, and `take` is called once.
unsafe impl<T> Sync for Once<T> {}

impl<T> Once<T> {
    /// Holds this.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value.
    ///
    /// # Safety
    /// Called once.
    #[expect(clippy::mut_from_ref)]
    pub unsafe fn take(&'static self) -> &'static mut T {
        // SAFETY: by contract there is no other reference.
        unsafe { &mut *self.0.get() }
    }
}

/// The program's entry: a function of a `&'static mut` to its memory, of a type with `new`, that does
/// not return.
#[macro_export]
macro_rules! riscv_entry {
    ($memory:ty, $main:expr) => {
        #[unsafe(no_mangle)]
        extern "C" fn qmend_main() -> ! {
            static MEMORY: $crate::riscv_port::Once<$memory> =
                $crate::riscv_port::Once::new(<$memory>::new());
            let main: fn(&'static mut $memory) -> ! = $main;
            // SAFETY: the start-up code calls this function once.
            main(unsafe { MEMORY.take() })
        }
    };
}
