//! Arm MPS2 with application note 386 (Cortex-M4), as QEMU's machine `mps2-an386` models it.
//!
//! Link: semihosting's console. Slot: the upper half of SSRAM1, which is RAM, so writing is copying. Clock:
//! SysTick at 25 MHz, which under `-icount shift=0` ticks once every 40 instructions.

use core::ptr::addr_of;
use core::slice;

use crate::cortex_m_port::code_bytes;
use crate::port::{BoardInfo, Slot, SlotWriteError};

/// Frequency of the processor, SysTick and the peripherals.
pub const CLOCK_HZ: u32 = 25_000_000;

/// Bytes for arena, input, output and a kept tensor.
pub const POOL_BYTES: usize = 3 * 1024 * 1024;

/// What the agent says about this board.
pub fn info() -> BoardInfo {
    BoardInfo {
        board: "mps2-an386",
        core: "Cortex-M4",
        code_bytes: code_bytes(),
    }
}

unsafe extern "C" {
    static mut __slot_start: u8;
    static mut __slot_end: u8;
}

/// The slot.
pub struct Ram(&'static mut [u8]);

impl Ram {
    /// The board's slot, with whatever it holds.
    ///
    /// # Safety
    /// Called once; nothing else touches the slot.
    pub unsafe fn new() -> Self {
        // SAFETY: the linker script keeps the range free of anything else, and by contract this
        // is the only reference to it.
        let bytes = unsafe {
            let start = &raw mut __slot_start;
            let len = &raw const __slot_end as usize - addr_of!(__slot_start) as usize;
            slice::from_raw_parts_mut(start, len)
        };
        Self(bytes)
    }
}

impl Slot for Ram {
    fn bytes(&self) -> &[u8] {
        self.0
    }

    fn write(&mut self, offset: usize, data: &[u8]) -> Result<(), SlotWriteError> {
        self.0
            .get_mut(offset..)
            .and_then(|s| s.get_mut(..data.len()))
            .ok_or(SlotWriteError)?
            .copy_from_slice(data);
        Ok(())
    }
}
