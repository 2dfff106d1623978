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
pub const BOARDS: [Board; 5] = [MICROBIT, STM32F405, NRF52840_DK, PICO, NUCLEO_F411RE];

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

/// nRF52840 development kit, 1 MiB: pages of 4 KiB. The lower 256 KiB are the firmware's.
pub const NRF52840_DK: Board = Board {
    name: "nrf52840-dk",
    address: 0x4_0000,
    layout: Layout {
        slots: [
            slot(kib(0), kib(380), kib(380), kib(4)),
            slot(kib(384), kib(380), kib(764), kib(4)),
        ],
    },
    uf2_family: Some(0xada5_2840),
};

/// Raspberry Pi Pico, RP2040 with 2 MiB: sectors of 4 KiB. The lower 512 KiB are the firmware's.
pub const PICO: Board = Board {
    name: "pico",
    address: 0x1008_0000,
    layout: Layout {
        slots: [
            slot(kib(0), kib(764), kib(764), kib(4)),
            slot(kib(768), kib(764), kib(1532), kib(4)),
        ],
    },
    uf2_family: Some(0xe48b_ff56),
};

/// STM32F411 Nucleo, 512 KiB: sectors of 16 (4), 64 (1) and 128 KiB (3). Vectors are in sector 0, records
/// in 1 and 2, the firmware in 3 to 5, images in 6 and 7.
pub const NUCLEO_F411RE: Board = Board {
    name: "nucleo-f411re",
    address: 0x0800_0000,
    layout: Layout {
        slots: [
            slot(kib(256), kib(128), kib(16), kib(16)),
            slot(kib(384), kib(128), kib(32), kib(16)),
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
