//! A simulated NOR flash whose power can be cut at any operation, images, and patches.
#![allow(dead_code)] // Each test program uses its part.

use qmend_shared::image::{HEADER_BYTES, Model, Op};
use qmend_shared::link::frame::crc32;
use qmend_shared::patch;
use qmend_shared::slot::{Layout, Region, Sector, SlotLayout, Storage, StorageError};

/// Marsaglia's xorshift64*.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.bits() >> 16) % n
    }
}

/// NOR flash: erasing sets bits, writing clears them, unit by unit.
#[derive(Clone)]
pub struct Nor {
    bytes: Vec<u8>,
    sectors: Vec<u32>,
    unit: usize,
    /// Units that were written since their sector's erasure: flash with a check code of its own
    /// takes no second write.
    written: Vec<bool>,
    /// Operations (a unit written, a sector erased) until the power is cut in one.
    fuse: Option<u64>,
    pub operations: u64,
    random: Random,
}

impl Nor {
    /// As it leaves the factory, with sectors of these lengths.
    pub fn new(sectors: &[u32], unit: usize) -> Self {
        let len: u32 = sectors.iter().sum();
        Self {
            bytes: vec![0xff; len as usize],
            sectors: sectors.to_vec(),
            unit,
            written: vec![false; len as usize / unit],
            fuse: None,
            operations: 0,
            random: Random::new(1),
        }
    }

    /// The power will be cut in the operation after the next `operations`.
    pub fn cut_after(&mut self, operations: u64, seed: u64) {
        self.fuse = Some(operations);
        self.random = Random::new(seed);
    }

    /// The power is back: what was spoilt stays so.
    pub fn restart(&mut self) {
        self.fuse = None;
    }

    /// Spoils a byte.
    pub fn spoil(&mut self, at: usize) {
        self.bytes[at] ^= 0x10;
    }

    /// `Ok(true)` in the operation in which the power is cut.
    fn burn(&mut self) -> Result<bool, StorageError> {
        self.operations += 1;
        match &mut self.fuse {
            None => Ok(false),
            // Long dead.
            Some(u64::MAX) => Err(StorageError),
            Some(0) => {
                self.fuse = Some(u64::MAX);
                Ok(true)
            }
            Some(n) => {
                *n -= 1;
                Ok(false)
            }
        }
    }
}

impl Storage for Nor {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn write_unit(&self) -> usize {
        self.unit
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        let mut start = 0;
        for &len in &self.sectors {
            if offset < start + len {
                return Some(Sector { start, len });
            }
            start += len;
        }
        None
    }

    fn erase(&mut self, sector: Sector) -> Result<(), StorageError> {
        assert_eq!(self.sector(sector.start), Some(sector), "a whole sector");
        let torn = self.burn()?;
        let range = sector.start as usize..sector.end() as usize;
        let Self {
            bytes,
            random,
            written,
            unit,
            ..
        } = self;
        for byte in &mut bytes[range.clone()] {
            *byte = match torn.then(|| random.below(3)) {
                None | Some(0) => 0xff,
                Some(1) => random.bits() as u8,
                // Not reached yet.
                _ => *byte,
            };
        }
        if torn {
            return Err(StorageError);
        }
        written[range.start / *unit..range.end / *unit].fill(false);
        Ok(())
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), StorageError> {
        let offset = offset as usize;
        assert!(offset.is_multiple_of(self.unit), "aligned");
        assert!(data.len().is_multiple_of(self.unit), "whole units");
        for (i, unit) in data.chunks(self.unit).enumerate() {
            let torn = self.burn()?;
            let at = offset + i * self.unit;
            let place = &mut self.bytes[at..at + self.unit];
            assert!(
                !self.written[at / self.unit],
                "the unit at {at} is written twice"
            );
            assert!(
                place.iter().all(|&b| b == 0xff),
                "the unit at {at} is not erased"
            );
            if torn {
                // A random part of the bits that are to be cleared, none or all of them included.
                let share = self.random.below(3);
                for (to, &from) in place.iter_mut().zip(unit) {
                    *to &= match share {
                        0 => from | self.random.bits() as u8,
                        1 => 0xff,
                        _ => from,
                    };
                }
                // What looks erased may be written again; what does not, may not.
                self.written[at / self.unit] = place.iter().any(|&b| b != 0xff);
                return Err(StorageError);
            }
            for (to, &from) in place.iter_mut().zip(unit) {
                *to &= from;
            }
            self.written[at / self.unit] = true;
        }
        Ok(())
    }
}

/// A kind of flash with its layout.
pub struct Chip {
    pub name: &'static str,
    pub sectors: Vec<u32>,
    pub unit: usize,
    pub layout: Layout,
}

impl Chip {
    pub fn flash(&self) -> Nor {
        Nor::new(&self.sectors, self.unit)
    }
}

fn region(start: u32, len: u32) -> Region {
    Region { start, len }
}

fn layout(regions: [(u32, u32); 4]) -> Layout {
    let [a, ra, b, rb] = regions.map(|(start, len)| region(start << 10, len << 10));
    Layout {
        slots: [
            SlotLayout {
                image: a,
                records: ra,
            },
            SlotLayout {
                image: b,
                records: rb,
            },
        ],
    }
}

/// Kinds of flash that people have.
pub fn chips() -> Vec<Chip> {
    vec![
        Chip {
            name: "nRF51: pages of 1 KiB, units of 4",
            sectors: vec![1024; 32],
            unit: 4,
            layout: layout([(1, 9), (10, 1), (16, 8), (24, 1)]),
        },
        Chip {
            name: "STM32F4: sectors of 16, 64 and 128 KiB, units of 4",
            sectors: [16, 16, 16, 16, 64, 128, 128, 128]
                .map(|kib| kib << 10)
                .to_vec(),
            unit: 4,
            layout: layout([(128, 128), (0, 16), (256, 128), (64, 64)]),
        },
        Chip {
            name: "STM32L4: pages of 2 KiB, units of 8",
            sectors: vec![2048; 20],
            unit: 8,
            layout: layout([(0, 12), (12, 2), (14, 12), (26, 2)]),
        },
        Chip {
            name: "STM32H7-like: sectors of 8 KiB, units of 32",
            sectors: vec![8192; 5],
            unit: 32,
            layout: layout([(0, 8), (8, 8), (16, 8), (24, 8)]),
        },
    ]
}

/// An image of 5,978 bytes.
pub const IMAGE: &[u8] = include_bytes!("../../../firmware/examples/data/fashion.qmend");

/// The image with `n` added to every bias of its linear operators.
pub fn image(n: i32) -> Vec<u8> {
    let model = Model::from_bytes(IMAGE).expect("a sound image");
    let weights_at = IMAGE.len() - model.manifest().weights.len();
    let mut bytes = IMAGE.to_vec();
    for op in model.ops() {
        let (channels, count) = match op {
            Op::Conv2d(o) => (o.channels, model.tensor(o.output).shape[2]),
            Op::FullyConnected(o) => (o.channels, model.tensor(o.output).shape[2]),
            _ => continue,
        };
        let from = weights_at + channels.bias as usize;
        for word in bytes[from..from + 4 * count as usize].chunks_exact_mut(4) {
            let bias = i32::from_le_bytes([word[0], word[1], word[2], word[3]]) + n;
            word.copy_from_slice(&bias.to_le_bytes());
        }
    }
    // The header's last field is the CRC of all the rest.
    let rest = [&bytes[..12], &bytes[HEADER_BYTES..]].concat();
    bytes[12..16].copy_from_slice(&crc32(&rest).to_le_bytes());
    Model::from_bytes(&bytes).expect("still sound");
    bytes
}

pub fn varint(mut n: u32, to: &mut Vec<u8>) {
    while n > 0x7f {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

/// A patch with these operations.
pub fn patch_of(base: &[u8], target: &[u8], body: &[u8]) -> Vec<u8> {
    let header = patch::Header {
        base_len: base.len() as u32,
        base_crc: crc32(base),
        target_len: target.len() as u32,
        target_crc: crc32(target),
        body_len: body.len() as u32,
    };
    [&header.to_bytes(body)[..], body].concat()
}

/// A patch between images of one length: words where they differ are added to.
pub fn patch_between(base: &[u8], target: &[u8]) -> Vec<u8> {
    assert_eq!(base.len(), target.len());
    let words = base.len() / 4;
    let word = |b: &[u8], i: usize| {
        i32::from_le_bytes([b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]])
    };
    let mut body = Vec::new();
    let mut i = 0;
    while i < words {
        let equal = (i..words)
            .take_while(|&j| word(base, j) == word(target, j))
            .count();
        if equal > 0 {
            varint((4 * equal as u32) << 2 | patch::KIND_COPY, &mut body);
        }
        i += equal;
        let run = (i..words)
            .take_while(|&j| word(base, j) != word(target, j))
            .count();
        if run > 0 {
            varint((run as u32) << 2 | patch::KIND_ADD, &mut body);
            for j in i..i + run {
                let delta = word(target, j).wrapping_sub(word(base, j));
                varint(patch::zigzag(delta), &mut body);
            }
        }
        i += run;
    }
    let tail = &target[4 * words..];
    if !tail.is_empty() {
        varint((tail.len() as u32) << 2 | patch::KIND_REPLACE, &mut body);
        body.extend_from_slice(tail);
    }
    patch_of(base, target, &body)
}
