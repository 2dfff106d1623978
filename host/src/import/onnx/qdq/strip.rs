//! Takes QuantizeLinear and DequantizeLinear out of a network and notes what they say.

use std::collections::{HashMap, HashSet};

use onnx_rs::ast::{self, DataType, OpType, TensorProto};

use super::{dequantizes, quantizes};
use crate::import::onnx::constant::{Constant, DecodeError, decode};
use crate::import::{ImportError, Issue};
use crate::quantize::TensorScale;

/// Weights of one linear node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WeightNote {
    /// The tensor's name.
    pub name: String,
    /// One, or one per output channel.
    pub scales: Vec<f32>,
}

/// What the pairs said, by names of the float network.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Activations.
    pub activations: HashMap<String, TensorScale>,
    /// Weights, by the name of the output of the node that has them.
    pub weights: HashMap<String, WeightNote>,
}

/// A network without pairs, and what they said.
pub(super) struct Stripped<'a> {
    pub float: ast::Graph<'a>,
    pub notes: Notes,
}

/// The parameters of one QuantizeLinear or DequantizeLinear.
#[derive(Clone, Debug, PartialEq)]
struct Parameters {
    scales: Vec<f32>,
    /// As many as scales.
    zero_points: Vec<i64>,
    element: DataType,
    axis: i64,
}

/// A constant's real values and how they were made.
struct RealConstant<'a> {
    tensor: TensorProto<'a>,
    scales: Vec<f32>,
    /// Axis of the scales, not negative.
    axis: usize,
}

type Problem = (String, String);

const REQUANTIZE: &str = "quantize it with onnxruntime's quantize_static in QuantFormat.QDQ with int8 or uint8 activations and int8 symmetric weights";

pub(super) fn strip<'a>(source: &ast::Graph<'a>, file: &str) -> Result<Stripped<'a>, ImportError> {
    let mut s = Strip {
        initializers: source.initializer.iter().map(|t| (t.name(), t)).collect(),
        aliases: HashMap::new(),
        quantized: HashMap::new(),
        constants: HashMap::new(),
        activations: HashMap::new(),
        names: HashMap::new(),
    };
    let mut issues = Vec::new();
    for node in source
        .node
        .iter()
        .filter(|n| quantizes(n) || dequantizes(n))
    {
        let out = node.output.first().copied().unwrap_or_default();
        if let Err((reason, remedy)) = s.take(node) {
            issues.push(Issue {
                node: if node.name.is_empty() { out } else { node.name }.into(),
                operator: node.op_type.to_string(),
                shapes: format!("`{}`", node.input.first().copied().unwrap_or_default()),
                reason,
                remedy,
            });
        }
    }
    if !issues.is_empty() {
        return Err(ImportError::Unsupported {
            file: file.into(),
            issues,
        });
    }
    Ok(s.finish(source))
}

struct Strip<'a, 'b> {
    initializers: HashMap<&'a str, &'b TensorProto<'a>>,
    /// From the result of a pair, or half of one, to the tensor that it stands for.
    aliases: HashMap<&'a str, &'a str>,
    /// Parameters of the integer tensors that QuantizeLinear made.
    quantized: HashMap<&'a str, Parameters>,
    /// Results of DequantizeLinear over constants.
    constants: HashMap<&'a str, RealConstant<'a>>,
    activations: HashMap<&'a str, (Parameters, TensorScale)>,
    /// New names of tensors: one that leaves through a pair takes the output's name.
    names: HashMap<&'a str, &'a str>,
}

impl<'a> Strip<'a, '_> {
    fn take(&mut self, node: &ast::Node<'a>) -> Result<(), Problem> {
        let damaged = |what: &str| (what.to_string(), "export the network again".to_string());
        let (&[input, ..], &[output]) = (&node.input[..], &node.output[..]) else {
            return Err(damaged("it has not one result and an operand"));
        };
        let p = self.parameters(node)?;
        if quantizes(node) {
            self.quantized.insert(output, p.clone());
            if self.initializers.contains_key(input) {
                // What its DequantizeLinear makes of it becomes the constant.
                self.aliases.insert(output, input);
                return Ok(());
            }
            let root = self.root(input);
            let scale = per_tensor(&p)?;
            match self.activations.get(root) {
                Some((_, before)) if *before != scale => {
                    return Err((
                        format!("`{root}` is quantized twice, in different ways"),
                        "quantize without tensor overrides, so that every tensor has one scale"
                            .into(),
                    ));
                }
                _ => self.activations.insert(root, (p, scale)),
            };
            self.aliases.insert(output, root);
            return Ok(());
        }
        let root = self.root(input);
        if let Some(t) = self.initializers.get(root).copied() {
            let quantized = self.quantized.get(input).cloned();
            let c = real_constant(t, output, &p, quantized)?;
            self.constants.insert(output, c);
            return Ok(());
        }
        match self.quantized.get(input) {
            Some(q) if (&q.scales, &q.zero_points) == (&p.scales, &p.zero_points) => {
                self.aliases.insert(output, root);
                Ok(())
            }
            Some(_) => Err((
                format!("`{input}` was quantized by another scale or zero point"),
                REQUANTIZE.into(),
            )),
            None => Err((
                format!("nothing quantizes its operand `{input}`"),
                REQUANTIZE.into(),
            )),
        }
    }

    /// The tensor that a name stands for. Every alias is entered resolved, so one step is enough.
    fn root(&self, name: &'a str) -> &'a str {
        self.aliases.get(name).copied().unwrap_or(name)
    }

    fn constant(&self, node: &ast::Node<'a>, i: usize) -> Result<Option<Constant>, Problem> {
        let Some(&name) = node.input.get(i).filter(|n| !n.is_empty()) else {
            return Ok(None);
        };
        let t = self.initializers.get(name).ok_or_else(|| {
            (
                format!("its scale or zero point `{name}` is not an initializer"),
                REQUANTIZE.to_string(),
            )
        })?;
        decoded(t).map(Some)
    }

    fn parameters(&self, node: &ast::Node<'a>) -> Result<Parameters, Problem> {
        let bad = |reason: String| (reason, REQUANTIZE.to_string());
        let scale = self
            .constant(node, 1)?
            .ok_or_else(|| bad("it has no scale".into()))?;
        let scales = scale
            .floats()
            .ok_or_else(|| bad("its scale is not a float".into()))?
            .to_vec();
        if scale.shape.len() > 1 || scales.is_empty() {
            return Err(bad(format!(
                "it has scales of shape {:?}: quantization in blocks is not supported",
                scale.shape
            )));
        }
        if let Some(s) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(bad(format!("it has a scale of {s}")));
        }
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
        let zero_points = match self.constant(node, 2)? {
            Some(c) => c
                .known_ints()
                .ok_or_else(|| bad("its zero point is not an integer".into()))?,
            None => vec![0; scales.len()],
        };
        if zero_points.len() != scales.len() {
            return Err(bad(format!(
                "it has {} scales and {} zero points",
                scales.len(),
                zero_points.len()
            )));
        }
        // Without a zero point the operand of DequantizeLinear says the type.
        let of_operand = || {
            let input = node.input.first()?;
            let made = self.quantized.get(input).map(|p| p.element);
            made.or_else(|| self.initializers.get(input).map(|t| t.data_type()))
        };
        let element = match node.input.get(2).filter(|n| !n.is_empty()) {
            Some(name) => self.initializers.get(name).map(|t| t.data_type()),
            None if dequantizes(node) => of_operand(),
            None => None,
        };
        let element = element.unwrap_or(DataType::Uint8);
        if attribute("output_dtype").is_some_and(|a| !matches!(a.i, 0 | 2 | 3)) {
            return Err(bad("it makes another type than int8 and uint8".into()));
        }
        if !matches!(element, DataType::Int8 | DataType::Uint8 | DataType::Int32) {
            return Err(bad(format!("its integers are {element:?}")));
        }
        let axis = attribute("axis").map_or(1, |a| a.i);
        Ok(Parameters {
            scales,
            zero_points,
            element,
            axis,
        })
    }

    fn finish(mut self, source: &ast::Graph<'a>) -> Stripped<'a> {
        let inputs: HashSet<&str> = source.input.iter().map(|i| i.name).collect();
        for output in &source.output {
            let root = self.root(output.name);
            if root != output.name && !inputs.contains(root) {
                self.names.entry(root).or_insert(output.name);
            }
        }
        let name = |n: &'a str| {
            let root = self.root(n);
            // The result of a pair over a constant is a constant of its own.
            let root = if self.constants.contains_key(n) {
                n
            } else {
                root
            };
            self.names.get(root).copied().unwrap_or(root)
        };
        let mut notes = Notes::default();
        for (root, (_, scale)) in &self.activations {
            notes.activations.insert(name(root).to_string(), *scale);
        }
        let mut float = ast::Graph {
            name: source.name,
            input: source.input.clone(),
            output: source.output.clone(),
            ..Default::default()
        };
        for output in &mut float.output {
            output.name = name(output.name);
        }
        let mut used: HashSet<&str> = HashSet::new();
        for node in source
            .node
            .iter()
            .filter(|n| !quantizes(n) && !dequantizes(n))
        {
            let mut node = node.clone();
            node.input.iter_mut().for_each(|n| *n = name(n));
            node.output.iter_mut().for_each(|n| *n = name(n));
            used.extend(&node.input);
            if let (Some(axis), Some(c)) = (channel_axis(&node), node.input.get(1))
                && let Some(c) = self.constants.get(c)
                && let Some(out) = node.output.first()
            {
                let scales = if c.scales.len() == 1 || c.axis == axis {
                    c.scales.clone()
                } else {
                    // No scale fits, and the builder says so.
                    Vec::new()
                };
                let note = WeightNote {
                    name: c.tensor.name().to_string(),
                    scales,
                };
                notes.weights.insert(out.to_string(), note);
            }
            float.node.push(node);
        }
        float.initializer = source
            .initializer
            .iter()
            .filter(|t| used.contains(t.name()))
            .cloned()
            .collect();
        float
            .initializer
            .extend(self.constants.into_values().map(|c| c.tensor));
        Stripped { float, notes }
    }
}

/// The axis of a linear node's weights along which output channels lie.
fn channel_axis(node: &ast::Node<'_>) -> Option<usize> {
    match node.op_type {
        OpType::Conv => Some(0),
        OpType::MatMul => Some(1),
        OpType::Gemm => {
            let transposed = node
                .attribute
                .iter()
                .any(|a| a.name == "transB" && a.i != 0);
            Some(usize::from(!transposed))
        }
        _ => None,
    }
}

/// The scale of an activation; uint8 is taken 128 lower.
fn per_tensor(p: &Parameters) -> Result<TensorScale, Problem> {
    let (&[scale], &[zero]) = (&p.scales[..], &p.zero_points[..]) else {
        return Err((
            format!("an activation has {} scales", p.scales.len()),
            REQUANTIZE.into(),
        ));
    };
    let zero = match p.element {
        DataType::Int8 => i8::try_from(zero).ok(),
        DataType::Uint8 => i8::try_from(zero - 128).ok(),
        _ => None,
    };
    let zero_point = zero.ok_or_else(|| {
        (
            format!("an activation is {:?}", p.element),
            REQUANTIZE.to_string(),
        )
    })?;
    Ok(TensorScale { scale, zero_point })
}

fn decoded(t: &TensorProto<'_>) -> Result<Constant, Problem> {
    decode(t, t.name()).map_err(|e| match e {
        DecodeError::Bad(reason) => (
            format!("initializer `{}` {reason}", t.name()),
            "export the network again".to_string(),
        ),
        DecodeError::External(location) => (
            format!("initializer `{}` lies in {location}", t.name()),
            "save the network as one file (save_as_external_data=False)".to_string(),
        ),
    })
}

/// `scale * (q - zero point)` of an initializer, which holds integers, or reals that `quantized`
/// says how to make integers of.
fn real_constant<'a>(
    t: &TensorProto<'a>,
    name: &'a str,
    p: &Parameters,
    quantized: Option<Parameters>,
) -> Result<RealConstant<'a>, Problem> {
    let bad = |reason: String| (reason, REQUANTIZE.to_string());
    let c = decoded(t)?;
    let rank = c.shape.len();
    let axis = if p.scales.len() == 1 {
        0
    } else {
        let positive = if p.axis < 0 {
            p.axis + rank as i64
        } else {
            p.axis
        };
        usize::try_from(positive)
            .ok()
            .filter(|&a| a < rank && c.shape[a] == p.scales.len())
            .ok_or_else(|| {
                bad(format!(
                    "{} scales along axis {} do not fit `{}` of shape {:?}",
                    p.scales.len(),
                    p.axis,
                    t.name(),
                    c.shape
                ))
            })?
    };
    // The stride of the axis in row-major order.
    let inner: usize = c.shape[(axis + 1).min(rank)..].iter().product();
    let n = p.scales.len();
    let channel = |i: usize| if n == 1 { 0 } else { i / inner.max(1) % n };
    let integers = match (c.known_ints(), quantized) {
        // Other types could hold numbers that no 32-bit sum does.
        (Some(q), None) if t.data_type() == p.element => q,
        (None, Some(how)) if how.scales == p.scales && how.zero_points == p.zero_points => {
            let (lo, hi) = match how.element {
                DataType::Int8 => (-128.0, 127.0),
                DataType::Uint8 => (0.0, 255.0),
                other => return Err(bad(format!("`{}` becomes {other:?}", t.name()))),
            };
            let reals = c.floats().unwrap_or_default();
            reals
                .iter()
                .enumerate()
                .map(|(i, &r)| {
                    let k = channel(i);
                    let q = (r / p.scales[k]).round_ties_even() + p.zero_points[k] as f32;
                    q.clamp(lo, hi) as i64
                })
                .collect()
        }
        _ => {
            return Err(bad(format!(
                "`{}` is {:?} where integers belong",
                t.name(),
                t.data_type()
            )));
        }
    };
    let reals = integers
        .iter()
        .enumerate()
        .map(|(i, &q)| {
            let k = channel(i);
            (p.scales[k] as f64 * (q - p.zero_points[k]) as f64) as f32
        })
        .collect();
    Ok(RealConstant {
        tensor: TensorProto::from_f32(name, t.dims().to_vec(), reals),
        scales: p.scales.clone(),
        axis,
    })
}
