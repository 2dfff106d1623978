//! Where in a file the weights and biases of linear operators stand.

use std::ops::Range;

use super::file::{File, Listed};
use super::problem::Problem;
use super::schema::ElementType;

/// The operands that a linear node has its integers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operands {
    /// Index of the node.
    pub node: usize,
    /// Tensor of the weights.
    pub weights: i32,
    /// Tensor of the biases, if there are any.
    pub bias: Option<i32>,
    /// Whether weights stand as `[taps][out_c]`.
    pub depthwise: bool,
}

/// A constant's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// The tensor's name.
    pub name: String,
    /// Where in the file.
    pub range: Range<usize>,
    /// Bits of one element: 4, 8, 32 or 64.
    pub bits: u8,
    /// Whether something else in the network reads any of them.
    pub shared: bool,
}

/// Where a linear node has its integers from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the node.
    pub node: usize,
    /// Its weights.
    pub weights: Bytes,
    /// Its biases, if there are any.
    pub bias: Option<Bytes>,
    /// Whether weights stand as `[taps][out_c]`.
    pub depthwise: bool,
    /// Scales of the weights, one a channel, and of the biases where they have as many: float32,
    /// little-endian. None where weights have one scale, or something else reads these bytes.
    pub scales: Option<Scales>,
}

/// Where float32 scales stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scales {
    /// Of the weights.
    pub weights: Range<usize>,
    /// Of the biases.
    pub bias: Option<Range<usize>>,
}

/// Finds the bytes of all operands, and which of them are shared: read by several operators, held
/// by a buffer that several tensors or metadata use, or overlapping with another buffer.
pub(super) fn locate(
    bytes: &[u8],
    file: &File,
    operators: &[Listed],
    operands: &[Operands],
) -> Result<Vec<Place>, Problem> {
    let mut readers = vec![0u32; file.tensor_count()];
    for index in operators.iter().flat_map(|o| o.operator.inputs.iter()) {
        if let Some(n) = usize::try_from(index).ok().and_then(|i| readers.get_mut(i)) {
            *n = n.saturating_add(1);
        }
    }
    let base = bytes.as_ptr() as usize;
    let range = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        start..start + part.len()
    };
    let mut used: Vec<Range<usize>> = Vec::new();
    for i in 0..readers.len() {
        // A tensor that cannot be read is none of the operators' that were converted.
        if let Ok(part) = i32::try_from(i)
            .map_err(|_| ())
            .and_then(|i| file.tensor(i).map_err(|_| ()))
            .and_then(|t| file.bytes_of(&t).map_err(|_| ()))
            && !part.is_empty()
        {
            used.push(range(part));
        }
    }
    let metadata = file.metadata()?;
    used.extend(metadata.into_iter().filter(|b| !b.is_empty()).map(range));
    used.sort_by_key(|r| (r.start, r.end));
    let find = |index: i32| -> Result<Bytes, Problem> {
        let t = file.tensor(index)?;
        let own = range(file.bytes_of(&t)?);
        let first = used.partition_point(|r| r.start < own.end);
        // Ranges are sorted by their starts, so all that overlap lie before `first`; hostile files
        // may have long ones far ahead.
        let overlapping = used[..first].iter().filter(|r| r.end > own.start).take(2);
        Ok(Bytes {
            name: t.label(),
            bits: match t.element {
                ElementType::INT4 => 4,
                ElementType::INT32 => 32,
                ElementType::INT64 => 64,
                _ => 8,
            },
            shared: overlapping.count() > 1 || readers[index as usize] > 1,
            range: own,
        })
    };
    // Scales are read by their tensor, and by all operators that read it.
    let mut scales: Vec<Range<usize>> = Vec::new();
    for i in 0..readers.len() {
        if let Ok(t) = i32::try_from(i)
            .map_err(|_| ())
            .and_then(|i| file.tensor(i).map_err(|_| ()))
            && t.scales.len() > 0
        {
            scales.push(range(t.scales.raw()));
        }
    }
    scales.sort_by_key(|r| (r.start, r.end));
    let alone = |own: &Range<usize>, readers: u32| {
        let overlapping = |all: &[Range<usize>]| {
            let first = all.partition_point(|r| r.start < own.end);
            let some = all[..first].iter().filter(|r| r.end > own.start).take(2);
            some.count()
        };
        readers <= 1 && overlapping(&scales) == 1 && overlapping(&used) == 0
    };
    let scales_of = |o: &Operands| -> Result<Option<Scales>, Problem> {
        let weights = file.tensor(o.weights)?;
        let n = weights.scales.len();
        if n < 2 {
            return Ok(None);
        }
        let own = range(weights.scales.raw());
        if !alone(&own, readers[o.weights as usize]) {
            return Ok(None);
        }
        let mut bias = None;
        if let Some(index) = o.bias {
            let t = file.tensor(index)?;
            if t.scales.len() > 0 {
                let of_bias = range(t.scales.raw());
                if t.scales.len() != n || !alone(&of_bias, readers[index as usize]) {
                    return Ok(None);
                }
                bias = Some(of_bias);
            }
        }
        Ok(Some(Scales { weights: own, bias }))
    };
    operands
        .iter()
        .map(|o| {
            Ok(Place {
                node: o.node,
                weights: find(o.weights)?,
                bias: o.bias.map(find).transpose()?,
                depthwise: o.depthwise,
                scales: scales_of(o)?,
            })
        })
        .collect()
}
