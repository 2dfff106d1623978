//! Any element-wise function as a table: `y = table[x + 128]`, 256 entries.

/// Looks up every element.
pub fn lut(table: &[u8], input: &[i8], output: &mut [i8]) {
    for (out, &x) in output.iter_mut().zip(input) {
        *out = entry(table, x);
    }
}

/// Replaces every element by its table entry.
pub fn lut_in_place(table: &[u8], data: &mut [i8]) {
    for x in data {
        *x = entry(table, *x);
    }
}

#[inline(always)]
fn entry(table: &[u8], x: i8) -> i8 {
    table[(x as i32 + 128) as usize] as i8
}
