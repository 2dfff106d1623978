//! The integer network as it grows, and the file's tensors that it is made of.

use super::flatbuffer::{Malformed, Tables, Vector};
use super::schema::{self, ElementType, Tensor as FileTensor};
use crate::model::{Node, Tensor, TensorId};

/// Most elements of an activation tensor.
const MAX_ELEMENTS: usize = 1 << 24;
/// Most weights, biases and other constants that are taken out of a file. Several operators may
/// share the bytes of one buffer, so the file's own size is no bound.
const MAX_CONSTANTS: usize = 64 << 20;
/// Longer names are cut.
const MAX_NAME: usize = 2048;
/// Longer shapes and lists of operands are cut in messages.
pub(super) const MAX_SHOWN: usize = 8;

/// What is wrong with one operator.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Problem {
    /// The file contradicts itself.
    Damaged(String),
    /// A limit.
    TooLarge { what: &'static str, limit: String },
    /// Something that is not supported, and the way out.
    Unsupported { reason: String, remedy: String },
    /// An operand comes from an operator that has been reported.
    Follows,
}

impl Problem {
    pub(super) fn unsupported(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unsupported {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl From<Malformed> for Problem {
    fn from(m: Malformed) -> Self {
        Self::Damaged(m.0)
    }
}

/// What is known of a tensor of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has written it.
    Unseen,
    /// It is a tensor of the network.
    Ready(TensorId),
    /// Its operator has been reported.
    Unusable,
}

/// An activation tensor as operators ask of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activation {
    pub id: TensorId,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// Axes in the file, the batch included.
    pub rank: usize,
    pub scale: f32,
    pub zero_point: i8,
}

impl Activation {
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the integers of both mean the same real numbers.
    pub(super) fn same_scale(&self, other: &Self) -> bool {
        self.scale == other.scale && self.zero_point == other.zero_point
    }
}

/// A constant operand.
pub(super) struct Constant<'a> {
    pub tensor: FileTensor<'a>,
    pub shape: Vec<usize>,
    /// As many bytes as shape and element type need.
    pub bytes: &'a [u8],
}

impl Constant<'_> {
    /// Its elements as i32; int32 and int64 are accepted.
    pub(super) fn integers(&self) -> Result<Vec<i32>, Problem> {
        match self.tensor.element {
            ElementType::INT32 => Ok(self
                .bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| i32::from_le_bytes(*b))
                .collect()),
            ElementType::INT64 => self
                .bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|b| i32::try_from(i64::from_le_bytes(*b)))
                .collect::<Result<_, _>>()
                .map_err(|_| {
                    Problem::Damaged(format!(
                        "`{}` holds numbers beyond 32 bits",
                        text(&self.tensor.name)
                    ))
                }),
            other => Err(Problem::unsupported(
                format!("`{}` is {other} instead of int32", text(&self.tensor.name)),
                "convert with full integer quantization to int8 (not int16) activations",
            )),
        }
    }
}

/// The network so far.
pub(super) struct Network<'a> {
    file_tensors: Tables<'a>,
    buffers: Tables<'a>,
    /// One a tensor of the file.
    states: Vec<State>,
    /// Axes in the file, one an activation.
    ranks: Vec<usize>,
    /// Constants taken so far.
    constants: usize,
    /// A float input that waits for its QUANTIZE.
    pub float_input: Option<usize>,
    /// The file's output tensor.
    pub file_output: usize,
    /// Where samples enter, once known.
    pub input: Option<TensorId>,
    /// Activations.
    pub tensors: Vec<Tensor>,
    /// Operators so far.
    pub nodes: Vec<Node>,
}

impl<'a> Network<'a> {
    pub(super) fn new(file_tensors: Tables<'a>, buffers: Tables<'a>) -> Self {
        Self {
            file_tensors,
            buffers,
            states: vec![State::Unseen; file_tensors.len()],
            ranks: Vec::new(),
            constants: 0,
            float_input: None,
            file_output: 0,
            input: None,
            tensors: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Takes a tensor of the file for one of the network.
    pub(super) fn alias(&mut self, index: i32, id: TensorId) {
        if let Some(state) = usize::try_from(index)
            .ok()
            .and_then(|i| self.states.get_mut(i))
        {
            *state = State::Ready(id);
        }
    }

    /// The tensor that results leave in, if something has written it.
    pub(super) fn output(&self) -> Option<TensorId> {
        match self.states.get(self.file_output) {
            Some(State::Ready(id)) => Some(*id),
            _ => None,
        }
    }

    /// A tensor of the file.
    pub(super) fn file_tensor(&self, index: i32) -> Result<FileTensor<'a>, Problem> {
        let table = usize::try_from(index)
            .ok()
            .map_or(Ok(None), |i| self.file_tensors.get(i))?;
        let table = table.ok_or_else(|| {
            Problem::Damaged(format!("it names tensor {index}, which does not exist"))
        })?;
        Ok(FileTensor::new(table)?)
    }

    /// An activation that has been written.
    pub(super) fn activation(
        &self,
        index: i32,
        types: &[ElementType],
    ) -> Result<Activation, Problem> {
        let t = self.file_tensor(index)?;
        match self.states[index as usize] {
            State::Unusable => return Err(Problem::Follows),
            _ if !types.contains(&t.element) => return Err(wrong_type(&t, types)),
            State::Ready(id) => {
                let m = &self.tensors[id.0];
                let rank = self.ranks[id.0];
                return Ok(Activation {
                    id,
                    shape: m.shape,
                    rank,
                    scale: m.scale,
                    zero_point: m.zero_point,
                });
            }
            State::Unseen => {}
        }
        if self.bytes_of(&t)?.is_empty() {
            return Err(Problem::Damaged(format!(
                "it reads `{}` before anything has written it",
                text(&t.name)
            )));
        }
        Err(Problem::unsupported(
            format!("its operand `{}` is a constant", text(&t.name)),
            "fold constants into the weights and biases of a neighbouring layer",
        ))
    }

    /// Makes a tensor of the file one of the network.
    pub(super) fn declare(
        &mut self,
        index: i32,
        types: &[ElementType],
    ) -> Result<Activation, Problem> {
        let t = self.file_tensor(index)?;
        let index = index as usize;
        if self.states[index] != State::Unseen {
            return Err(Problem::Damaged(format!(
                "`{}` is written twice",
                text(&t.name)
            )));
        }
        if !types.contains(&t.element) {
            return Err(wrong_type(&t, types));
        }
        let name = text(&t.name);
        let (shape, rank) = activation_shape(&t)?;
        let (Some(scale), 1) = (t.scales.get(0), t.scales.len()) else {
            return Err(Problem::unsupported(
                format!("`{name}` has {} scales instead of one", t.scales.len()),
                "convert with full integer quantization, so that every activation has a scale",
            ));
        };
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Problem::Damaged(format!("`{name}` has scale {scale}")));
        }
        // A uint8 is taken as the int8 that is 128 below it.
        let offset = if t.element == ElementType::UINT8 {
            128
        } else {
            0
        };
        let zero_point = t.zero_points.get(0).unwrap_or(0);
        let Ok(zero_point) = i8::try_from(zero_point.wrapping_sub(offset)) else {
            return Err(Problem::Damaged(format!(
                "`{name}` is {} with zero point {zero_point}",
                t.element
            )));
        };
        let id = TensorId(self.tensors.len());
        self.tensors.push(Tensor {
            name,
            shape,
            scale,
            zero_point,
        });
        self.ranks.push(rank);
        self.states[index] = State::Ready(id);
        Ok(Activation {
            id,
            shape,
            rank,
            scale,
            zero_point,
        })
    }

    /// A constant, with exactly the bytes that its shape needs.
    pub(super) fn constant(&mut self, index: i32) -> Result<Constant<'a>, Problem> {
        let t = self.file_tensor(index)?;
        let name = text(&t.name);
        let bytes = self.bytes_of(&t)?;
        if self.states[index as usize] != State::Unseen || bytes.is_empty() {
            return Err(Problem::unsupported(
                format!("its operand `{name}` is computed while the network runs"),
                "weights, shapes and paddings must be constants of the file",
            ));
        }
        if t.is_sparse {
            return Err(Problem::unsupported(
                format!("its operand `{name}` is stored sparsely"),
                "convert without the sparsity optimization",
            ));
        }
        let damaged = || {
            Problem::Damaged(format!(
                "constant `{name}` has shape {} and {} bytes",
                shape_text(&t),
                bytes.len()
            ))
        };
        let shape: Vec<usize> = t
            .shape
            .iter()
            .take(MAX_SHOWN + 1)
            .map(|d| usize::try_from(d).unwrap_or(0))
            .collect();
        let count = shape
            .iter()
            .try_fold(1usize, |n, d| n.checked_mul(*d))
            .ok_or_else(damaged)?;
        let size = match t.element {
            ElementType::INT8 | ElementType::UINT8 => Some(count),
            ElementType::INT4 => Some(count.div_ceil(2)),
            ElementType::INT64 => count.checked_mul(8),
            ElementType::INT32 | ElementType::FLOAT32 => count.checked_mul(4),
            _ => {
                return Err(wrong_type(
                    &t,
                    &[ElementType::INT8, ElementType::INT4, ElementType::INT32],
                ));
            }
        };
        if shape.len() > MAX_SHOWN || count == 0 || size != Some(bytes.len()) {
            return Err(damaged());
        }
        self.constants += count;
        if self.constants > MAX_CONSTANTS {
            return Err(Problem::TooLarge {
                what: "its number of weights",
                limit: format!("{MAX_CONSTANTS} of them"),
            });
        }
        Ok(Constant {
            tensor: t,
            shape,
            bytes,
        })
    }

    fn bytes_of(&self, t: &FileTensor<'a>) -> Result<&'a [u8], Problem> {
        if t.buffer == 0 || t.is_variable {
            return Ok(&[]);
        }
        match self.buffers.get(t.buffer as usize)? {
            Some(table) => Ok(schema::buffer(&table)?),
            None => Err(Problem::Damaged(format!(
                "it names buffer {}, which does not exist",
                t.buffer
            ))),
        }
    }
}

impl Network<'_> {
    /// After a failed operator: operators that read its output are still looked at where the output
    /// can be declared.
    pub(super) fn give_up(&mut self, output: i32) {
        let Some(state) = usize::try_from(output)
            .ok()
            .and_then(|i| self.states.get(i))
        else {
            return;
        };
        if *state == State::Unseen && self.declare(output, &[ElementType::INT8]).is_err() {
            self.states[output as usize] = State::Unusable;
        }
    }

    pub(super) fn name_of(&self, index: i32) -> String {
        self.file_tensor(index)
            .map_or_else(|_| format!("tensor {index}"), |t| text(&t.name))
    }

    pub(super) fn shapes_of(&self, inputs: &Vector<'_, i32>) -> String {
        let shape = |i| {
            self.file_tensor(i)
                .map_or_else(|_| "-".to_string(), |t| shape_text(&t))
        };
        inputs
            .iter()
            .take(MAX_SHOWN)
            .map(shape)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Text of a name, cut where it is very long.
pub(super) fn text(name: &Vector<'_, u8>) -> String {
    let bytes = name.as_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_NAME)]).into_owned()
}

fn shape_text(t: &FileTensor) -> String {
    let mut dims: Vec<String> = t
        .shape
        .iter()
        .take(MAX_SHOWN)
        .map(|d| d.to_string())
        .collect();
    if t.shape.len() > MAX_SHOWN {
        dims.push("...".to_string());
    }
    format!("[{}]", dims.join(", "))
}

fn wrong_type(t: &FileTensor, types: &[ElementType]) -> Problem {
    let wanted: Vec<String> = types.iter().map(|t| t.to_string()).collect();
    Problem::unsupported(
        format!(
            "`{}` is {}, but must be {}",
            text(&t.name),
            t.element,
            wanted.join(" or ")
        ),
        "convert with full integer quantization to int8 (a representative dataset and the TFLITE_BUILTINS_INT8 operator set)",
    )
}

/// Height, width and channels of an activation, and the number of axes in the file.
fn activation_shape(t: &FileTensor) -> Result<([usize; 3], usize), Problem> {
    let dims: Vec<i32> = t.shape.iter().take(5).collect();
    let unsupported = |what: &str| {
        Problem::unsupported(
            format!("`{}` has shape {}: {what}", text(&t.name), shape_text(t)),
            "convert with a fixed batch of 1 and tensors of at most [1, height, width, channels]",
        )
    };
    let hwc = match dims[..] {
        [] => [1, 1, 1],
        [c] => [1, 1, c],
        [1, c] => [1, 1, c],
        [1, w, c] => [1, w, c],
        [1, h, w, c] => [h, w, c],
        [_, _] | [_, _, _] | [_, _, _, _] => {
            return Err(unsupported("its first axis, the batch, is not 1"));
        }
        _ => return Err(unsupported("it has more than four axes")),
    };
    if hwc.iter().any(|d| *d < 1) {
        return Err(unsupported("a dimension is not fixed, or empty"));
    }
    let shape = hwc.map(|d| d as usize);
    match shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) {
        Some(n) if n <= MAX_ELEMENTS => Ok((shape, dims.len())),
        _ => Err(Problem::TooLarge {
            what: "an activation tensor",
            limit: format!("{MAX_ELEMENTS} elements"),
        }),
    }
}
