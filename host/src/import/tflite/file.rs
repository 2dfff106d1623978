//! A TFLite file opened: its tensors, constants, ends and operators, for the importers of float and
//! of int8 networks alike.

use super::error::TfliteError;
use super::flatbuffer::{Malformed, Tables, Vector};
use super::names;
use super::problem::Problem;
use super::schema::{self, ElementType, Operator, SubGraph, Tensor as FileTensor, code};

/// Most operators of a file.
const MAX_OPERATORS: usize = 4096;
/// Most tensors of a file.
const MAX_TENSORS: usize = 1 << 16;
/// Most elements of an activation tensor.
const MAX_ELEMENTS: usize = 1 << 24;
/// Most weights, biases and other constants that are taken out of a file. Several operators may
/// share the bytes of one buffer, so the file's own size is no bound.
const MAX_CONSTANTS: usize = 64 << 20;
/// Longer shapes and lists of operands are cut in messages.
pub(super) const MAX_SHOWN: usize = 8;

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
                        self.tensor.label()
                    ))
                }),
            other => Err(Problem::unsupported(
                format!("`{}` is {other} instead of int32", self.tensor.label()),
                "convert with full integer quantization to int8 (not int16) activations",
            )),
        }
    }
}

/// An operator with its builtin code and its name.
pub(super) struct Listed<'a> {
    pub operator: Operator<'a>,
    pub code: i32,
    pub title: String,
}

/// An opened file with its only subgraph.
pub(super) struct File<'a> {
    /// What messages call it.
    pub name: &'a str,
    model: schema::Model<'a>,
    tensors: Tables<'a>,
    buffers: Tables<'a>,
    /// Constants taken so far.
    constants: usize,
    /// The input tensor.
    pub input: i32,
    /// The output tensor.
    pub output: i32,
}

impl<'a> File<'a> {
    /// Opens a file and lists its operators.
    ///
    /// # Errors
    /// Damage, limits, and anything but one subgraph with one input and one output.
    pub(super) fn open(
        bytes: &'a [u8],
        name: &'a str,
    ) -> Result<(Self, Vec<Listed<'a>>), TfliteError> {
        let damaged = |reason: String| TfliteError::Damaged {
            file: name.to_string(),
            reason,
        };
        let malformed = |m: Malformed| damaged(m.0);
        let model = schema::Model::new(bytes).map_err(malformed)?;
        let version = model.version().map_err(malformed)?;
        if version != 3 {
            return Err(damaged(format!(
                "it has schema version {version} instead of 3"
            )));
        }
        let codes = model.operator_codes().map_err(malformed)?;
        let subgraphs = model.subgraphs().map_err(malformed)?;
        if subgraphs.len() != 1 {
            return Err(TfliteError::Subgraphs {
                file: name.to_string(),
                count: subgraphs.len(),
            });
        }
        let table = subgraphs
            .get(0)
            .map_err(malformed)?
            .ok_or_else(|| damaged("it has no subgraph".to_string()))?;
        let graph = SubGraph::new(table).map_err(malformed)?;
        for (what, found, limit) in [
            ("its number of tensors", graph.tensors.len(), MAX_TENSORS),
            (
                "its number of operators",
                graph.operators.len(),
                MAX_OPERATORS,
            ),
        ] {
            if found > limit {
                return Err(TfliteError::TooLarge {
                    file: name.to_string(),
                    what,
                    limit: limit.to_string(),
                });
            }
        }
        let mut file = Self {
            name,
            tensors: graph.tensors,
            buffers: model.buffers().map_err(malformed)?,
            model,
            constants: 0,
            input: 0,
            output: 0,
        };
        file.input = file.end("input", &graph.inputs)?;
        file.output = file.end("output", &graph.outputs)?;
        let operators = (0..graph.operators.len())
            .map(|i| file.listed(&graph, &codes, i))
            .collect::<Result<_, _>>()?;
        Ok((file, operators))
    }

    /// The only input or output of the graph.
    fn end(&self, what: &'static str, ends: &Vector<'_, i32>) -> Result<i32, TfliteError> {
        if let (Some(index), 1) = (ends.get(0), ends.len()) {
            self.tensor(index).map_err(|p| p.of_file(self.name))?;
            return Ok(index);
        }
        let names = ends
            .iter()
            .take(MAX_SHOWN)
            .map(|i| format!("`{}`", self.name_of(i)))
            .collect();
        Err(TfliteError::Ends {
            file: self.name.to_string(),
            what,
            names,
        })
    }

    fn listed(
        &self,
        graph: &SubGraph<'a>,
        codes: &Tables<'a>,
        index: usize,
    ) -> Result<Listed<'a>, TfliteError> {
        let damaged = |reason: String| TfliteError::Damaged {
            file: self.name.to_string(),
            reason,
        };
        let malformed = |m: Malformed| damaged(m.0);
        let missing = || {
            damaged(format!(
                "operator {index} is missing, or has no operator code"
            ))
        };
        let table = graph
            .operators
            .get(index)
            .map_err(malformed)?
            .ok_or_else(missing)?;
        let operator = Operator::new(table).map_err(malformed)?;
        let table = codes
            .get(operator.code_index as usize)
            .map_err(malformed)?
            .ok_or_else(missing)?;
        let (code, custom) = schema::operator_code(&table).map_err(malformed)?;
        let title = match code {
            code::CUSTOM => format!("CUSTOM {}", schema::text(&custom)),
            _ => names::operator(code),
        };
        Ok(Listed {
            operator,
            code,
            title,
        })
    }

    /// Bytes of all buffers that metadata use.
    pub(super) fn metadata(&self) -> Result<Vec<&'a [u8]>, Problem> {
        let mut all = Vec::new();
        let tables = self.model.metadata()?;
        for i in 0..tables.len().min(MAX_TENSORS) {
            if let Some(t) = tables.get(i)?
                && let Some(b) = self.buffers.get(schema::metadata_buffer(&t)?)?
            {
                all.push(schema::buffer(&b)?);
            }
        }
        Ok(all)
    }

    /// Number of tensors.
    pub(super) fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// A tensor of the file.
    pub(super) fn tensor(&self, index: i32) -> Result<FileTensor<'a>, Problem> {
        let table = usize::try_from(index)
            .ok()
            .map_or(Ok(None), |i| self.tensors.get(i))?;
        let table = table.ok_or_else(|| {
            Problem::Damaged(format!("it names tensor {index}, which does not exist"))
        })?;
        Ok(FileTensor::new(table, index)?)
    }

    /// Accounts for `count` constants more.
    pub(super) fn spend(&mut self, count: usize) -> Result<(), Problem> {
        self.constants = self.constants.saturating_add(count);
        if self.constants <= MAX_CONSTANTS {
            return Ok(());
        }
        Err(Problem::TooLarge {
            what: "its number of weights",
            limit: format!("{MAX_CONSTANTS} of them"),
        })
    }

    /// A constant, with exactly the bytes that its shape needs; `computed` says that
    /// an operator has written it.
    pub(super) fn constant(&mut self, index: i32, computed: bool) -> Result<Constant<'a>, Problem> {
        let t = self.tensor(index)?;
        let name = t.label();
        let bytes = self.bytes_of(&t)?;
        if computed || bytes.is_empty() {
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
        self.spend(count)?;
        Ok(Constant {
            tensor: t,
            shape,
            bytes,
        })
    }

    /// Its data; none for one that is computed.
    pub(super) fn bytes_of(&self, t: &FileTensor<'a>) -> Result<&'a [u8], Problem> {
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

    pub(super) fn name_of(&self, index: i32) -> String {
        self.tensor(index)
            .map_or_else(|_| format!("tensor {index}"), |t| t.label())
    }

    pub(super) fn shapes_of(&self, inputs: &Vector<'_, i32>) -> String {
        let shape = |i| {
            self.tensor(i)
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

pub(super) fn shape_text(t: &FileTensor) -> String {
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

pub(super) fn wrong_type(t: &FileTensor, types: &[ElementType]) -> Problem {
    let wanted: Vec<String> = types.iter().map(|t| t.to_string()).collect();
    Problem::unsupported(
        format!(
            "`{}` is {}, but must be {}",
            t.label(),
            t.element,
            wanted.join(" or ")
        ),
        "convert with full integer quantization to int8 (a representative dataset and the TFLITE_BUILTINS_INT8 operator set)",
    )
}

/// Refuses a network's input whose first axis is not 1.
pub(super) fn require_batch_of_one(t: &FileTensor) -> Result<(), Problem> {
    if t.shape.len() < 2 || t.shape.get(0) == Some(1) {
        return Ok(());
    }
    Err(Problem::unsupported(
        format!(
            "input `{}` has shape {}: its first axis, the batch, is not 1",
            t.label(),
            shape_text(t)
        ),
        "convert with a fixed batch of 1",
    ))
}

/// Height, width and channels of an activation, and the number of axes in the file.
pub(super) fn activation_shape(t: &FileTensor) -> Result<([usize; 3], usize), Problem> {
    let dims: Vec<i32> = t.shape.iter().take(5).collect();
    let unsupported = |what: &str| {
        Problem::unsupported(
            format!("`{}` has shape {}: {what}", t.label(), shape_text(t)),
            "convert with a fixed batch of 1 and tensors of at most [1, height, width, channels]",
        )
    };
    let hwc = match dims[..] {
        [] => [1, 1, 1],
        [c] => [1, 1, c],
        [1, c] => [1, 1, c],
        [1, w, c] => [1, w, c],
        [1, h, w, c] => [h, w, c],
        // Between reshapes, matrices of several vectors.
        [n, c] => [1, n, c],
        [n, w, c] => [n, w, c],
        [_, _, _, _] => {
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
