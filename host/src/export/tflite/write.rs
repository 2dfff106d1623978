//! A whole network as a new .tflite.

use super::TfliteExportError;
use super::file::{FileModel, FileOperator, FileTensor, Value, element};
use super::lower::{Padding, lower, padding};
use super::ranks::ranks;
use super::scales::{Weights, weight_scales};
use super::tables::table_operator;
use crate::import::tflite::schema_options as options;
use crate::import::tflite::{fused_activation, import_tflite_int8, schema_codes as code};

use crate::model::{Linear, Node, Op, QuantizedModel, TensorId};

/// A written file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub bytes: Vec<u8>,
    /// Channels and means whose multiplier the file holds only nearly (none unless asked for).
    pub rounded: usize,
}

/// Writes an integer network as a .tflite that TFLite for Microcontrollers runs with the same bits.
///
/// Weights of fewer than 8 bits are stored as int8. The file is read back and compared before it is
/// given out. Multipliers follow from float32 scales there; where repair has moved one to a value
/// that no float32 scale gives, `round` takes the nearest instead of refusing.
///
/// # Errors
/// [`TfliteExportError`] where TFLite has no operator that gives the same bits.
pub fn write_tflite(model: &QuantizedModel, round: bool) -> Result<Written, TfliteExportError> {
    let mut lowered = lower(model)?;
    let mut w = Writer {
        ranks: ranks(&lowered)?,
        model: &lowered,
        file: FileModel {
            name: model.name.clone(),
            ..FileModel::default()
        },
        of: vec![-1; lowered.tensors.len()],
        rounded: 0,
    };
    w.file.input = w.activation(lowered.input);
    for node in &lowered.nodes {
        w.node(node)?;
    }
    w.file.output = w.of[lowered.output.0];
    let (bytes, mut rounded) = (w.file.bytes(), w.rounded);
    let back = import_tflite_int8(&bytes, &model.name)?;
    for (ours, read) in lowered.nodes.iter_mut().zip(&back.nodes) {
        // TFLM cuts the mantissa of a mean's multiplier where it divides by the number of elements.
        if let (Op::Mean { multiplier: ours }, Op::Mean { multiplier: read }) =
            (&mut ours.op, &read.op)
            && ours != read
        {
            rounded += 1;
            *ours = *read;
        }
        if let (Some(ours), Some(read)) = (ours.op.linear_mut(), read.op.linear()) {
            ours.multipliers.clone_from(&read.multipliers);
        }
    }
    if rounded > 0 && !round {
        return Err(TfliteExportError::Multipliers {
            model: model.name.clone(),
            count: rounded,
        });
    }
    faithful(&lowered, &back)?;
    Ok(Written { bytes, rounded })
}

/// Refuses where what was read back is another network.
fn faithful(want: &QuantizedModel, read: &QuantizedModel) -> Result<(), TfliteExportError> {
    let differing = want.nodes.iter().zip(&read.nodes).find(|(a, b)| a != b);
    let same = want.nodes.len() == read.nodes.len()
        && want.tensors == read.tensors
        && (want.input, want.output) == (read.input, read.output);
    match differing {
        Some((node, _)) => Err(inexpressible(
            want,
            node,
            "TFLite computes other numbers for it at these scales".into(),
            "write a .qmend instead",
        )),
        None if same => Ok(()),
        None => Err(TfliteExportError::NotFaithful {
            file: want.name.clone(),
        }),
    }
}

pub(super) fn inexpressible(
    model: &QuantizedModel,
    node: &Node,
    reason: String,
    remedy: &str,
) -> TfliteExportError {
    TfliteExportError::Inexpressible {
        model: model.name.clone(),
        node: node.name.clone(),
        kind: node.op.kind(),
        reason,
        remedy: remedy.to_string(),
    }
}

/// Code, version, and options: their kind and fields.
pub(super) type Operator = (i32, i32, Option<(u8, Vec<(u16, Value)>)>);

pub(super) struct Writer<'m> {
    pub(super) model: &'m QuantizedModel,
    ranks: Vec<usize>,
    pub(super) file: FileModel,
    /// The file's tensor of each of the model's.
    of: Vec<i32>,
    rounded: usize,
}

impl Writer<'_> {
    fn shape(&self, id: TensorId) -> Vec<i32> {
        let [h, w, c] = self.model.tensor(id).shape.map(|d| d as i32);
        match self.ranks[id.0] {
            2 => vec![1, c],
            _ => vec![1, h, w, c],
        }
    }

    fn activation(&mut self, id: TensorId) -> i32 {
        let t = self.model.tensor(id);
        let index = self.file.tensor(FileTensor {
            name: t.name.clone(),
            shape: self.shape(id),
            element: element::INT8,
            data: None,
            scales: vec![t.scale],
            zero_point: i64::from(t.zero_point),
            axis: 0,
        });
        self.of[id.0] = index;
        index
    }

    /// A constant of int32 without a scale.
    pub(super) fn integers(&mut self, name: String, shape: Vec<i32>, data: &[i32]) -> i32 {
        self.file.tensor(FileTensor {
            name,
            shape,
            element: element::INT32,
            data: Some(data.iter().flat_map(|v| v.to_le_bytes()).collect()),
            scales: Vec::new(),
            zero_point: 0,
            axis: 0,
        })
    }

    /// Weights in the file's order and biases; gives their tensors.
    fn linear(&mut self, node: &Node, l: &Linear, shape: Vec<i32>, kind: Weights) -> [i32; 2] {
        let (x, y) = (
            self.model.tensor(node.inputs[0]),
            self.model.tensor(node.output),
        );
        let found = weight_scales(l, x.scale, y.scale, kind);
        self.rounded += found.rounded;
        let channels = l.out_channels();
        let data: Vec<u8> = match kind {
            Weights::Depthwise => (0..l.taps())
                .flat_map(|t| (0..channels).map(move |c| l.weights[c * l.taps() + t] as u8))
                .collect(),
            _ => l.weights.iter().map(|w| *w as u8).collect(),
        };
        let axis = if kind == Weights::Depthwise { 3 } else { 0 };
        let bias_scales = found.scales.iter().map(|s| s * x.scale).collect();
        let weights = self.file.tensor(FileTensor {
            name: format!("{}/weights", node.name),
            shape,
            element: element::INT8,
            data: Some(data),
            axis: if found.scales.len() > 1 { axis } else { 0 },
            scales: found.scales,
            zero_point: 0,
        });
        let bias = self.file.tensor(FileTensor {
            name: format!("{}/bias", node.name),
            shape: vec![channels as i32],
            element: element::INT32,
            data: Some(l.bias.iter().flat_map(|b| b.to_le_bytes()).collect()),
            scales: bias_scales,
            zero_point: 0,
            axis: 0,
        });
        [weights, bias]
    }

    pub(super) fn fused(&self, node: &Node, min: i8, max: i8) -> Result<i8, TfliteExportError> {
        let y = self.model.tensor(node.output);
        fused_activation(min, max, y.scale, y.zero_point).ok_or_else(|| {
            inexpressible(
                self.model,
                node,
                format!("its outputs are limited to {min}..={max}, which is none of RELU, RELU6 and RELU_N1_TO_1 at its scale"),
                "use one of these in the float network",
            )
        })
    }

    /// Padding, stride and activation fields of a window; conv, depthwise and pool options share
    /// the first three.
    fn window(
        &self,
        node: &Node,
        window: ([usize; 2], [usize; 2], [usize; 2]),
        pads: &crate::graph::Pads,
    ) -> Result<Vec<(u16, Value)>, TfliteExportError> {
        let (kernel, stride, dilation) = window;
        let shape = self.model.tensor(node.inputs[0]).shape;
        let Some(named) = padding(shape, kernel, stride, dilation, pads) else {
            return Err(inexpressible(
                self.model,
                node,
                "its padding is neither SAME nor VALID".into(),
                "use a border of its own",
            ));
        };
        Ok(vec![
            (0, Value::I8(i8::from(named == Padding::Valid))),
            (1, Value::I32(stride[1] as i32)),
            (2, Value::I32(stride[0] as i32)),
        ])
    }

    fn node(&mut self, node: &Node) -> Result<(), TfliteExportError> {
        let mut inputs: Vec<i32> = node.inputs.iter().map(|i| self.of[i.0]).collect();
        let rank = self.ranks[node.inputs[0].0];
        let (code, version, options): Operator = match &node.op {
            Op::Conv2d(c) => {
                let channels = c.linear.out_channels();
                let in_c = self.model.tensor(node.inputs[0]).shape[2];
                let [kh, kw] = c.kernel.map(|k| k as i32);
                let mut fields = self.window(node, (c.kernel, c.stride, c.dilation), &c.pads)?;
                let act = self.fused(node, c.linear.act_min, c.linear.act_max)?;
                let [dh, dw] = c.dilation.map(|d| Value::I32(d as i32));
                let taps = c.linear.taps() as i32;
                if c.groups == in_c && taps == kh * kw {
                    let shape = vec![1, kh, kw, channels as i32];
                    inputs.extend(self.linear(node, &c.linear, shape, Weights::Depthwise));
                    let multiplier = (channels / in_c) as i32;
                    fields.extend([
                        (3, Value::I32(multiplier)),
                        (4, Value::I8(act)),
                        (5, dw),
                        (6, dh),
                    ]);
                    (
                        code::DEPTHWISE_CONV_2D,
                        3,
                        Some((options::DEPTHWISE_CONV_2D, fields)),
                    )
                } else {
                    let shape = vec![channels as i32, kh, kw, taps / (kh * kw)];
                    inputs.extend(self.linear(node, &c.linear, shape, Weights::Conv));
                    fields.extend([(3, Value::I8(act)), (4, dw), (5, dh)]);
                    (code::CONV_2D, 3, Some((options::CONV_2D, fields)))
                }
            }
            Op::FullyConnected(f) => {
                let l = &f.linear;
                let act = self.fused(node, l.act_min, l.act_max)?;
                let shape = vec![l.out_channels() as i32, l.taps() as i32];
                inputs.extend(self.linear(node, l, shape, Weights::Dense));
                let mut fields = vec![(0, Value::I8(act))];
                let [h, w, _] = self.model.tensor(node.output).shape;
                let several = h * w > 1;
                if several {
                    // keep_num_dims: one vector a position.
                    fields.push((2, Value::Bool(true)));
                }
                (
                    code::FULLY_CONNECTED,
                    if several { 5 } else { 4 },
                    Some((options::FULLY_CONNECTED, fields)),
                )
            }
            Op::Add(a) => {
                let act = self.fused(node, a.act_min, a.act_max)?;
                (
                    code::ADD,
                    2,
                    Some((options::ADD, vec![(0, Value::I8(act))])),
                )
            }
            Op::MaxPool(p) | Op::AveragePool(p) => {
                let mut fields = self.window(node, (p.kernel, p.stride, p.dilation), &p.pads)?;
                let act = self.fused(node, p.act_min, p.act_max)?;
                fields.extend([
                    (3, Value::I32(p.kernel[1] as i32)),
                    (4, Value::I32(p.kernel[0] as i32)),
                    (5, Value::I8(act)),
                ]);
                let found = match node.op {
                    Op::MaxPool(_) => code::MAX_POOL_2D,
                    _ => code::AVERAGE_POOL_2D,
                };
                (found, 2, Some((options::POOL_2D, fields)))
            }
            Op::Mean { .. } => {
                inputs.push(self.integers(format!("{}/axes", node.name), vec![2], &[1, 2]));
                let keep = vec![(0, Value::Bool(true))];
                (code::MEAN, 2, Some((options::REDUCER, keep)))
            }
            Op::Pad(p) => {
                let pairs = (0..3).flat_map(|i| [p.before[i] as i32, p.after[i] as i32]);
                let data: Vec<i32> = [0, 0].into_iter().chain(pairs).collect();
                inputs.push(self.integers(format!("{}/paddings", node.name), vec![4, 2], &data));
                let x = self.model.tensor(node.inputs[0]);
                if p.value == x.zero_point {
                    (code::PAD, 2, None)
                } else {
                    inputs.push(self.file.tensor(FileTensor {
                        name: format!("{}/value", node.name),
                        shape: vec![1],
                        element: element::INT8,
                        data: Some(vec![p.value as u8]),
                        scales: vec![x.scale],
                        zero_point: i64::from(x.zero_point),
                        axis: 0,
                    }));
                    (code::PADV2, 2, None)
                }
            }
            Op::Concat(c) => {
                let axis = (rank + c.axis).checked_sub(3).filter(|a| *a > 0);
                let Some(axis) = axis else {
                    return Err(inexpressible(
                        self.model,
                        node,
                        "it joins vectors along another axis than the channels".into(),
                        "reshape them in the float network first",
                    ));
                };
                let fields = vec![(0, Value::I32(axis as i32))];
                (
                    code::CONCATENATION,
                    2,
                    Some((options::CONCATENATION, fields)),
                )
            }
            Op::Reshape => {
                let shape = self.shape(node.output);
                let axes = vec![shape.len() as i32];
                inputs.push(self.integers(format!("{}/shape", node.name), axes, &shape));
                (code::RESHAPE, 1, None)
            }
            Op::Transpose { perm } => {
                let data = [
                    0,
                    perm[0] as i32 + 1,
                    perm[1] as i32 + 1,
                    perm[2] as i32 + 1,
                ];
                inputs.push(self.integers(format!("{}/perm", node.name), vec![4], &data));
                (code::TRANSPOSE, 2, None)
            }
            Op::Requantize { .. } => (code::QUANTIZE, 2, None),
            Op::Lut { table } => {
                let (x, y) = (
                    self.model.tensor(node.inputs[0]),
                    self.model.tensor(node.output),
                );
                let Some((found, alpha)) = table_operator(self.model.rounding, table, x, y) else {
                    return Err(inexpressible(
                        self.model,
                        node,
                        "its table is that of none of LOGISTIC, TANH, HARD_SWISH, RELU, RELU6 and LEAKY_RELU at its scales".into(),
                        "write a .qmend instead, which holds the table",
                    ));
                };
                let fields = alpha.map(|a| (options::LEAKY_RELU, vec![(0, Value::F32(a))]));
                // HARD_SWISH has had int8 from its first version on.
                let version = if found == code::HARD_SWISH { 1 } else { 2 };
                (found, version, fields)
            }
            Op::Softmax { .. } => {
                let fields = vec![(0, Value::F32(1.0))];
                (code::SOFTMAX, 2, Some((options::SOFTMAX, fields)))
            }
            Op::Mul(_) | Op::Sub(_) | Op::BroadcastAdd(_) => self.elementwise(node, &mut inputs)?,
            Op::ResizeNearest { rows, columns } => {
                self.resize(node, (rows, columns), &mut inputs)?
            }
        };
        let output = self.activation(node.output);
        self.file.operators.push(FileOperator {
            code,
            version,
            inputs,
            output,
            options,
        });
        Ok(())
    }
}
