//! Reads operators and manifests: postcard's encoding of [`Op`] and [`Manifest`].
//!
//! postcard's own decoder gives the same (the tests compare them), in several times the code: this
//! one notes a failure and goes on with zeros, so that nothing is asked after every field.

use super::elementwise::{Constant, Operand, Product, ResizeNearest, Sum};
use super::manifest::Manifest;
use super::op::*;
use super::operators::is_built_in;
use crate::arith::Multiplier;

/// What is left of the bytes. After a failure it reads zeros.
struct Reader<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Reader<'a> {
    #[inline(never)]
    fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((&byte, rest)) => {
                self.rest = rest;
                byte
            }
            None => {
                self.failed = true;
                0
            }
        }
    }

    fn i8(&mut self) -> i8 {
        self.byte() as i8
    }

    /// Groups of 7 bits, lowest first, bit 7 set on all but the last byte; of a number of `bits`.
    #[inline(never)]
    fn varint(&mut self, bits: u32) -> u32 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte() as u32;
            let group = byte & 0x7f;
            let fits = shift + 7 <= bits || group >> (bits - shift) == 0;
            value |= group << shift;
            if byte < 0x80 && fits {
                return value;
            }
            shift += 7;
            if shift >= bits {
                self.failed = true;
                return 0;
            }
        }
    }

    fn u16(&mut self) -> u16 {
        self.varint(16) as u16
    }

    fn u32(&mut self) -> u32 {
        self.varint(32)
    }

    fn i32(&mut self) -> i32 {
        let zigzag = self.varint(32);
        (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32)
    }

    #[inline(never)]
    fn bytes(&mut self) -> &'a [u8] {
        let len = self.u32() as usize;
        match self.rest.split_at_checked(len) {
            Some((bytes, rest)) => {
                self.rest = rest;
                bytes
            }
            None => {
                self.failed = true;
                &[]
            }
        }
    }

    fn two(&mut self) -> [u8; 2] {
        [self.byte(), self.byte()]
    }

    #[inline(never)]
    fn multiplier(&mut self) -> Multiplier {
        Multiplier {
            mantissa: self.i32(),
            exponent: self.i8(),
        }
    }

    #[inline(never)]
    fn window(&mut self) -> Window {
        Window {
            kernel: self.two(),
            stride: self.two(),
            dilation: self.two(),
            pad: self.two(),
        }
    }

    #[inline(never)]
    fn weights(&mut self) -> (WeightRef, ChannelRef) {
        let weights = WeightRef {
            offset: self.u32(),
            bits: self.byte(),
        };
        let channels = ChannelRef {
            bias: self.u32(),
            mantissas: self.u32(),
            exponents: self.u32(),
            act_min: self.i8(),
            act_max: self.i8(),
        };
        (weights, channels)
    }

    #[inline(never)]
    fn conv2d(&mut self) -> Conv2d<'a> {
        let (input, output) = (self.u16(), self.u16());
        let (window, groups) = (self.window(), self.u16());
        let (weights, channels) = self.weights();
        Conv2d {
            input,
            output,
            window,
            groups,
            weights,
            channels,
            hints: self.bytes(),
        }
    }

    #[inline(never)]
    fn pool(&mut self) -> Pool {
        Pool {
            input: self.u16(),
            output: self.u16(),
            window: self.window(),
            act_min: self.i8(),
            act_max: self.i8(),
        }
    }

    #[inline(never)]
    fn operand(&mut self) -> Operand {
        match self.u32() {
            0 => Operand::Tensor(self.u16()),
            number => {
                self.failed |= number > 1;
                Operand::Constant(Constant {
                    offset: self.u32(),
                    count: self.u16(),
                    zero_point: self.i8(),
                    scale_bits: self.u32(),
                })
            }
        }
    }

    #[inline(never)]
    fn sum(&mut self) -> Sum {
        Sum {
            operands: [self.operand(), self.operand()],
            output: self.u16(),
            input_multipliers: [self.multiplier(), self.multiplier()],
            output_multiplier: self.multiplier(),
            act_min: self.i8(),
            act_max: self.i8(),
        }
    }

    /// Fields in the order in which the types of [`super::op`] have them.
    fn op(&mut self) -> Option<Op<'a>> {
        let number = self.u32();
        if !is_built_in(number) {
            return None;
        }
        // Where an operator is not built in, its arm is never reached, and the compiler knows.
        let has = is_built_in;
        Some(match number {
            0 if has(0) => Op::Conv2d(self.conv2d()),
            1 if has(1) => Op::DepthwiseConv2d(self.conv2d()),
            2 if has(2) => {
                let (input, output) = (self.u16(), self.u16());
                let (weights, channels) = self.weights();
                Op::FullyConnected(FullyConnected {
                    input,
                    output,
                    weights,
                    channels,
                    hints: self.bytes(),
                })
            }
            3 if has(3) => Op::Add(Add {
                inputs: [self.u16(), self.u16()],
                output: self.u16(),
                input_multipliers: [self.multiplier(), self.multiplier()],
                output_multiplier: self.multiplier(),
                act_min: self.i8(),
                act_max: self.i8(),
            }),
            4 if has(4) => Op::MaxPool(self.pool()),
            5 if has(5) => Op::AveragePool(self.pool()),
            6 if has(6) => Op::Mean(Mean {
                input: self.u16(),
                output: self.u16(),
                multiplier: self.multiplier(),
            }),
            7 if has(7) => Op::Pad(Pad {
                input: self.u16(),
                output: self.u16(),
                before: [self.u16(), self.u16(), self.u16()],
                value: self.i8(),
            }),
            8 if has(8) => Op::Concat(Concat {
                output: self.u16(),
                axis: self.byte(),
                inputs: self.bytes(),
            }),
            9 if has(9) => Op::Reshape(Unary {
                input: self.u16(),
                output: self.u16(),
            }),
            10 if has(10) => Op::Transpose(Transpose {
                input: self.u16(),
                output: self.u16(),
                perm: [self.byte(), self.byte(), self.byte()],
            }),
            11 if has(11) => Op::Requantize(Requantize {
                input: self.u16(),
                output: self.u16(),
                multiplier: self.multiplier(),
            }),
            12 if has(12) => Op::Lut(Lut {
                input: self.u16(),
                output: self.u16(),
                table: self.u32(),
            }),
            13 if has(13) => Op::Softmax(Softmax {
                input: self.u16(),
                output: self.u16(),
                multiplier: self.i32(),
                left_shift: self.byte(),
                diff_min: self.i32(),
            }),
            14 if has(14) => Op::Mul(Product {
                operands: [self.operand(), self.operand()],
                output: self.u16(),
                multiplier: self.multiplier(),
                act_min: self.i8(),
                act_max: self.i8(),
            }),
            15 if has(15) => Op::Sub(self.sum()),
            16 if has(16) => Op::BroadcastAdd(self.sum()),
            17 if has(17) => Op::ResizeNearest(ResizeNearest {
                input: self.u16(),
                output: self.u16(),
                rows: self.u32(),
                columns: self.u32(),
            }),
            _ => return None,
        })
    }
}

impl<'a> Op<'a> {
    /// Takes the first operator off `bytes`; `None` where there is none that is built in here
    /// ([`super::BUILT_IN`]).
    #[inline(never)]
    pub fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let mut reader = Reader {
            rest: bytes,
            failed: false,
        };
        let op = reader.op();
        if reader.failed {
            return None;
        }
        *bytes = reader.rest;
        op
    }
}

impl<'a> Manifest<'a> {
    /// Reads a manifest and the bytes behind it.
    #[inline(never)]
    pub fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut reader = Reader {
            rest: bytes,
            failed: false,
        };
        let manifest = Manifest {
            name: reader.bytes(),
            tensors: reader.bytes(),
            ops: reader.bytes(),
            input: reader.u16(),
            output: reader.u16(),
            arena_bytes: reader.u32(),
            notes: reader.bytes(),
            pad: reader.bytes(),
            weights: reader.bytes(),
        };
        (!reader.failed).then_some((manifest, reader.rest))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::test_random::Random;
    use std::vec::Vec;

    /// What both readers make of these bytes, or a message where they differ.
    fn compare(bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let ours = Op::take(&mut rest).map(|op| (op, rest));
        let theirs = postcard::take_from_bytes::<Op<'_>>(bytes).ok();
        let theirs = theirs.filter(|(op, _)| is_built_in(op.number() as u32));
        assert_eq!(ours, theirs, "{bytes:?}");
        ours.is_some()
    }

    #[test]
    fn operators_read_as_postcard_reads_them_whatever_the_bytes() {
        let mut random = Random::new(11);
        let mut read = [0u32; super::super::OPERATORS.len()];
        let mut refused = 0;
        for i in 0..200_000u32 {
            let number = (i % (read.len() as u32 + 2)) as u8;
            let mut bytes = Vec::from([number]);
            for _ in 0..random.range(20, 80) {
                // Many small ones, so that lengths and numbers of variants are often right.
                bytes.push(match random.range(0, 3) {
                    0 => random.i8() as u8,
                    1 => random.range(0, 2) as u8,
                    _ => random.range(0, 127) as u8,
                });
            }
            if compare(&bytes) {
                read[number as usize] += 1;
                // Cut off anywhere.
                bytes.truncate(random.range(0, bytes.len() as i32) as usize);
                compare(&bytes);
            } else {
                refused += 1;
            }
        }
        for (number, &n) in (0..).zip(&read) {
            assert_eq!(n > 100, is_built_in(number), "{read:?}");
        }
        assert!(refused > 20_000, "{refused}");
    }

    #[test]
    fn manifests_read_as_postcard_reads_them() {
        let mut random = Random::new(12);
        let mut read = 0;
        for _ in 0..50_000 {
            let bytes: Vec<u8> = (0..random.range(0, 60))
                .map(|_| match random.range(0, 4) {
                    0 => random.i8() as u8,
                    _ => random.range(0, 6) as u8,
                })
                .collect();
            let ours = Manifest::read(&bytes);
            assert_eq!(ours, postcard::take_from_bytes(&bytes).ok(), "{bytes:?}");
            read += ours.is_some() as u32;
        }
        assert!(read > 1000, "{read}");
    }

    #[test]
    fn numbers_beyond_their_width_are_refused() {
        let u16_of = |bytes: &[u8]| {
            let mut reader = Reader {
                rest: bytes,
                failed: false,
            };
            let value = reader.u16();
            (!reader.failed).then_some(value)
        };
        assert_eq!(u16_of(&[0xff, 0xff, 0x03]), Some(u16::MAX));
        assert_eq!(u16_of(&[0xff, 0xff, 0x04]), None);
        assert_eq!(u16_of(&[0x80, 0x80, 0x80, 0x00]), None);
        assert_eq!(u16_of(&[0x80, 0x00]), Some(0));
        assert_eq!(u16_of(&[0x80]), None);
    }

    #[test]
    fn an_operator_s_number_is_the_first_byte_of_its_message() {
        for number in 0..super::super::OPERATORS.len() as u8 {
            let mut bytes = [0u8; 64];
            bytes[0] = number;
            let Some(op) = Op::take(&mut &bytes[..]) else {
                assert!(
                    !is_built_in(number as u32),
                    "zeros are a message of any operator"
                );
                continue;
            };
            assert_eq!(op.number(), number);
            assert_eq!(std::format!("{op:?}").split('(').next(), Some(op.kind()));
        }
    }
}
