//! How many axes each tensor has in the file.

use super::TfliteExportError;
use super::write::inexpressible;
use crate::model::{Op, QuantizedModel, TensorId};

/// Whether an operator wants `[1, height, width, channels]`.
fn wants_four_axes(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv2d(_)
            | Op::MaxPool(_)
            | Op::AveragePool(_)
            | Op::Mean { .. }
            | Op::Pad(_)
            | Op::Transpose { .. }
            | Op::ResizeNearest { .. }
    )
}

/// Whether the output has as many axes as the inputs.
fn keeps_axes(op: &Op) -> bool {
    matches!(
        op,
        Op::Add(_)
            | Op::Sub(_)
            | Op::Mul(_)
            | Op::BroadcastAdd(_)
            | Op::Concat(_)
            | Op::Requantize { .. }
            | Op::Lut { .. }
            | Op::Softmax { .. }
    )
}

/// Axes of every tensor in the file: four, or two for vectors between fully connected layers, whose
/// outputs TFLite makes `[1, n]`.
pub(super) fn ranks(model: &QuantizedModel) -> Result<Vec<usize>, TfliteExportError> {
    let positions = |id: TensorId| model.tensor(id).shape[..2].iter().product::<usize>();
    let mut four: Vec<bool> = (0..model.tensors.len())
        .map(|i| positions(TensorId(i)) > 1)
        .collect();
    for node in model.nodes.iter().rev() {
        if wants_four_axes(&node.op) || keeps_axes(&node.op) && four[node.output.0] {
            node.inputs.iter().for_each(|i| four[i.0] = true);
        }
    }
    let mut ranks: Vec<usize> = four.iter().map(|f| if *f { 4 } else { 2 }).collect();
    for node in &model.nodes {
        let first = ranks[node.inputs[0].0];
        let rank = match &node.op {
            // One vector a position keeps height and width.
            Op::FullyConnected(_) if positions(node.output) > 1 => 4,
            Op::FullyConnected(_) => 2,
            Op::Reshape => ranks[node.output.0],
            op if wants_four_axes(op) => 4,
            _ => first,
        };
        let mixed = keeps_axes(&node.op) && node.inputs.iter().any(|i| ranks[i.0] != first);
        if mixed || four[node.output.0] && rank == 2 {
            return Err(inexpressible(
                model,
                node,
                "a vector of a fully connected layer meets maps of height and width".into(),
                "reshape it in the float network first",
            ));
        }
        ranks[node.output.0] = rank;
    }
    Ok(ranks)
}
