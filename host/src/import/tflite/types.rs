//! Networks of which the numbers are of a type that is not supported, told as a whole.

use super::error::TfliteError;
use super::file::{File, Listed, MAX_SHOWN};
use super::schema::{ElementType, code};

/// Refuses int16 activations and the old quantization to uint8, before every operator would be
/// refused for them.
///
/// # Errors
/// [`TfliteError::Int16`] and [`TfliteError::Uint8`], with all operators that are not `known`.
pub(super) fn refuse_types(
    file: &File,
    operators: &[Listed],
    known: impl Fn(i32) -> bool,
) -> Result<(), TfliteError> {
    let unknown = || {
        let mut unknown: Vec<String> = Vec::new();
        for l in operators.iter().filter(|l| !known(l.code)) {
            if !unknown.contains(&l.title) {
                unknown.push(l.title.clone());
            }
        }
        unknown
    };
    for Listed {
        operator,
        title,
        code,
    } in operators
    {
        let at_ends = [code::QUANTIZE, code::DEQUANTIZE].contains(code);
        let inputs = operator.inputs.iter().take(MAX_SHOWN);
        let outputs = operator.outputs.iter().take(MAX_SHOWN);
        for index in inputs.chain(outputs).filter(|i| *i >= 0) {
            let Ok(t) = file.tensor(index) else {
                continue;
            };
            // Constants, and the states of recurrent operators, are their operators' business.
            if t.is_variable || !file.bytes_of(&t).is_ok_and(<[u8]>::is_empty) {
                continue;
            }
            let (file, operator, tensor) = (file.name.to_string(), title.clone(), t.label());
            match t.element {
                ElementType::INT16 => {
                    return Err(TfliteError::Int16 {
                        file,
                        operator,
                        tensor,
                        unknown: unknown(),
                    });
                }
                ElementType::UINT8 if !at_ends && known(*code) => {
                    return Err(TfliteError::Uint8 {
                        file,
                        operator,
                        tensor,
                        unknown: unknown(),
                    });
                }
                _ => {}
            }
        }
    }
    Ok(())
}
