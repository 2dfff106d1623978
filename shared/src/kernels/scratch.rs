//! How much working memory makes the operators with weights fast.
//!
//! The numbers are part of the memory plan that a host makes, so they are the same on every
//! processor: enough for each of them.

/// Inputs of a fully connected layer are padded to a multiple of this.
const INPUTS_ALIGN: usize = 16;

/// Bytes of an output channel's constants.
const RECORD: usize = 16;

/// Bytes for a convolution with `taps` weights an output channel, `outputs` channels, weights of `bits` bits.
///
/// Constants of every channel, four columns, a column as bytes, a row of weights that is unpacked, four
/// positions' outputs, and room to align them. Columns are 32-bit numbers for bytes, 16-bit ones for
/// fields. Rows of three bits become fields, and have the room of bytes: the more of them are unpacked at a
/// time, the fewer times columns are made.
pub const fn conv2d_scratch_bytes(taps: usize, outputs: usize, bits: u8) -> usize {
    // What one body of the loops takes.
    let body = match bits {
        2 => 16,
        8 => 4,
        _ => 8,
    };
    let inputs = taps.next_multiple_of(body);
    let columns = match bits {
        2 | 4 => {
            let fields = 8 * inputs + inputs + inputs / 2;
            // Helium: three columns and one in another order, whole vectors of fields each.
            let vectors = 4 * taps.next_multiple_of(128 / bits as usize);
            if fields > vectors { fields } else { vectors }
        }
        _ => 16 * inputs + 2 * inputs,
    };
    RECORD * outputs + columns + 4 * outputs + 16
}

/// Most taps of depthwise filters that are unpacked on the stack: 3x3.
pub(crate) const TAPS_ON_STACK: usize = 9;

/// Bytes for a depthwise convolution with `taps` weights an output channel; none for small filters.
///
/// Constants of four channels, and their weights as 32-bit numbers.
pub const fn depthwise_scratch_bytes(taps: usize) -> usize {
    if taps <= TAPS_ON_STACK {
        return 0;
    }
    4 * RECORD + 16 * taps + 4
}

/// Bytes for a fully connected layer of `inputs` inputs: each as a 32-bit number.
pub const fn fully_connected_scratch_bytes(inputs: usize) -> usize {
    4 * inputs.next_multiple_of(INPUTS_ALIGN) + 4
}
