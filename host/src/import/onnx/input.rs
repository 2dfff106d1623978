//! The network's input: its shape, and which of its axes are the channels.

use onnx_rs::ast::{DataType, Dimension, Node, OpType, ValueInfo};

use super::importer::{Fail, Importer, Item, Tensor};
use crate::import::ImportError;

/// Makes the graph's input from the file's declaration.
pub(super) fn bind_input<'a>(
    importer: &mut Importer<'a, '_>,
    info: &ValueInfo<'a>,
    nodes: &[Node<'a>],
) -> Result<(), ImportError> {
    let fail = |reason: String| ImportError::InputShape {
        file: importer.file.into(),
        name: info.name.into(),
        reason,
    };
    if !matches!(
        info.tensor_elem_type(),
        Some(DataType::Float | DataType::Double | DataType::Float16)
    ) {
        return Err(fail(format!(
            "has the element type {:?}",
            info.tensor_elem_type().unwrap_or_default()
        )));
    }
    let shape = info
        .tensor_shape()
        .ok_or_else(|| fail("has no declared shape".into()))?;
    let described: Vec<String> = shape
        .dim
        .iter()
        .map(|d| match &d.value {
            Dimension::Value(v) => v.to_string(),
            Dimension::Param(p) => format!("`{p}`"),
        })
        .collect();
    let described = format!("[{}]", described.join(", "));
    if !(2..=4).contains(&shape.rank()) {
        return Err(fail(format!("has the shape {described}")));
    }
    // A dimension that is neither named nor positive is not known: only the batch may be.
    let batch = match &shape.dim[0].value {
        Dimension::Value(v) if *v > 0 => Some(*v),
        _ => None,
    };
    let mut dims = Vec::new();
    for d in &shape.dim[1..] {
        match &d.value {
            Dimension::Value(v) if *v > 0 => dims.push(usize::try_from(*v).unwrap_or(usize::MAX)),
            _ => {
                return Err(fail(format!(
                    "has the shape {described}, of which more than the batch is not fixed"
                )));
            }
        }
    }
    let first = channels_first(info.name, &dims, nodes);
    let axes = if first {
        Tensor::channels_first(dims.len())
    } else {
        Tensor::row_major(dims.len())
    };
    let mut nhwc = [1; 3];
    axes.iter().zip(&dims).for_each(|(&a, &d)| nhwc[a] = d);
    let id = match importer.value(info.name, nhwc) {
        Ok(id) => id,
        Err(Fail::Fatal(e)) => return Err(e),
        Err(Fail::Invalid(reason) | Fail::Unsupported { reason, .. }) => {
            return Err(ImportError::InputShape {
                file: importer.file.into(),
                name: info.name.into(),
                reason,
            });
        }
    };
    importer.graph.input = id;
    importer.graph.input_was_nchw = first && dims.len() > 1;
    importer.fixed_batch = batch;
    importer.bind(
        info.name,
        Item::Tensor(Tensor {
            id,
            dims,
            axes: axes.to_vec(),
        }),
    );
    Ok(())
}

/// Whether the input is channels-first, judged by what first cares: networks from TensorFlow take
/// NHWC and transpose it themselves, and a product with a matrix works on the last axis.
fn channels_first(input: &str, dims: &[usize], nodes: &[Node<'_>]) -> bool {
    let mut name = input;
    let last = dims.len() - 1;
    for _ in 0..=nodes.len() {
        let Some(node) = nodes.iter().find(|n| n.input.contains(&name)) else {
            break;
        };
        match node.op_type {
            OpType::Transpose => {
                let perm = node
                    .attribute
                    .iter()
                    .find(|a| a.name == "perm")
                    .map(|a| a.ints.as_slice());
                return match perm {
                    Some(p) if p.len() == dims.len() + 1 => p[1] != dims.len() as i64,
                    _ => true,
                };
            }
            OpType::MatMul | OpType::Gemm => return dims.len() == 1,
            OpType::Flatten | OpType::Reshape | OpType::Squeeze | OpType::Unsqueeze
                if dims.len() == 2 =>
            {
                return false;
            }
            OpType::Flatten | OpType::Reshape => {
                return !matches!(dims[last], 1 | 3) || matches!(dims[0], 1 | 3);
            }
            OpType::Add
            | OpType::Sub
            | OpType::Mul
            | OpType::Div
            | OpType::Identity
            | OpType::Cast
            | OpType::Dropout
            | OpType::Pad
            | OpType::Clip => {
                let Some(&next) = node.output.first() else {
                    break;
                };
                name = next;
            }
            _ => return true,
        }
    }
    true
}
