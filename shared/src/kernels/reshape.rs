//! The same bytes under another shape. A plan that gives output and input one place saves the copy.

/// Copies the elements.
pub fn reshape(input: &[i8], output: &mut [i8]) {
    output.copy_from_slice(input);
}
