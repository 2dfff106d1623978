//! Reads a float network in TFLite's file format into a [`Graph`].
//!
//! - `network`: the graph as it grows, and what an operator asks of it.
//! - `ops`: converters, grouped by what they have in common.
//!
//! Tensors are NHWC in the file already; the batch, which must be 1, is dropped as in the int8
//! reader. Fused functions that only clamp stay fused, others become nodes of their own.

mod network;
mod ops;
#[cfg(test)]
mod tests;

use super::error::TfliteError;
use super::file::{File, Listed, MAX_SHOWN};
use super::problem::Issues;
use super::schema::ElementType;
use super::types::refuse_types;
use crate::graph::{Graph, passes};

use network::{Call, Network};
pub use ops::supported_float_operators;

/// Reads a float TFLite network.
///
/// `name` stands for the file in messages and becomes the network's name. Values and nodes have the
/// names of the file's tensors (a node that of its output). Constants are folded and clamps fused
/// ([`passes::simplify`]); the result has passed [`Graph::check`].
///
/// # Errors
/// See [`TfliteError`]; operators that cannot be imported are listed all at once. Networks of which
/// only the activations are float (float16 or int8 weights) are refused: they are quantized already.
pub fn import_tflite_float(bytes: &[u8], name: &str) -> Result<Graph, TfliteError> {
    let (file, operators) = File::open(bytes, name)?;
    refuse_types(&file, &operators, ops::is_supported)?;
    require_float(&file, &operators)?;
    let mut network = Network::new(file).map_err(|p| p.of_file(name))?;
    let mut issues = Issues::default();
    for (index, listed) in operators.iter().enumerate() {
        let mut call = Call {
            network: &mut network,
            operator: listed.operator,
        };
        let Err(problem) = ops::convert(listed.code, &mut call) else {
            continue;
        };
        for output in listed.operator.outputs.iter().take(MAX_SHOWN) {
            network.give_up(output);
        }
        issues.add(&network.file, index, listed, problem)?;
    }
    issues.finish(name)?;
    let mut graph = network.finish().map_err(|p| p.of_file(name))?;
    passes::simplify(&mut graph);
    graph.check().map_err(|source| TfliteError::Graph {
        file: name.to_string(),
        source,
    })?;
    Ok(graph)
}

/// Refuses networks of which something is quantized, as a whole.
fn require_float(file: &File, operators: &[Listed]) -> Result<(), TfliteError> {
    let refused = |kind: String| {
        Err(TfliteError::NotFloat {
            file: file.name.to_string(),
            kind,
        })
    };
    for Listed {
        operator, title, ..
    } in operators
    {
        for index in operator.inputs.iter().take(MAX_SHOWN).filter(|i| *i >= 0) {
            let Ok(t) = file.tensor(index) else {
                continue;
            };
            let name = t.label();
            match t.element {
                ElementType::FLOAT16 => {
                    return refused(format!("`{name}` of {title} is float16"));
                }
                ElementType::INT8 | ElementType::UINT8 | ElementType::INT16 | ElementType::INT4 => {
                    let what = if file.bytes_of(&t).is_ok_and(|b| !b.is_empty()) {
                        "has weights of"
                    } else {
                        "computes in"
                    };
                    return refused(format!("{title} {what} {} (`{name}`)", t.element));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
