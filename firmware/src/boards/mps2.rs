//! Arm MPS2 with application notes 385 (Cortex-M3, and M0+, whose code it runs), 386 (M4), 500 (M7) and
//! 505 (M33), and MPS3 with application note 547 (M55), as QEMU's machines of these names model them.
//!
//! Link: semihosting's console. Slots: half of the PSRAM, made to behave as flash, which the machine
//! has none of; they are empty after a reset. Clock: SysTick at 25 MHz (20 on the M33, 32 on the M55), which
//! under `-icount shift=0` ticks once every 40 (50, 31.25) instructions.
//!
//! The board follows from the target, and for the M7, whose target is the M4's, from what
//! `firmware/build.sh` says: see `build.rs`.

use core::slice;

use qmend_shared::slot::{Layout, Region, SlotLayout};

use crate::cortex_m_port::code_bytes;
use crate::port::BoardInfo;
use crate::ram_flash::RamFlash;

/// Name, core and frequency.
const BOARD: (&str, &str, u32) = if cfg!(qmend_mps2 = "an500") {
    ("mps2-an500", "Cortex-M7", 25_000_000)
} else if cfg!(qmend_mps2 = "an505") {
    ("mps2-an505", "Cortex-M33", 20_000_000)
} else if cfg!(qmend_mps2 = "an547") {
    ("mps3-an547", "Cortex-M55", 32_000_000)
} else if cfg!(qmend_mps2 = "an385") {
    ("mps2-an385", "Cortex-M3", 25_000_000)
} else if cfg!(qmend_mps2 = "an385_m0plus") {
    ("mps2-an385", "Cortex-M0+", 25_000_000)
} else {
    ("mps2-an386", "Cortex-M4", 25_000_000)
};

/// Frequency of the processor, SysTick and the peripherals.
pub const CLOCK_HZ: u32 = BOARD.2;

/// Bytes for arena, input, output and a kept tensor.
pub const POOL_BYTES: usize = 3 * 1024 * 1024;

/// What the agent says about this board.
pub fn info() -> BoardInfo {
    BoardInfo {
        board: BOARD.0,
        core: BOARD.1,
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
