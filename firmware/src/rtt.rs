//! A link through the debug port: SEGGER's RTT, by whatever debugger reads and writes RAM.
//!
//! The control block's layout is that of SEGGER's "Real Time Transfer" (UM08001, chapter 16), with
//! one channel up and one down. Of our own rather than the crate `rtt-target`: the agent needs two byte
//! streams that block, none of its printing, and no critical section.

use core::cell::UnsafeCell;
use core::convert::Infallible;
use core::hint::spin_loop;
use core::ptr::addr_of_mut;
use core::sync::atomic::{Ordering, compiler_fence, fence};

use crate::port::Link;

/// Bytes on their way to the host.
const UP: usize = 512;
/// Bytes on their way here.
const DOWN: usize = 512;
/// Wait where there is no room, said in the channel's flags.
const BLOCK: u32 = 2;

#[repr(C)]
struct Channel {
    name: *const u8,
    buffer: *mut u8,
    size: u32,
    /// Where its writer writes next.
    write: u32,
    /// Where its reader reads next; equal to `write` where there is nothing.
    read: u32,
    flags: u32,
}

#[repr(C)]
struct ControlBlock {
    id: [u8; 16],
    up_channels: u32,
    down_channels: u32,
    up: Channel,
    down: Channel,
}

#[repr(transparent)]
struct Shared<T>(UnsafeCell<T>);

// SAFETY: one core; only the one `Rtt` uses them, and the debugger, through volatile accesses.
unsafe impl<T> Sync for Shared<T> {}

const fn channel(flags: u32) -> Channel {
    Channel {
        name: c"qmend".as_ptr().cast(),
        buffer: core::ptr::null_mut(),
        size: 0,
        write: 0,
        read: 0,
        flags,
    }
}

/// Found by its name in the ELF file, or by its mark in RAM. Not all zero, so it lies at RAM's start, among
/// what has initial values.
#[unsafe(export_name = "_SEGGER_RTT")]
static BLOCK_IN_RAM: Shared<ControlBlock> = Shared(UnsafeCell::new(ControlBlock {
    id: [0; 16],
    up_channels: 1,
    down_channels: 1,
    up: channel(BLOCK),
    down: channel(BLOCK),
}));
static UP_BUFFER: Shared<[u8; UP]> = Shared(UnsafeCell::new([0; UP]));
static DOWN_BUFFER: Shared<[u8; DOWN]> = Shared(UnsafeCell::new([0; DOWN]));

/// The link.
pub struct Rtt {
    block: *mut ControlBlock,
}

impl Rtt {
    /// Sets up the control block, and marks it last.
    ///
    /// # Safety
    /// Nothing else has one that is in use.
    pub unsafe fn start() -> Self {
        let block = BLOCK_IN_RAM.0.get();
        // The mark in pieces, so that flash holds none for a debugger to find.
        let mark = [*b"SEGG", *b"ER R", *b"TT\0\0", [0; 4]];
        // SAFETY: the statics live for ever, and by contract nobody else uses them. Volatile, as a
        // debugger looks on.
        unsafe {
            addr_of_mut!((*block).up.buffer).write_volatile(UP_BUFFER.0.get().cast());
            addr_of_mut!((*block).up.size).write_volatile(UP as u32);
            addr_of_mut!((*block).down.buffer).write_volatile(DOWN_BUFFER.0.get().cast());
            addr_of_mut!((*block).down.size).write_volatile(DOWN as u32);
            fence(Ordering::SeqCst);
            let id = addr_of_mut!((*block).id).cast::<[u8; 4]>();
            for (i, part) in mark.into_iter().enumerate().rev() {
                id.add(i).write_volatile(part);
            }
        }
        fence(Ordering::SeqCst);
        Self { block }
    }
}

impl Link for Rtt {
    type Error = Infallible;

    fn read(&mut self) -> Result<u8, Infallible> {
        // SAFETY: the block is ours and set up; indices are below the buffers' lengths: ours by the
        // modulo, the debugger's by the comparison with what is there.
        unsafe {
            let down = addr_of_mut!((*self.block).down);
            let at = addr_of_mut!((*down).read).read_volatile();
            while addr_of_mut!((*down).write).read_volatile() == at {
                spin_loop();
            }
            compiler_fence(Ordering::SeqCst);
            let from = DOWN_BUFFER.0.get().cast::<u8>();
            let byte = from.add(at as usize % DOWN).read_volatile();
            compiler_fence(Ordering::SeqCst);
            addr_of_mut!((*down).read).write_volatile((at + 1) % DOWN as u32);
            Ok(byte)
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        for &byte in bytes {
            // SAFETY: as in `read`.
            unsafe {
                let up = addr_of_mut!((*self.block).up);
                let at = addr_of_mut!((*up).write).read_volatile();
                let next = (at + 1) % UP as u32;
                while addr_of_mut!((*up).read).read_volatile() == next {
                    spin_loop();
                }
                let to = UP_BUFFER.0.get().cast::<u8>();
                to.add(at as usize % UP).write_volatile(byte);
                compiler_fence(Ordering::SeqCst);
                addr_of_mut!((*up).write).write_volatile(next);
            }
        }
        Ok(())
    }
}
