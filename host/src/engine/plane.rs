//! Inputs in the form that the multiply-accumulate loops read, with the padding made explicit.

use super::isa::Isa;
use crate::graph::Pads;

/// What a loop reads of an input.
pub(super) trait Element: Copy + Default {
    /// From an input and its tensor's zero point.
    fn new(x: i8, zero_point: i8) -> Self;
}

/// The distance from the zero point.
impl Element for i16 {
    #[inline(always)]
    fn new(x: i8, zero_point: i8) -> Self {
        x as i16 - zero_point as i16
    }
}

/// The distance from -128, for instructions that multiply unsigned by signed bytes. The bias takes
/// care of the zero point: see [`super::requant::Requant::from_minimum`].
impl Element for u8 {
    #[inline(always)]
    fn new(x: i8, _: i8) -> Self {
        (x as u8) ^ 0x80
    }
}

/// Layout of one sample's prepared input: `[top + h + bottom][left + w + right][channels]`.
///
/// With padding present (the zero point), a filter tap is a plain offset and the inner loops need no
/// bounds of the picture.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    h: usize,
    w: usize,
    c: usize,
    pads: Pads,
    /// Times that each input channel is repeated (a depthwise operator's multiplier).
    repeat: usize,
    /// Channels of a position, zeros at the end included.
    stride_c: usize,
    zero_point: i8,
    /// Padded columns lie sorted by their remainder of this number.
    phases: usize,
}

/// Elements after the last plane that a kernel may read (and multiply by zero).
pub(super) const SLACK: usize = 64;

impl Plane {
    pub(super) fn new(input: [usize; 3], pads: Pads, zero_point: i8) -> Self {
        let [h, w, c] = input;
        Self {
            h,
            w,
            c,
            pads,
            repeat: 1,
            stride_c: c,
            zero_point,
            phases: 1,
        }
    }

    /// Channels repeated and padded with zeros to a multiple of `align`.
    pub(super) fn expanded(mut self, repeat: usize, align: usize) -> Self {
        self.repeat = repeat;
        self.stride_c = (self.c * repeat).next_multiple_of(align);
        self
    }

    /// Columns sorted by their remainder of `phases`, so that every `phases`th ones, which a
    /// stride reads, lie side by side.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn phased(mut self, phases: usize) -> Self {
        self.phases = phases;
        self
    }

    /// Where padded column `x` lies in a row.
    pub(super) fn column_at(&self, x: usize) -> usize {
        (x % self.phases * self.columns_a_phase() + x / self.phases) * self.stride_c
    }

    fn columns_a_phase(&self) -> usize {
        (self.pads.left + self.w + self.pads.right).div_ceil(self.phases)
    }

    /// Distance between two rows.
    pub(super) fn row(&self) -> usize {
        self.columns_a_phase() * self.phases * self.stride_c
    }

    /// Distance between two positions of a row.
    pub(super) fn column(&self) -> usize {
        self.stride_c
    }

    /// Elements of one sample.
    pub(super) fn elements(&self) -> usize {
        (self.pads.top + self.h + self.pads.bottom) * self.row()
    }

    /// Prepares `n` samples of `x` in `to`, which is grown as needed.
    pub(super) fn fill<T: Element>(&self, isa: Isa, x: &[i8], n: usize, to: &mut Vec<T>) {
        let size = self.elements();
        let need = n * size + SLACK;
        if to.len() < need {
            to.resize(need, T::default());
        }
        let sample = self.h * self.w * self.c;
        for (x, plane) in x
            .chunks_exact(sample)
            .zip(to[..n * size].chunks_exact_mut(size))
        {
            isa.vectorized(
                #[inline(always)]
                || self.fill_one(x, plane),
            );
        }
        to[n * size..need].fill(T::default());
    }

    #[inline(always)]
    fn fill_one<T: Element>(&self, x: &[i8], plane: &mut [T]) {
        let row = self.row();
        let z = self.zero_point;
        let pad = T::new(z, z);
        let (left, right) = (
            self.pads.left * self.stride_c,
            self.pads.right * self.stride_c,
        );
        let (top, rest) = plane.split_at_mut(self.pads.top * row);
        let (middle, bottom) = rest.split_at_mut(self.h * row);
        top.fill(pad);
        bottom.fill(pad);
        for (x, to) in x
            .chunks_exact(self.w * self.c)
            .zip(middle.chunks_exact_mut(row))
        {
            if self.phases > 1 {
                to.fill(pad);
                for (i, x) in x.chunks_exact(self.c).enumerate() {
                    let at = self.column_at(self.pads.left + i);
                    self.fill_position(x, &mut to[at..at + self.stride_c]);
                }
                continue;
            }
            to[..left].fill(pad);
            to[row - right..].fill(pad);
            let to = &mut to[left..row - right];
            if self.repeat == 1 && self.stride_c == self.c {
                for (t, &v) in to.iter_mut().zip(x) {
                    *t = T::new(v, z);
                }
            } else {
                for (x, to) in x
                    .chunks_exact(self.c)
                    .zip(to.chunks_exact_mut(self.stride_c))
                {
                    self.fill_position(x, to);
                }
            }
        }
    }

    #[inline(always)]
    fn fill_position<T: Element>(&self, x: &[i8], to: &mut [T]) {
        let z = self.zero_point;
        let (used, spare) = to.split_at_mut(self.c * self.repeat);
        if self.repeat == 1 {
            for (&v, t) in x.iter().zip(used) {
                *t = T::new(v, z);
            }
        } else {
            for (&v, t) in x.iter().zip(used.chunks_exact_mut(self.repeat)) {
                t.fill(T::new(v, z));
            }
        }
        spare.fill(T::default());
    }
}
