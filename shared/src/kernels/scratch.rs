//! How much working memory makes the operators with weights fast.
//!
//! The numbers are part of the memory plan that a host makes, so they are the same on every
//! processor: enough for each of them.

/// Inputs of a column are padded to a multiple of this.
const INPUTS_ALIGN: usize = 16;

/// Bytes of an output channel's constants.
const RECORD: usize = 16;

/// Bytes for a convolution with `taps` weights an output channel, `outputs` channels.
///
/// Constants of every channel, four columns of 32-bit numbers, a column and a row of weights as
/// bytes, four positions' outputs, and room to align them.
pub const fn conv2d_scratch_bytes(taps: usize, outputs: usize) -> usize {
    let inputs = taps.next_multiple_of(INPUTS_ALIGN);
    RECORD * outputs + 16 * inputs + 2 * inputs + 4 * outputs + 4
}

/// Bytes for a depthwise convolution with `taps` weights an output channel.
///
/// Constants of four channels, and their weights as 32-bit numbers.
pub const fn depthwise_scratch_bytes(taps: usize) -> usize {
    4 * RECORD + 16 * taps + 4
}

/// Bytes for a fully connected layer of `inputs` inputs: each as a 32-bit number.
pub const fn fully_connected_scratch_bytes(inputs: usize) -> usize {
    4 * inputs.next_multiple_of(INPUTS_ALIGN) + 4
}
