//! Writes TFLite files for tests, with the `flatbuffers` crate, so that reader and writer share no
//! code.

use flatbuffers::{
    FlatBufferBuilder, ForwardsUOffset, TableFinishedWIPOffset, UnionWIPOffset, Vector, WIPOffset,
};

/// A number of some width.
#[derive(Clone, Copy)]
pub(crate) enum Value {
    I8(i8),
    I32(i32),
    F32(f32),
}

/// A tensor of the file.
#[derive(Clone)]
pub(crate) struct FileTensor {
    pub name: String,
    pub shape: Vec<i32>,
    pub element: i8,
    pub data: Option<Vec<u8>>,
    pub scales: Vec<f32>,
    pub zero_points: Vec<i64>,
    pub axis: i32,
}

/// An int8 activation.
pub(crate) fn activation(name: &str, shape: &[i32], scale: f32, zero_point: i64) -> FileTensor {
    FileTensor {
        name: name.to_string(),
        shape: shape.to_vec(),
        element: 9,
        data: None,
        scales: vec![scale],
        zero_points: vec![zero_point],
        axis: 0,
    }
}

/// An int8 constant.
pub(crate) fn constant(name: &str, shape: &[i32], data: &[i8], scale: f32) -> FileTensor {
    let data = Some(data.iter().map(|w| *w as u8).collect());
    FileTensor {
        data,
        ..activation(name, shape, scale, 0)
    }
}

/// A float tensor.
pub(crate) fn float(name: &str, shape: &[i32]) -> FileTensor {
    FileTensor {
        element: 0,
        scales: vec![],
        zero_points: vec![],
        ..activation(name, shape, 1.0, 0)
    }
}

/// An operator of the file.
#[derive(Clone)]
pub(crate) struct FileOperator {
    pub code: i32,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    pub options: Option<(u8, Vec<(u16, Value)>)>,
}

/// An operator without options.
pub(crate) fn operator(code: i32, inputs: &[i32], outputs: &[i32]) -> FileOperator {
    FileOperator {
        code,
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
        options: None,
    }
}

/// A file with one subgraph.
#[derive(Clone)]
pub(crate) struct Network {
    pub tensors: Vec<FileTensor>,
    pub operators: Vec<FileOperator>,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    pub version: u32,
    /// Whether codes stand in the deprecated field alone, as in old files.
    pub old_codes: bool,
    pub subgraphs: usize,
}

impl Network {
    pub(crate) fn new(
        tensors: Vec<FileTensor>,
        operators: Vec<FileOperator>,
        input: i32,
        output: i32,
    ) -> Self {
        let (inputs, outputs) = (vec![input], vec![output]);
        Self {
            tensors,
            operators,
            inputs,
            outputs,
            version: 3,
            old_codes: false,
            subgraphs: 1,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut b = FlatBufferBuilder::new();
        let start = b.start_table();
        let mut buffers = vec![b.end_table(start)];
        let mut tensors = Vec::new();
        for t in &self.tensors {
            let buffer = t.data.as_ref().map(|data| {
                let data = b.create_vector(data);
                let start = b.start_table();
                b.push_slot_always(slot(0), data);
                buffers.push(b.end_table(start));
                buffers.len() as u32 - 1
            });
            tensors.push(tensor(&mut b, t, buffer.unwrap_or(0)));
        }
        let mut codes = Vec::new();
        let mut operators = Vec::new();
        for o in &self.operators {
            let start = b.start_table();
            b.push_slot(slot(0), o.code.min(127) as i8, 0);
            b.push_slot(slot(3), if self.old_codes { 0 } else { o.code }, 0);
            codes.push(b.end_table(start));
            operators.push(self::table_of(&mut b, o, codes.len() as u32 - 1));
        }
        let tensors = tables(&mut b, &tensors);
        let operators = tables(&mut b, &operators);
        let (inputs, outputs) = (
            b.create_vector(&self.inputs),
            b.create_vector(&self.outputs),
        );
        let start = b.start_table();
        b.push_slot_always(slot(0), tensors);
        b.push_slot_always(slot(1), inputs);
        b.push_slot_always(slot(2), outputs);
        b.push_slot_always(slot(3), operators);
        let graph = b.end_table(start);
        let graphs = tables(&mut b, &vec![graph; self.subgraphs]);
        let codes = tables(&mut b, &codes);
        let buffers = tables(&mut b, &buffers);
        let start = b.start_table();
        b.push_slot(slot(0), self.version, 0);
        b.push_slot_always(slot(1), codes);
        b.push_slot_always(slot(2), graphs);
        b.push_slot_always(slot(4), buffers);
        let model = b.end_table(start);
        b.finish(model, Some("TFL3"));
        b.finished_data().to_vec()
    }
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

fn tensor(b: &mut FlatBufferBuilder, t: &FileTensor, buffer: u32) -> Finished {
    let (scales, zero_points) = (b.create_vector(&t.scales), b.create_vector(&t.zero_points));
    let start = b.start_table();
    b.push_slot_always(slot(2), scales);
    b.push_slot_always(slot(3), zero_points);
    b.push_slot(slot(6), t.axis, 0);
    let quantization = b.end_table(start);
    let (shape, name) = (b.create_vector(&t.shape), b.create_string(&t.name));
    let start = b.start_table();
    b.push_slot_always(slot(0), shape);
    b.push_slot(slot(1), t.element, 0);
    b.push_slot(slot(2), buffer, 0);
    b.push_slot_always(slot(3), name);
    b.push_slot_always(slot(4), quantization);
    b.end_table(start)
}

fn table_of(b: &mut FlatBufferBuilder, o: &FileOperator, code: u32) -> Finished {
    let options = o.options.as_ref().map(|(kind, fields)| {
        let start = b.start_table();
        for (field, value) in fields {
            match *value {
                Value::I8(v) => b.push_slot(slot(*field), v, 0),
                Value::I32(v) => b.push_slot(slot(*field), v, 0),
                Value::F32(v) => b.push_slot(slot(*field), v, 0.0),
            }
        }
        (*kind, b.end_table(start))
    });
    let (inputs, outputs) = (b.create_vector(&o.inputs), b.create_vector(&o.outputs));
    let start = b.start_table();
    b.push_slot(slot(0), code, 0);
    b.push_slot_always(slot(1), inputs);
    b.push_slot_always(slot(2), outputs);
    if let Some((kind, table)) = options {
        b.push_slot(slot(3), kind, 0);
        b.push_slot_always::<WIPOffset<UnionWIPOffset>>(slot(4), table.as_union_value());
    }
    b.end_table(start)
}
