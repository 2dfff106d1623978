//! The bytes of a TFLite file, written with the `flatbuffers` crate. Field numbers are those of the
//! importer's `schema`.

use flatbuffers::{
    FlatBufferBuilder, ForwardsUOffset, TableFinishedWIPOffset, UnionWIPOffset, Vector, WIPOffset,
};

/// Identifier and version of the format.
const IDENTIFIER: &str = "TFL3";
const VERSION: u32 = 3;
/// What the file says it is from.
const DESCRIPTION: &str = "qmend";

/// Bytes at whose multiples constants start.
const ALIGNMENT: usize = 16;

/// Element types by their number.
pub(super) mod element {
    pub const INT32: i8 = 2;
    pub const INT8: i8 = 9;
}

/// A tensor of the file.
#[derive(Clone, Debug)]
pub(super) struct FileTensor {
    pub name: String,
    pub shape: Vec<i32>,
    pub element: i8,
    /// Little-endian; none for an activation.
    pub data: Option<Vec<u8>>,
    pub scales: Vec<f32>,
    pub zero_point: i64,
    /// Axis of the scales, where there are several.
    pub axis: i32,
}

/// A field of an operator's options.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    I8(i8),
    Bool(bool),
    I32(i32),
    F32(f32),
}

/// An operator of the file.
#[derive(Clone, Debug)]
pub(super) struct FileOperator {
    /// Builtin code.
    pub code: i32,
    /// Version of the operator that int8 operands need.
    pub version: i32,
    pub inputs: Vec<i32>,
    pub output: i32,
    /// Kind of options, and their fields by number.
    pub options: Option<(u8, Vec<(u16, Value)>)>,
}

/// A file with one subgraph.
#[derive(Clone, Debug, Default)]
pub(super) struct FileModel {
    pub name: String,
    pub tensors: Vec<FileTensor>,
    pub operators: Vec<FileOperator>,
    pub input: i32,
    pub output: i32,
}

type Finished = WIPOffset<TableFinishedWIPOffset>;

fn slot(field: u16) -> u16 {
    4 + 2 * field
}

fn tables<'b>(
    b: &mut FlatBufferBuilder<'b>,
    tables: &[Finished],
) -> WIPOffset<Vector<'b, ForwardsUOffset<TableFinishedWIPOffset>>> {
    b.create_vector(tables)
}

impl FileModel {
    /// Adds a tensor and gives its index.
    pub(super) fn tensor(&mut self, t: FileTensor) -> i32 {
        self.tensors.push(t);
        self.tensors.len() as i32 - 1
    }

    /// The file. Constants start at multiples of 16 bytes, as the format asks for.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // The builder writes from the end, so constants are aligned if the whole length is too.
        let mut bytes = self.with_tail(0);
        for tail in 1..4 {
            if bytes.len().is_multiple_of(ALIGNMENT) {
                break;
            }
            bytes = self.with_tail(tail);
        }
        bytes
    }

    /// The file with so many words that nothing refers to at its end.
    fn with_tail(&self, words: usize) -> Vec<u8> {
        let mut b = FlatBufferBuilder::new();
        for _ in 0..words {
            b.create_vector::<u8>(&[]);
        }
        // Buffer 0 is empty by convention: tensors without data name it.
        let start = b.start_table();
        let mut buffers = vec![b.end_table(start)];
        let mut tensors = Vec::new();
        for t in &self.tensors {
            let buffer = t.data.as_ref().map(|data| {
                let data = aligned(&mut b, data);
                let start = b.start_table();
                b.push_slot_always(slot(0), data);
                buffers.push(b.end_table(start));
                buffers.len() as u32 - 1
            });
            tensors.push(tensor(&mut b, t, buffer.unwrap_or(0)));
        }
        let mut kinds: Vec<(i32, i32)> =
            self.operators.iter().map(|o| (o.code, o.version)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let codes: Vec<Finished> = kinds
            .iter()
            .map(|(code, version)| {
                let start = b.start_table();
                // Codes above 127 have a placeholder in the deprecated field.
                b.push_slot(slot(0), (*code).min(127) as i8, 0);
                b.push_slot(slot(2), *version, 1);
                b.push_slot(slot(3), *code, 0);
                b.end_table(start)
            })
            .collect();
        let operators: Vec<Finished> = self
            .operators
            .iter()
            .map(|o| {
                let kind = kinds.partition_point(|k| *k < (o.code, o.version));
                operator(&mut b, o, kind as u32)
            })
            .collect();
        let tensors = tables(&mut b, &tensors);
        let operators = tables(&mut b, &operators);
        let inputs = b.create_vector(&[self.input]);
        let outputs = b.create_vector(&[self.output]);
        let name = b.create_string(&self.name);
        let start = b.start_table();
        b.push_slot_always(slot(0), tensors);
        b.push_slot_always(slot(1), inputs);
        b.push_slot_always(slot(2), outputs);
        b.push_slot_always(slot(3), operators);
        b.push_slot_always(slot(4), name);
        let graph = b.end_table(start);
        let graphs = tables(&mut b, &[graph]);
        let codes = tables(&mut b, &codes);
        let buffers = tables(&mut b, &buffers);
        let description = b.create_string(DESCRIPTION);
        let start = b.start_table();
        b.push_slot(slot(0), VERSION, 0);
        b.push_slot_always(slot(1), codes);
        b.push_slot_always(slot(2), graphs);
        b.push_slot_always(slot(3), description);
        b.push_slot_always(slot(4), buffers);
        let model = b.end_table(start);
        b.finish(model, Some(IDENTIFIER));
        b.finished_data().to_vec()
    }
}

/// A vector of bytes at a multiple of [`ALIGNMENT`] from the file's end.
fn aligned<'b>(b: &mut FlatBufferBuilder<'b>, data: &[u8]) -> WIPOffset<Vector<'b, u8>> {
    // An empty vector that nothing refers to is a word of four bytes.
    while !(b.unfinished_data().len() + data.len())
        .next_multiple_of(4)
        .is_multiple_of(ALIGNMENT)
    {
        b.create_vector::<u8>(&[]);
    }
    b.create_vector(data)
}

fn tensor(b: &mut FlatBufferBuilder, t: &FileTensor, buffer: u32) -> Finished {
    let quantization = (!t.scales.is_empty()).then(|| {
        let scales = b.create_vector(&t.scales);
        let zero_points = b.create_vector(&vec![t.zero_point; t.scales.len()]);
        let start = b.start_table();
        b.push_slot_always(slot(2), scales);
        b.push_slot_always(slot(3), zero_points);
        b.push_slot(slot(6), t.axis, 0);
        b.end_table(start)
    });
    let (shape, name) = (b.create_vector(&t.shape), b.create_string(&t.name));
    let start = b.start_table();
    b.push_slot_always(slot(0), shape);
    b.push_slot(slot(1), t.element, 0);
    b.push_slot(slot(2), buffer, 0);
    b.push_slot_always(slot(3), name);
    if let Some(q) = quantization {
        b.push_slot_always(slot(4), q);
    }
    b.end_table(start)
}

fn operator(b: &mut FlatBufferBuilder, o: &FileOperator, kind: u32) -> Finished {
    let options = o.options.as_ref().map(|(tag, fields)| {
        let start = b.start_table();
        for (field, value) in fields {
            match *value {
                Value::I8(v) => b.push_slot(slot(*field), v, 0),
                Value::Bool(v) => b.push_slot(slot(*field), v, false),
                Value::I32(v) => b.push_slot_always(slot(*field), v),
                Value::F32(v) => b.push_slot(slot(*field), v, 0.0),
            }
        }
        (*tag, b.end_table(start))
    });
    let (inputs, outputs) = (b.create_vector(&o.inputs), b.create_vector(&[o.output]));
    let start = b.start_table();
    b.push_slot(slot(0), kind, 0);
    b.push_slot_always(slot(1), inputs);
    b.push_slot_always(slot(2), outputs);
    if let Some((tag, table)) = options {
        b.push_slot(slot(3), tag, 0);
        b.push_slot_always::<WIPOffset<UnionWIPOffset>>(slot(4), table.as_union_value());
    }
    b.end_table(start)
}
