//! A border of one value around the input.
//!
//! `y[b + i] = x[i]`, everything else the border's value; HWC int8. Source: TFLite's PADV2.

use super::Shape;

/// A border.
#[derive(Clone, Copy, Debug)]
pub struct PadParams {
    /// Shape of the input.
    pub input: Shape,
    /// Shape of the output.
    pub output: Shape,
    /// Elements before the input on axes H, W, C.
    pub before: Shape,
    /// The border's value.
    pub value: i8,
}

/// The input inside a border: see the module's head.
pub fn pad(p: &PadParams, input: &[i8], output: &mut [i8]) {
    output.fill(p.value);
    let [in_h, in_w, in_c] = p.input;
    for y in 0..in_h {
        for x in 0..in_w {
            let from = (y * in_w + x) * in_c;
            let to =
                ((y + p.before[0]) * p.output[1] + x + p.before[1]) * p.output[2] + p.before[2];
            output[to..to + in_c].copy_from_slice(&input[from..from + in_c]);
        }
    }
}
