//! ADD, SUB and MUL of two activations, or of an activation and a constant of one number or of one
//! a channel. Axes of length 1 are repeated to the other operand's.
//!
//! The int8 kernels: ADD and SUB scale both operands, shifted left by 20, to twice the larger
//! input scale; MUL multiplies the differences to the zero points and scales once.

use crate::graph::broadcast_shape;
use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::{activation_range, multiplier};
use crate::import::tflite::network::Activation;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::{ElementType, options};
use crate::model::{Add, ConstantOperand, Multiplier, Op, Product, Sum, TensorId};

/// The kernels' left shift of both operands of a sum.
const LEFT_SHIFT: i32 = 20;

/// The operands of an operator, ready.
struct Operands {
    scales: [f32; 2],
    zero_points: [i8; 2],
    inputs: Vec<TensorId>,
    constant: Option<ConstantOperand>,
    /// Whether both are activations of the output's shape.
    alike: bool,
    output: Activation,
}

fn operands(call: &mut Call) -> Result<Operands, Problem> {
    let constants = [call.is_constant(0)?, call.is_constant(1)?];
    if constants == [true, true] {
        return Err(Problem::unsupported(
            "both of its operands are constants",
            "fold constants before conversion, as the TFLite converter does",
        ));
    }
    let mut scales = [0.0; 2];
    let mut zero_points = [0; 2];
    let mut shapes = [[1; 3]; 2];
    let mut inputs = Vec::new();
    let mut constant = None;
    for k in 0..2 {
        if constants[k] {
            let c = constant_operand(call, k)?;
            scales[k] = c.scale;
            zero_points[k] = c.zero_point;
            shapes[k] = [1, 1, c.values.len()];
            constant = Some(c);
        } else {
            let x = call.activation(k)?;
            scales[k] = x.scale;
            zero_points[k] = x.zero_point;
            shapes[k] = x.shape;
            inputs.push(x.id);
        }
    }
    let output = call.output()?;
    let [a, b] = shapes;
    if broadcast_shape(a, b) != Some(output.shape) {
        return Err(Problem::Damaged(format!(
            "operands of {a:?} and {b:?} do not give {:?}",
            output.shape
        )));
    }
    Ok(Operands {
        scales,
        zero_points,
        inputs,
        alike: constant.is_none() && a == b,
        constant,
        output,
    })
}

/// Operand `k`, a constant.
fn constant_operand(call: &mut Call, k: usize) -> Result<ConstantOperand, Problem> {
    let c = call.constant(k)?;
    let t = &c.tensor;
    let name = t.label();
    if t.element != ElementType::INT8 {
        return Err(Problem::unsupported(
            format!("its constant `{name}` is {}", t.element),
            "convert with full integer quantization, so that constants are int8",
        ));
    }
    let channels = c.shape.last().copied().unwrap_or(1);
    if c.shape.iter().product::<usize>() != channels {
        return Err(Problem::unsupported(
            format!(
                "its constant `{name}` of shape {:?} differs by more than the channel",
                c.shape
            ),
            "use constants of one number, or of one number a channel",
        ));
    }
    let (Some(scale), 1) = (t.scales.get(0), t.scales.len()) else {
        return Err(Problem::unsupported(
            format!(
                "its constant `{name}` has {} scales instead of one",
                t.scales.len()
            ),
            "convert with the current TFLite converter",
        ));
    };
    let zero_point = t.zero_points.get(0).unwrap_or(0);
    match i8::try_from(zero_point) {
        Ok(zero_point) if scale.is_finite() && scale > 0.0 => Ok(ConstantOperand {
            position: k,
            values: c.bytes.iter().map(|b| *b as i8).collect(),
            scale,
            zero_point,
        }),
        _ => Err(Problem::Damaged(format!(
            "constant `{name}` has scale {scale} and zero point {zero_point}"
        ))),
    }
}

pub(super) fn add(call: &mut Call) -> Result<(), Problem> {
    let activation = call.operator.options(options::ADD)?.i8(0)?;
    let o = operands(call)?;
    let s = sum(&o, activation)?;
    let op = if o.alike {
        Op::Add(Add {
            input_multipliers: s.input_multipliers,
            output_multiplier: s.output_multiplier,
            act_min: s.act_min,
            act_max: s.act_max,
        })
    } else {
        Op::BroadcastAdd(Sum {
            constant: o.constant,
            ..s
        })
    };
    call.push(op, &o.inputs, o.output.id);
    Ok(())
}

pub(super) fn sub(call: &mut Call) -> Result<(), Problem> {
    let activation = call.operator.options(options::SUB)?.i8(0)?;
    let o = operands(call)?;
    let s = sum(&o, activation)?;
    let op = Op::Sub(Sum {
        constant: o.constant,
        ..s
    });
    call.push(op, &o.inputs, o.output.id);
    Ok(())
}

pub(super) fn mul(call: &mut Call) -> Result<(), Problem> {
    let activation = call.operator.options(options::MUL)?.i8(0)?;
    let o = operands(call)?;
    let y = &o.output;
    let real = call.quotient(&o.scales, y.scale);
    let multiplier = multiplier(real)?;
    let reach = |z: i8| (127 - z as i64).max(z as i64 + 128);
    let largest = reach(o.zero_points[0]) * reach(o.zero_points[1]);
    if largest << multiplier.exponent.max(0) > i32::MAX as i64 {
        return Err(Problem::unsupported(
            format!("its scales give the multiplier {real:e}, which overflows 32 bits"),
            "quantize the model again: its output scale is far too small for its inputs",
        ));
    }
    let (act_min, act_max) = activation_range(activation, y.scale, y.zero_point)?;
    let op = Op::Mul(Product {
        multiplier,
        act_min,
        act_max,
        constant: o.constant,
    });
    call.push(op, &o.inputs, o.output.id);
    Ok(())
}

fn sum(o: &Operands, activation: i8) -> Result<Sum, Problem> {
    let y = &o.output;
    let [a, b] = o.scales;
    let twice_larger = 2.0 * a.max(b) as f64;
    let (act_min, act_max) = activation_range(activation, y.scale, y.zero_point)?;
    Ok(Sum {
        input_multipliers: [
            smaller_than_one(a as f64 / twice_larger)?,
            smaller_than_one(b as f64 / twice_larger)?,
        ],
        output_multiplier: smaller_than_one(
            twice_larger / ((1 << LEFT_SHIFT) as f64 * y.scale as f64),
        )?,
        act_min,
        act_max,
        constant: None,
    })
}

fn smaller_than_one(real: f64) -> Result<Multiplier, Problem> {
    let m = multiplier(real)?;
    if m.exponent <= 0 {
        return Ok(m);
    }
    Err(Problem::unsupported(
        format!("its scales give the multiplier {real:e}, which is one or more"),
        "quantize the model again: its output scale is far too small for its inputs",
    ))
}
