//! The part of TFLite's file format that is used here: which field of which table means what.
//!
//! Field numbers count from 0 in the order of the format's definition (schema version 3, identifier
//! `TFL3`). Fields that are not listed are not read.
//!
//! | table | fields |
//! |---|---|
//! | Model | 0 version, 1 operator codes, 2 subgraphs, 4 buffers, 6 metadata |
//! | Metadata | 1 buffer |
//! | OperatorCode | 0 deprecated builtin code (i8), 1 custom code, 3 builtin code (i32) |
//! | SubGraph | 0 tensors, 1 inputs, 2 outputs, 3 operators |
//! | Tensor | 0 shape, 1 element type (i8), 2 buffer, 3 name, 4 quantization, 5 is variable, 6 sparsity |
//! | QuantizationParameters | 2 scales (f32), 3 zero points (i64), 6 quantized dimension |
//! | Operator | 0 operator code, 1 inputs, 2 outputs, 3 kind of options (u8), 4 options |
//! | Buffer | 0 data, 1 offset (data behind the flatbuffer, in files above 2 GB) |
//! | Conv2DOptions | 0 padding, 1 stride w, 2 stride h, 3 activation, 4 dilation w, 5 dilation h |
//! | DepthwiseConv2DOptions | 0 padding, 1 stride w, 2 stride h, 3 multiplier, 4 activation, 5 dilation w, 6 dilation h |
//! | Pool2DOptions | 0 padding, 1 stride w, 2 stride h, 3 filter w, 4 filter h, 5 activation |
//! | FullyConnectedOptions | 0 activation, 1 weights format |
//! | AddOptions, MulOptions, SubOptions | 0 activation |
//! | ConcatenationOptions | 0 axis, 1 activation |
//! | ReducerOptions (written only) | 0 keep dimensions |
//! | SoftmaxOptions | 0 beta |
//! | LeakyReluOptions | 0 alpha |
//! | ResizeNearestNeighborOptions | 0 align corners, 1 half pixel centers |

use super::flatbuffer::{Malformed, Table, Tables, Vector};

type Result<T> = std::result::Result<T, Malformed>;

/// Element types by their number; those beyond the list are unknown.
const TYPE_NAMES: [&str; 19] = [
    "float32",
    "float16",
    "int32",
    "uint8",
    "int64",
    "string",
    "bool",
    "int16",
    "complex64",
    "int8",
    "float64",
    "complex128",
    "uint64",
    "resource",
    "variant",
    "uint32",
    "uint16",
    "int4",
    "bfloat16",
];

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ElementType(pub i8);

impl ElementType {
    pub(super) const FLOAT32: Self = Self(0);
    pub(super) const FLOAT16: Self = Self(1);
    pub(super) const INT32: Self = Self(2);
    pub(super) const UINT8: Self = Self(3);
    pub(super) const INT64: Self = Self(4);
    pub(super) const INT16: Self = Self(7);
    pub(super) const INT8: Self = Self(9);
    /// Two in a byte, the first in the lower half.
    pub(super) const INT4: Self = Self(17);
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match usize::try_from(self.0).ok().and_then(|i| TYPE_NAMES.get(i)) {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

/// Builtin operator codes of the operators that are read.
pub(crate) mod code {
    pub const ADD: i32 = 0;
    pub const AVERAGE_POOL_2D: i32 = 1;
    pub const CONCATENATION: i32 = 2;
    pub const CONV_2D: i32 = 3;
    pub const DEPTHWISE_CONV_2D: i32 = 4;
    pub const DEQUANTIZE: i32 = 6;
    pub const FULLY_CONNECTED: i32 = 9;
    pub const LOGISTIC: i32 = 14;
    pub const MAX_POOL_2D: i32 = 17;
    pub const MUL: i32 = 18;
    pub const RELU: i32 = 19;
    pub const RELU_N1_TO_1: i32 = 20;
    pub const RELU6: i32 = 21;
    pub const RESHAPE: i32 = 22;
    pub const SOFTMAX: i32 = 25;
    pub const TANH: i32 = 28;
    pub const CUSTOM: i32 = 32;
    pub const PAD: i32 = 34;
    pub const TRANSPOSE: i32 = 39;
    pub const MEAN: i32 = 40;
    pub const SUB: i32 = 41;
    pub const SQUEEZE: i32 = 43;
    pub const PADV2: i32 = 60;
    pub const EXPAND_DIMS: i32 = 70;
    pub const RESIZE_NEAREST_NEIGHBOR: i32 = 97;
    pub const LEAKY_RELU: i32 = 98;
    pub const QUANTIZE: i32 = 114;
    pub const HARD_SWISH: i32 = 117;
}

/// Kinds of options (the union's tag) of the operators that have any.
pub(crate) mod options {
    pub const CONV_2D: u8 = 1;
    pub const DEPTHWISE_CONV_2D: u8 = 2;
    pub const POOL_2D: u8 = 5;
    pub const FULLY_CONNECTED: u8 = 8;
    pub const SOFTMAX: u8 = 9;
    pub const CONCATENATION: u8 = 10;
    pub const ADD: u8 = 11;
    pub const MUL: u8 = 21;
    pub const REDUCER: u8 = 27;
    pub const SUB: u8 = 28;
    pub const RESIZE_NEAREST_NEIGHBOR: u8 = 74;
    pub const LEAKY_RELU: u8 = 75;
}

/// The root.
pub(super) struct Model<'a>(Table<'a>);

impl<'a> Model<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self> {
        Table::root(bytes, b"TFL3").map(Self)
    }

    pub(super) fn version(&self) -> Result<u32> {
        self.0.scalar(0, 0)
    }

    pub(super) fn operator_codes(&self) -> Result<Tables<'a>> {
        self.0.tables(1)
    }

    pub(super) fn subgraphs(&self) -> Result<Tables<'a>> {
        self.0.tables(2)
    }

    pub(super) fn metadata(&self) -> Result<Tables<'a>> {
        self.0.tables(6)
    }

    pub(super) fn buffers(&self) -> Result<Tables<'a>> {
        self.0.tables(4)
    }
}

/// The builtin code of an OperatorCode, and the name of a custom one. Old files have the code in
/// the deprecated field alone, files with codes above 127 hold a placeholder there: the larger of
/// the two counts.
pub(super) fn operator_code<'a>(t: &Table<'a>) -> Result<(i32, Vector<'a, u8>)> {
    let deprecated: i8 = t.scalar(0, 0)?;
    let builtin: i32 = t.scalar(3, 0)?;
    Ok((builtin.max(deprecated as i32), t.vector(1)?))
}

/// A subgraph.
pub(super) struct SubGraph<'a> {
    pub tensors: Tables<'a>,
    pub inputs: Vector<'a, i32>,
    pub outputs: Vector<'a, i32>,
    pub operators: Tables<'a>,
}

impl<'a> SubGraph<'a> {
    pub(super) fn new(t: Table<'a>) -> Result<Self> {
        Ok(Self {
            tensors: t.tables(0)?,
            inputs: t.vector(1)?,
            outputs: t.vector(2)?,
            operators: t.tables(3)?,
        })
    }
}

/// A tensor.
#[derive(Clone, Copy)]
pub(super) struct Tensor<'a> {
    /// Its number in the subgraph.
    index: i32,
    pub shape: Vector<'a, i32>,
    pub element: ElementType,
    /// 0 for one without data.
    pub buffer: u32,
    name: Vector<'a, u8>,
    pub scales: Vector<'a, f32>,
    pub zero_points: Vector<'a, i64>,
    pub quantized_dimension: i32,
    pub is_variable: bool,
    pub is_sparse: bool,
}

impl<'a> Tensor<'a> {
    pub(super) fn new(t: Table<'a>, index: i32) -> Result<Self> {
        let (scales, zero_points, quantized_dimension) = match t.table(4)? {
            Some(q) => (q.vector(2)?, q.vector(3)?, q.scalar(6, 0)?),
            None => (Vector::EMPTY, Vector::EMPTY, 0),
        };
        Ok(Self {
            index,
            shape: t.vector(0)?,
            element: ElementType(t.scalar(1, 0)?),
            buffer: t.scalar(2, 0)?,
            name: t.vector(3)?,
            scales,
            zero_points,
            quantized_dimension,
            is_variable: t.scalar(5, 0u8)? != 0,
            is_sparse: t.has(6),
        })
    }
}

impl Tensor<'_> {
    /// Its name, or its number where it has none, as in files without debug information.
    pub(super) fn label(&self) -> String {
        match text(&self.name) {
            name if name.is_empty() => format!("tensor {}", self.index),
            name => name,
        }
    }
}

/// Text of a name, cut where it is very long.
pub(super) fn text(name: &Vector<'_, u8>) -> String {
    /// Longer names are cut.
    const MAX_NAME: usize = 2048;
    let bytes = name.as_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_NAME)]).into_owned()
}

/// An operator.
#[derive(Clone, Copy)]
pub(super) struct Operator<'a> {
    pub code_index: u32,
    /// Tensor indices; -1 for an optional operand that is absent.
    pub inputs: Vector<'a, i32>,
    pub outputs: Vector<'a, i32>,
    options_kind: u8,
    options: Option<Table<'a>>,
}

impl<'a> Operator<'a> {
    pub(super) fn new(t: Table<'a>) -> Result<Self> {
        Ok(Self {
            code_index: t.scalar(0, 0)?,
            inputs: t.vector(1)?,
            outputs: t.vector(2)?,
            options_kind: t.scalar(3, 0)?,
            options: t.table(4)?,
        })
    }

    /// Its options, which must be of one kind; absent ones mean that every option has its default.
    pub(super) fn options(&self, kind: u8) -> Result<Options<'a>> {
        match self.options {
            Some(table) if self.options_kind == kind => Ok(Options(Some(table))),
            Some(_) => Err(Malformed(format!(
                "it has options of kind {} instead of {kind}",
                self.options_kind
            ))),
            None => Ok(Options(None)),
        }
    }
}

/// Options of an operator.
pub(super) struct Options<'a>(Option<Table<'a>>);

impl Options<'_> {
    pub(super) fn i8(&self, field: usize) -> Result<i8> {
        self.0.map_or(Ok(0), |t| t.scalar(field, 0))
    }

    pub(super) fn i32(&self, field: usize, default: i32) -> Result<i32> {
        self.0.map_or(Ok(default), |t| t.scalar(field, default))
    }

    pub(super) fn f32(&self, field: usize) -> Result<f32> {
        self.0.map_or(Ok(0.0), |t| t.scalar(field, 0.0))
    }
}

/// Index of the Buffer of a Metadata table.
pub(super) fn metadata_buffer(t: &Table<'_>) -> Result<usize> {
    Ok(t.scalar(1, 0u32)? as usize)
}

/// Bytes of a Buffer, or that they stand outside the flatbuffer.
pub(super) fn buffer<'a>(t: &Table<'a>) -> Result<&'a [u8]> {
    // Offsets 0 and 1 are placeholders for "no data behind the flatbuffer".
    if t.scalar(1, 0u64)? > 1 {
        return Err(Malformed(
            "a buffer's data stands behind the flatbuffer, as in files above 2 GB".to_string(),
        ));
    }
    Ok(t.vector(0)?.as_bytes())
}
