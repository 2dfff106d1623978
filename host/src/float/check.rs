//! Whether a graph can be computed: what Burn would panic on is an error here.

use super::FloatError;
use crate::graph::{Graph, Node, Op, Pads, Shape, ValueId, Weights, broadcast_shape};

/// Checks references, order, shapes and parameters of a whole graph.
pub(super) fn check_graph(graph: &Graph) -> Result<(), FloatError> {
    let count = graph.values.len();
    let exists = |what, id: ValueId| match id.0 < count {
        true => Ok(()),
        false => Err(FloatError::NoSuchValue {
            what,
            id: id.0,
            count,
        }),
    };
    exists("the graph's input", graph.input)?;
    exists("the graph's output", graph.output)?;
    if !fits(graph.shape(graph.input)) {
        return Err(FloatError::Input {
            shape: graph.shape(graph.input),
            limit: MAX_ELEMENTS,
        });
    }
    let mut ready = vec![false; count];
    ready[graph.input.0] = true;
    for node in &graph.nodes {
        let fail = |problem| FloatError::Node {
            node: node.name.clone(),
            op: node.op.kind(),
            problem,
        };
        exists("a node's output", node.output)?;
        for &i in &node.inputs {
            exists("a node's input", i)?;
            if !ready[i.0] {
                return Err(fail(format!(
                    "reads `{}` before anything has computed it",
                    graph.value_name(i)
                )));
            }
        }
        if std::mem::replace(&mut ready[node.output.0], true) {
            return Err(fail(format!(
                "computes `{}` a second time",
                graph.value_name(node.output)
            )));
        }
        let shapes: Vec<Shape> = node.inputs.iter().map(|&i| graph.shape(i)).collect();
        let found = graph.shape(node.output);
        let expected = output_shape(node, &shapes, found).map_err(fail)?;
        if expected != found {
            return Err(fail(format!(
                "makes {expected:?} (HWC) of {shapes:?}, but `{}` is declared {found:?}",
                graph.value_name(node.output)
            )));
        }
    }
    if !ready[graph.output.0] {
        return Err(FloatError::NeverComputed {
            name: graph.value_name(graph.output).to_owned(),
        });
    }
    Ok(())
}

fn output_shape(node: &Node, inputs: &[Shape], declared: Shape) -> Result<Shape, String> {
    let arity = |n: usize| match inputs.len() == n {
        true => Ok(()),
        false => Err(format!("has {} inputs, expected {n}", inputs.len())),
    };
    let pairs = matches!(node.op, Op::Add { .. } | Op::Sub { .. } | Op::Mul { .. });
    if !pairs && !matches!(node.op, Op::Concat { .. }) {
        arity(1)?;
    }
    let first = *inputs.first().ok_or("has no input")?;
    let [h, w, c] = first;
    let shape = match &node.op {
        Op::Conv2d(conv) => {
            let &[o, kh, kw, ci] = conv.weights.shape.as_slice() else {
                return Err(format!(
                    "weights have shape {:?}, expected [out_c, kh, kw, in_c / groups]",
                    conv.weights.shape
                ));
            };
            check_weights(&conv.weights, &conv.bias, o)?;
            let g = conv.groups;
            if g == 0 || ci.checked_mul(g) != Some(c) || !o.is_multiple_of(g) {
                return Err(format!(
                    "{g} groups of {ci} channels and {o} filters do not fit an input of {c} channels"
                ));
            }
            let [oh, ow] = window(first, [kh, kw], conv.stride, conv.dilation, conv.pads)?;
            [oh, ow, o]
        }
        Op::FullyConnected(fc) => {
            let &[o, i] = fc.weights.shape.as_slice() else {
                return Err(format!(
                    "weights have shape {:?}, expected [out, in]",
                    fc.weights.shape
                ));
            };
            check_weights(&fc.weights, &fc.bias, o)?;
            if i != h * w * c {
                return Err(format!(
                    "weights take {i} inputs, but the input has {h}x{w}x{c} = {} elements",
                    h * w * c
                ));
            }
            [1, 1, o]
        }
        Op::Affine(a) => {
            if a.scale.len() != c || a.shift.len() != c {
                return Err(format!(
                    "{} scales and {} shifts for {c} channels",
                    a.scale.len(),
                    a.shift.len()
                ));
            }
            first
        }
        Op::Add { .. } | Op::Sub { .. } | Op::Mul { .. } => {
            arity(2)?;
            broadcast_shape(first, inputs[1]).ok_or_else(|| {
                format!(
                    "takes {first:?} and {:?}; an axis must agree, or be 1 in one of them",
                    inputs[1]
                )
            })?
        }
        Op::ResizeNearest { rows, columns } => {
            if rows.iter().any(|r| *r >= h) || columns.iter().any(|k| *k >= w) {
                return Err(format!("a row or column is beyond {first:?}"));
            }
            [rows.len(), columns.len(), c]
        }
        Op::Activation(_) | Op::Softmax => first,
        Op::MaxPool(p) | Op::AveragePool(p) => {
            if matches!(node.op, Op::AveragePool(_)) && p.dilation != [1, 1] {
                return Err(format!(
                    "dilation {:?} of a mean is not supported",
                    p.dilation
                ));
            }
            let [oh, ow] = window(first, p.kernel, p.stride, p.dilation, p.pads)?;
            // A window that lies in the border alone has neither a maximum nor a mean.
            let reach = |k: usize, d: usize| d * (k - 1) + 1;
            let too_wide =
                |before: usize, after: usize, k: usize, d: usize| before.max(after) >= reach(k, d);
            let p2 = p.pads;
            if too_wide(p2.top, p2.bottom, p.kernel[0], p.dilation[0])
                || too_wide(p2.left, p2.right, p.kernel[1], p.dilation[1])
            {
                return Err(format!(
                    "padding {p2:?} is not smaller than the window {:?}",
                    p.kernel
                ));
            }
            [oh, ow, c]
        }
        Op::GlobalAveragePool => [1, 1, c],
        Op::Pad { before, after, .. } => {
            let mut out = first;
            for i in 0..3 {
                out[i] = sum([out[i], before[i], after[i]])?;
            }
            out
        }
        Op::Concat { axis } => {
            if *axis > 2 {
                return Err(format!("axis {axis} is none of H, W, C"));
            }
            let mut out = first;
            for s in &inputs[1..] {
                if (0..3).any(|i| i != *axis && s[i] != first[i]) {
                    return Err(format!("joins {s:?} to {first:?} along axis {axis}"));
                }
                out[*axis] = sum([out[*axis], s[*axis], 0])?;
            }
            out
        }
        Op::Reshape => {
            let product = |s: Shape| s.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
            if product(first) != product(declared) {
                return Err(format!("cannot give {first:?} the shape {declared:?}"));
            }
            declared
        }
        Op::Transpose { perm } => {
            let mut sorted = *perm;
            sorted.sort_unstable();
            if sorted != [0, 1, 2] {
                return Err(format!("{perm:?} is no permutation of H, W, C"));
            }
            perm.map(|p| first[p])
        }
    };
    match fits(shape) {
        true => Ok(shape),
        false => Err(format!(
            "makes {shape:?}; a value must have 1 to {MAX_ELEMENTS} elements"
        )),
    }
}

/// A quarter of a gibibyte a sample: far beyond any microcontroller, and a bound on what a hostile
/// file can make this allocate.
const MAX_ELEMENTS: usize = 1 << 26;

fn sum(parts: [usize; 3]) -> Result<usize, String> {
    parts
        .iter()
        .try_fold(0usize, |a, &b| a.checked_add(b))
        .ok_or_else(|| "sizes overflow".to_owned())
}

fn check_weights(weights: &Weights, bias: &[f32], out: usize) -> Result<(), String> {
    let expected = weights
        .shape
        .iter()
        .try_fold(1usize, |a, &b| a.checked_mul(b));
    if expected != Some(weights.data.len()) || weights.data.is_empty() {
        return Err(format!(
            "{} weights do not fill the shape {:?}",
            weights.data.len(),
            weights.shape
        ));
    }
    if bias.len() != out {
        return Err(format!("{} biases for {out} output channels", bias.len()));
    }
    Ok(())
}

/// Output height and width of a sliding window: `floor((size + pads - reach) / stride) + 1`.
pub(super) fn window(
    [h, w, c]: Shape,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    p: Pads,
) -> Result<[usize; 2], String> {
    let padded = [sum([h, p.top, p.bottom])?, sum([w, p.left, p.right])?];
    // A large stride can make little of a border that must still be laid out.
    if !fits([padded[0], padded[1], c]) {
        return Err(format!(
            "padding {p:?} makes the input larger than {MAX_ELEMENTS} elements"
        ));
    }
    let one = |i: usize| -> Result<usize, String> {
        let (k, s, d) = (kernel[i], stride[i], dilation[i]);
        if k == 0 || s == 0 || d == 0 {
            return Err(format!(
                "kernel {kernel:?}, stride {stride:?} and dilation {dilation:?} must be positive"
            ));
        }
        let reach = (k - 1)
            .checked_mul(d)
            .and_then(|r| r.checked_add(1))
            .ok_or("kernel times dilation overflows")?;
        match padded[i].checked_sub(reach) {
            Some(free) => Ok(free / s + 1),
            None => Err(format!(
                "a window of {reach} does not fit {} padded positions",
                padded[i]
            )),
        }
    };
    Ok([one(0)?, one(1)?])
}

/// Whether a shape has at least one element and at most [`MAX_ELEMENTS`].
fn fits(shape: Shape) -> bool {
    shape
        .iter()
        .try_fold(1usize, |a, &b| a.checked_mul(b))
        .is_some_and(|n| n > 0 && n <= MAX_ELEMENTS)
}
