//! Operators without a multiply-accumulate loop: `qmend_shared`'s kernels, sample by sample.

use qmend_shared::image::Window;
use qmend_shared::kernels::{self, AddParams, ConcatPart, MeanParams, PadParams, PoolParams};
use qmend_shared::kernels::{Elements, MulParams, Source, SubParams, elementwise};
use qmend_shared::kernels::{RequantizeParams, Shape, SoftmaxParams};

use crate::model::{ConcatInput, Node, Op, Pool, QuantizedModel, Sum};

/// A kernel's settings, ready.
#[derive(Clone, Debug)]
pub(super) enum SharedOp {
    Add(AddParams),
    MaxPool(PoolParams),
    AveragePool(PoolParams),
    Mean(MeanParams),
    Pad(PadParams),
    Concat(Vec<ConcatPart>),
    Reshape,
    Transpose {
        input: Shape,
        perm: [u8; 3],
    },
    Requantize(RequantizeParams),
    Lut(Box<[u8; 256]>),
    Softmax(SoftmaxParams),
    Elementwise(Elementwise),
    ResizeNearest {
        input: Shape,
        rows: Vec<[u8; 2]>,
        columns: Vec<[u8; 2]>,
    },
}

/// An operator of two operands that may be repeated or constant.
#[derive(Clone, Debug)]
pub(super) struct Elementwise {
    function: Function,
    shapes: [Shape; 2],
    output: Shape,
    /// Which operand is constant, and its numbers.
    constant: Option<(usize, Vec<i8>)>,
}

#[derive(Clone, Copy, Debug)]
enum Function {
    Mul(MulParams),
    Sub(SubParams),
    Add(AddParams),
}

impl Elementwise {
    fn new(model: &QuantizedModel, node: &Node) -> Self {
        let mut operands: Vec<(Shape, i8)> = node
            .inputs
            .iter()
            .map(|id| (model.tensor(*id).shape, model.tensor(*id).zero_point))
            .collect();
        let constant = node.op.constant();
        if let Some(c) = constant {
            operands.insert(c.position, ([1, 1, c.values.len()], c.zero_point));
        }
        let y = model.tensor(node.output);
        let input_zero_points = [operands[0].1, operands[1].1];
        let sum = |s: &Sum| AddParams {
            input_zero_points,
            output_zero_point: y.zero_point,
            input_multipliers: s.input_multipliers,
            output_multiplier: s.output_multiplier,
            act_min: s.act_min,
            act_max: s.act_max,
        };
        let function = match &node.op {
            Op::Mul(p) => Function::Mul(MulParams {
                input_zero_points,
                output_zero_point: y.zero_point,
                multiplier: p.multiplier,
                act_min: p.act_min,
                act_max: p.act_max,
            }),
            Op::Sub(s) => Function::Sub(SubParams(sum(s))),
            Op::BroadcastAdd(s) => Function::Add(sum(s)),
            _ => unreachable!("only element-wise operators come here"),
        };
        Self {
            function,
            shapes: [operands[0].0, operands[1].0],
            output: y.shape,
            constant: constant.map(|c| (c.position, c.values.clone())),
        }
    }

    fn run(&self, inputs: &[&[i8]], out: &mut [i8]) {
        let mut inputs = inputs.iter();
        let [a, b] = [0, 1].map(|i| {
            let elements = match &self.constant {
                Some((position, values)) if *position == i => &values[..],
                _ => inputs.next().copied().unwrap_or(&[]),
            };
            Source {
                elements: Elements::Tensor(elements),
                shape: self.shapes[i],
            }
        });
        match self.function {
            Function::Mul(p) => elementwise(self.output, &a, &b, out, |a, b| p.apply(a, b)),
            Function::Sub(p) => elementwise(self.output, &a, &b, out, |a, b| p.apply(a, b)),
            Function::Add(p) => elementwise(self.output, &a, &b, out, |a, b| p.apply(a, b)),
        }
    }
}

impl SharedOp {
    /// Settings of a node that [`super::check::node`] has passed and that has no weights.
    pub(super) fn new(model: &QuantizedModel, node: &Node) -> Self {
        let x = model.tensor(node.inputs[0]);
        let y = model.tensor(node.output);
        match &node.op {
            Op::Conv2d(_) | Op::FullyConnected(_) => {
                unreachable!("linear operators have kernels of their own")
            }
            Op::Add(a) => SharedOp::Add(AddParams {
                input_zero_points: [x.zero_point, model.tensor(node.inputs[1]).zero_point],
                output_zero_point: y.zero_point,
                input_multipliers: a.input_multipliers,
                output_multiplier: a.output_multiplier,
                act_min: a.act_min,
                act_max: a.act_max,
            }),
            Op::MaxPool(p) => SharedOp::MaxPool(pool(p, x.shape, y.shape)),
            Op::AveragePool(p) => SharedOp::AveragePool(pool(p, x.shape, y.shape)),
            Op::Mean { multiplier } => SharedOp::Mean(MeanParams {
                input_zero_point: x.zero_point,
                output_zero_point: y.zero_point,
                multiplier: *multiplier,
            }),
            Op::Pad(p) => SharedOp::Pad(PadParams {
                input: x.shape,
                output: y.shape,
                before: p.before,
                value: p.value,
            }),
            Op::Concat(c) => {
                let mut start = 0;
                let parts = node.inputs.iter().zip(&c.inputs).map(|(id, how)| {
                    let x = model.tensor(*id);
                    let part = ConcatPart {
                        input: x.shape,
                        output: y.shape,
                        axis: c.axis,
                        start,
                        rescale: match how {
                            ConcatInput::Copy => None,
                            ConcatInput::Rescale(multiplier) => Some(RequantizeParams {
                                input_zero_point: x.zero_point,
                                output_zero_point: y.zero_point,
                                multiplier: *multiplier,
                            }),
                        },
                    };
                    start += x.shape[c.axis];
                    part
                });
                SharedOp::Concat(parts.collect())
            }
            Op::Reshape => SharedOp::Reshape,
            Op::Transpose { perm } => SharedOp::Transpose {
                input: x.shape,
                perm: perm.map(|p| p as u8),
            },
            Op::Requantize { multiplier } => SharedOp::Requantize(RequantizeParams {
                input_zero_point: x.zero_point,
                output_zero_point: y.zero_point,
                multiplier: *multiplier,
            }),
            Op::Lut { table } => SharedOp::Lut(Box::new(table.map(|v| v as u8))),
            Op::Softmax {
                multiplier,
                left_shift,
                diff_min,
            } => SharedOp::Softmax(SoftmaxParams {
                channels: x.shape[2],
                multiplier: *multiplier,
                left_shift: *left_shift as u32,
                diff_min: *diff_min,
            }),
            Op::Mul(_) | Op::Sub(_) | Op::BroadcastAdd(_) => {
                SharedOp::Elementwise(Elementwise::new(model, node))
            }
            Op::ResizeNearest { rows, columns } => {
                // The check keeps indices within the input, whose axes fit in 16 bits in an image.
                let indices = |v: &[usize]| v.iter().map(|i| (*i as u16).to_le_bytes()).collect();
                SharedOp::ResizeNearest {
                    input: x.shape,
                    rows: indices(rows),
                    columns: indices(columns),
                }
            }
        }
    }

    /// Whether an output depends on the inputs of the same place only.
    pub(super) fn is_elementwise(&self) -> bool {
        matches!(self, SharedOp::Add(_) | SharedOp::Requantize(_))
    }

    /// Any number of samples of an elementwise operator: loops that a caller may vectorise.
    #[inline(always)]
    pub(super) fn elementwise(&self, inputs: &[&[i8]], out: &mut [i8]) {
        let x = inputs[0];
        match self {
            SharedOp::Add(p) => {
                let p = *p;
                for ((&a, &b), out) in x.iter().zip(inputs[1]).zip(out) {
                    *out = p.apply(a, b);
                }
            }
            SharedOp::Requantize(p) => {
                let p = *p;
                x.iter().zip(out).for_each(|(&x, out)| *out = p.apply(x));
            }
            _ => unreachable!("asked of is_elementwise"),
        }
    }

    /// One sample.
    pub(super) fn run_one(&self, inputs: &[&[i8]], out: &mut [i8]) {
        let x = inputs[0];
        match self {
            SharedOp::Add(_) | SharedOp::Requantize(_) => self.elementwise(inputs, out),
            SharedOp::MaxPool(p) => kernels::max_pool(p, x, out),
            SharedOp::AveragePool(p) => kernels::average_pool(p, x, out),
            SharedOp::Mean(p) => kernels::mean(p, x, out),
            SharedOp::Pad(p) => kernels::pad(p, x, out),
            SharedOp::Concat(parts) => {
                parts
                    .iter()
                    .zip(inputs)
                    .for_each(|(p, x)| kernels::concat_part(p, x, out));
            }
            SharedOp::Reshape => kernels::reshape(x, out),
            SharedOp::Transpose { input, perm } => kernels::transpose(*input, *perm, x, out),
            SharedOp::Lut(table) => kernels::lut(&table[..], x, out),
            SharedOp::Softmax(p) => kernels::softmax(p, x, out),
            SharedOp::Elementwise(e) => e.run(inputs, out),
            SharedOp::ResizeNearest {
                input,
                rows,
                columns,
            } => kernels::resize_nearest(*input, rows, columns, x, out),
        }
    }
}

/// [`super::check::node`] keeps windows within the format's bytes.
fn pool(p: &Pool, input: Shape, output: Shape) -> PoolParams {
    let bytes = |v: [usize; 2]| v.map(|v| v as u8);
    PoolParams {
        input,
        output,
        window: Window {
            kernel: bytes(p.kernel),
            stride: bytes(p.stride),
            dilation: bytes(p.dilation),
            pad: bytes([p.pads.top, p.pads.left]),
        },
        act_min: p.act_min,
        act_max: p.act_max,
    }
}
