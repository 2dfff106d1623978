//! Products, sums and differences of operands that may be broadcast or constant.
//!
//! An operand's axis of length 1 is repeated to the output's length (numpy's rule, as TFLite's
//! `BroadcastMul4DSlow` and its like apply it). The output may stand exactly on an operand of its
//! own shape, since every element of it depends on the operand's element at the same position.

use super::{AddParams, Shape};
use crate::arith::Multiplier;
use crate::image::finish;

/// `y = clamp(zy + M * ((a - za) * (b - zb)))`, rounding twice. The product is at most 255^2 in
/// magnitude; the check proves that shifted by M's exponent it fits in 32 bits. Source: TFLite's
/// int8 MUL.
#[derive(Clone, Copy, Debug)]
pub struct MulParams {
    /// Zero points of the factors.
    pub input_zero_points: [i8; 2],
    /// Zero point of the product.
    pub output_zero_point: i8,
    /// Product of the input scales / output scale.
    pub multiplier: Multiplier,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

impl MulParams {
    /// The product of one pair of elements.
    #[inline(always)]
    pub fn apply(&self, a: i8, b: i8) -> i8 {
        let difference = |x: i8, i: usize| x as i32 - self.input_zero_points[i] as i32;
        let product = self.multiplier.apply(difference(a, 0) * difference(b, 1));
        finish(product, self.output_zero_point, self.act_min, self.act_max)
    }
}

/// As [`AddParams`] with the second operand subtracted after it has been scaled (which is not the
/// sum with a negated multiplier: the roundings of negative numbers differ). Source: TFLite's int8
/// SUB.
#[derive(Clone, Copy, Debug)]
pub struct SubParams(pub AddParams);

impl SubParams {
    /// The difference of one pair of elements.
    #[inline(always)]
    pub fn apply(&self, a: i8, b: i8) -> i8 {
        let p = &self.0;
        let scaled = |x: i8, i: usize| {
            let difference = x as i32 - p.input_zero_points[i] as i32;
            p.input_multipliers[i].apply(difference << 20)
        };
        let difference = p
            .output_multiplier
            .apply(scaled(a, 0).wrapping_sub(scaled(b, 1)));
        finish(difference, p.output_zero_point, p.act_min, p.act_max)
    }
}

/// Where the elements of an operand are.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// A tensor.
    Tensor(&'a [i8]),
    /// Bytes of an image.
    Constant(&'a [u8]),
    /// On the output, which then has the operand's shape.
    Output,
}

/// An operand and its shape.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its elements, HWC.
    pub elements: Elements<'a>,
    /// Its shape; each axis is the output's, or 1.
    pub shape: Shape,
}

impl Source<'_> {
    /// Distances between elements along height, width and channels; 0 where they are repeated.
    fn strides(&self) -> [usize; 3] {
        let [h, w, c] = self.shape;
        let repeated = |length: usize, stride: usize| if length == 1 { 0 } else { stride };
        [repeated(h, w * c), repeated(w, c), repeated(c, 1)]
    }

    #[inline(always)]
    fn get(&self, at: usize, output: i8) -> i8 {
        match self.elements {
            Elements::Tensor(x) => x[at],
            Elements::Constant(x) => x[at] as i8,
            Elements::Output => output,
        }
    }
}

/// `output = f(a, b)` for every element of an output of a shape.
pub fn elementwise(
    shape: Shape,
    a: &Source,
    b: &Source,
    output: &mut [i8],
    f: impl Fn(i8, i8) -> i8,
) {
    let [sa, sb] = [a.strides(), b.strides()];
    // Positions, then channels: offsets grow by additions alone.
    for (position, out) in output.chunks_exact_mut(shape[2]).enumerate() {
        let (h, w) = (position / shape[1], position % shape[1]);
        let mut at_a = h * sa[0] + w * sa[1];
        let mut at_b = h * sb[0] + w * sb[1];
        for out in out {
            *out = f(a.get(at_a, *out), b.get(at_b, *out));
            at_a += sa[2];
            at_b += sb[2];
        }
    }
}
