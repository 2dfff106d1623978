//! Output positions in runs that kernels compute in one go.

use core::ops::Range;

use super::window::Axis;

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
