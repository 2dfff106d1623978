//! Runs a checked image, operator by operator, in an arena that the caller owns.
//!
//! Operators are decoded one at a time from the image: nothing but the arena and a few hundred
//! bytes of stack (one row of unpacked weights) is needed.

mod elementwise;

use core::fmt;
use core::ops::Range;

use serde::{Deserialize, Serialize};

#[cfg(feature = "fast")]
use crate::image::Add;
use crate::image::{
    Concat, Conv2d, Model, Op, Pool, Scratch, TensorDesc, TensorId, Unary, is_built_in,
};
use crate::kernels::{self, Kernels, Native, shape};

/// Why an image was not run. The image itself has been checked, so only the buffers can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RunError {
    /// The arena is smaller than the image's plan needs.
    Arena {
        /// Bytes that the plan needs.
        needed: u32,
        /// Bytes that were given.
        given: u32,
    },
    /// The input has another length than the model's input tensor.
    Input {
        /// Elements of the tensor.
        needed: u32,
        /// Elements that were given.
        given: u32,
    },
    /// The output has another length than the model's output tensor.
    Output {
        /// Elements of the tensor.
        needed: u32,
        /// Elements that were given.
        given: u32,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RunError::Arena { needed, given } => {
                write!(
                    f,
                    "the model needs an arena of {needed} bytes but was given {given}"
                )
            }
            RunError::Input { needed, given } => {
                write!(
                    f,
                    "the model's input has {needed} elements but was given {given}"
                )
            }
            RunError::Output { needed, given } => {
                write!(
                    f,
                    "the model's output has {needed} elements but there is room for {given}"
                )
            }
        }
    }
}

impl core::error::Error for RunError {}

/// Runs one sample: `input` and `output` are the model's input and output tensors, HWC.
///
/// # Errors
///
/// A buffer of the wrong length; nothing has been written then.
pub fn run(
    model: &Model,
    arena: &mut [i8],
    input: &[i8],
    output: &mut [i8],
) -> Result<(), RunError> {
    run_with(model, arena, input, output, |_, _, _| {})
}

/// As [`run`], and shows every operator's result: its index, the operator, its output tensor.
///
/// # Errors
///
/// As [`run`].
pub fn run_with(
    model: &Model,
    arena: &mut [i8],
    input: &[i8],
    output: &mut [i8],
    observe: impl FnMut(usize, &Op, &[i8]),
) -> Result<(), RunError> {
    run_on::<Native>(model, arena, input, output, observe)
}

/// As [`run_with`], with these kernels rather than this processor's [`Native`] ones: they all give
/// the same bits.
///
/// # Errors
///
/// As [`run`].
pub fn run_on<K: Kernels>(
    model: &Model,
    arena: &mut [i8],
    input: &[i8],
    output: &mut [i8],
    mut observe: impl FnMut(usize, &Op, &[i8]),
) -> Result<(), RunError> {
    let needed = model.arena_bytes();
    if arena.len() < needed {
        return Err(RunError::Arena {
            needed: needed as u32,
            given: arena.len() as u32,
        });
    }
    let entry = place(&model.input());
    if input.len() != entry.len() {
        return Err(RunError::Input {
            needed: entry.len() as u32,
            given: input.len() as u32,
        });
    }
    let exit = place(&model.output());
    if output.len() != exit.len() {
        return Err(RunError::Output {
            needed: exit.len() as u32,
            given: output.len() as u32,
        });
    }
    arena[entry].copy_from_slice(input);
    for (index, op) in model.ops().enumerate() {
        step::<K>(model, &op, arena);
        observe(index, &op, &arena[place(&model.tensor(op.output()))]);
    }
    output.copy_from_slice(&arena[exit]);
    Ok(())
}

/// A tensor's bytes in the arena.
fn place(t: &TensorDesc) -> Range<usize> {
    let from = t.offset as usize;
    from..from + t.elements() as usize
}

/// An output to write and an input to read. The check has proved that they do not overlap.
fn output_and_input<'m>(
    arena: &'m mut [i8],
    output: &TensorDesc,
    input: &TensorDesc,
) -> (&'m mut [i8], &'m [i8]) {
    let [out, x] = arena
        .get_disjoint_mut([place(output), place(input)])
        .expect("the check refuses an output that overlaps an input");
    (out, x)
}

/// As [`output_and_input`], and working memory (empty where the plan has none).
fn operands<'m>(
    arena: &'m mut [i8],
    output: &TensorDesc,
    input: &TensorDesc,
    scratch: Option<Scratch>,
) -> (&'m mut [i8], &'m [i8], &'m mut [i8]) {
    let scratch = scratch.map_or(0..0, |s| s.range());
    if scratch.is_empty() {
        let (out, x) = output_and_input(arena, output, input);
        return (out, x, &mut []);
    }
    let [out, x, scratch] = arena
        .get_disjoint_mut([place(output), place(input), scratch])
        .expect("the check refuses working memory that overlaps an operand");
    (out, x, scratch)
}

fn step<K: Kernels>(model: &Model, op: &Op, arena: &mut [i8]) {
    let tensor = |id: TensorId| model.tensor(id);
    let y = tensor(op.output());
    // Where an operator is not built in, no image with it passes the check.
    let has = is_built_in;
    match op {
        Op::Conv2d(o) if has(0) => convolution::<K>(model, o, arena, false),
        Op::DepthwiseConv2d(o) if has(1) => convolution::<K>(model, o, arena, true),
        Op::FullyConnected(o) if has(2) => {
            let x = tensor(o.input);
            let outputs = y.shape[2] as usize;
            let taps = x.elements() as usize / (y.shape[0] as usize * y.shape[1] as usize);
            let params = kernels::FullyConnectedParams {
                input_zero_point: x.zero_point,
                rounding: model.rounding(),
                weights: model.rows(o.weights, outputs, taps),
                channels: model.channels(o.channels, outputs, &y),
            };
            let (out, x, scratch) = operands(arena, &y, &x, o.scratch());
            // One vector, or one a position.
            for (x, out) in x.chunks_exact(taps).zip(out.chunks_exact_mut(outputs)) {
                K::fully_connected(&params, scratch, x, out);
            }
        }
        #[cfg(feature = "fast")]
        Op::Add(o) if has(3) => add(model, o, arena),
        #[cfg(not(feature = "fast"))]
        Op::Add(o) if has(3) => elementwise::add(model, &o.as_sum(), arena),
        Op::MaxPool(o) if has(4) => pool(model, o, arena, kernels::max_pool),
        Op::AveragePool(o) if has(5) => pool(model, o, arena, kernels::average_pool),
        Op::Mean(o) if has(6) => {
            let x = tensor(o.input);
            let params = kernels::MeanParams {
                input_zero_point: x.zero_point,
                output_zero_point: y.zero_point,
                multiplier: o.multiplier,
            };
            let (out, x) = output_and_input(arena, &y, &x);
            kernels::mean(&params, x, out);
        }
        Op::Pad(o) if has(7) => {
            let x = tensor(o.input);
            let params = kernels::PadParams {
                input: shape(x.shape),
                output: shape(y.shape),
                before: shape(o.before),
                value: o.value,
            };
            let (out, x) = output_and_input(arena, &y, &x);
            kernels::pad(&params, x, out);
        }
        Op::Concat(o) if has(8) => concat(model, o, arena),
        Op::Reshape(Unary { input, .. }) if has(9) => {
            let x = tensor(*input);
            if x.offset != y.offset {
                let (out, x) = output_and_input(arena, &y, &x);
                kernels::reshape(x, out);
            }
        }
        Op::Transpose(o) if has(10) => {
            let x = tensor(o.input);
            let (out, data) = output_and_input(arena, &y, &x);
            kernels::transpose(shape(x.shape), o.perm, data, out);
        }
        Op::Requantize(o) if has(11) => {
            let x = tensor(o.input);
            let params = kernels::RequantizeParams {
                input_zero_point: x.zero_point,
                output_zero_point: y.zero_point,
                multiplier: o.multiplier,
            };
            if x.offset == y.offset {
                for x in &mut arena[place(&y)] {
                    *x = params.apply(*x);
                }
            } else {
                let (out, x) = output_and_input(arena, &y, &x);
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = params.apply(x);
                }
            }
        }
        Op::Lut(o) if has(12) => {
            let x = tensor(o.input);
            let table = model.table(o.table);
            if x.offset == y.offset {
                kernels::lut_in_place(table, &mut arena[place(&y)]);
            } else {
                let (out, x) = output_and_input(arena, &y, &x);
                kernels::lut(table, x, out);
            }
        }
        Op::Softmax(o) if has(13) => {
            let x = tensor(o.input);
            let params = kernels::SoftmaxParams {
                channels: x.shape[2] as usize,
                multiplier: o.multiplier,
                left_shift: o.left_shift as u32,
                diff_min: o.diff_min,
            };
            let (out, x) = output_and_input(arena, &y, &x);
            kernels::softmax(&params, x, out);
        }
        Op::Mul(o) if has(14) => elementwise::mul(model, o, arena),
        Op::Sub(o) if has(15) => elementwise::sub(model, o, arena),
        Op::BroadcastAdd(o) if has(16) => elementwise::add(model, o, arena),
        Op::ResizeNearest(o) if has(17) => {
            let x = tensor(o.input);
            let rows = model.indices(o.rows, y.shape[0] as usize);
            let columns = model.indices(o.columns, y.shape[1] as usize);
            let (out, data) = output_and_input(arena, &y, &x);
            kernels::resize_nearest(shape(x.shape), rows, columns, data, out);
        }
        _ => {}
    }
}

fn convolution<K: Kernels>(model: &Model, o: &Conv2d, arena: &mut [i8], depthwise: bool) {
    let (x, y) = (model.tensor(o.input), model.tensor(o.output));
    let outputs = y.shape[2] as usize;
    let groups = o.groups as usize;
    let positions = o.window.kernel[0] as usize * o.window.kernel[1] as usize;
    // A depthwise filter has a row per position, any other a row per output channel.
    let (rows, columns) = if depthwise {
        (positions, outputs)
    } else {
        (outputs, positions * (x.shape[2] as usize / groups))
    };
    let params = kernels::ConvParams {
        input: shape(x.shape),
        output: shape(y.shape),
        input_zero_point: x.zero_point,
        window: o.window,
        groups,
        weights: model.rows(o.weights, rows, columns),
        channels: model.channels(o.channels, outputs, &y),
    };
    let (out, x, scratch) = operands(arena, &y, &x, o.scratch());
    if depthwise {
        K::depthwise_conv2d(&params, scratch, x, out);
    } else {
        K::conv2d(&params, scratch, x, out);
    }
}

fn pool(
    model: &Model,
    o: &Pool,
    arena: &mut [i8],
    kernel: fn(&kernels::PoolParams, &[i8], &mut [i8]),
) {
    let (x, y) = (model.tensor(o.input), model.tensor(o.output));
    let params = kernels::PoolParams {
        input: shape(x.shape),
        output: shape(y.shape),
        window: o.window,
        act_min: o.act_min,
        act_max: o.act_max,
    };
    let (out, x) = output_and_input(arena, &y, &x);
    kernel(&params, x, out);
}

#[cfg(feature = "fast")]
fn add(model: &Model, o: &Add, arena: &mut [i8]) {
    let [a, b] = o.inputs.map(|id| model.tensor(id));
    let y = model.tensor(o.output);
    let params = kernels::AddParams {
        input_zero_points: [a.zero_point, b.zero_point],
        output_zero_point: y.zero_point,
        input_multipliers: o.input_multipliers,
        output_multiplier: o.output_multiplier,
        act_min: o.act_min,
        act_max: o.act_max,
    };
    // The output may stand on either addend, and both addends may be one tensor.
    let (on_a, on_b) = (y.offset == a.offset, y.offset == b.offset);
    if on_a && on_b {
        for x in &mut arena[place(&y)] {
            *x = params.apply(*x, *x);
        }
    } else if on_a {
        let (out, b) = output_and_input(arena, &y, &b);
        for (out, &b) in out.iter_mut().zip(b) {
            *out = params.apply(*out, b);
        }
    } else if on_b {
        let (out, a) = output_and_input(arena, &y, &a);
        for (out, &a) in out.iter_mut().zip(a) {
            *out = params.apply(a, *out);
        }
    } else if a.offset == b.offset {
        let (out, a) = output_and_input(arena, &y, &a);
        kernels::add(&params, a, a, out);
    } else {
        let [out, a, b] = arena
            .get_disjoint_mut([place(&y), place(&a), place(&b)])
            .expect("the check refuses tensors that overlap while both are needed");
        kernels::add(&params, a, b, out);
    }
}

fn concat(model: &Model, o: &Concat, arena: &mut [i8]) {
    let y = model.tensor(o.output);
    let axis = o.axis as usize;
    let mut start = 0;
    for record in o.records() {
        let x = model.tensor(record.tensor);
        let part = kernels::ConcatPart {
            input: shape(x.shape),
            output: shape(y.shape),
            axis,
            start,
            rescale: record
                .multiplier
                .map(|multiplier| kernels::RequantizeParams {
                    input_zero_point: x.zero_point,
                    output_zero_point: y.zero_point,
                    multiplier,
                }),
        };
        start += x.shape[axis] as usize;
        let (out, x) = output_and_input(arena, &y, &x);
        kernels::concat_part(&part, x, out);
    }
}
