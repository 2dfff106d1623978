//! Every operator of the float network against its definition, on every backend of the build.

use super::{Backend, FloatError, FloatNet, naive};
use crate::graph::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Grows a graph node by node.
struct Builder {
    graph: Graph,
    rng: StdRng,
}

impl Builder {
    fn new(input: Shape, seed: u64) -> Self {
        let values = vec![Value {
            name: "x".into(),
            shape: input,
        }];
        let graph = Graph {
            name: "test".into(),
            values,
            nodes: vec![],
            input: ValueId(0),
            output: ValueId(0),
            input_was_nchw: false,
        };
        Self {
            graph,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], shape: Shape) -> ValueId {
        let output = ValueId(self.graph.values.len());
        self.graph.values.push(Value {
            name: format!("v{}", output.0),
            shape,
        });
        self.graph.nodes.push(Node {
            name: format!("n{}", output.0),
            op,
            inputs: inputs.to_vec(),
            output,
        });
        self.graph.output = output;
        output
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.rng.random_range(-1.0..1.0)).collect()
    }

    fn weights(&mut self, shape: &[usize]) -> Weights {
        Weights {
            shape: shape.to_vec(),
            data: self.floats(shape.iter().product()),
        }
    }
}

fn close(got: f32, want: f64) -> bool {
    (got as f64 - want).abs() <= 1e-4 * want.abs().max(1.0)
}

/// Compares every value of every sample with the definition.
fn check(mut b: Builder) {
    let input = b.graph.elements(b.graph.input);
    let samples = 5;
    let x: Vec<f32> = b.floats(samples * input).iter().map(|v| 3.0 * v).collect();
    let all: Vec<ValueId> = (0..b.graph.values.len()).map(ValueId).collect();
    for &backend in Backend::ALL {
        let net = FloatNet::new(&b.graph, backend).unwrap();
        let got = net.run_keep(&x, &all).unwrap();
        for s in 0..samples {
            let want = naive::run(&b.graph, &x[s * input..(s + 1) * input]);
            for (id, want) in want.iter().enumerate() {
                let n = want.len();
                for (i, (&g, &w)) in got[id][s * n..(s + 1) * n].iter().zip(want).enumerate() {
                    let node = b
                        .graph
                        .producer(ValueId(id))
                        .map_or("input", |n| b.graph.nodes[n].op.kind());
                    assert!(
                        close(g, w),
                        "{backend}, {node}: value {id}, sample {s}, element {i}: {g} instead of {w}"
                    );
                }
            }
        }
        assert_eq!(net.run(&x).unwrap(), got[b.graph.output.0]);
    }
}

struct ConvCase {
    input: Shape,
    filters: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pads: [usize; 4],
    groups: usize,
}

fn check_conv(case: ConvCase) {
    let ConvCase {
        input,
        filters,
        kernel,
        stride,
        dilation,
        pads: [top, left, bottom, right],
        groups,
    } = case;
    let pads = Pads {
        top,
        left,
        bottom,
        right,
    };
    let [oh, ow] = super::check::window(input, kernel, stride, dilation, pads).unwrap();
    let mut b = Builder::new(input, 7);
    let weights = b.weights(&[filters, kernel[0], kernel[1], input[2] / groups]);
    let bias = b.floats(filters);
    let conv = Conv2d {
        weights,
        bias,
        stride,
        dilation,
        pads,
        groups,
        activation: Activation::Relu,
    };
    let x = b.graph.input;
    b.node(Op::Conv2d(conv), &[x], [oh, ow, filters]);
    check(b);
}

#[test]
fn convolutions_of_every_geometry_match_their_definition() {
    let plain = || ConvCase {
        input: [9, 7, 6],
        filters: 8,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pads: [1, 1, 1, 1],
        groups: 1,
    };
    check_conv(plain());
    check_conv(ConvCase {
        stride: [2, 2],
        pads: [0, 0, 1, 1],
        ..plain()
    });
    check_conv(ConvCase {
        kernel: [3, 2],
        stride: [2, 1],
        pads: [2, 0, 0, 1],
        ..plain()
    });
    check_conv(ConvCase {
        dilation: [2, 3],
        pads: [2, 3, 2, 3],
        ..plain()
    });
    check_conv(ConvCase {
        groups: 2,
        ..plain()
    });
    check_conv(ConvCase {
        groups: 6,
        filters: 6,
        stride: [2, 2],
        pads: [1, 0, 1, 1],
        ..plain()
    });
    check_conv(ConvCase {
        groups: 6,
        filters: 12,
        ..plain()
    });
    check_conv(ConvCase {
        kernel: [1, 1],
        pads: [0; 4],
        stride: [2, 2],
        ..plain()
    });
    check_conv(ConvCase {
        input: [10, 4, 1],
        filters: 40,
        kernel: [10, 4],
        pads: [4, 1, 5, 1],
        stride: [2, 2],
        ..plain()
    });
    check_conv(ConvCase {
        input: [1, 30, 34],
        kernel: [1, 5],
        pads: [0; 4],
        ..plain()
    });
    check_conv(ConvCase {
        kernel: [9, 7],
        pads: [0; 4],
        ..plain()
    });
}

#[test]
fn pools_never_count_their_padding() {
    for (kernel, stride, dilation, pads) in [
        ([2, 2], [2, 2], [1, 1], [0, 0, 0, 0]),
        ([3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
        ([3, 2], [2, 1], [1, 1], [0, 1, 2, 0]),
        ([2, 3], [1, 2], [2, 1], [1, 0, 0, 2]),
    ] {
        let [top, left, bottom, right] = pads;
        let pool = Pool {
            kernel,
            stride,
            dilation,
            pads: Pads {
                top,
                left,
                bottom,
                right,
            },
        };
        let mut b = Builder::new([7, 9, 3], 3);
        // All negative, so that a border of zeros would be the maximum.
        let x = b.graph.input;
        let shifted = b.node(
            Op::Affine(Affine {
                scale: vec![1.0; 3],
                shift: vec![-9.0; 3],
                activation: Activation::Identity,
            }),
            &[x],
            [7, 9, 3],
        );
        let [oh, ow] =
            super::check::window([7, 9, 3], kernel, stride, dilation, pool.pads).unwrap();
        b.node(Op::MaxPool(pool), &[shifted], [oh, ow, 3]);
        if dilation == [1, 1] {
            b.node(Op::AveragePool(pool), &[shifted], [oh, ow, 3]);
        }
        check(b);
    }
}

#[test]
fn activations_match_their_formula() {
    for a in [
        Activation::Identity,
        Activation::Relu,
        Activation::Clip { lo: 0.0, hi: 1.0 },
        Activation::Clip {
            lo: f32::NEG_INFINITY,
            hi: 0.5,
        },
        Activation::Clip { lo: 1.0, hi: -1.0 },
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::HardSwish,
        Activation::HardSigmoid {
            alpha: 0.2,
            beta: 0.5,
        },
    ] {
        let mut b = Builder::new([4, 5, 3], 11);
        let x = b.graph.input;
        let wide = b.node(
            Op::Affine(Affine {
                scale: vec![3.0; 3],
                shift: vec![0.5, 0.0, -0.5],
                activation: Activation::Identity,
            }),
            &[x],
            [4, 5, 3],
        );
        b.node(Op::Activation(a), &[wide], [4, 5, 3]);
        check(b);
    }
}

#[test]
fn a_network_of_all_other_operators_matches_their_definitions() {
    let mut b = Builder::new([4, 6, 3], 5);
    let x = b.graph.input;
    let padded = b.node(
        Op::Pad {
            before: [1, 0, 2],
            after: [0, 2, 1],
            value: 0.25,
        },
        &[x],
        [5, 8, 6],
    );
    let turned = b.node(Op::Transpose { perm: [2, 0, 1] }, &[padded], [6, 5, 8]);
    let shaped = b.node(Op::Reshape, &[turned], [8, 10, 3]);
    let wide = b.node(Op::Concat { axis: 1 }, &[shaped, shaped], [8, 20, 3]);
    let tall = b.node(Op::Concat { axis: 0 }, &[wide, wide, wide], [24, 20, 3]);
    let deep = b.node(Op::Concat { axis: 2 }, &[tall, tall], [24, 20, 6]);
    let scale = b.floats(6);
    let shift = b.floats(6);
    let mapped = b.node(
        Op::Affine(Affine {
            scale,
            shift,
            activation: Activation::Relu,
        }),
        &[deep],
        [24, 20, 6],
    );
    let sum = b.node(
        Op::Add {
            activation: Activation::Clip { lo: 0.0, hi: 2.0 },
        },
        &[mapped, deep],
        [24, 20, 6],
    );
    let twice = b.node(
        Op::Add {
            activation: Activation::Identity,
        },
        &[sum, sum],
        [24, 20, 6],
    );
    let mean = b.node(Op::GlobalAveragePool, &[twice], [1, 1, 6]);
    let small = b.node(Op::Reshape, &[mean], [2, 1, 3]);
    let weights = b.weights(&[4, 6]);
    let bias = b.floats(4);
    let dense = b.node(
        Op::FullyConnected(FullyConnected {
            weights,
            bias,
            activation: Activation::Identity,
        }),
        &[small],
        [1, 1, 4],
    );
    b.node(Op::Softmax, &[dense], [1, 1, 4]);
    // A fully connected layer over a map sees it in HWC order.
    let weights = b.weights(&[5, 144]);
    let bias = b.floats(5);
    let cut = b.node(Op::Reshape, &[shaped], [10, 8, 3]);
    let pooled = b.node(
        Op::MaxPool(Pool {
            kernel: [2, 2],
            stride: [1, 1],
            dilation: [2, 1],
            pads: Pads {
                top: 0,
                left: 0,
                bottom: 0,
                right: 1,
            },
        }),
        &[cut],
        [8, 8, 3],
    );
    let pooled = b.node(
        Op::AveragePool(Pool {
            kernel: [1, 3],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Pads::default(),
        }),
        &[pooled],
        [8, 6, 3],
    );
    b.node(
        Op::FullyConnected(FullyConnected {
            weights,
            bias,
            activation: Activation::Relu,
        }),
        &[pooled],
        [1, 1, 5],
    );
    check(b);
}

#[test]
fn softmax_is_over_the_channels_of_each_position() {
    let mut b = Builder::new([2, 3, 5], 1);
    let x = b.graph.input;
    b.node(Op::Softmax, &[x], [2, 3, 5]);
    check(b);
}

fn relu_net() -> Graph {
    let mut b = Builder::new([2, 2, 1], 0);
    let x = b.graph.input;
    b.node(Op::Activation(Activation::Relu), &[x], [2, 2, 1]);
    b.graph
}

#[test]
fn batches_arrive_in_order_and_cover_every_sample_once() {
    let net = FloatNet::new(&relu_net(), Backend::Flex).unwrap();
    let x: Vec<f32> = (0..4 * 1000).map(|v| v as f32).collect();
    let mut seen = Vec::new();
    let mut next = 0;
    net.for_each_batch(&x, &[ValueId(1)], |range, values| {
        assert_eq!(range.start, next);
        assert_eq!(values[0].len(), range.len() * 4);
        next = range.end;
        seen.extend_from_slice(&values[0]);
    })
    .unwrap();
    assert_eq!(next, 1000);
    assert_eq!(seen, x);
    assert!(net.run(&[]).unwrap().is_empty());
}

#[test]
fn an_input_of_the_wrong_length_is_an_error_that_names_the_shape() {
    let net = FloatNet::new(&relu_net(), Backend::Flex).unwrap();
    let e = net.run(&[0.0; 7]).unwrap_err();
    assert!(matches!(e, FloatError::Length { got: 7, .. }));
    assert!(e.to_string().contains("2x2x1"), "{e}");
}

#[test]
fn a_value_that_is_not_there_cannot_be_kept() {
    let net = FloatNet::new(&relu_net(), Backend::Flex).unwrap();
    assert!(matches!(
        net.run_keep(&[0.0; 4], &[ValueId(9)]),
        Err(FloatError::NoSuchValue {
            id: 9,
            count: 2,
            ..
        })
    ));
}

#[test]
fn a_graph_that_does_not_fit_together_is_refused_before_it_runs() {
    let refused = |change: &dyn Fn(&mut Graph)| {
        let mut b = Builder::new([6, 6, 4], 2);
        let weights = b.weights(&[8, 3, 3, 2]);
        let conv = Conv2d {
            weights,
            bias: vec![0.0; 8],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Pads::default(),
            groups: 2,
            activation: Activation::Identity,
        };
        let x = b.graph.input;
        let y = b.node(Op::Conv2d(conv), &[x], [4, 4, 8]);
        let pool = Pool {
            kernel: [2, 2],
            stride: [2, 2],
            dilation: [1, 1],
            pads: Pads::default(),
        };
        b.node(Op::AveragePool(pool), &[y], [2, 2, 8]);
        assert!(FloatNet::new(&b.graph, Backend::Flex).is_ok());
        change(&mut b.graph);
        FloatNet::new(&b.graph, Backend::Flex)
            .err()
            .expect("a broken graph is refused")
            .to_string()
    };
    fn conv(g: &mut Graph) -> &mut Conv2d {
        match &mut g.nodes[0].op {
            Op::Conv2d(c) => c,
            _ => unreachable!(),
        }
    }
    fn pool(g: &mut Graph) -> &mut Pool {
        match &mut g.nodes[1].op {
            Op::AveragePool(p) => p,
            _ => unreachable!(),
        }
    }
    assert!(refused(&|g| conv(g).groups = 3).contains("3 groups"));
    assert!(refused(&|g| conv(g).groups = 0).contains("0 groups"));
    assert!(refused(&|g| conv(g).stride = [0, 1]).contains("positive"));
    assert!(refused(&|g| conv(g).dilation = [4, 1]).contains("does not fit"));
    assert!(refused(&|g| conv(g).pads.top = usize::MAX).contains("overflow"));
    assert!(
        refused(&|g| {
            conv(g).pads.bottom = 1 << 30;
            conv(g).stride = [1 << 29, 1];
        })
        .contains("larger than")
    );
    assert!(
        refused(&|g| {
            let _ = conv(g).bias.pop();
        })
        .contains("7 biases")
    );
    assert!(
        refused(&|g| {
            let _ = conv(g).weights.data.pop();
        })
        .contains("143 weights")
    );
    assert!(refused(&|g| conv(g).weights.shape = vec![8, 18]).contains("[8, 18]"));
    assert!(refused(&|g| pool(g).pads.left = 2).contains("not smaller than the window"));
    assert!(refused(&|g| pool(g).dilation = [2, 1]).contains("dilation"));
    assert!(refused(&|g| g.values[1].shape = [4, 5, 8]).contains("declared"));
    assert!(refused(&|g| g.values[0].shape = [0, 6, 4]).contains("[0, 6, 4]"));
    assert!(refused(&|g| g.nodes.swap(0, 1)).contains("before anything has computed it"));
    assert!(refused(&|g| g.nodes[1].output = ValueId(1)).contains("second time"));
    assert!(refused(&|g| g.nodes[1].inputs = vec![ValueId(7)]).contains("value 7"));
    assert!(
        refused(&|g| {
            let _ = g.nodes[1].inputs.pop();
        })
        .contains("0 inputs")
    );
    assert!(
        refused(&|g| {
            let _ = g.nodes.pop();
        })
        .contains("computed by no node")
    );
}
