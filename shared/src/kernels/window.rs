//! Where a sliding window meets the input, along one axis.

use super::Shape;
use crate::image::Window;

/// One axis of a sliding window.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Length of the input along this axis.
    pub input: usize,
    /// Taps along this axis.
    pub kernel: usize,
    /// Step from one window to the next, at least 1.
    pub stride: usize,
    /// Distance between taps, at least 1.
    pub dilation: usize,
    /// Positions before the input.
    pub pad: usize,
}

/// The taps of one window that lie inside the input: tap `t` in `from..to` reads position
/// `first + (t - from) * dilation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taps {
    /// First tap inside.
    pub from: usize,
    /// One past the last tap inside; not below `from`.
    pub to: usize,
    /// The input position of the first tap inside.
    pub first: usize,
}

impl Taps {
    /// How many taps are inside.
    #[inline(always)]
    pub const fn count(&self) -> usize {
        self.to - self.from
    }
}

impl Axis {
    /// Both axes of a window over an input.
    pub fn of(window: &Window, input: Shape) -> [Axis; 2] {
        [0, 1].map(|i| Axis {
            input: input[i],
            kernel: window.kernel[i] as usize,
            stride: window.stride[i] as usize,
            dilation: window.dilation[i] as usize,
            pad: window.pad[i] as usize,
        })
    }

    /// The taps of window number `o` that lie inside the input.
    #[inline]
    pub fn taps(&self, o: usize) -> Taps {
        // All positions are counted from the first padding position.
        let start = o * self.stride;
        // Most windows have no gaps, and small processors no division.
        let steps = |distance: usize| match self.dilation {
            1 => distance,
            dilation => distance.div_ceil(dilation),
        };
        let from = if start < self.pad {
            steps(self.pad - start)
        } else {
            0
        };
        let end = self.pad + self.input;
        let to = if start < end { steps(end - start) } else { 0 };
        let to = to.min(self.kernel);
        if from >= to {
            return Taps {
                from: 0,
                to: 0,
                first: 0,
            };
        }
        Taps {
            from,
            to,
            first: start + from * self.dilation - self.pad,
        }
    }
}

/// What both pooling kernels need.
#[derive(Clone, Copy, Debug)]
pub struct PoolParams {
    /// Shape of the input.
    pub input: Shape,
    /// Shape of the output.
    pub output: Shape,
    /// The window.
    pub window: Window,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

impl PoolParams {
    /// Calls `reduce(input positions [y taps, x taps], offset of the output position)` for each
    /// output position in order.
    #[inline(always)]
    pub(super) fn positions(&self, mut reduce: impl FnMut(Taps, Taps, usize)) {
        let [y, x] = Axis::of(&self.window, self.input);
        let mut at = 0;
        for oy in 0..self.output[0] {
            let ys = y.taps(oy);
            for ox in 0..self.output[1] {
                reduce(ys, x.taps(ox), at);
                at += self.output[2];
            }
        }
    }

    /// Calls `visit(offset of the input position)` for each tap of a window inside the input.
    #[inline(always)]
    pub(super) fn inside(&self, ys: Taps, xs: Taps, mut visit: impl FnMut(usize)) {
        let [dy, dx] = self.window.dilation.map(|d| d as usize);
        for ky in 0..ys.count() {
            let row = (ys.first + ky * dy) * self.input[1];
            for kx in 0..xs.count() {
                visit((row + xs.first + kx * dx) * self.input[2]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_random::Random;

    #[test]
    fn taps_are_those_that_a_search_finds() {
        let mut r = Random::new(1);
        for _ in 0..20_000 {
            let a = Axis {
                input: r.range(1, 12) as usize,
                kernel: r.range(1, 7) as usize,
                stride: r.range(1, 5) as usize,
                dilation: r.range(1, 5) as usize,
                pad: r.range(0, 9) as usize,
            };
            let o = r.range(0, 12) as usize;
            let position = |t: usize| (o * a.stride + t * a.dilation) as i64 - a.pad as i64;
            let inside = |t: usize| (0..a.input as i64).contains(&position(t));
            let got = a.taps(o);
            for t in 0..a.kernel {
                assert_eq!(
                    (got.from..got.to).contains(&t),
                    inside(t),
                    "{a:?} window {o} tap {t}"
                );
            }
            assert!(got.to <= a.kernel);
            if got.count() > 0 {
                assert_eq!(got.first as i64, position(got.from));
            }
        }
    }
}
