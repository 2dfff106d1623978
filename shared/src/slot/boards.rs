//! Boards whose flash both the firmware and the host know.

use super::layout::{Layout, Region, SlotLayout};

/// A board's flash, as far as it holds slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// As in its file's name.
    pub name: &'static str,
    /// Address of the first byte that [`Layout`] counts from.
    pub address: u32,
    /// Where slots and records lie.
    pub layout: Layout,
    /// Number of the chip's family in UF2 files (Microsoft, `uf2families.json`), where it has one.
    pub uf2_family: Option<u32>,
}

/// Boards for which flash contents can be written to files.
pub const BOARDS: [Board; 2] = [MICROBIT, STM32F405];

/// BBC micro:bit, nRF51822: pages of 1 KiB. The lower 96 KiB are the firmware's.
pub const MICROBIT: Board = Board {
    name: "microbit",
    address: 0x1_8000,
    layout: Layout {
        slots: [
            slot(kib(0), kib(79), kib(79), kib(1)),
            slot(kib(80), kib(79), kib(159), kib(1)),
        ],
    },
    uf2_family: None,
};

/// STM32F405 and its like with 1 MiB: sectors of 16 (4), 64 (1) and 128 KiB (7). Vectors are in
/// sector 0, records in 1 and 2, the firmware in 4 and 5, images in 6 to 8 and 9 to 11.
pub const STM32F405: Board = Board {
    name: "stm32f405",
    address: 0x0800_0000,
    layout: Layout {
        slots: [
            slot(kib(256), kib(384), kib(16), kib(16)),
            slot(kib(640), kib(384), kib(32), kib(16)),
        ],
    },
    uf2_family: Some(0x5775_5a57),
};

const fn kib(n: u32) -> u32 {
    n << 10
}

const fn slot(image: u32, image_len: u32, records: u32, records_len: u32) -> SlotLayout {
    SlotLayout {
        image: Region {
            start: image,
            len: image_len,
        },
        records: Region {
            start: records,
            len: records_len,
        },
    }
}
