//! What an operator asks of the network while it is converted.

use super::file::Constant;
use super::network::{Activation, Network};
use super::place::Operands;
use super::problem::Problem;
use super::schema::{ElementType, Operator, code};
use crate::model::{Node, Rounding, TensorId};

/// An operator being converted.
pub(super) struct Call<'n, 'a> {
    pub network: &'n mut Network<'a>,
    pub operator: Operator<'a>,
    /// Its builtin code.
    pub code: i32,
}

impl<'a> Call<'_, 'a> {
    /// The index of operand `k`; `None` where an optional one is absent.
    pub(super) fn operand(&self, k: usize) -> Option<i32> {
        self.operator.inputs.get(k).filter(|i| *i >= 0)
    }

    fn required(&self, k: usize) -> Result<i32, Problem> {
        self.operand(k)
            .ok_or_else(|| Problem::Damaged(format!("its operand {k} is missing")))
    }

    /// Operand `k`, an int8 activation.
    pub(super) fn activation(&self, k: usize) -> Result<Activation, Problem> {
        self.network
            .activation(self.required(k)?, &[ElementType::INT8])
    }

    /// Operand `k`, an activation of one of some types.
    pub(super) fn activation_of(
        &self,
        k: usize,
        types: &[ElementType],
    ) -> Result<Activation, Problem> {
        self.network.activation(self.required(k)?, types)
    }

    /// Whether operand `k` is a constant of the file.
    pub(super) fn is_constant(&self, k: usize) -> Result<bool, Problem> {
        self.network.is_constant(self.required(k)?)
    }

    /// Operand `k`, a constant.
    pub(super) fn constant(&mut self, k: usize) -> Result<Constant<'a>, Problem> {
        let index = self.required(k)?;
        self.network.constant(index)
    }

    /// The only output, an int8 activation.
    pub(super) fn output(&mut self) -> Result<Activation, Problem> {
        self.output_of(&[ElementType::INT8])
    }

    /// The only output, of one of some types.
    pub(super) fn output_of(&mut self, types: &[ElementType]) -> Result<Activation, Problem> {
        let index = self.output_index()?;
        self.network.declare(index, types)
    }

    /// The index of the only output.
    pub(super) fn output_index(&self) -> Result<i32, Problem> {
        match (self.operator.outputs.get(0), self.operator.outputs.len()) {
            (Some(index), 1) => Ok(index),
            (_, n) => Err(Problem::Damaged(format!(
                "it has {n} outputs instead of one"
            ))),
        }
    }

    /// As [`quotient`].
    pub(super) fn quotient(&self, factors: &[f32], divisor: f32) -> f64 {
        quotient(self.network.rounding, factors, divisor)
    }

    /// Adds the node.
    pub(super) fn push(&mut self, op: crate::model::Op, inputs: &[TensorId], output: TensorId) {
        let name = self.network.tensors[output.0].name.clone();
        if let (Some(_), Some(weights)) = (op.linear(), self.operand(1)) {
            self.network.places.push(Operands {
                node: self.network.nodes.len(),
                weights,
                bias: self.operand(2),
                depthwise: self.code == code::DEPTHWISE_CONV_2D,
            });
        }
        self.network.nodes.push(Node {
            name,
            op,
            inputs: inputs.to_vec(),
            output,
        });
    }

    /// Adds a node that has no weights.
    pub(super) fn push_plain(
        &mut self,
        op: crate::model::Op,
        inputs: &[TensorId],
        output: TensorId,
    ) {
        self.network.nodes.push(Node {
            name: self.network.tensors[output.0].name.clone(),
            op,
            inputs: inputs.to_vec(),
            output,
        });
    }

    /// Adds a tensor on the way to an output, with the scale of another one.
    pub(super) fn part(
        &mut self,
        output: TensorId,
        what: &str,
        like: TensorId,
        shape: [usize; 3],
    ) -> TensorId {
        let name = format!("{}/{what}", self.network.tensors[output.0].name);
        self.network.add_part(name, like, shape)
    }

    /// If operand 0 is the network's float input: takes the output as the network's input.
    pub(super) fn enter(&mut self) -> Result<bool, Problem> {
        let float = self.operand(0).and_then(|i| usize::try_from(i).ok());
        if float.is_none() || float != self.network.float_input {
            return Ok(false);
        }
        if self.network.input.is_some() {
            return Err(Problem::unsupported(
                "the float input is quantized in two ways",
                "convert with inference_input_type int8",
            ));
        }
        let y = self.output_of(&[ElementType::INT8])?;
        self.network.input = Some(y.id);
        Ok(true)
    }

    /// If the output is the network's float output: takes operand 0 as the network's output.
    pub(super) fn leave(&mut self, types: &[ElementType]) -> Result<bool, Problem> {
        let index = self.output_index()?;
        let t = self.network.file.tensor(index)?;
        if index != self.network.file.output || t.element != ElementType::FLOAT32 {
            return Ok(false);
        }
        let x = self.network.activation(self.required(0)?, types)?;
        self.network.alias(index, x.id);
        Ok(true)
    }
}

/// The product of some numbers over another one: in f64 as TFLM takes it, in f32 as LiteRT does.
pub(super) fn quotient(rounding: Rounding, factors: &[f32], divisor: f32) -> f64 {
    match rounding {
        Rounding::LiteRtReference => (factors.iter().product::<f32>() / divisor) as f64,
        _ => factors.iter().map(|f| *f as f64).product::<f64>() / divisor as f64,
    }
}
