//! Arm MPS2 with application note 386 (Cortex-M4), as QEMU's machine `mps2-an386` models it.
//!
//! Link: semihosting's console. Slots: half of the PSRAM, made to behave as flash, which the machine
//! has none of; they are empty after a reset. Clock: SysTick at 25 MHz, which under `-icount shift=0` ticks once every 40 instructions.

use core::slice;

use qmend_shared::slot::{Layout, Region, SlotLayout};

use crate::cortex_m_port::code_bytes;
use crate::port::BoardInfo;
use crate::ram_flash::RamFlash;

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
        layout: LAYOUT,
        flash_address: &raw const __slots_start as u32,
    }
}

const SECTOR: u32 = 4096;
const SLOT: u32 = 4 << 20;

const LAYOUT: Layout = Layout {
    slots: [slot(0), slot(SLOT)],
};

const fn slot(start: u32) -> SlotLayout {
    let len = SLOT - SECTOR;
    SlotLayout {
        image: Region { start, len },
        records: Region {
            start: start + len,
            len: SECTOR,
        },
    }
}

unsafe extern "C" {
    static mut __slots_start: u8;
}

/// The memory of both slots, with whatever it holds.
///
/// # Safety
/// Called once; nothing else touches the memory.
pub unsafe fn flash() -> RamFlash<'static> {
    // SAFETY: the linker script keeps this range free of anything else, and by contract this is
    // the only reference to it.
    let bytes = unsafe { slice::from_raw_parts_mut(&raw mut __slots_start, 2 * SLOT as usize) };
    RamFlash::new(bytes, SECTOR)
}
