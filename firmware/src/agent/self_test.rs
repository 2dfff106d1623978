//! The self-tests that the image carries: inputs with the outputs that the model must give.

use qmend_shared::engine;
use qmend_shared::image::Model;
use qmend_shared::link::{Refusal, SelfTestResult};

use super::session::as_bytes;

/// Runs one self-test: its input and its output are read in flash, where they lie.
pub(super) fn run(
    model: &Model<'_>,
    vector: u32,
    arena: &mut [i8],
    output: &mut [i8],
) -> Result<SelfTestResult, Refusal> {
    let Some(tests) = model.self_tests() else {
        return Ok(SelfTestResult {
            vector,
            count: 0,
            failed_at: None,
        });
    };
    let (input, expected) = tests.vector(vector as usize).ok_or(Refusal::OutOfRange)?;
    engine::run(model, arena, as_elements(input), output).map_err(Refusal::RunFailed)?;
    let got = as_bytes(output);
    let failed_at = expected
        .iter()
        .zip(got)
        .position(|(a, b)| a != b)
        .map(|at| (at as u32, expected[at] as i8, got[at] as i8));
    Ok(SelfTestResult {
        vector,
        count: tests.count() as u32,
        failed_at,
    })
}

fn as_elements(bytes: &[u8]) -> &[i8] {
    // SAFETY: u8 and i8 have one size and alignment, and every bit pattern is a value of both.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}
