//! The image that the device runs: `shared/FORMAT.md` is the book of it.
//!
//! [`write_image`] makes one of a model and passes it through the check that the device makes;
//! [`read_image`] gives back the same model. Weights are reordered here and nowhere else: a
//! depthwise filter is `[out_c][taps]` in the model and `[taps][out_c]` in the image.

mod read;
mod write;

pub use read::read_image;
pub use write::{write_image, write_image_in};

use crate::graph::Pads;

/// A window along one axis.
#[derive(Clone, Copy, Debug)]
struct AxisWindow {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
}

impl AxisWindow {
    /// The padding behind the input that the output's length needs: what an image implies.
    fn needed_after(&self) -> usize {
        let reach = (self.output.max(1) - 1) * self.stride + self.extent();
        reach.saturating_sub(self.before + self.input)
    }

    /// Positions from the first tap to the last.
    fn extent(&self) -> usize {
        (self.kernel.max(1) - 1) * self.dilation + 1
    }

    /// Whether this padding behind the input gives this output's length.
    fn agrees(&self, after: usize) -> bool {
        let padded = self.before + self.input + after;
        self.stride > 0
            && padded >= self.extent()
            && (padded - self.extent()) / self.stride + 1 == self.output
    }
}

/// The settings of a window on both axes.
fn axes(
    input: [usize; 3],
    output: [usize; 3],
    [kernel, stride, dilation]: [[usize; 2]; 3],
    pads: Pads,
) -> [AxisWindow; 2] {
    let before = [pads.top, pads.left];
    [0, 1].map(|i| AxisWindow {
        input: input[i],
        output: output[i],
        kernel: kernel[i],
        stride: stride[i],
        dilation: dilation[i],
        before: before[i],
    })
}

#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod split_tests;
#[cfg(test)]
mod tests;
