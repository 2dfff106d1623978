//! The float graph as it grows, and what an operator asks of it while it is converted.

use std::collections::HashSet;

use crate::graph::{
    Activation, Graph, Node, Op, Shape, Value as GraphValue, ValueId, output_shape,
};
use crate::import::tflite::file::{
    Constant, File, activation_shape, require_batch_of_one, wrong_type,
};
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::{ElementType, Operator};

/// What is known of a tensor of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has written it.
    Unseen,
    /// It is a value of the graph, with so many axes in the file.
    Ready(ValueId, usize),
    /// Its operator has been reported.
    Unusable,
}

/// A value as operators ask of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub id: ValueId,
    /// Height, width, channels.
    pub shape: Shape,
    /// Axes in the file, the batch included.
    pub rank: usize,
}

impl Value {
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The graph so far.
pub(super) struct Network<'a> {
    pub file: File<'a>,
    states: Vec<State>,
    names: HashSet<String>,
    graph: Graph,
}

impl<'a> Network<'a> {
    /// An empty graph with the file's input.
    pub(super) fn new(file: File<'a>) -> Result<Self, Problem> {
        let mut network = Self {
            states: vec![State::Unseen; file.tensor_count()],
            names: HashSet::new(),
            graph: Graph {
                name: file.name.to_string(),
                values: Vec::new(),
                nodes: Vec::new(),
                input: ValueId(0),
                output: ValueId(0),
                input_was_nchw: false,
            },
            file,
        };
        let input = network.file.input;
        require_batch_of_one(&network.file.tensor(input)?)?;
        network.graph.input = network.declare(input)?.id;
        Ok(network)
    }

    /// The graph, once every operator has been converted.
    pub(super) fn finish(mut self) -> Result<Graph, Problem> {
        match self.state(self.file.output) {
            State::Ready(id, _) => self.graph.output = id,
            _ => return Err(Problem::Damaged("its output is never written".to_string())),
        }
        Ok(self.graph)
    }

    fn state(&self, index: i32) -> State {
        usize::try_from(index)
            .ok()
            .and_then(|i| self.states.get(i))
            .map_or(State::Unseen, |s| *s)
    }

    /// A name that nothing in the graph has yet.
    fn unique(&mut self, name: String) -> String {
        let mut unique = name.clone();
        let mut n = self.graph.values.len();
        while unique.is_empty() || !self.names.insert(unique.clone()) {
            unique = format!("{name}#{n}");
            n += 1;
        }
        unique
    }

    fn add(&mut self, name: String, shape: Shape) -> ValueId {
        let name = self.unique(name);
        self.graph.values.push(GraphValue { name, shape });
        ValueId(self.graph.values.len() - 1)
    }

    /// Makes a tensor of the file a value of the graph.
    fn declare(&mut self, index: i32) -> Result<Value, Problem> {
        let t = self.file.tensor(index)?;
        if self.state(index) != State::Unseen {
            return Err(Problem::Damaged(format!(
                "`{}` is written twice",
                t.label()
            )));
        }
        if t.element != ElementType::FLOAT32 {
            return Err(wrong_type(&t, &[ElementType::FLOAT32]));
        }
        let (shape, rank) = activation_shape(&t)?;
        let id = self.add(t.label(), shape);
        self.states[index as usize] = State::Ready(id, rank);
        Ok(Value { id, shape, rank })
    }

    /// After a failed operator: operators that read its output are still looked at where the output
    /// can be declared.
    pub(super) fn give_up(&mut self, output: i32) {
        if self.state(output) == State::Unseen
            && self.declare(output).is_err()
            && let Some(state) = usize::try_from(output)
                .ok()
                .and_then(|i| self.states.get_mut(i))
        {
            *state = State::Unusable;
        }
    }
}

/// An operator being converted.
pub(super) struct Call<'n, 'a> {
    pub network: &'n mut Network<'a>,
    pub operator: Operator<'a>,
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

    /// Operand `k`, a value that has been computed.
    pub(super) fn value(&self, k: usize) -> Result<Value, Problem> {
        let index = self.required(k)?;
        let t = self.network.file.tensor(index)?;
        match self.network.state(index) {
            State::Unusable => Err(Problem::Follows),
            State::Ready(id, rank) => Ok(Value {
                id,
                shape: self.network.graph.shape(id),
                rank,
            }),
            State::Unseen if self.network.file.bytes_of(&t)?.is_empty() => Err(Problem::Damaged(
                format!("it reads `{}` before anything has written it", t.label()),
            )),
            State::Unseen => Err(Problem::unsupported(
                format!("its operand `{}` is a constant", t.label()),
                "fold constants into the weights and biases of a neighbouring layer",
            )),
        }
    }

    /// Whether operand `k` is a constant of the file.
    pub(super) fn is_constant(&self, k: usize) -> Result<bool, Problem> {
        let index = self.required(k)?;
        let t = self.network.file.tensor(index)?;
        Ok(self.network.state(index) == State::Unseen
            && !self.network.file.bytes_of(&t)?.is_empty())
    }

    /// Operand `k`, a constant.
    pub(super) fn constant(&mut self, k: usize) -> Result<Constant<'a>, Problem> {
        let index = self.required(k)?;
        let computed = self.network.state(index) != State::Unseen;
        self.network.file.constant(index, computed)
    }

    /// Operand `k`, a constant of finite float32.
    pub(super) fn floats(&mut self, k: usize) -> Result<(Vec<usize>, Vec<f32>), Problem> {
        let c = self.constant(k)?;
        if c.tensor.element != ElementType::FLOAT32 {
            return Err(wrong_type(&c.tensor, &[ElementType::FLOAT32]));
        }
        let data: Vec<f32> = c
            .bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        match data.iter().position(|v| !v.is_finite()) {
            None => Ok((c.shape, data)),
            Some(i) => Err(Problem::Damaged(format!(
                "constant `{}` holds {} at index {i}",
                c.tensor.label(),
                data[i]
            ))),
        }
    }

    /// Shape and number of axes that the output has in the file.
    pub(super) fn output_shape(&self) -> Result<(Shape, usize), Problem> {
        activation_shape(&self.network.file.tensor(self.output_index()?)?)
    }

    fn output_index(&self) -> Result<i32, Problem> {
        match (self.operator.outputs.get(0), self.operator.outputs.len()) {
            (Some(index), 1) => Ok(index),
            (_, n) => Err(Problem::Damaged(format!(
                "it has {n} outputs instead of one"
            ))),
        }
    }

    /// Adds a node that makes a value on the way to the output.
    pub(super) fn part(
        &mut self,
        what: &str,
        op: Op,
        inputs: &[ValueId],
    ) -> Result<ValueId, Problem> {
        let shape = match self.shape_of(&op, inputs)? {
            Some(shape) => shape,
            None => self.output_shape()?.0,
        };
        let name = self.network.file.name_of(self.output_index()?);
        let output = self.network.add(format!("{name}/{what}"), shape);
        self.push(op, inputs, output);
        Ok(output)
    }

    /// Adds a value of the same elements under another shape, on the way to the output.
    pub(super) fn reshaped(
        &mut self,
        what: &str,
        input: ValueId,
        shape: Shape,
    ) -> Result<ValueId, Problem> {
        let name = self.network.file.name_of(self.output_index()?);
        let output = self.network.add(format!("{name}/{what}"), shape);
        self.push(Op::Reshape, &[input], output);
        Ok(output)
    }

    /// Adds the node that makes the output, with a fused function.
    pub(super) fn emit(
        &mut self,
        mut op: Op,
        inputs: &[ValueId],
        fused: Activation,
    ) -> Result<(), Problem> {
        let mut inputs = inputs.to_vec();
        if fused != Activation::Identity {
            match &mut op {
                Op::Conv2d(c) if fused.clamp_range().is_some() => c.activation = fused,
                Op::FullyConnected(f) if fused.clamp_range().is_some() => f.activation = fused,
                Op::Affine(a) if fused.clamp_range().is_some() => a.activation = fused,
                Op::Add { activation } | Op::Sub { activation } | Op::Mul { activation }
                    if fused.clamp_range().is_some() =>
                {
                    *activation = fused;
                }
                _ => {
                    let before = self.part("linear", op, &inputs)?;
                    op = Op::Activation(fused);
                    inputs = vec![before];
                }
            }
        }
        let shape = self.shape_of(&op, &inputs)?;
        let y = self.network.declare(self.output_index()?)?;
        let fits = match shape {
            Some(shape) => shape == y.shape,
            None => {
                let n: usize = self.network.graph.elements(inputs[0]);
                n == y.elements()
            }
        };
        if !fits {
            let x = self.network.graph.shape(inputs[0]);
            return Err(Problem::Damaged(format!(
                "an input of {x:?} does not give an output of {:?}",
                y.shape
            )));
        }
        self.push(op, &inputs, y.id);
        Ok(())
    }

    fn shape_of(&self, op: &Op, inputs: &[ValueId]) -> Result<Option<Shape>, Problem> {
        let shapes: Vec<Shape> = inputs
            .iter()
            .map(|v| self.network.graph.shape(*v))
            .collect();
        output_shape(op, &shapes).map_err(Problem::Damaged)
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], output: ValueId) {
        let name = self.network.graph.value_name(output).to_string();
        self.network.graph.nodes.push(Node {
            name,
            op,
            inputs: inputs.to_vec(),
            output,
        });
    }
}
