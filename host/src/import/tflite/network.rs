//! The integer network as it grows.

use super::file::{Constant, File, activation_shape, wrong_type};
use super::place::Operands;
use super::problem::Problem;
use super::schema::ElementType;
use crate::model::{Node, Rounding, Tensor, TensorId};

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

/// The network so far.
pub(super) struct Network<'a> {
    /// The file.
    pub file: File<'a>,
    /// Whose arithmetic is wanted.
    pub rounding: Rounding,
    /// One a tensor of the file.
    states: Vec<State>,
    /// Axes in the file, one an activation.
    ranks: Vec<usize>,
    /// A float input that waits for its QUANTIZE.
    pub float_input: Option<usize>,
    /// Where samples enter, once known.
    pub input: Option<TensorId>,
    /// Activations.
    pub tensors: Vec<Tensor>,
    /// Operators so far.
    pub nodes: Vec<Node>,
    /// One for every linear node.
    pub places: Vec<Operands>,
}

impl<'a> Network<'a> {
    pub(super) fn new(file: File<'a>, rounding: Rounding) -> Self {
        Self {
            rounding,
            states: vec![State::Unseen; file.tensor_count()],
            file,
            ranks: Vec::new(),
            float_input: None,
            input: None,
            tensors: Vec::new(),
            nodes: Vec::new(),
            places: Vec::new(),
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
        match usize::try_from(self.file.output)
            .ok()
            .and_then(|i| self.states.get(i))
        {
            Some(State::Ready(id)) => Some(*id),
            _ => None,
        }
    }

    /// An activation that has been written.
    pub(super) fn activation(
        &self,
        index: i32,
        types: &[ElementType],
    ) -> Result<Activation, Problem> {
        let t = self.file.tensor(index)?;
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
        if self.file.bytes_of(&t)?.is_empty() {
            return Err(Problem::Damaged(format!(
                "it reads `{}` before anything has written it",
                t.label()
            )));
        }
        Err(Problem::unsupported(
            format!("its operand `{}` is a constant", t.label()),
            "fold constants into the weights and biases of a neighbouring layer",
        ))
    }

    /// Whether a tensor has its data in the file.
    pub(super) fn is_constant(&self, index: i32) -> Result<bool, Problem> {
        let t = self.file.tensor(index)?;
        Ok(self.states[index as usize] == State::Unseen && !self.file.bytes_of(&t)?.is_empty())
    }

    /// Makes a tensor of the file one of the network.
    pub(super) fn declare(
        &mut self,
        index: i32,
        types: &[ElementType],
    ) -> Result<Activation, Problem> {
        let t = self.file.tensor(index)?;
        let index = index as usize;
        if self.states[index] != State::Unseen {
            return Err(Problem::Damaged(format!(
                "`{}` is written twice",
                t.label()
            )));
        }
        if !types.contains(&t.element) {
            return Err(wrong_type(&t, types));
        }
        let name = t.label();
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

    /// A tensor that the file has not, with the scale of one that it has.
    pub(super) fn add_part(&mut self, name: String, like: TensorId, shape: [usize; 3]) -> TensorId {
        let id = TensorId(self.tensors.len());
        let like = self.tensors[like.0].clone();
        self.tensors.push(Tensor {
            name,
            shape,
            ..like
        });
        self.ranks.push(3);
        id
    }

    /// A constant, with exactly the bytes that its shape needs.
    pub(super) fn constant(&mut self, index: i32) -> Result<Constant<'a>, Problem> {
        let computed = usize::try_from(index)
            .ok()
            .and_then(|i| self.states.get(i))
            .is_some_and(|s| *s != State::Unseen);
        self.file.constant(index, computed)
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
}
