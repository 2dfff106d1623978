//! The engine against the definition, on random shapes and at the extremes.

use qmend_shared::kernels::AddParams;
use rand::prelude::*;

use super::step::{Scratch, Step};
use super::{Engine, EngineError, Isa, naive};
use crate::graph::Pads;
use crate::model::*;

fn tensor(name: &str, shape: [usize; 3], zero_point: i8) -> Tensor {
    Tensor {
        name: name.to_string(),
        shape,
        scale: 0.1,
        zero_point,
    }
}

/// Weights, biases and multipliers, extremes among them.
fn linear(rng: &mut StdRng, out_c: usize, taps: usize) -> Linear {
    let bits = *[2u8, 3, 4, 8].choose(rng).expect("four");
    let half = 1i32 << (bits - 1);
    let extreme = rng.random_bool(0.2);
    let weights = (0..out_c * taps)
        .map(|_| if extreme { [-half, half - 1][rng.random_range(0..2)] } else { rng.random_range(-half..half) } as i8)
        .collect();
    let reach = (taps as f64 * (half as f64) * 128.0).max(1.0);
    let multiplier = |rng: &mut StdRng| match rng.random_range(0..10) {
        0 => Multiplier::ZERO,
        1 => Multiplier {
            mantissa: i32::MAX,
            exponent: -31,
        },
        2 => Multiplier {
            mantissa: 1 << 30,
            exponent: 1,
        },
        _ => {
            let e = (300.0 / reach).log2().round() as i8 + rng.random_range(-2..3);
            Multiplier {
                mantissa: rng.random_range(1 << 30..=i32::MAX),
                exponent: e.clamp(-31, 1),
            }
        }
    };
    let (a, b) = (rng.random::<i8>(), rng.random::<i8>());
    Linear {
        weights,
        bits,
        bias: (0..out_c)
            .map(|_| rng.random_range(-reach as i32..=reach as i32))
            .collect(),
        multipliers: (0..out_c).map(|_| multiplier(rng)).collect(),
        act_min: if rng.random_bool(0.5) { -128 } else { a.min(b) },
        act_max: if rng.random_bool(0.5) { 127 } else { a.max(b) },
    }
}

fn one_node(op: Op, input: Tensor, output: Tensor, rounding: Rounding) -> QuantizedModel {
    QuantizedModel {
        name: "one".into(),
        rounding,
        tensors: vec![input, output],
        nodes: vec![Node {
            name: "node".into(),
            op,
            inputs: vec![TensorId(0)],
            output: TensorId(1),
        }],
        input: TensorId(0),
        output: TensorId(1),
        preprocess: Preprocess::default(),
        labels: vec![],
    }
}

fn random_conv(rng: &mut StdRng) -> QuantizedModel {
    let kernel = [rng.random_range(1..5), rng.random_range(1..5)];
    let dilation = if rng.random_bool(0.3) {
        [rng.random_range(1..3), rng.random_range(1..3)]
    } else {
        [1, 1]
    };
    let stride = [rng.random_range(1..4), rng.random_range(1..4)];
    let mut pad = || rng.random_range(0..3);
    let pads = Pads {
        top: pad(),
        left: pad(),
        bottom: pad(),
        right: pad(),
    };
    let (groups, gin, gout) = match rng.random_range(0..4) {
        0 => (rng.random_range(2..40), 1, rng.random_range(1..4)),
        1 => (
            rng.random_range(2..4),
            rng.random_range(1..5),
            rng.random_range(1..20),
        ),
        _ => (1, rng.random_range(1..20), rng.random_range(1..40)),
    };
    let extent: [usize; 2] = std::array::from_fn(|i| (kernel[i] - 1) * dilation[i] + 1);
    let (h, w) = (
        extent[0] + rng.random_range(0..6),
        extent[1] + rng.random_range(0..6),
    );
    let oh = (h + pads.top + pads.bottom - extent[0]) / stride[0] + 1;
    let ow = (w + pads.left + pads.right - extent[1]) / stride[1] + 1;
    let linear = linear(rng, groups * gout, kernel[0] * kernel[1] * gin);
    let zero = |rng: &mut StdRng| [-128, 127, 0, rng.random::<i8>()][rng.random_range(0..4)];
    let (x, y) = (
        tensor("x", [h, w, groups * gin], zero(rng)),
        tensor("y", [oh, ow, groups * gout], zero(rng)),
    );
    one_node(
        Op::Conv2d(Conv2d {
            kernel,
            stride,
            dilation,
            pads,
            groups,
            linear,
        }),
        x,
        y,
        Rounding::Tflm,
    )
}

fn random_fc(rng: &mut StdRng) -> QuantizedModel {
    let shape = [
        rng.random_range(1..4),
        rng.random_range(1..4),
        rng.random_range(1..70),
    ];
    let out_c = rng.random_range(1..40);
    let linear = linear(rng, out_c, shape.iter().product());
    let rounding = if rng.random_bool(0.5) {
        Rounding::Tflm
    } else {
        Rounding::LiteRtReference
    };
    let (zx, zy) = (rng.random(), rng.random());
    let op = Op::FullyConnected(FullyConnected { linear });
    one_node(
        op,
        tensor("x", shape, zx),
        tensor("y", [1, 1, out_c], zy),
        rounding,
    )
}

fn samples(rng: &mut StdRng, n: usize) -> Vec<i8> {
    let extreme = rng.random_bool(0.3);
    (0..n)
        .map(|_| {
            if extreme {
                [-128, 127][rng.random_range(0..2)]
            } else {
                rng.random()
            }
        })
        .collect()
}

fn agrees_with_the_definition(model: &QuantizedModel, rng: &mut StdRng) {
    let e = model.tensor(model.input).elements();
    let n = rng.random_range(1..12);
    let x = samples(rng, n * e);
    let want: Vec<i8> = x
        .chunks(e)
        .flat_map(|x| naive::outputs(model, &model.nodes[0], x))
        .collect();
    let sums: Vec<i64> = x
        .chunks(e)
        .flat_map(|x| naive::accumulators(model, &model.nodes[0], x))
        .collect();
    for isa in Isa::available() {
        let engine = Engine::with_isa(model, isa).expect("a sound network");
        assert_eq!(engine.run(&x), want, "{isa:?} {model:?}");
        let got: Vec<i64> = engine
            .accumulators(0, &x)
            .into_iter()
            .map(i64::from)
            .collect();
        assert_eq!(got, sums, "{isa:?} {model:?}");
    }
}

#[test]
fn convolutions_of_any_shape_and_grouping_agree_with_the_definition() {
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..400 {
        let model = random_conv(&mut rng);
        agrees_with_the_definition(&model, &mut rng);
    }
}

/// Multipliers of at most one, which are scaled by the prepared arithmetic.
fn without_left_shifts(model: &mut QuantizedModel) {
    let linear = model.nodes[0].op.linear_mut().expect("linear");
    for m in &mut linear.multipliers {
        m.exponent = m.exponent.min(0);
    }
}

#[test]
fn convolutions_without_left_shifts_agree_with_the_definition() {
    let mut rng = StdRng::seed_from_u64(6);
    for _ in 0..400 {
        let mut model = random_conv(&mut rng);
        without_left_shifts(&mut model);
        agrees_with_the_definition(&model, &mut rng);
    }
}

#[test]
fn depthwise_convolutions_of_many_channels_agree_with_the_definition() {
    let mut rng = StdRng::seed_from_u64(7);
    for channels in [
        8, 16, 24, 48, 63, 64, 65, 96, 128, 192, 255, 256, 257, 320, 520,
    ] {
        for stride in [1, 2, 3] {
            let kernel = [rng.random_range(1..4), rng.random_range(1..6)];
            let [h, w] = kernel.map(|k| k + rng.random_range(0..9));
            let axis = |size: usize, k: usize| (size + 2 - k) / stride + 1;
            let (oh, ow) = (axis(h, kernel[0]), axis(w, kernel[1]));
            let pads = Pads {
                top: 1,
                left: 1,
                bottom: 1,
                right: 1,
            };
            let op = Op::Conv2d(Conv2d {
                kernel,
                stride: [stride, stride],
                dilation: [1, 1],
                pads,
                groups: channels,
                linear: linear(&mut rng, channels, kernel[0] * kernel[1]),
            });
            let (x, y) = (
                tensor("x", [h, w, channels], rng.random()),
                tensor("y", [oh, ow, channels], rng.random()),
            );
            let mut model = one_node(op, x, y, Rounding::Tflm);
            agrees_with_the_definition(&model, &mut rng);
            without_left_shifts(&mut model);
            agrees_with_the_definition(&model, &mut rng);
        }
    }
}

#[test]
fn sums_agree_with_the_shared_kernel_at_every_length() {
    let mut rng = StdRng::seed_from_u64(8);
    for length in (1..200).chain([1000]) {
        let mantissa = |rng: &mut StdRng| {
            [1 << 30, i32::MAX, rng.random_range(1 << 30..=i32::MAX)][rng.random_range(0..3)]
        };
        let mut multiplier = |least: i8| Multiplier {
            mantissa: mantissa(&mut rng),
            exponent: rng.random_range(least..=0),
        };
        let add = Add {
            input_multipliers: [multiplier(-4), multiplier(-4)],
            output_multiplier: multiplier(-24),
            act_min: -128,
            act_max: 127,
        };
        let (za, zb, zy) = (rng.random(), rng.random(), rng.random());
        let shape = [1, 1, length];
        let mut model = one_node(
            Op::Add(add.clone()),
            tensor("a", shape, za),
            tensor("y", shape, zy),
            Rounding::Tflm,
        );
        model.nodes[0].inputs.push(TensorId(0));
        // Both addends are one tensor of a whole network; here they are two.
        model.tensors.push(tensor("b", shape, zb));
        model.nodes[0].inputs[1] = TensorId(2);
        let n = rng.random_range(1..4);
        let (a, b) = (samples(&mut rng, n * length), samples(&mut rng, n * length));
        let params = AddParams {
            input_zero_points: [za, zb],
            output_zero_point: zy,
            input_multipliers: add.input_multipliers,
            output_multiplier: add.output_multiplier,
            act_min: -128,
            act_max: 127,
        };
        let want: Vec<i8> = a
            .iter()
            .zip(&b)
            .map(|(&a, &b)| params.apply(a, b))
            .collect();
        for isa in Isa::available() {
            let step = Step::new(&model, 0, isa);
            let mut got = vec![0; n * length];
            step.execute(isa, &[&a, &b], &mut got, n, &mut Scratch::default());
            assert_eq!(got, want, "{isa:?} {add:?}");
        }
    }
}

#[test]
fn fully_connected_layers_agree_with_the_definition_under_both_roundings() {
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..300 {
        let model = random_fc(&mut rng);
        agrees_with_the_definition(&model, &mut rng);
    }
}

#[test]
fn accumulators_at_the_very_edge_of_32_bits_are_exact() {
    // 65,536 taps of 128 * 255 are 2^31 - 2^23: with the largest bias allowed the sum is i32::MAX.
    let taps = 65_536;
    let sum = taps as i64 * 128 * 255;
    let bias = i32::MAX as i64 - sum;
    let linear = Linear {
        weights: [vec![-128; taps], vec![-128; taps]].concat(),
        bits: 8,
        bias: vec![bias as i32, -bias as i32],
        multipliers: vec![
            Multiplier {
                mantissa: 1 << 30,
                exponent: -23
            };
            2
        ],
        act_min: -128,
        act_max: 127,
    };
    let op = Op::FullyConnected(FullyConnected { linear });
    let mut model = one_node(
        op,
        tensor("x", [1, 1, taps], 127),
        tensor("y", [1, 1, 2], 0),
        Rounding::Tflm,
    );
    let x = vec![-128i8; taps];
    for isa in Isa::available() {
        let engine = Engine::with_isa(&model, isa).expect("exactly at the bound");
        assert_eq!(engine.accumulators(0, &x), [i32::MAX, (sum - bias) as i32]);
        assert_eq!(engine.run(&x), naive::outputs(&model, &model.nodes[0], &x));
    }
    model.nodes[0].op.linear_mut().expect("linear").bias[1] -= 1;
    match Engine::new(&model) {
        Err(EngineError::AccumulatorBound {
            node,
            channel: 1,
            bound,
        }) => {
            assert_eq!((node.as_str(), bound), ("node", 1i128 << 31));
        }
        other => panic!("one beyond the bound must be refused: {other:?}"),
    }
}

#[test]
fn a_node_updated_in_place_gives_what_a_fresh_engine_gives() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut model = random_conv(&mut rng);
    let mut engine = Engine::new(&model).expect("sound");
    let x = samples(&mut rng, 5 * engine.input_elements());
    let before = engine.run(&x);
    let l = model.nodes[0].op.linear_mut().expect("linear");
    let (lo, hi) = l.weight_range();
    (l.act_min, l.act_max) = (-128, 127);
    for w in &mut l.weights {
        *w = rng.random_range(lo..=hi);
    }
    for m in &mut l.multipliers {
        *m = Multiplier {
            mantissa: 1 << 30,
            exponent: -4,
        };
    }
    engine.update_node(&model, 0).expect("sound");
    assert_ne!(engine.run(&x), before);
    assert_eq!(engine.run(&x), Engine::new(&model).expect("sound").run(&x));
    let mut broken = model.clone();
    broken.nodes[0]
        .op
        .linear_mut()
        .expect("linear")
        .weights
        .pop();
    assert!(engine.update_node(&broken, 0).is_err());
    assert_eq!(
        engine.run(&x),
        Engine::new(&model).expect("sound").run(&x),
        "a refused edit changes nothing"
    );
}

#[test]
fn a_resumed_run_equals_a_full_one() {
    let mut rng = StdRng::seed_from_u64(4);
    let mut chain = random_conv(&mut rng);
    let middle = chain.tensors[1].clone();
    let elements = middle.elements();
    let fc = |rng: &mut StdRng, taps| {
        Op::FullyConnected(FullyConnected {
            linear: linear(rng, 7, taps),
        })
    };
    chain.tensors.push(tensor("z", [1, 1, 7], -3));
    chain.nodes.push(Node {
        name: "fc".into(),
        op: fc(&mut rng, elements),
        inputs: vec![TensorId(1)],
        output: TensorId(2),
    });
    chain.output = TensorId(2);
    let mut engine = Engine::new(&chain).expect("sound");
    let x = samples(&mut rng, 37 * engine.input_elements());
    let mut acts = engine.activations(&x);
    let kept = engine.run_keep(&x, &[TensorId(2), TensorId(0), TensorId(1)]);
    assert_eq!(acts.tensor(TensorId(2)), kept[0]);
    assert_eq!(acts.tensor(TensorId(0)), x);
    assert_eq!((&kept[1], acts.tensor(TensorId(1))), (&x, &kept[2][..]));
    chain.nodes[1].op = fc(&mut rng, elements);
    engine.update_node(&chain, 1).expect("sound");
    acts.rerun(&engine, 1);
    assert_eq!(acts.tensor(TensorId(2)), engine.run(&x));
    assert_eq!(acts.tensor(TensorId(1)), kept[2]);
    let some = acts.subset(&engine, &[30, 2]);
    assert_eq!(some.samples(), 2);
    assert_eq!(
        some.tensor(TensorId(2))[7..],
        acts.tensor(TensorId(2))[14..21]
    );
}

#[test]
fn ill_formed_networks_are_refused_with_the_node_named() {
    let mut rng = StdRng::seed_from_u64(5);
    let good = random_conv(&mut rng);
    let refuse = |edit: &dyn Fn(&mut QuantizedModel), part: &str| {
        let mut m = good.clone();
        edit(&mut m);
        let err = Engine::new(&m).expect_err(part).to_string();
        assert!(err.contains(part), "{err:?} lacks {part:?}");
    };
    refuse(&|m| m.tensors[1].shape[0] += 1, "but the output tensor is");
    refuse(
        &|m| m.nodes[0].inputs[0] = TensorId(9),
        "before it is written",
    );
    refuse(&|m| m.nodes[0].output = TensorId(0), "taken or absent");
    refuse(
        &|m| m.nodes[0].op.linear_mut().expect("linear").bits = 5,
        "5 bits",
    );
    refuse(
        &|m| m.nodes[0].op.linear_mut().expect("linear").multipliers[0].mantissa = 5,
        "multiplier of channel 0",
    );
    refuse(&|m| m.tensors[0].shape = [usize::MAX, 2, 1], "has shape");
    let zero_stride = |m: &mut QuantizedModel| match &mut m.nodes[0].op {
        Op::Conv2d(c) => c.stride[1] = 0,
        _ => unreachable!(),
    };
    refuse(&zero_stride, "at least 1");
}
