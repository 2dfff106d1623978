//! Inputs widened to i16 with the zero point taken off and the padding made explicit.

use crate::graph::Pads;

/// Layout of one sample's widened input: `[top + h + bottom][left + w + right][channels]`.
///
/// With padding present as zeros, a filter tap is a plain offset and the inner loops need no
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
}

/// Elements after the last plane that a kernel may read (and multiply by zero).
pub(super) const SLACK: usize = 2;

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
        }
    }

    /// Channels repeated and padded with zeros to a multiple of `align`.
    pub(super) fn expanded(mut self, repeat: usize, align: usize) -> Self {
        self.repeat = repeat;
        self.stride_c = (self.c * repeat).next_multiple_of(align);
        self
    }

    /// Distance between two rows.
    pub(super) fn row(&self) -> usize {
        (self.pads.left + self.w + self.pads.right) * self.stride_c
    }

    /// Distance between two positions of a row.
    pub(super) fn column(&self) -> usize {
        self.stride_c
    }

    /// Elements of one sample.
    pub(super) fn elements(&self) -> usize {
        (self.pads.top + self.h + self.pads.bottom) * self.row()
    }

    /// Widens `n` samples of `x` into `to`, which is grown as needed.
    pub(super) fn fill(&self, x: &[i8], n: usize, to: &mut Vec<i16>) {
        let size = self.elements();
        let need = n * size + SLACK;
        if to.len() < need {
            to.resize(need, 0);
        }
        let sample = self.h * self.w * self.c;
        for (x, plane) in x
            .chunks_exact(sample)
            .zip(to[..n * size].chunks_exact_mut(size))
        {
            self.fill_one(x, plane);
        }
        to[n * size..need].fill(0);
    }

    fn fill_one(&self, x: &[i8], plane: &mut [i16]) {
        let row = self.row();
        let z = self.zero_point as i16;
        let (left, right) = (
            self.pads.left * self.stride_c,
            self.pads.right * self.stride_c,
        );
        let (top, rest) = plane.split_at_mut(self.pads.top * row);
        let (middle, bottom) = rest.split_at_mut(self.h * row);
        top.fill(0);
        bottom.fill(0);
        for (x, to) in x
            .chunks_exact(self.w * self.c)
            .zip(middle.chunks_exact_mut(row))
        {
            to[..left].fill(0);
            to[row - right..].fill(0);
            let to = &mut to[left..row - right];
            if self.repeat == 1 && self.stride_c == self.c {
                for (t, &v) in to.iter_mut().zip(x) {
                    *t = v as i16 - z;
                }
            } else {
                for (x, to) in x
                    .chunks_exact(self.c)
                    .zip(to.chunks_exact_mut(self.stride_c))
                {
                    let (used, spare) = to.split_at_mut(self.c * self.repeat);
                    for (&v, t) in x.iter().zip(used.chunks_exact_mut(self.repeat)) {
                        t.fill(v as i16 - z);
                    }
                    spare.fill(0);
                }
            }
        }
    }
}
