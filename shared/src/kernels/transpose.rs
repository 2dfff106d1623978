//! Axes reordered: output axis `i` is input axis `perm[i]`. HWC int8, bytes move and nothing else.

use super::Shape;

/// Reorders the axes of a tensor of shape `input`.
pub fn transpose(input_shape: Shape, perm: [u8; 3], input: &[i8], output: &mut [i8]) {
    let strides = [input_shape[1] * input_shape[2], input_shape[2], 1];
    let [a, b, c] = perm.map(|axis| axis as usize);
    let mut out = output.iter_mut();
    for i in 0..input_shape[a] {
        for j in 0..input_shape[b] {
            let from = i * strides[a] + j * strides[b];
            for k in 0..input_shape[c] {
                if let Some(out) = out.next() {
                    *out = input[from + k * strides[c]];
                }
            }
        }
    }
}
