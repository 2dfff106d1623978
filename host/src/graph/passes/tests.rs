//! Random graphs compute the same before and after simplification.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::simplify;
use crate::graph::{
    Activation, Affine, Conv2d, FullyConnected, Graph, Node, Op, Pads, Pool, Shape, Value, ValueId,
    Weights, interpret, output_shape,
};

fn numbers(rng: &mut StdRng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn function(rng: &mut StdRng) -> Activation {
    match rng.random_range(0..5) {
        0 => Activation::Relu,
        1 => Activation::Clip { lo: -0.5, hi: 0.75 },
        2 => Activation::LeakyRelu { alpha: -0.2 },
        3 => Activation::Tanh,
        _ => Activation::Identity,
    }
}

fn clamp(rng: &mut StdRng) -> Activation {
    [Activation::Identity, Activation::Identity, Activation::Relu][rng.random_range(0..3)]
}

fn pads(rng: &mut StdRng) -> Pads {
    if rng.random_bool(0.5) {
        return Pads::default();
    }
    let mut p = || rng.random_range(0..2);
    Pads {
        top: p(),
        left: p(),
        bottom: p(),
        right: p(),
    }
}

/// A random operator for a value of this shape; it may turn out not to fit.
fn operator(rng: &mut StdRng, [h, w, c]: Shape) -> Op {
    let window = |rng: &mut StdRng| {
        if rng.random_bool(0.2) {
            return Pool {
                kernel: [h, w],
                stride: [1, 1],
                dilation: [1, 1],
                pads: Pads::default(),
            };
        }
        let kernel = [rng.random_range(2..4), rng.random_range(2..4)];
        Pool {
            kernel,
            stride: [rng.random_range(1..3), 1],
            dilation: [1, 1],
            pads: pads(rng),
        }
    };
    match rng.random_range(0..14) {
        0 | 1 => {
            let groups = if rng.random_bool(0.3) { c } else { 1 };
            let (o, kh, kw) = (
                groups * rng.random_range(1..4),
                rng.random_range(1..4),
                rng.random_range(1..3),
            );
            let shape = vec![o, kh, kw, c / groups];
            let data = numbers(rng, shape.iter().product());
            let (bias, stride) = (numbers(rng, o), [1, rng.random_range(1..3)]);
            let (weights, activation) = (Weights { shape, data }, clamp(rng));
            Op::Conv2d(Conv2d {
                weights,
                bias,
                stride,
                dilation: [1, 1],
                pads: pads(rng),
                groups,
                activation,
            })
        }
        2..=4 => {
            let shift = if rng.random_bool(0.3) {
                vec![0.0; c]
            } else {
                numbers(rng, c)
            };
            Op::Affine(Affine {
                scale: numbers(rng, c),
                shift,
                activation: clamp(rng),
            })
        }
        5 | 6 => Op::Activation(function(rng)),
        7 => Op::MaxPool(window(rng)),
        8 => Op::AveragePool(window(rng)),
        9 => {
            let mut p = || rng.random_range(0..2);
            let (before, after) = ([p(), p(), 0], [p(), p(), 0]);
            Op::Pad {
                before,
                after,
                value: if rng.random_bool(0.7) { 0.0 } else { 0.5 },
            }
        }
        10 => Op::Transpose {
            perm: [[0, 1, 2], [1, 0, 2], [2, 0, 1], [0, 2, 1], [1, 2, 0]][rng.random_range(0..5)],
        },
        11 => Op::Reshape,
        12 => Op::Softmax,
        _ => {
            let n = h * w * c;
            let (weights, bias) = (
                Weights {
                    shape: vec![6, n],
                    data: numbers(rng, 6 * n),
                },
                numbers(rng, 6),
            );
            Op::FullyConnected(FullyConnected {
                weights,
                bias,
                activation: clamp(rng),
            })
        }
    }
}

fn push(graph: &mut Graph, op: Op, inputs: Vec<ValueId>, shape: Shape) -> ValueId {
    let output = ValueId(graph.values.len());
    graph.values.push(Value {
        name: format!("v{}", output.0),
        shape,
    });
    graph.nodes.push(Node {
        name: format!("n{}", output.0),
        op,
        inputs,
        output,
    });
    output
}

fn random_graph(rng: &mut StdRng) -> Graph {
    let input = Value {
        name: "x".into(),
        shape: [
            rng.random_range(3..6),
            rng.random_range(2..5),
            rng.random_range(1..4),
        ],
    };
    let (input_id, nodes) = (ValueId(0), Vec::new());
    let mut graph = Graph {
        name: "random".into(),
        values: vec![input],
        nodes,
        input: input_id,
        output: input_id,
        input_was_nchw: false,
    };
    let mut last = input_id;
    for _ in 0..rng.random_range(3..12) {
        let s = graph.shape(last);
        let mates: Vec<ValueId> = (0..graph.values.len())
            .map(ValueId)
            .filter(|&v| graph.shape(v) == s)
            .collect();
        if rng.random_bool(0.15) {
            let mate = mates[rng.random_range(0..mates.len())];
            last = push(
                &mut graph,
                Op::Add {
                    activation: clamp(rng),
                },
                vec![last, mate],
                s,
            );
            continue;
        }
        let op = operator(rng, s);
        match output_shape(&op, &[s]) {
            Ok(Some(shape)) => last = push(&mut graph, op, vec![last], shape),
            Ok(None) => {
                let shape = [
                    [1, s[0] * s[1], s[2]],
                    [1, 1, s[0] * s[1] * s[2]],
                    [s[1], s[0], s[2]],
                ][rng.random_range(0..3)];
                last = push(&mut graph, op, vec![last], shape);
            }
            Err(_) => {}
        }
    }
    graph.output = last;
    graph
}

#[test]
fn simplification_never_changes_what_random_graphs_compute() {
    let mut removed = 0;
    for seed in 0..4_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let graph = random_graph(&mut rng);
        graph.check().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let mut simple = graph.clone();
        simplify(&mut simple);
        simple
            .check()
            .unwrap_or_else(|e| panic!("seed {seed}: after simplification: {e}"));
        assert!(simple.nodes.len() <= graph.nodes.len(), "seed {seed} grew");
        removed += graph.nodes.len() - simple.nodes.len();
        let x = numbers(&mut rng, graph.elements(graph.input));
        let (want, got) = (interpret::run(&graph, &x), interpret::run(&simple, &x));
        let size = want.iter().fold(1.0f32, |a, b| a.max(b.abs()));
        for (a, b) in got.iter().zip(&want) {
            assert!(
                (a - b).abs() <= 1e-4 * size,
                "seed {seed}: {a} is not {b}\n{:?}\n{:?}",
                kinds(&graph),
                kinds(&simple)
            );
        }
        let mut again = simple.clone();
        simplify(&mut again);
        assert_eq!(
            again, simple,
            "seed {seed}: a second simplification finds more"
        );
    }
    assert!(removed > 4_000, "only {removed} nodes were removed");
}

fn kinds(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|n| n.op.kind()).collect()
}
