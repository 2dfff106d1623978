//! Semihosting (Arm's "Semihosting for AArch32 and AArch64"): an emulator or debugger serves calls
//! that the program makes by a breakpoint instruction. Moves whole blocks of bytes, where an
//! emulated UART costs the emulator a wake-up for each.

use core::arch::asm;
use core::ffi::CStr;

use crate::port::Link;

const SYS_OPEN: u32 = 0x01;
const SYS_CLOSE: u32 = 0x02;
const SYS_WRITE0: u32 = 0x04;
const SYS_WRITE: u32 = 0x05;
const SYS_READ: u32 = 0x06;
const SYS_FLEN: u32 = 0x0C;
const SYS_EXIT: u32 = 0x18;

/// # Safety
/// `argument` is what the call asks for, and memory that it names may be read or written.
unsafe fn call(number: u32, argument: u32) -> u32 {
    let result;
    // SAFETY: by contract. Memory is not declared untouched, so the compiler keeps nothing in
    // registers across the call.
    #[cfg(target_arch = "arm")]
    unsafe {
        asm!("bkpt #0xab", inout("r0") number => result, in("r1") argument)
    };
    // RISC-V's "Semihosting" specification: three instructions that are not compressed and lie in one page.
    // SAFETY: as above.
    #[cfg(target_arch = "riscv32")]
    unsafe {
        asm!(
            ".option push",
            ".option norvc",
            ".balign 16",
            "slli x0, x0, 0x1f",
            "ebreak",
            "srai x0, x0, 7",
            ".option pop",
            inout("a0") number => result, in("a1") argument
        )
    };
    result
}

/// Ends an emulated program. Under a debugger the program halts here.
pub fn exit(success: bool) -> ! {
    let reason = if success { 0x20026 } else { 0x20023 };
    loop {
        // SAFETY: the argument is a number.
        unsafe { call(SYS_EXIT, reason) };
    }
}

/// Writes text to the console.
pub fn print(text: &CStr) {
    // SAFETY: the call reads up to the terminating zero.
    unsafe { call(SYS_WRITE0, text.as_ptr() as u32) };
}

/// Reads a file of the emulator's folder into memory; its length. `None` where there is no such file
/// or it does not fit.
pub fn read_file(name: &CStr, to: &mut [u8]) -> Option<usize> {
    const READ_BINARY: u32 = 1;
    let block = [name.as_ptr() as u32, READ_BINARY, name.count_bytes() as u32];
    // SAFETY: the block names a string and its length, which the call reads.
    let handle = unsafe { call(SYS_OPEN, block.as_ptr() as u32) };
    if handle == u32::MAX {
        return None;
    }
    // SAFETY: the block holds an open handle.
    let len = unsafe { call(SYS_FLEN, [handle].as_ptr() as u32) };
    let fits = len <= to.len() as u32;
    let block = [handle, to.as_mut_ptr() as u32, len];
    // SAFETY: the call writes at most `len` bytes at `to`, which has room for them.
    let unread = match fits {
        true => unsafe { call(SYS_READ, block.as_ptr() as u32) },
        false => len,
    };
    // SAFETY: the block holds an open handle.
    unsafe { call(SYS_CLOSE, [handle].as_ptr() as u32) };
    (unread == 0).then_some(len as usize)
}

/// The console as a link: bytes from and to the emulator's `chardev`.
pub struct Console {
    input: u32,
    output: u32,
    /// What was read and not yet asked for.
    ahead: [u8; 1024],
    next: usize,
    end: usize,
}

/// The host's side is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Console {
    /// Opens the console for reading and writing.
    pub fn open() -> Result<Self, Closed> {
        const NAME: &CStr = c":tt";
        const READ_BINARY: u32 = 1;
        const WRITE_BINARY: u32 = 5;
        let open = |mode| {
            let block = [NAME.as_ptr() as u32, mode, NAME.count_bytes() as u32];
            // SAFETY: the block names a string and its length, which the call reads.
            let handle = unsafe { call(SYS_OPEN, block.as_ptr() as u32) };
            if handle == u32::MAX {
                Err(Closed)
            } else {
                Ok(handle)
            }
        };
        Ok(Self {
            input: open(READ_BINARY)?,
            output: open(WRITE_BINARY)?,
            ahead: [0; 1024],
            next: 0,
            end: 0,
        })
    }
}

impl Link for Console {
    type Error = Closed;

    fn read(&mut self) -> Result<u8, Closed> {
        if self.next == self.end {
            let len = self.ahead.len() as u32;
            let block = [self.input, self.ahead.as_mut_ptr() as u32, len];
            // SAFETY: the call writes at most `len` bytes at `ahead`, which is ours.
            let unread = unsafe { call(SYS_READ, block.as_ptr() as u32) };
            if unread >= len {
                return Err(Closed);
            }
            self.next = 0;
            self.end = (len - unread) as usize;
        }
        let byte = self.ahead[self.next];
        self.next += 1;
        Ok(byte)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        if bytes.is_empty() {
            return Ok(());
        }
        let block = [self.output, bytes.as_ptr() as u32, bytes.len() as u32];
        // SAFETY: the call reads `bytes`.
        match unsafe { call(SYS_WRITE, block.as_ptr() as u32) } {
            0 => Ok(()),
            _ => Err(Closed),
        }
    }
}
