//! A model's bytes.

use qmend_shared::image::{
    self as format, ChannelRef, ConcatInput as Record, HEADER_BYTES, Header, ImageError, Manifest,
    Model, Scratch, TensorDesc, WeightRef, Window,
};
use qmend_shared::weights::{Layout, pack_row, row_stride};

use super::axes;
use crate::export::notes::Notes;
use crate::export::{ExportError, plan};
use crate::graph::Pads;
use crate::model::{ConcatInput, Conv2d, Linear, Node, Op, Pool, QuantizedModel, Sum, TensorId};

/// Packed rows start at multiples of this in the weight section, everything else at multiples of 4.
const ROWS_ALIGN: usize = 16;

/// Writes a model as an image, its memory planned, and checks the result as the device would.
///
/// # Errors
///
/// What does not fit in the format, or would not be safe to run (such as an accumulator that might
/// overflow), with the node's name.
pub fn write_image(model: &QuantizedModel) -> Result<Vec<u8>, ExportError> {
    write_image_in(model, Layout::default())
}

/// As [`write_image`], with weights in this layout. Every device reads every layout; the default is
/// the one that is fast.
///
/// # Errors
///
/// As [`write_image`].
pub fn write_image_in(model: &QuantizedModel, layout: Layout) -> Result<Vec<u8>, ExportError> {
    let plan = plan(model)?;
    let tensors = tensor_table(model, &plan.offsets)?;
    let mut writer = Writer {
        model,
        layout,
        scratch: plan
            .scratch
            .iter()
            .map(|s| s.map(|s| s.to_bytes()))
            .collect(),
        weights: Vec::new(),
        notes: Notes::of(model),
    };
    let mut ops = Vec::new();
    for (index, node) in model.nodes.iter().enumerate() {
        let bytes = writer
            .op(index, node)
            .map_err(|problem| ExportError::Node {
                index,
                name: node.name.clone(),
                kind: node.op.kind(),
                problem,
            })?;
        ops.extend(bytes);
    }
    let too_big = |what: &str| ExportError::Model {
        name: model.name.clone(),
        problem: format!("{what} is too large"),
    };
    let notes = writer.notes.to_bytes();
    let manifest = Manifest {
        name: model.name.as_bytes(),
        tensors: &tensors,
        ops: &ops,
        input: model.input.0 as u16,
        output: model.output.0 as u16,
        arena_bytes: u32::try_from(plan.arena_bytes).map_err(|_| too_big("the arena"))?,
        notes: &notes,
        pad: &[],
        weights: &writer.weights,
    };
    let image = frame(model, layout, manifest).ok_or_else(|| too_big("the payload"))?;
    match Model::from_bytes(&image) {
        Ok(_) => Ok(image),
        Err(source) => Err(explain(model, source)),
    }
}

/// The longest padding before the weight section.
const ZEROS: [u8; 15] = [0; 15];

/// Header and payload, the weight section brought to a multiple of 16.
fn frame(model: &QuantizedModel, layout: Layout, mut manifest: Manifest) -> Option<Vec<u8>> {
    let encode = |m: &Manifest| postcard::to_allocvec(m).expect("writing to memory cannot fail");
    let unpadded = encode(&manifest).len() + HEADER_BYTES - manifest.weights.len();
    manifest.pad = &ZEROS[..unpadded.next_multiple_of(16) - unpadded];
    let payload = encode(&manifest);
    let header = Header::for_payload(model.rounding, layout, &payload)?;
    Some([&header.to_bytes()[..], &payload].concat())
}

/// What the check said, with names for numbers.
fn explain(model: &QuantizedModel, source: ImageError) -> ExportError {
    match source {
        ImageError::Op { index, .. } if (index as usize) < model.nodes.len() => {
            let node = &model.nodes[index as usize];
            ExportError::Refused {
                node: node.name.clone(),
                kind: node.op.kind(),
                source,
            }
        }
        _ => ExportError::Model {
            name: model.name.clone(),
            problem: source.to_string(),
        },
    }
}

fn tensor_table(model: &QuantizedModel, offsets: &[usize]) -> Result<Vec<u8>, ExportError> {
    let mut table = Vec::new();
    for (index, (t, &offset)) in model.tensors.iter().zip(offsets).enumerate() {
        let fail = |problem: &str| ExportError::Tensor {
            index,
            name: t.name.clone(),
            shape: t.shape,
            problem: problem.into(),
        };
        if !(t.scale.is_finite() && t.scale > 0.0) {
            return Err(fail("its scale must be positive and finite"));
        }
        let mut shape = [0u16; 3];
        for (to, &from) in shape.iter_mut().zip(&t.shape) {
            *to = u16::try_from(from).map_err(|_| fail("an axis is longer than 65535"))?;
        }
        let desc = TensorDesc {
            offset: u32::try_from(offset).map_err(|_| fail("it lies beyond 4 GiB of arena"))?,
            shape,
            zero_point: t.zero_point,
            scale_bits: t.scale.to_bits(),
        };
        table.extend(desc.to_bytes());
    }
    Ok(table)
}

struct Writer<'m> {
    model: &'m QuantizedModel,
    layout: Layout,
    /// Each node's hints.
    scratch: Vec<Option<[u8; Scratch::BYTES]>>,
    weights: Vec<u8>,
    notes: Notes,
}

impl Writer<'_> {
    /// The message of one node; its constants go to the weight section.
    fn op(&mut self, index: usize, node: &Node) -> Result<Vec<u8>, String> {
        let output = node.output.0 as u16;
        let expected = match &node.op {
            Op::Add(_) => 2,
            Op::Concat(c) => c.inputs.len(),
            Op::Mul(_) | Op::Sub(_) | Op::BroadcastAdd(_) if node.op.constant().is_none() => 2,
            _ => 1,
        };
        if node.inputs.len() != expected {
            return Err(format!(
                "it has {} inputs but takes {expected}",
                node.inputs.len()
            ));
        }
        let input = node.inputs.first().map_or(0, |t| t.0 as u16);
        let records;
        let op = match &node.op {
            Op::Conv2d(c) => self.conv2d(index, node, c)?,
            Op::FullyConnected(f) => {
                let x = self.shape(node.inputs[0]);
                let [h, w, outputs] = self.shape(node.output);
                let taps = x.iter().product::<usize>() / (h * w).max(1);
                let (weights, channels) = self.linear(&f.linear, outputs, taps, false)?;
                format::Op::FullyConnected(format::FullyConnected {
                    input,
                    output,
                    weights,
                    channels,
                    hints: self.hints(index),
                })
            }
            Op::Add(a) => format::Op::Add(format::Add {
                inputs: [input, node.inputs[1].0 as u16],
                output,
                input_multipliers: a.input_multipliers,
                output_multiplier: a.output_multiplier,
                act_min: a.act_min,
                act_max: a.act_max,
            }),
            Op::MaxPool(p) => format::Op::MaxPool(self.pool(index, node, p)?),
            Op::AveragePool(p) => format::Op::AveragePool(self.pool(index, node, p)?),
            Op::Mean { multiplier } => format::Op::Mean(format::Mean {
                input,
                output,
                multiplier: *multiplier,
            }),
            Op::Pad(p) => {
                let (x, y) = (self.shape(node.inputs[0]), self.shape(node.output));
                if (0..3).any(|i| p.before[i] + x[i] + p.after[i] != y[i]) {
                    return Err(format!(
                        "a border of {:?} and {:?} around {x:?} does not give {y:?}",
                        p.before, p.after
                    ));
                }
                // Each is at most an axis of the output, which fits in 16 bits.
                let before = p.before.map(|b| b as u16);
                format::Op::Pad(format::Pad {
                    input,
                    output,
                    before,
                    value: p.value,
                })
            }
            Op::Concat(c) => {
                records = concat_records(node, &c.inputs)?;
                let axis =
                    u8::try_from(c.axis).map_err(|_| format!("{} is not an axis", c.axis))?;
                format::Op::Concat(format::Concat {
                    output,
                    axis,
                    inputs: &records,
                })
            }
            Op::Reshape => format::Op::Reshape(format::Unary { input, output }),
            Op::Transpose { perm } => {
                if perm.iter().any(|&p| p > 2) {
                    return Err(format!("{perm:?} is not a permutation of 0, 1, 2"));
                }
                format::Op::Transpose(format::Transpose {
                    input,
                    output,
                    perm: perm.map(|p| p as u8),
                })
            }
            Op::Requantize { multiplier } => format::Op::Requantize(format::Requantize {
                input,
                output,
                multiplier: *multiplier,
            }),
            Op::Lut { table } => {
                let table = self.blob(4, &table.map(|v| v as u8))?;
                format::Op::Lut(format::Lut {
                    input,
                    output,
                    table,
                })
            }
            Op::Softmax {
                multiplier,
                left_shift,
                diff_min,
            } => format::Op::Softmax(format::Softmax {
                input,
                output,
                multiplier: *multiplier,
                left_shift: *left_shift,
                diff_min: *diff_min,
            }),
            Op::Mul(p) => format::Op::Mul(format::Product {
                operands: self.operands(node)?,
                output,
                multiplier: p.multiplier,
                act_min: p.act_min,
                act_max: p.act_max,
            }),
            Op::Sub(s) => format::Op::Sub(self.sum(node, s)?),
            Op::BroadcastAdd(s) => format::Op::BroadcastAdd(self.sum(node, s)?),
            Op::ResizeNearest { rows, columns } => {
                format::Op::ResizeNearest(format::ResizeNearest {
                    input,
                    output,
                    rows: self.indices(rows)?,
                    columns: self.indices(columns)?,
                })
            }
        };
        Ok(postcard::to_allocvec(&op).expect("writing to memory cannot fail"))
    }

    /// Operands of an element-wise node, the constant one put into the weight section.
    fn operands(&mut self, node: &Node) -> Result<[format::Operand; 2], String> {
        let mut operands: Vec<format::Operand> = node
            .inputs
            .iter()
            .map(|t| format::Operand::Tensor(t.0 as u16))
            .collect();
        if let Some(c) = node.op.constant() {
            let count = u16::try_from(c.values.len())
                .map_err(|_| format!("a constant of {} numbers is too long", c.values.len()))?;
            if !(c.scale.is_finite() && c.scale > 0.0) || c.position > 1 {
                return Err(format!(
                    "its constant has scale {} and is operand {}",
                    c.scale, c.position
                ));
            }
            let bytes: Vec<u8> = c.values.iter().map(|v| *v as u8).collect();
            let constant = format::Constant {
                offset: self.blob(4, &bytes)?,
                count,
                zero_point: c.zero_point,
                scale_bits: c.scale.to_bits(),
            };
            operands.insert(c.position, format::Operand::Constant(constant));
        }
        operands
            .try_into()
            .map_err(|o: Vec<_>| format!("it has {} operands instead of 2", o.len()))
    }

    fn sum(&mut self, node: &Node, s: &Sum) -> Result<format::Sum, String> {
        Ok(format::Sum {
            operands: self.operands(node)?,
            output: node.output.0 as u16,
            input_multipliers: s.input_multipliers,
            output_multiplier: s.output_multiplier,
            act_min: s.act_min,
            act_max: s.act_max,
        })
    }

    /// Rows or columns as u16 in the weight section.
    fn indices(&mut self, indices: &[usize]) -> Result<u32, String> {
        let mut bytes = Vec::with_capacity(2 * indices.len());
        for i in indices {
            let i = u16::try_from(*i).map_err(|_| format!("row or column {i} is above 65535"))?;
            bytes.extend(i.to_le_bytes());
        }
        self.blob(4, &bytes)
    }

    fn shape(&self, id: TensorId) -> [usize; 3] {
        self.model.tensor(id).shape
    }

    /// What a node says to optimised kernels.
    fn hints(&self, index: usize) -> &[u8] {
        self.scratch[index].as_ref().map_or(&[], |s| &s[..])
    }

    /// Appends constants to the weight section; where they start.
    fn blob(&mut self, align: usize, bytes: &[u8]) -> Result<u32, String> {
        self.weights
            .resize(self.weights.len().next_multiple_of(align), 0);
        let at = u32::try_from(self.weights.len())
            .map_err(|_| "the weights reach beyond 4 GiB".to_string())?;
        self.weights.extend(bytes);
        Ok(at)
    }

    fn linear(
        &mut self,
        l: &Linear,
        outputs: usize,
        taps: usize,
        depthwise: bool,
    ) -> Result<(WeightRef, ChannelRef), String> {
        if l.bias.len() != outputs || l.multipliers.len() != outputs {
            return Err(format!(
                "{} biases and {} multipliers for {outputs} output channels",
                l.bias.len(),
                l.multipliers.len()
            ));
        }
        if l.weights.len() != outputs * taps {
            return Err(format!(
                "{} weights where {outputs} x {taps} are needed",
                l.weights.len()
            ));
        }
        let (rows, columns) = if depthwise {
            (taps, outputs)
        } else {
            (outputs, taps)
        };
        let stride = row_stride(columns, l.bits);
        let mut packed = vec![0u8; rows * stride];
        let mut transposed = vec![0i8; if depthwise { columns } else { 0 }];
        for (r, bytes) in packed.chunks_exact_mut(stride.max(1)).enumerate() {
            let row = if depthwise {
                for (c, w) in transposed.iter_mut().enumerate() {
                    *w = l.weights[c * taps + r];
                }
                &transposed
            } else {
                &l.weights[r * columns..(r + 1) * columns]
            };
            pack_row(row, l.bits, self.layout, bytes).map_err(|e| format!("row {r}: {e}"))?;
        }
        let weights = WeightRef {
            offset: self.blob(ROWS_ALIGN, &packed)?,
            bits: l.bits,
        };
        let bias: Vec<u8> = l.bias.iter().flat_map(|b| b.to_le_bytes()).collect();
        let mantissas: Vec<u8> = l
            .multipliers
            .iter()
            .flat_map(|m| m.mantissa.to_le_bytes())
            .collect();
        let exponents: Vec<u8> = l.multipliers.iter().map(|m| m.exponent as u8).collect();
        let channels = ChannelRef {
            bias: self.blob(4, &bias)?,
            mantissas: self.blob(4, &mantissas)?,
            exponents: self.blob(4, &exponents)?,
            act_min: l.act_min,
            act_max: l.act_max,
        };
        Ok((weights, channels))
    }

    fn conv2d(&mut self, index: usize, node: &Node, c: &Conv2d) -> Result<format::Op<'_>, String> {
        let (x, y) = (self.shape(node.inputs[0]), self.shape(node.output));
        if c.groups == 0 || !x[2].is_multiple_of(c.groups) || !y[2].is_multiple_of(c.groups) {
            return Err(format!(
                "{} groups do not divide {} input and {} output channels",
                c.groups, x[2], y[2]
            ));
        }
        let depthwise = c.is_depthwise(x[2]);
        let window = self.window(index, node, [c.kernel, c.stride, c.dilation], c.pads)?;
        let taps = c.kernel[0] * c.kernel[1] * (x[2] / c.groups);
        let (weights, channels) = self.linear(&c.linear, y[2], taps, depthwise)?;
        let message = format::Conv2d {
            input: node.inputs[0].0 as u16,
            output: node.output.0 as u16,
            window,
            // A group count is at most the number of channels, which fits in 16 bits.
            groups: if depthwise { 1 } else { c.groups as u16 },
            weights,
            channels,
            hints: self.hints(index),
        };
        Ok(if depthwise {
            format::Op::DepthwiseConv2d(message)
        } else {
            format::Op::Conv2d(message)
        })
    }

    fn pool(&mut self, index: usize, node: &Node, p: &Pool) -> Result<format::Pool, String> {
        Ok(format::Pool {
            input: node.inputs[0].0 as u16,
            output: node.output.0 as u16,
            window: self.window(index, node, [p.kernel, p.stride, p.dilation], p.pads)?,
            act_min: p.act_min,
            act_max: p.act_max,
        })
    }

    fn window(
        &mut self,
        index: usize,
        node: &Node,
        settings: [[usize; 2]; 3],
        pads: Pads,
    ) -> Result<Window, String> {
        let (x, y) = (self.shape(node.inputs[0]), self.shape(node.output));
        let after = [pads.bottom, pads.right];
        let axes = axes(x, y, settings, pads);
        for (axis, after) in axes.iter().zip(after) {
            if !axis.agrees(after) {
                let [kernel, stride, dilation] = settings;
                return Err(format!(
                    "kernel {kernel:?}, stride {stride:?}, dilation {dilation:?} and {pads:?} over {x:?} do not give {y:?}"
                ));
            }
        }
        if axes
            .iter()
            .zip(after)
            .any(|(axis, after)| axis.needed_after() != after)
        {
            self.notes
                .pads_after
                .push((index as u32, after[0] as u32, after[1] as u32));
        }
        let byte = |v: [usize; 2], what: &str| -> Result<[u8; 2], String> {
            let one = |v| u8::try_from(v).map_err(|_| format!("{what} of {v} is more than 255"));
            Ok([one(v[0])?, one(v[1])?])
        };
        Ok(Window {
            kernel: byte(settings[0], "a kernel")?,
            stride: byte(settings[1], "a stride")?,
            dilation: byte(settings[2], "a dilation")?,
            pad: byte([pads.top, pads.left], "a padding")?,
        })
    }
}

fn concat_records(node: &Node, inputs: &[ConcatInput]) -> Result<Vec<u8>, String> {
    let mut records = Vec::new();
    for (tensor, input) in node.inputs.iter().zip(inputs) {
        let multiplier = match input {
            ConcatInput::Copy => None,
            ConcatInput::Rescale(m) if m.mantissa == 0 => {
                return Err(
                    "an input's scale is less than 2^-31 of the output's; drop that input".into(),
                );
            }
            ConcatInput::Rescale(m) => Some(*m),
        };
        records.extend(
            Record {
                tensor: tensor.0 as u16,
                multiplier,
            }
            .to_bytes(),
        );
    }
    Ok(records)
}
