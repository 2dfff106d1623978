//! Output positions in runs that kernels compute in one go.

use core::ops::Range;

use super::window::{Axis, Taps};

/// Consecutive output positions whose windows have the same taps inside the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Positions {
    /// The first one.
    pub oy: usize,
    pub ox: usize,
    /// Whether the others are below it, else to its right.
    pub down: bool,
    /// How many, at least one.
    pub count: usize,
}

/// The windows along an axis of which no tap is outside the input.
pub(super) fn inside(axis: &Axis, outputs: usize) -> Range<usize> {
    let from = axis.pad.div_ceil(axis.stride).min(outputs);
    let reach = (axis.pad + axis.input).checked_sub((axis.kernel - 1) * axis.dilation + 1);
    let to = reach.map_or(0, |r| r / axis.stride + 1);
    from..to.clamp(from, outputs)
}

/// Calls `run` for all positions once. Runs are along one axis, with all windows inside the input on
/// that axis. The inner rectangle's are along its longer side.
pub(super) fn for_each_run(
    [y, x]: [Axis; 2],
    [out_h, out_w]: [usize; 2],
    mut run: impl FnMut(Positions),
) {
    let (rows, columns) = (inside(&y, out_h), inside(&x, out_w));
    let down = rows.len() > columns.len();
    let outer = |range: &Range<usize>, all: usize| (0..range.start).chain(range.end..all);
    let mut run = |oy, ox, down, count| {
        if count > 0 {
            run(Positions {
                oy,
                ox,
                down,
                count,
            });
        }
    };
    for ox in outer(&columns, out_w) {
        outer(&rows, out_h).for_each(|oy| run(oy, ox, false, 1));
        run(rows.start, ox, true, rows.len());
    }
    for oy in outer(&rows, out_h) {
        run(oy, columns.start, false, columns.len());
    }
    if down {
        columns
            .clone()
            .for_each(|ox| run(rows.start, ox, true, rows.len()));
    } else {
        rows.clone()
            .for_each(|oy| run(oy, columns.start, false, columns.len()));
    }
}

/// Where a group's inputs of an output position lie, a filter's taps in their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    pub axes: [Axis; 2],
    /// Channels of the input, and of one group.
    pub in_c: usize,
    pub per_group: usize,
    pub first_channel: usize,
    /// Whether the taps of a filter's row are one run of bytes.
    pub runs: bool,
}

impl Inputs {
    /// How many inputs from number `at` on are one run of bytes, and where it starts in the input; nowhere where
    /// they are outside of it. `usize::MAX` behind the last one.
    pub fn piece(&self, ys: Taps, xs: Taps, at: usize) -> (usize, Option<usize>) {
        let [y, x] = self.axes;
        let tap = self.per_group;
        let row = x.kernel * tap;
        let (ky, in_row) = (at / row, at % row);
        if ky >= y.kernel {
            return (usize::MAX, None);
        }
        let kx = in_row / tap;
        if !(ys.from..ys.to).contains(&ky) || kx >= xs.to {
            return (row - in_row, None);
        }
        if kx < xs.from {
            return (xs.from * tap - in_row, None);
        }
        let first = ys.first + (ky - ys.from) * y.dilation;
        let (from, to, column) = match self.runs {
            true => (xs.from, xs.to, xs.first),
            false => (kx, kx + 1, xs.first + (kx - xs.from) * x.dilation),
        };
        let position = (first * x.input + column) * self.in_c + self.first_channel;
        (to * tap - in_row, Some(position + in_row - from * tap))
    }
}
