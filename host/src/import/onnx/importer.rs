//! The state of an import: what each name of the file stands for.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use onnx_rs::ast::TensorProto;

use super::constant::{Constant, DecodeError, decode};
use super::node::OnnxNode;
use crate::graph::{Graph, Node, Op, Shape, Value, ValueId, output_shape};
use crate::import::ImportError;

/// Elements of one activation.
const MAX_ELEMENTS: usize = 1 << 25;
/// Elements of all constants that an import makes.
const MAX_CONSTANTS: usize = 1 << 26;

/// Why a node was not imported.
pub(super) enum Fail {
    /// Goes on the list.
    Unsupported { reason: String, remedy: String },
    /// The node contradicts its operator's definition.
    Invalid(String),
    /// Ends the import.
    Fatal(ImportError),
}

impl Fail {
    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Fail::Invalid(reason.into())
    }

    pub(super) fn unsupported(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Fail::Unsupported {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

pub(super) type Step<T> = Result<T, Fail>;

/// An activation of the file, of which axis 0 is the batch.
///
/// Transposing in the file moves nothing here: it only relabels `axes`. Elements move when an
/// operator needs another layout ([`Importer::lay_out`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) id: ValueId,
    /// The file's dimensions without the batch; at most three.
    pub(super) dims: Vec<usize>,
    /// `axes[i]` is the graph axis (0 = H, 1 = W, 2 = C) that holds `dims[i]`. Distinct; graph
    /// axes that are not listed have length one.
    pub(super) axes: Vec<usize>,
}

impl Tensor {
    /// The graph's layout of a channels-first tensor of this rank (without batch).
    pub(super) fn channels_first(rank: usize) -> &'static [usize] {
        [&[] as &[usize], &[2], &[2, 1], &[2, 0, 1]][rank]
    }

    /// The layout in which the graph's row-major order is the file's.
    pub(super) fn row_major(rank: usize) -> &'static [usize] {
        [&[] as &[usize], &[2], &[1, 2], &[0, 1, 2]][rank]
    }

    /// A value whose dimensions lie at `axes`.
    pub(super) fn of(im: &Importer<'_, '_>, id: ValueId, axes: Vec<usize>) -> Self {
        let shape = im.graph.shape(id);
        Tensor {
            id,
            dims: axes.iter().map(|&a| shape[a]).collect(),
            axes,
        }
    }

    /// An axis number of the file as an index into `dims`; `Err` for the batch.
    pub(super) fn axis(&self, axis: i64) -> Step<usize> {
        let rank = self.dims.len() as i64 + 1;
        let positive = if axis < 0 {
            axis.saturating_add(rank)
        } else {
            axis
        };
        match positive {
            0 => Err(Fail::unsupported(
                "works across the batch",
                "change the model so that it treats every sample on its own; the first axis must stay the batch",
            )),
            a if (1..rank).contains(&a) => Ok(a as usize - 1),
            _ => Err(Fail::invalid(format!(
                "axis {axis} of a tensor of rank {rank}"
            ))),
        }
    }
}

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Item {
    Constant(Rc<Constant>),
    Tensor(Tensor),
    /// Made by a node that is not supported.
    Unknown,
}

pub(super) struct Importer<'a, 'b> {
    pub(super) file: &'b str,
    pub(super) opset: i64,
    pub(super) graph: Graph,
    pub(super) fixed_batch: Option<i64>,
    /// How often each name is read (by nodes or as an output of the graph).
    pub(super) uses: HashMap<&'a str, usize>,
    items: HashMap<&'a str, Item>,
    initializers: HashMap<&'a str, &'b TensorProto<'a>>,
    value_names: HashSet<String>,
    node_names: HashSet<String>,
    layouts: HashMap<(ValueId, Vec<usize>, Vec<usize>), ValueId>,
    constants: usize,
}

impl<'a, 'b> Importer<'a, 'b> {
    pub(super) fn new(
        file: &'b str,
        opset: i64,
        graph: Graph,
        initializers: HashMap<&'a str, &'b TensorProto<'a>>,
    ) -> Self {
        Importer {
            file,
            opset,
            graph,
            fixed_batch: None,
            uses: HashMap::new(),
            items: HashMap::new(),
            initializers,
            value_names: HashSet::new(),
            node_names: HashSet::new(),
            layouts: HashMap::new(),
            constants: 0,
        }
    }

    pub(super) fn bind(&mut self, name: &'a str, item: Item) {
        self.items.insert(name, item);
    }

    /// Whether the name is bound already.
    pub(super) fn is_bound(&self, name: &str) -> bool {
        self.items.contains_key(name) || self.initializers.contains_key(name)
    }

    /// What a name stands for; initializers are decoded when they are first read.
    pub(super) fn item(&mut self, name: &'a str) -> Step<Item> {
        if let Some(item) = self.items.get(name) {
            return Ok(item.clone());
        }
        let Some(&t) = self.initializers.get(name) else {
            return Err(Fail::Fatal(ImportError::Damaged {
                file: self.file.into(),
                reason: format!("`{name}` is read before anything makes it"),
            }));
        };
        let item = Item::Constant(self.decode(t, name)?);
        self.items.insert(name, item.clone());
        Ok(item)
    }

    /// Decodes a tensor of the file, against the budget of constants.
    pub(super) fn decode(&mut self, t: &TensorProto<'a>, name: &str) -> Step<Rc<Constant>> {
        let file = self.file.to_string();
        let constant = decode(t, name).map_err(|e| {
            let reason = match e {
                DecodeError::External(location) => format!(
                    "is stored outside the file (in {location}); save the model as one file: onnx.save_model(onnx.load(path), out, save_as_external_data=False)"
                ),
                DecodeError::Bad(reason) => reason,
            };
            Fail::Fatal(ImportError::Initializer { file, name: name.into(), reason })
        })?;
        self.spend(constant.data.len())?;
        Ok(Rc::new(constant))
    }

    /// Accounts for a constant of `n` elements about to be made.
    pub(super) fn spend(&mut self, n: usize) -> Step<()> {
        self.constants = self.constants.saturating_add(n);
        if self.constants <= MAX_CONSTANTS {
            return Ok(());
        }
        Err(Fail::Fatal(ImportError::TooLarge {
            file: self.file.into(),
            what: "the number of constants".into(),
            limit: format!("{MAX_CONSTANTS} elements"),
        }))
    }

    /// Operand `i` as an activation.
    pub(super) fn tensor(&mut self, n: &OnnxNode<'a, '_>, i: usize) -> Step<Tensor> {
        let Some(name) = n.input(i) else {
            return Err(Fail::invalid(format!("operand {i} is missing")));
        };
        match self.item(name)? {
            Item::Tensor(t) => Ok(t),
            _ => Err(Fail::unsupported(
                format!("operand `{name}` is a constant where an activation is supported"),
                "simplify the model first (onnxsim), so that constant parts are computed once",
            )),
        }
    }

    /// Operand `i` as a constant, if it is there; `what` names it for people.
    pub(super) fn constant(
        &mut self,
        n: &OnnxNode<'a, '_>,
        i: usize,
        what: &str,
    ) -> Step<Option<Rc<Constant>>> {
        let Some(name) = n.input(i) else {
            return Ok(None);
        };
        match self.item(name)? {
            Item::Constant(c) => Ok(Some(c)),
            _ => Err(Fail::unsupported(
                format!("its {what} `{name}` is computed from the input"),
                "only constants are supported there; change the model, or simplify it with onnxsim if the value is in fact constant",
            )),
        }
    }

    /// Operand `i` as finite float weights.
    pub(super) fn weights(
        &mut self,
        n: &OnnxNode<'a, '_>,
        i: usize,
        what: &str,
    ) -> Step<Option<Rc<Constant>>> {
        let Some(c) = self.constant(n, i, what)? else {
            return Ok(None);
        };
        self.finite(&c)?;
        Ok(Some(c))
    }

    /// Checks that a constant is of floats, all finite.
    pub(super) fn finite(&self, c: &Constant) -> Step<()> {
        let Some(v) = c.floats() else {
            return Err(Fail::invalid(format!(
                "`{}` holds integers where floats belong",
                c.name
            )));
        };
        match v.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(index) => Err(Fail::Fatal(ImportError::NonFinite {
                file: self.file.into(),
                name: c.name.clone(),
                index,
                value: v[index],
            })),
        }
    }

    /// Operand `i` as integers that do not depend on the batch.
    pub(super) fn known_ints(
        &mut self,
        n: &OnnxNode<'a, '_>,
        i: usize,
        what: &str,
    ) -> Step<Option<Vec<i64>>> {
        let Some(c) = self.constant(n, i, what)? else {
            return Ok(None);
        };
        match c.known_ints() {
            Some(v) => Ok(Some(v)),
            None => Err(Fail::invalid(format!(
                "its {what} `{}` should be integers that do not depend on the batch",
                c.name
            ))),
        }
    }

    /// A new value.
    pub(super) fn value(&mut self, name: &str, shape: Shape) -> Step<ValueId> {
        let elements = shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .unwrap_or(usize::MAX);
        if elements == 0 {
            return Err(Fail::invalid(format!(
                "its result has no elements (shape {shape:?})"
            )));
        }
        if elements > MAX_ELEMENTS {
            return Err(Fail::Fatal(ImportError::TooLarge {
                file: self.file.into(),
                what: format!("the activation `{name}` of shape {shape:?} (NHWC)"),
                limit: format!("{MAX_ELEMENTS} elements"),
            }));
        }
        let name = unique(&mut self.value_names, name);
        self.graph.values.push(Value { name, shape });
        Ok(ValueId(self.graph.values.len() - 1))
    }

    fn push(
        &mut self,
        node: &str,
        value: &str,
        op: Op,
        inputs: Vec<ValueId>,
        reshaped: Option<Shape>,
    ) -> Step<ValueId> {
        let shapes: Vec<Shape> = inputs.iter().map(|&v| self.graph.shape(v)).collect();
        let shape = output_shape(&op, &shapes)
            .map_err(Fail::Invalid)?
            .or(reshaped)
            .unwrap_or(shapes[0]);
        let output = self.value(value, shape)?;
        let name = unique(&mut self.node_names, node);
        self.graph.nodes.push(Node {
            name,
            op,
            inputs,
            output,
        });
        Ok(output)
    }

    /// The node's own operator: its result has the name of the node's output.
    pub(super) fn emit(
        &mut self,
        n: &OnnxNode<'a, '_>,
        op: Op,
        inputs: &[ValueId],
    ) -> Step<ValueId> {
        self.push(&n.name, n.out, op, inputs.to_vec(), None)
    }

    /// A helper operator of the node; `part` distinguishes it.
    pub(super) fn emit_part(
        &mut self,
        n: &OnnxNode<'a, '_>,
        part: &str,
        op: Op,
        inputs: &[ValueId],
    ) -> Step<ValueId> {
        self.push(
            &format!("{}/{part}", n.name),
            &format!("{}/{part}", n.out),
            op,
            inputs.to_vec(),
            None,
        )
    }

    /// A reshape as the node's own operator.
    pub(super) fn emit_reshape(
        &mut self,
        n: &OnnxNode<'a, '_>,
        input: ValueId,
        shape: Shape,
    ) -> Step<ValueId> {
        self.push(&n.name, n.out, Op::Reshape, vec![input], Some(shape))
    }

    /// The same tensor with its axes at `want`; elements move only if their order changes.
    pub(super) fn lay_out(&mut self, t: &Tensor, want: &[usize]) -> Step<Tensor> {
        let done = |id| Tensor {
            id,
            dims: t.dims.clone(),
            axes: want.to_vec(),
        };
        let key = (t.id, t.axes.clone(), want.to_vec());
        if let Some(&id) = self.layouts.get(&key) {
            return Ok(done(id));
        }
        let mut shape = [1; 3];
        want.iter()
            .zip(&t.dims)
            .for_each(|(&axis, &d)| shape[axis] = d);
        let order = |axes: &[usize]| {
            let mut long: Vec<usize> = (0..t.dims.len()).filter(|&i| t.dims[i] != 1).collect();
            long.sort_by_key(|&i| axes[i]);
            long
        };
        let name = self.graph.value_name(t.id).to_string();
        let id = if order(&t.axes) != order(want) {
            let mut perm = [usize::MAX; 3];
            want.iter()
                .zip(&t.axes)
                .for_each(|(&to, &from)| perm[to] = from);
            let mut free = (0..3).filter(|a| !t.axes.contains(a));
            for p in perm.iter_mut().filter(|p| **p == usize::MAX) {
                *p = free.next().unwrap_or(0);
            }
            let label = format!("{name}/transposed");
            self.push(&label, &label, Op::Transpose { perm }, vec![t.id], None)?
        } else if shape != self.graph.shape(t.id) {
            let label = format!("{name}/reshaped");
            self.push(&label, &label, Op::Reshape, vec![t.id], Some(shape))?
        } else {
            t.id
        };
        self.layouts.insert(key, id);
        Ok(done(id))
    }

    /// The same tensor with dimension `i` on the graph's channel axis.
    pub(super) fn channel_last(&mut self, t: &Tensor, i: usize) -> Step<Tensor> {
        let mut want = t.axes.clone();
        if want[i] != 2 {
            if let Some(j) = want.iter().position(|&a| a == 2) {
                want[j] = want[i];
            }
            want[i] = 2;
        }
        self.lay_out(t, &want)
    }
}

/// A name that is not taken yet.
fn unique(taken: &mut HashSet<String>, wanted: &str) -> String {
    let mut name = wanted.to_string();
    let mut i = 1;
    while !taken.insert(name.clone()) {
        i += 1;
        name = format!("{wanted}#{i}");
    }
    name
}
