//! Nearest-neighbour resizing: `y[h][w] = x[rows[h]][columns[w]]`, all channels.
//!
//! Which position is nearest is decided on the host (TFLite computes it in f32, from `align_corners`
//! and `half_pixel_centers`); the image holds one index for every row and every column of the
//! output. HWC int8.

use super::Shape;

/// Copies each position from the one that the indices (u16, little-endian) name.
pub fn resize_nearest(
    input: Shape,
    rows: &[[u8; 2]],
    columns: &[[u8; 2]],
    x: &[i8],
    output: &mut [i8],
) {
    let [_, width, channels] = input;
    let mut out = output.chunks_exact_mut(channels);
    for row in rows {
        let row = u16::from_le_bytes(*row) as usize * width;
        for (column, out) in columns.iter().zip(&mut out) {
            let from = (row + u16::from_le_bytes(*column) as usize) * channels;
            out.copy_from_slice(&x[from..from + channels]);
        }
    }
}
