//! From any integer network to one that TFLite's operators express one by one.
//!
//! The lowered network gives the same bits: paddings that are neither SAME nor VALID become borders
//! of their own, rescaling concatenations become requantizations and a copying concatenation, and
//! weights of fewer bits are stored as int8. Tensors are numbered and nodes named as the importer
//! does it, so that the written file must read back as exactly this network.

use std::collections::HashMap;

use super::TfliteExportError;
use crate::graph::Pads;
use crate::model::{Concat, ConcatInput, Node, Op, Pad, Pool, QuantizedModel, Tensor, TensorId};

/// How a window's padding is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// As much as an output of `ceil(input / stride)` needs, the odd position after.
    Same,
    /// None.
    Valid,
}

/// The padding's name, or `None` where it has none.
pub(super) fn padding(
    input: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pads: &Pads,
) -> Option<Padding> {
    if *pads == Pads::default() {
        return Some(Padding::Valid);
    }
    let same = |axis: usize, before: usize, after: usize| {
        let output = input[axis].div_ceil(stride[axis]);
        let extent = (kernel[axis] - 1) * dilation[axis] + 1;
        let total = ((output - 1) * stride[axis] + extent).saturating_sub(input[axis]);
        before == total / 2 && after == total - total / 2
    };
    (same(0, pads.top, pads.bottom) && same(1, pads.left, pads.right)).then_some(Padding::Same)
}

struct Lowering<'m> {
    from: &'m QuantizedModel,
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
    ids: HashMap<TensorId, TensorId>,
    names: HashMap<String, usize>,
}

impl Lowering<'_> {
    /// A name that no tensor has yet.
    fn unique(&mut self, name: &str) -> String {
        let n = self.names.entry(name.to_string()).or_insert(0);
        *n += 1;
        match *n {
            1 => name.to_string(),
            n => format!("{name}#{n}"),
        }
    }

    fn tensor(&mut self, t: &Tensor, name: &str, shape: [usize; 3]) -> TensorId {
        let name = self.unique(name);
        self.tensors.push(Tensor {
            name,
            shape,
            ..t.clone()
        });
        TensorId(self.tensors.len() - 1)
    }

    fn push(&mut self, op: Op, inputs: Vec<TensorId>, output: TensorId) {
        self.nodes.push(Node {
            name: self.tensors[output.0].name.clone(),
            op,
            inputs,
            output,
        });
    }

    /// A border before a window; gives its tensor.
    fn border(&mut self, x: TensorId, pads: &Pads, value: i8) -> TensorId {
        let t = self.tensors[x.0].clone();
        let [h, w, c] = t.shape;
        let shape = [h + pads.top + pads.bottom, w + pads.left + pads.right, c];
        let y = self.tensor(&t, &format!("{}/padded", t.name), shape);
        let pad = Pad {
            before: [pads.top, pads.left, 0],
            after: [pads.bottom, pads.right, 0],
            value,
        };
        self.push(Op::Pad(pad), vec![x], y);
        y
    }

    fn node(&mut self, node: &Node) -> Result<(), TfliteExportError> {
        let unsupported = |reason: &str, remedy: &str| TfliteExportError::Inexpressible {
            model: self.from.name.clone(),
            node: node.name.clone(),
            kind: node.op.kind(),
            reason: reason.to_string(),
            remedy: remedy.to_string(),
        };
        let inputs: Option<Vec<TensorId>> = node
            .inputs
            .iter()
            .map(|i| self.ids.get(i).copied())
            .collect();
        let Some(mut inputs) = inputs.filter(|i| !i.is_empty()) else {
            return Err(unsupported(
                "it reads a tensor before anything writes it",
                "order the nodes as they are executed",
            ));
        };
        let shape = self.tensors[inputs[0].0].shape;
        let zero_point = self.tensors[inputs[0].0].zero_point;
        let named = |p: &Pool| padding(shape, p.kernel, p.stride, p.dilation, &p.pads).is_some();
        let mut op = node.op.clone();
        if let Some(l) = op.linear_mut() {
            l.bits = 8;
        }
        match &mut op {
            Op::Conv2d(c) if padding(shape, c.kernel, c.stride, c.dilation, &c.pads).is_none() => {
                inputs[0] = self.border(inputs[0], &c.pads, zero_point);
                c.pads = Pads::default();
            }
            Op::MaxPool(p) if p.dilation != [1, 1] => {
                return Err(unsupported(
                    "its window has gaps",
                    "use a pooling window without dilation",
                ));
            }
            Op::MaxPool(p) if !named(p) => {
                // The smallest integer is never the maximum of a window with an element in it.
                inputs[0] = self.border(inputs[0], &p.pads, i8::MIN);
                p.pads = Pads::default();
            }
            Op::AveragePool(p) if !named(p) => {
                return Err(unsupported(
                    "its padding is neither SAME nor VALID, and does not count in the mean",
                    "use a mean without padding, or with SAME padding",
                ));
            }
            Op::Concat(c) => {
                let output = self.from.tensor(node.output).clone();
                for (input, how) in inputs.iter_mut().zip(&c.inputs) {
                    if let ConcatInput::Rescale(multiplier) = *how {
                        let t = self.tensors[input.0].clone();
                        let name = format!("{}/rescaled", t.name);
                        let y = self.tensor(&output, &name, t.shape);
                        self.push(Op::Requantize { multiplier }, vec![*input], y);
                        *input = y;
                    }
                }
                *c = Concat {
                    axis: c.axis,
                    inputs: vec![ConcatInput::Copy; inputs.len()],
                };
            }
            _ => {}
        }
        let t = self.from.tensor(node.output).clone();
        let y = self.tensor(&t, &t.name, t.shape);
        self.ids.insert(node.output, y);
        self.push(op, inputs, y);
        Ok(())
    }
}

/// Lowers a network.
///
/// # Errors
/// [`TfliteExportError::Inexpressible`].
pub(super) fn lower(model: &QuantizedModel) -> Result<QuantizedModel, TfliteExportError> {
    let mut l = Lowering {
        from: model,
        tensors: Vec::new(),
        nodes: Vec::new(),
        ids: HashMap::new(),
        names: HashMap::new(),
    };
    let t = model.tensor(model.input).clone();
    let input = l.tensor(&t, &t.name, t.shape);
    l.ids.insert(model.input, input);
    for node in &model.nodes {
        l.node(node)?;
    }
    let output = l.ids.get(&model.output).copied().unwrap_or(input);
    Ok(QuantizedModel {
        name: model.name.clone(),
        rounding: model.rounding,
        tensors: l.tensors,
        nodes: l.nodes,
        input,
        output,
        preprocess: model.preprocess.clone(),
        labels: model.labels.clone(),
    })
}
