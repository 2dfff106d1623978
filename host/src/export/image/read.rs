//! A model of an image's bytes.

use qmend_shared::image::{self as format, ChannelRef, Model, TensorDesc, WeightRef, Window};

use super::axes;
use crate::export::ExportError;
use crate::export::notes::Notes;
use crate::graph::Pads;
use crate::model::{
    Add, Concat, ConcatInput, ConstantOperand, Conv2d, FullyConnected, Linear, Node, Op, Pad, Pool,
    Product, QuantizedModel, Sum, Tensor, TensorId,
};

/// Reads an image of exactly these bytes. What [`super::write_image`] was given comes back.
///
/// # Errors
///
/// Bytes that are not a sound image, or notes in it that cannot be read.
pub fn read_image(bytes: &[u8]) -> Result<QuantizedModel, ExportError> {
    let model = Model::from_bytes(bytes)?;
    let manifest = model.manifest();
    let count = model.ops().count();
    let notes = Notes::from_bytes(manifest.notes, count, model.tensor_count())?;
    let mut reader = Reader {
        model,
        pads_after: &notes.pads_after,
    };
    let mut tensors = Vec::with_capacity(model.tensor_count());
    for (id, name) in notes.tensor_names.iter().enumerate() {
        let t = model.tensor(id as u16);
        let scale = f32::from_bits(t.scale_bits);
        if !(scale.is_finite() && scale > 0.0) {
            return Err(ExportError::Tensor {
                index: id,
                name: name.clone(),
                shape: t.shape.map(usize::from),
                problem: format!("its scale is {scale}; it must be positive and finite"),
            });
        }
        tensors.push(Tensor {
            name: name.clone(),
            shape: t.shape.map(usize::from),
            scale,
            zero_point: t.zero_point,
        });
    }
    let mut nodes = Vec::with_capacity(count);
    for (index, (op, name)) in model.ops().zip(&notes.node_names).enumerate() {
        nodes.push(Node {
            name: name.clone(),
            op: reader.op(index, &op)?,
            inputs: op.inputs().map(|t| TensorId(t as usize)).collect(),
            output: TensorId(op.output() as usize),
        });
    }
    if let Some((index, ..)) = reader.pads_after.first() {
        return Err(ExportError::Notes {
            problem: format!("hold a padding for operator {index}, which has none"),
        });
    }
    let channels = model.input().shape[2] as usize;
    for (what, v) in [
        ("means", &notes.preprocess.mean),
        ("deviations", &notes.preprocess.std),
    ] {
        if v.len() > 1 && v.len() != channels {
            return Err(ExportError::Notes {
                problem: format!("hold {} {what} for {channels} channels", v.len()),
            });
        }
    }
    let name = std::str::from_utf8(manifest.name).map_err(|_| ExportError::Notes {
        problem: "are behind a model's name that is not UTF-8".into(),
    })?;
    Ok(QuantizedModel {
        name: name.into(),
        rounding: model.rounding(),
        tensors,
        nodes,
        input: TensorId(manifest.input as usize),
        output: TensorId(manifest.output as usize),
        preprocess: notes.preprocess,
        labels: notes.labels,
    })
}

struct Reader<'a> {
    model: Model<'a>,
    /// Those of [`Notes::pads_after`] that have not been met yet, in the operators' order.
    pads_after: &'a [(u32, u32, u32)],
}

impl Reader<'_> {
    fn op(&mut self, index: usize, op: &format::Op) -> Result<Op, ExportError> {
        Ok(match op {
            format::Op::Conv2d(o) => self.conv2d(index, o, false)?,
            format::Op::DepthwiseConv2d(o) => self.conv2d(index, o, true)?,
            format::Op::FullyConnected(o) => {
                let (x, y) = (self.model.tensor(o.input), self.model.tensor(o.output));
                let positions = y.shape[0] as usize * y.shape[1] as usize;
                let taps = x.elements() as usize / positions;
                let linear = self.linear(o.weights, o.channels, &y, taps, false);
                Op::FullyConnected(FullyConnected { linear })
            }
            format::Op::Add(o) => Op::Add(Add {
                input_multipliers: o.input_multipliers,
                output_multiplier: o.output_multiplier,
                act_min: o.act_min,
                act_max: o.act_max,
            }),
            format::Op::MaxPool(o) => Op::MaxPool(self.pool(index, o)?),
            format::Op::AveragePool(o) => Op::AveragePool(self.pool(index, o)?),
            format::Op::Mean(o) => Op::Mean {
                multiplier: o.multiplier,
            },
            format::Op::Pad(o) => {
                let (x, y) = (
                    self.model.tensor(o.input).shape,
                    self.model.tensor(o.output).shape,
                );
                let before = o.before.map(usize::from);
                let after = [0, 1, 2].map(|i| y[i] as usize - x[i] as usize - before[i]);
                Op::Pad(Pad {
                    before,
                    after,
                    value: o.value,
                })
            }
            format::Op::Concat(o) => Op::Concat(Concat {
                axis: o.axis as usize,
                inputs: o
                    .records()
                    .map(|r| r.multiplier.map_or(ConcatInput::Copy, ConcatInput::Rescale))
                    .collect(),
            }),
            format::Op::Reshape(_) => Op::Reshape,
            format::Op::Transpose(o) => Op::Transpose {
                perm: o.perm.map(usize::from),
            },
            format::Op::Requantize(o) => Op::Requantize {
                multiplier: o.multiplier,
            },
            format::Op::Lut(o) => {
                let bytes: &[u8; 256] = self
                    .model
                    .table(o.table)
                    .try_into()
                    .expect("a table has 256 entries");
                Op::Lut {
                    table: Box::new(bytes.map(|b| b as i8)),
                }
            }
            format::Op::Softmax(o) => Op::Softmax {
                multiplier: o.multiplier,
                left_shift: o.left_shift,
                diff_min: o.diff_min,
            },
            format::Op::Mul(o) => Op::Mul(Product {
                multiplier: o.multiplier,
                act_min: o.act_min,
                act_max: o.act_max,
                constant: self.constant(index, &o.operands)?,
            }),
            format::Op::Sub(o) => Op::Sub(self.sum(index, o)?),
            format::Op::BroadcastAdd(o) => Op::BroadcastAdd(self.sum(index, o)?),
            format::Op::ResizeNearest(o) => {
                let [h, w, _] = self.model.tensor(o.output).shape.map(usize::from);
                let indices = |offset, count| {
                    let all = self.model.indices(offset, count).iter();
                    all.map(|i| u16::from_le_bytes(*i) as usize).collect()
                };
                Op::ResizeNearest {
                    rows: indices(o.rows, h),
                    columns: indices(o.columns, w),
                }
            }
        })
    }

    /// The operand that is no tensor.
    fn constant(
        &self,
        index: usize,
        operands: &[format::Operand; 2],
    ) -> Result<Option<ConstantOperand>, ExportError> {
        for (position, operand) in operands.iter().enumerate() {
            let format::Operand::Constant(c) = operand else {
                continue;
            };
            let scale = f32::from_bits(c.scale_bits);
            if !(scale.is_finite() && scale > 0.0) {
                return Err(ExportError::Model {
                    name: String::from_utf8_lossy(self.model.manifest().name).into_owned(),
                    problem: format!("the constant of operator {index} has scale {scale}"),
                });
            }
            return Ok(Some(ConstantOperand {
                position,
                values: self.model.constant(c).iter().map(|b| *b as i8).collect(),
                scale,
                zero_point: c.zero_point,
            }));
        }
        Ok(None)
    }

    fn sum(&self, index: usize, o: &format::Sum) -> Result<Sum, ExportError> {
        Ok(Sum {
            input_multipliers: o.input_multipliers,
            output_multiplier: o.output_multiplier,
            act_min: o.act_min,
            act_max: o.act_max,
            constant: self.constant(index, &o.operands)?,
        })
    }

    fn linear(
        &self,
        weights: WeightRef,
        channels: ChannelRef,
        y: &TensorDesc,
        taps: usize,
        depthwise: bool,
    ) -> Linear {
        let outputs = y.shape[2] as usize;
        let constants = self.model.channels(channels, outputs, y);
        let mut unpacked = vec![0i8; outputs * taps];
        if depthwise {
            let rows = self.model.rows(weights, taps, outputs);
            let mut row = vec![0i8; outputs];
            for tap in 0..taps {
                rows.decode(tap, 0, &mut row);
                for (c, &w) in row.iter().enumerate() {
                    unpacked[c * taps + tap] = w;
                }
            }
        } else {
            let rows = self.model.rows(weights, outputs, taps);
            for (c, row) in unpacked.chunks_exact_mut(taps).enumerate() {
                rows.decode(c, 0, row);
            }
        }
        Linear {
            weights: unpacked,
            bits: weights.bits,
            bias: (0..outputs).map(|c| constants.bias(c)).collect(),
            multipliers: (0..outputs).map(|c| constants.multiplier(c)).collect(),
            act_min: channels.act_min,
            act_max: channels.act_max,
        }
    }

    fn conv2d(
        &mut self,
        index: usize,
        o: &format::Conv2d,
        depthwise: bool,
    ) -> Result<Op, ExportError> {
        let (x, y) = (self.model.tensor(o.input), self.model.tensor(o.output));
        let groups = if depthwise { x.shape[2] } else { o.groups } as usize;
        let kernel = o.window.kernel.map(usize::from);
        let taps = kernel[0] * kernel[1] * (x.shape[2] as usize / groups);
        Ok(Op::Conv2d(Conv2d {
            kernel,
            stride: o.window.stride.map(usize::from),
            dilation: o.window.dilation.map(usize::from),
            pads: self.pads(index, &o.window, &x, &y)?,
            groups,
            linear: self.linear(o.weights, o.channels, &y, taps, depthwise),
        }))
    }

    fn pool(&mut self, index: usize, o: &format::Pool) -> Result<Pool, ExportError> {
        let (x, y) = (self.model.tensor(o.input), self.model.tensor(o.output));
        Ok(Pool {
            kernel: o.window.kernel.map(usize::from),
            stride: o.window.stride.map(usize::from),
            dilation: o.window.dilation.map(usize::from),
            pads: self.pads(index, &o.window, &x, &y)?,
            act_min: o.act_min,
            act_max: o.act_max,
        })
    }

    /// All four paddings: the image says the first two, the shapes the least of the other two, and
    /// the notes where the model had more than that.
    fn pads(
        &mut self,
        index: usize,
        w: &Window,
        x: &TensorDesc,
        y: &TensorDesc,
    ) -> Result<Pads, ExportError> {
        let mut pads = Pads {
            top: w.pad[0] as usize,
            left: w.pad[1] as usize,
            bottom: 0,
            right: 0,
        };
        let settings = [w.kernel, w.stride, w.dilation].map(|v| v.map(usize::from));
        let axes = axes(
            x.shape.map(usize::from),
            y.shape.map(usize::from),
            settings,
            pads,
        );
        [pads.bottom, pads.right] = axes.map(|a| a.needed_after());
        if let Some((&(of, bottom, right), rest)) = self.pads_after.split_first()
            && of as usize == index
        {
            let after = [bottom as usize, right as usize];
            if axes
                .iter()
                .zip(after)
                .any(|(axis, after)| !axis.agrees(after))
            {
                let problem = format!(
                    "hold a padding for operator {index} that does not give its output's shape"
                );
                return Err(ExportError::Notes { problem });
            }
            [pads.bottom, pads.right] = after;
            self.pads_after = rest;
        }
        Ok(pads)
    }
}
