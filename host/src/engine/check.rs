//! Whether a network is well formed: what the kernels take for granted.

use qmend_shared::image::MAX_CONCAT_INPUTS;
use qmend_shared::kernels::SoftmaxParams;

use super::EngineError;
use super::bound::check_channel;
use crate::model::{Linear, Multiplier, Node, Op, Pool, QuantizedModel};

/// Largest number of elements of a tensor or a padded input.
const MAX_ELEMENTS: usize = 1 << 28;

/// Checks wiring: operands exist before they are read, no tensor is written twice.
pub(super) fn wiring(model: &QuantizedModel) -> Result<(), EngineError> {
    let wrong = |what: String| Err(EngineError::Wiring { what });
    for (i, t) in model.tensors.iter().enumerate() {
        let elements = t.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if !elements.is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n)) {
            return wrong(format!("tensor {i} '{}' has shape {:?}", t.name, t.shape));
        }
    }
    let count = model.tensors.len();
    if model.input.0 >= count || model.output.0 >= count {
        return wrong(format!("input or output is not among the {count} tensors"));
    }
    let mut written = vec![false; count];
    written[model.input.0] = true;
    for n in &model.nodes {
        let arity = match n.op {
            Op::Add(_) => 2..=2,
            Op::Mul(_) | Op::Sub(_) | Op::BroadcastAdd(_) => match n.op.constant() {
                Some(_) => 1..=1,
                None => 2..=2,
            },
            Op::Concat(_) => 1..=MAX_CONCAT_INPUTS,
            _ => 1..=1,
        };
        if !arity.contains(&n.inputs.len()) {
            return wrong(format!(
                "node '{}' ({}) has {} inputs",
                n.name,
                n.op.kind(),
                n.inputs.len()
            ));
        }
        if let Some(id) = n
            .inputs
            .iter()
            .find(|id| !written.get(id.0).copied().unwrap_or(false))
        {
            return wrong(format!(
                "node '{}' reads tensor {} before it is written",
                n.name, id.0
            ));
        }
        if n.output.0 >= count || written[n.output.0] {
            return wrong(format!(
                "node '{}' writes tensor {}, which is taken or absent",
                n.name, n.output.0
            ));
        }
        written[n.output.0] = true;
    }
    if !written[model.output.0] {
        return wrong("the output tensor is never written".to_string());
    }
    Ok(())
}

/// Checks one node against the shapes of its tensors, and every accumulator's bound.
pub(super) fn node(model: &QuantizedModel, node: &Node) -> Result<(), EngineError> {
    let input = model.tensor(node.inputs[0]).shape;
    let output = model.tensor(node.output).shape;
    let kind = node.op.kind();
    let shape = |what: String| EngineError::Shape {
        node: node.name.clone(),
        kind,
        what,
    };
    let value = |what: &str| EngineError::Value {
        node: node.name.clone(),
        kind,
        what: what.to_string(),
    };
    let expect = |want: [usize; 3]| {
        if want == output {
            Ok(())
        } else {
            Err(shape(format!(
                "input {input:?} gives {want:?}, but the output tensor is {output:?}"
            )))
        }
    };
    // A window may leave the input's end unread: an image's window says nothing of what follows
    // the last position.
    let expect_window = |[h, w]: [usize; 2], c: usize| {
        if output[0] <= h && output[1] <= w && output[2] == c {
            Ok(())
        } else {
            Err(shape(format!(
                "input {input:?} gives {:?}, but the output tensor is {output:?}",
                [h, w, c]
            )))
        }
    };
    let (zx, zy) = (
        model.tensor(node.inputs[0]).zero_point,
        model.tensor(node.output).zero_point,
    );
    let same_zero_point = || {
        if zx == zy {
            Ok(())
        } else {
            Err(value("input and output must share scale and zero point"))
        }
    };
    let multiplier = |m: Multiplier| {
        if m.is_valid() {
            Ok(())
        } else {
            Err(value("a multiplier is outside its range"))
        }
    };
    match &node.op {
        Op::Conv2d(c) => {
            let groups_fit = c.groups >= 1
                && input[2].is_multiple_of(c.groups)
                && c.linear.out_channels().is_multiple_of(c.groups);
            if !groups_fit {
                return Err(shape(format!(
                    "{} groups do not divide {} input and {} output channels",
                    c.groups,
                    input[2],
                    c.linear.out_channels()
                )));
            }
            let window = [c.kernel, c.stride, c.dilation];
            let pads = [[c.pads.top, c.pads.bottom], [c.pads.left, c.pads.right]];
            let positions = slide(input, window, pads).map_err(|what| shape(what.to_string()))?;
            expect_window(positions, c.linear.out_channels())?;
            linear(
                model,
                node,
                &c.linear,
                c.kernel[0] * c.kernel[1] * (input[2] / c.groups),
            )
        }
        Op::FullyConnected(f) => {
            let out_c = f.linear.out_channels();
            if output[0] * output[1] > 1 {
                // One layer for every position.
                expect([input[0], input[1], out_c])?;
                return linear(model, node, &f.linear, input[2]);
            }
            expect([1, 1, out_c])?;
            linear(model, node, &f.linear, input.iter().product())
        }
        Op::Add(a) => {
            let other = model.tensor(node.inputs[1]).shape;
            if other != input {
                return Err(shape(format!("adds {input:?} and {other:?}")));
            }
            expect(input)?;
            if a.act_min > a.act_max {
                return Err(value("act_min is above act_max"));
            }
            if a.input_multipliers
                .iter()
                .chain([&a.output_multiplier])
                .any(|m| m.exponent > 0)
            {
                return Err(value("a multiplier is one or more"));
            }
            a.input_multipliers
                .iter()
                .chain([&a.output_multiplier])
                .try_for_each(|m| multiplier(*m))
        }
        Op::MaxPool(p) | Op::AveragePool(p) => {
            let window = [p.kernel, p.stride, p.dilation];
            let pads = [[p.pads.top, p.pads.bottom], [p.pads.left, p.pads.right]];
            let positions = slide(input, window, pads).map_err(|what| shape(what.to_string()))?;
            expect_window(positions, input[2])?;
            same_zero_point()?;
            if p.act_min > p.act_max {
                return Err(value("act_min is above act_max"));
            }
            if !every_window_sees_input(p, input, output) {
                return Err(shape(format!(
                    "a window over input {input:?} holds nothing but padding"
                )));
            }
            Ok(())
        }
        Op::Mean { multiplier: m } => {
            expect([1, 1, input[2]])?;
            if !m.is_valid_quotient() {
                return Err(value("the multiplier is outside its range"));
            }
            let reach = (127 - zx as i128).max(zx as i128 + 128) * (input[0] * input[1]) as i128;
            if reach << m.exponent.max(0) > i32::MAX as i128 {
                return Err(value("the sum over all positions leaves 32 bits"));
            }
            Ok(())
        }
        Op::Pad(p) => {
            let mut want = [0; 3];
            for (i, w) in want.iter_mut().enumerate() {
                *w = [input[i], p.before[i], p.after[i]]
                    .iter()
                    .fold(0usize, |a, b| a.saturating_add(*b));
            }
            expect(want)?;
            same_zero_point()
        }
        Op::Concat(c) => {
            if c.axis > 2 || c.inputs.len() != node.inputs.len() {
                return Err(value("axis or number of inputs"));
            }
            let mut want = input;
            want[c.axis] = 0;
            for id in &node.inputs {
                let s = model.tensor(*id).shape;
                if (0..3).any(|i| i != c.axis && s[i] != input[i]) {
                    return Err(shape(format!(
                        "joins {input:?} and {s:?} along axis {}",
                        c.axis
                    )));
                }
                want[c.axis] += s[c.axis];
            }
            expect(want)?;
            c.inputs.iter().try_for_each(|i| match i {
                crate::model::ConcatInput::Copy => Ok(()),
                crate::model::ConcatInput::Rescale(m) => rescale(*m, &multiplier, &value),
            })
        }
        Op::Reshape => {
            if input.iter().product::<usize>() != output.iter().product::<usize>() {
                return Err(shape(format!(
                    "{input:?} has not as many elements as {output:?}"
                )));
            }
            same_zero_point()
        }
        Op::Transpose { perm } => {
            let mut sorted = *perm;
            sorted.sort_unstable();
            if sorted != [0, 1, 2] {
                return Err(value("perm is no permutation of 0, 1, 2"));
            }
            expect(perm.map(|p| input[p]))?;
            same_zero_point()
        }
        Op::Requantize { multiplier: m } => {
            expect(input)?;
            rescale(*m, &multiplier, &value)
        }
        Op::Lut { .. } => expect(input),
        Op::Softmax {
            left_shift,
            multiplier: m,
            diff_min,
        } => {
            expect(input)?;
            if zy != -128 {
                return Err(value("the output's zero point is not -128"));
            }
            if input[2] > SoftmaxParams::MAX_CHANNELS {
                return Err(shape(format!(
                    "{input:?} has more than {} channels",
                    SoftmaxParams::MAX_CHANNELS
                )));
            }
            let shifted =
                *left_shift <= 30 && (-(diff_min.max(&-255)) as i64) << left_shift < 1 << 31;
            if !shifted || *m < 1 << 30 || *diff_min > 0 {
                return Err(value("multiplier, shift or smallest difference"));
            }
            Ok(())
        }
        Op::Mul(p) => {
            let zeros = broadcast(model, node)?;
            multiplier(p.multiplier)?;
            let reach = |z: i8| (127 - z as i64).max(z as i64 + 128);
            let largest = reach(zeros[0]) * reach(zeros[1]);
            if largest << p.multiplier.exponent.max(0) > i32::MAX as i64 {
                return Err(value("a multiplier shifts out of 32 bits"));
            }
            if p.act_min > p.act_max {
                return Err(value("act_min is above act_max"));
            }
            Ok(())
        }
        Op::Sub(s) | Op::BroadcastAdd(s) => {
            broadcast(model, node)?;
            if s.act_min > s.act_max {
                return Err(value("act_min is above act_max"));
            }
            let multipliers = s.input_multipliers.iter().chain([&s.output_multiplier]);
            if multipliers.clone().any(|m| m.exponent > 0) {
                return Err(value("a multiplier is one or more"));
            }
            multipliers.copied().try_for_each(multiplier)
        }
        Op::ResizeNearest { rows, columns } => {
            expect([rows.len(), columns.len(), input[2]])?;
            same_zero_point()?;
            for (indices, length) in [(rows, input[0]), (columns, input[1])] {
                if indices
                    .iter()
                    .any(|i| *i >= length || *i > u16::MAX as usize)
                {
                    return Err(value("a row or column is none of the input's"));
                }
            }
            Ok(())
        }
    }
}

/// Checks that the operands of an element-wise node can be repeated to its output's shape; their
/// zero points.
fn broadcast(model: &QuantizedModel, node: &Node) -> Result<[i8; 2], EngineError> {
    let output = model.tensor(node.output).shape;
    let mut operands: Vec<([usize; 3], i8)> = node
        .inputs
        .iter()
        .map(|id| (model.tensor(*id).shape, model.tensor(*id).zero_point))
        .collect();
    let wrong = |what: String| {
        Err(EngineError::Shape {
            node: node.name.clone(),
            kind: node.op.kind(),
            what,
        })
    };
    if let Some(c) = node.op.constant() {
        if c.position > 1 || c.values.is_empty() {
            return wrong(format!(
                "a constant of {} numbers is operand {}",
                c.values.len(),
                c.position
            ));
        }
        operands.insert(c.position, ([1, 1, c.values.len()], c.zero_point));
    }
    let [a, b] = [operands[0], operands[1]];
    for (axis, &length) in output.iter().enumerate() {
        let [p, q] = [a.0[axis], b.0[axis]];
        if (p != length && p != 1) || (q != length && q != 1) || p.max(q) != length {
            return wrong(format!("{:?} and {:?} do not give {output:?}", a.0, b.0));
        }
    }
    Ok([a.1, b.1])
}

/// A rescaled difference of two int8 is below 2^8, so exponents up to 22 keep the shift in 32 bits.
fn rescale(
    m: Multiplier,
    valid: &impl Fn(Multiplier) -> Result<(), EngineError>,
    value: &impl Fn(&str) -> EngineError,
) -> Result<(), EngineError> {
    valid(m)?;
    if m.exponent > 22 {
        return Err(value("a multiplier shifts out of 32 bits"));
    }
    Ok(())
}

/// Output height and width of a sliding window.
fn slide(
    input: [usize; 3],
    window: [[usize; 2]; 3],
    pads: [[usize; 2]; 2],
) -> Result<[usize; 2], &'static str> {
    let mut out = [0; 2];
    let mut padded = input[2];
    for i in 0..2 {
        let [kernel, stride, dilation] = window.map(|w| w[i]);
        if kernel == 0 || stride == 0 || dilation == 0 {
            return Err("kernel, stride and dilation must be at least 1");
        }
        if [kernel, stride, dilation, pads[i][0], pads[i][1]]
            .iter()
            .any(|v| *v > u8::MAX as usize)
        {
            return Err("kernel, stride, dilation and padding must be at most 255");
        }
        let size = pads[i]
            .iter()
            .try_fold(input[i], |a, b| a.checked_add(*b))
            .ok_or("padding too large")?;
        let extent = (kernel - 1)
            .checked_mul(dilation)
            .map(|e| e + 1)
            .ok_or("window too large")?;
        if extent > size {
            return Err("the window is larger than the padded input");
        }
        padded = padded
            .checked_mul(size)
            .filter(|p| *p <= MAX_ELEMENTS)
            .ok_or("the padded input is too large")?;
        out[i] = (size - extent) / stride + 1;
    }
    Ok(out)
}

fn every_window_sees_input(p: &Pool, input: [usize; 3], output: [usize; 3]) -> bool {
    (0..2).all(|i| {
        let before = [p.pads.top, p.pads.left][i];
        (0..output[i]).all(|o| {
            (0..p.kernel[i]).any(|k| {
                let at = o * p.stride[i] + k * p.dilation[i];
                at >= before && at < before + input[i]
            })
        })
    })
}

fn linear(model: &QuantizedModel, node: &Node, l: &Linear, taps: usize) -> Result<(), EngineError> {
    let kind = node.op.kind();
    let value = |what: String| EngineError::Value {
        node: node.name.clone(),
        kind,
        what,
    };
    let out_c = l.out_channels();
    if Some(l.weights.len()) != out_c.checked_mul(taps)
        || l.multipliers.len() != out_c
        || out_c == 0
    {
        return Err(EngineError::Shape {
            node: node.name.clone(),
            kind,
            what: format!(
                "{} weights, {} multipliers and {out_c} biases for {taps} taps a channel",
                l.weights.len(),
                l.multipliers.len()
            ),
        });
    }
    if !matches!(l.bits, 2 | 3 | 4 | 8) {
        return Err(value(format!(
            "weights of {} bits; 2, 3, 4 and 8 exist",
            l.bits
        )));
    }
    let (lo, hi) = l.weight_range();
    if let Some(at) = l.weights.iter().position(|w| !(lo..=hi).contains(w)) {
        return Err(value(format!(
            "weight {} of channel {} is not a {}-bit number",
            l.weights[at],
            at / taps,
            l.bits
        )));
    }
    if l.act_min > l.act_max {
        return Err(value(format!(
            "act_min {} is above act_max {}",
            l.act_min, l.act_max
        )));
    }
    let zx = model.tensor(node.inputs[0]).zero_point;
    for c in 0..out_c {
        if !l.multipliers[c].is_valid() {
            return Err(value(format!(
                "the multiplier of channel {c} is outside its range"
            )));
        }
        check_channel(&node.name, c, l.row(c), l.bias[c], zx, l.multipliers[c])?;
    }
    Ok(())
}
