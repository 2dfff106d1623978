//! Small networks as ONNX bytes, and running them in the file's own layout.

use onnx_rs::ast::{
    Attribute, AttributeType, DataType, Dimension, Graph as OnnxGraph, Model, Node, OpType,
    OperatorSetId, TensorProto, TensorShape, TensorShapeDimension, TensorTypeProto, TypeProto,
    TypeValue, ValueInfo,
};

use crate::graph::{Graph, interpret};
use crate::import::ImportError;
use crate::import::onnx::import_onnx;

/// A network from `x` to `y`; operator set 17 and a dynamic batch unless told otherwise.
#[derive(Clone)]
pub(super) struct Net {
    pub(super) model: Model<'static>,
}

fn info(name: &'static str, dims: Vec<Dimension<'static>>) -> ValueInfo<'static> {
    let dim = dims
        .into_iter()
        .map(|value| TensorShapeDimension {
            value,
            denotation: "",
        })
        .collect();
    let tensor = TensorTypeProto {
        elem_type: DataType::Float,
        shape: Some(TensorShape { dim }),
    };
    let r#type = Some(TypeProto {
        value: Some(TypeValue::Tensor(tensor)),
        denotation: "",
    });
    ValueInfo {
        name,
        r#type,
        ..Default::default()
    }
}

impl Net {
    /// One sample has the shape `dims`, channels first.
    pub(super) fn new(dims: &[i64]) -> Self {
        let known = dims.iter().map(|&d| Dimension::Value(d));
        let graph = OnnxGraph {
            name: "test",
            input: vec![info(
                "x",
                [Dimension::Param("N")].into_iter().chain(known).collect(),
            )],
            output: vec![info("y", vec![])],
            ..Default::default()
        };
        let opset_import = vec![OperatorSetId {
            domain: "",
            version: 17,
        }];
        Net {
            model: Model {
                ir_version: 8,
                opset_import,
                graph: Some(graph),
                ..Default::default()
            },
        }
    }

    pub(super) fn graph_mut(&mut self) -> &mut OnnxGraph<'static> {
        self.model.graph.as_mut().expect("made by new")
    }

    pub(super) fn opset(mut self, version: i64) -> Self {
        self.model.opset_import[0].version = version;
        self
    }

    /// A fixed batch.
    pub(super) fn batch(mut self, n: i64) -> Self {
        let Some(TypeValue::Tensor(t)) = self.graph_mut().input[0]
            .r#type
            .as_mut()
            .and_then(|t| t.value.as_mut())
        else {
            unreachable!("made by new")
        };
        t.shape.as_mut().expect("made by new").dim[0].value = Dimension::Value(n);
        self
    }

    pub(super) fn tensor(mut self, t: TensorProto<'static>) -> Self {
        self.graph_mut().initializer.push(t);
        self
    }

    /// A float initializer.
    pub(super) fn floats(self, name: &'static str, dims: &[i64], data: &[f32]) -> Self {
        self.tensor(TensorProto::from_f32(name, dims.to_vec(), data.to_vec()))
    }

    /// An integer vector as initializer.
    pub(super) fn ints(self, name: &'static str, data: &[i64]) -> Self {
        self.tensor(TensorProto::from_i64(
            name,
            vec![data.len() as i64],
            data.to_vec(),
        ))
    }

    /// A node named after its output.
    pub(super) fn node(
        mut self,
        op: &'static str,
        input: &[&'static str],
        output: &'static str,
        attribute: Vec<Attribute<'static>>,
    ) -> Self {
        let op_type = OpType::from(op);
        self.graph_mut().node.push(Node {
            input: input.to_vec(),
            output: vec![output],
            op_type,
            attribute,
            ..Default::default()
        });
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        onnx_rs::encode(&self.model)
    }

    pub(super) fn import(&self) -> Result<Graph, ImportError> {
        import_onnx(&self.bytes(), "test.onnx")
    }

    pub(super) fn graph(&self) -> Graph {
        self.import().unwrap_or_else(|e| panic!("{e}"))
    }

    /// The kinds of the imported operators.
    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.graph().nodes.iter().map(|n| n.op.kind()).collect()
    }

    /// Why it is not imported.
    pub(super) fn error(&self) -> String {
        self.import()
            .expect_err("should not be imported")
            .to_string()
    }

    /// The output for one sample, both in the file's channels-first order.
    pub(super) fn run(&self, x: &[f32]) -> Vec<f32> {
        let graph = self.graph();
        let [h, w, c] = graph.shape(graph.input);
        let x = if graph.input_was_nchw {
            to_channels_last(x, [c, h, w])
        } else {
            x.to_vec()
        };
        let [h, w, c] = graph.shape(graph.output);
        to_channels_first(&interpret::run(&graph, &x), [h, w, c])
    }
}

pub(super) fn int(name: &'static str, i: i64) -> Attribute<'static> {
    Attribute {
        name,
        i,
        r#type: AttributeType::Int,
        ..Default::default()
    }
}

pub(super) fn float(name: &'static str, f: f32) -> Attribute<'static> {
    Attribute {
        name,
        f,
        r#type: AttributeType::Float,
        ..Default::default()
    }
}

pub(super) fn ints(name: &'static str, v: &[i64]) -> Attribute<'static> {
    Attribute {
        name,
        ints: v.to_vec(),
        r#type: AttributeType::Ints,
        ..Default::default()
    }
}

pub(super) fn text(name: &'static str, s: &'static str) -> Attribute<'static> {
    Attribute {
        name,
        s: s.as_bytes(),
        r#type: AttributeType::String,
        ..Default::default()
    }
}

/// Numbers between -1 and 1 without a pattern.
pub(super) fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

pub(super) fn to_channels_last(x: &[f32], [c, h, w]: [usize; 3]) -> Vec<f32> {
    (0..h * w)
        .flat_map(|p| (0..c).map(move |c| x[c * h * w + p]))
        .collect()
}

fn to_channels_first(x: &[f32], [h, w, c]: [usize; 3]) -> Vec<f32> {
    (0..c)
        .flat_map(|ch| (0..h * w).map(move |p| x[p * c + ch]))
        .collect()
}

#[track_caller]
pub(super) fn assert_close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "number of elements");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!(
            (a - b).abs() <= 1e-5 * (1.0 + b.abs()),
            "element {i}: {a} is not {b}"
        );
    }
}
