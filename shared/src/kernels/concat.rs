//! Tensors side by side along one axis, one input at a time.
//!
//! An input is copied, or rescaled by [`RequantizeParams`] where its scale or zero point is not the
//! output's. HWC int8. Source: TFLite's CONCATENATION, with a requantization of each operand as the
//! converter would put before it.

use super::Shape;
use super::requantize::RequantizeParams;

/// One input of a concatenation.
#[derive(Clone, Copy, Debug)]
pub struct ConcatPart {
    /// Its shape.
    pub input: Shape,
    /// Shape of the output.
    pub output: Shape,
    /// 0 = H, 1 = W, 2 = C.
    pub axis: usize,
    /// Where on that axis it starts in the output.
    pub start: usize,
    /// How it gets to the output's scale; `None` copies.
    pub rescale: Option<RequantizeParams>,
}

/// Puts one input into its place in the output.
pub fn concat_part(p: &ConcatPart, input: &[i8], output: &mut [i8]) {
    let product = |s: Shape, from: usize| s[from..].iter().product::<usize>();
    // Seen from the axis: `outer` runs, each of `run` input elements, at intervals of `stride`.
    let run = product(p.input, p.axis);
    let stride = product(p.output, p.axis);
    let offset = p.start * product(p.output, p.axis + 1);
    for (i, from) in input.chunks_exact(run).enumerate() {
        let to = &mut output[i * stride + offset..][..run];
        match &p.rescale {
            None => to.copy_from_slice(from),
            Some(rescale) => {
                for (to, &x) in to.iter_mut().zip(from) {
                    *to = rescale.apply(x);
                }
            }
        }
    }
}
