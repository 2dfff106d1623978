//! Networks of every operator, and what settings do.

use super::Maker;
use crate::engine::Engine;
use crate::graph::{self, Activation, Affine, Pads, Pool, ValueId};
use crate::model::{Op, Preprocess, QuantizedModel, TensorId};
use crate::quantize::{QuantizeConfig, Scales, WeightRounding, quantize};

/// Every operator of a graph at least once.
fn all_operators() -> Maker {
    let mut m = Maker::new(7, [8, 8, 6]);
    let x = m.graph.input;
    let a = m.conv(x, 8, 1, Activation::Relu);
    let d = m.conv(a, 8, 8, Activation::Clip { lo: 0.0, hi: 6.0 });
    let s = m.push(
        graph::Op::Add {
            activation: Activation::Identity,
        },
        &[a, d],
        [8, 8, 8],
    );
    let scale = m.random(8, 2.0);
    let shift = m.random(8, 0.5);
    let f = m.push(
        graph::Op::Affine(Affine {
            scale,
            shift,
            activation: Activation::Identity,
        }),
        &[s],
        [8, 8, 8],
    );
    let l = m.push(
        graph::Op::Activation(Activation::LeakyRelu { alpha: 0.1 }),
        &[f],
        [8, 8, 8],
    );
    let pool = Pool {
        kernel: [2, 2],
        stride: [2, 2],
        dilation: [1, 1],
        pads: Pads::default(),
    };
    let p = m.push(graph::Op::MaxPool(pool), &[l], [4, 4, 8]);
    let q = m.push(graph::Op::AveragePool(pool), &[l], [4, 4, 8]);
    let c = m.push(graph::Op::Concat { axis: 2 }, &[p, q], [4, 4, 16]);
    let b = m.push(
        graph::Op::Pad {
            before: [1, 0, 0],
            after: [0, 1, 0],
            value: 0.0,
        },
        &[c],
        [5, 5, 16],
    );
    let g = m.conv(b, 12, 2, Activation::Identity);
    let h = m.push(
        graph::Op::Activation(Activation::HardSwish),
        &[g],
        [5, 5, 12],
    );
    let t = m.push(graph::Op::Transpose { perm: [1, 0, 2] }, &[h], [5, 5, 12]);
    let r = m.push(graph::Op::Reshape, &[t], [25, 1, 12]);
    let i = m.push(
        graph::Op::Activation(Activation::Identity),
        &[r],
        [25, 1, 12],
    );
    let e = m.push(graph::Op::GlobalAveragePool, &[i], [1, 1, 12]);
    let y = m.fully_connected(e, 10, Activation::Identity);
    m.push(graph::Op::Softmax, &[y], [1, 1, 10]);
    m
}

fn integer_inputs(model: &QuantizedModel, x: &[f32]) -> Vec<i8> {
    x.iter()
        .map(|&v| model.tensor(model.input).quantize(v))
        .collect()
}

/// Root of the mean square error of each tensor, over that of the float value itself.
fn relative_errors(m: &Maker, model: &QuantizedModel, x: &[f32]) -> Vec<(String, f64)> {
    let engine = Engine::new(model).expect("quantize checks");
    let values: Vec<ValueId> = (0..m.graph.values.len()).map(ValueId).collect();
    let ids: Vec<TensorId> = (0..model.tensors.len()).map(TensorId).collect();
    assert_eq!(values.len(), ids.len());
    let real = m.net().run_keep(x, &values).expect("finite");
    let integer = engine.run_keep(&integer_inputs(model, x), &ids);
    real.iter()
        .zip(&integer)
        .zip(&model.tensors)
        .map(|((r, q), t)| {
            let (mut error, mut power) = (0.0, 0.0);
            for (&r, &q) in r.iter().zip(q) {
                error += (r as f64 - t.dequantize(q) as f64).powi(2);
                power += (r as f64).powi(2);
            }
            (t.name.clone(), (error / power).sqrt())
        })
        .collect()
}

#[test]
fn with_8_bits_every_operator_follows_the_float_network() {
    let mut m = all_operators();
    let (x, c) = m.calibrated(64);
    let config = QuantizeConfig::default();
    let model =
        quantize(&m.graph, &c, &config, &[], Preprocess::default()).expect("an ordinary network");
    for (name, error) in relative_errors(&m, &model, &x) {
        assert!(error < 0.06, "{name}: {error}");
    }
    let names = |n: &[graph::Node]| n.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        names(&m.graph.nodes),
        model
            .nodes
            .iter()
            .map(|n| n.name.clone())
            .collect::<Vec<_>>()
    );
    // A standalone affine map keeps 8 bits whatever the layers have.
    let config = QuantizeConfig { bits: 2, ..config };
    let model =
        quantize(&m.graph, &c, &config, &[], Preprocess::default()).expect("an ordinary network");
    let bits: Vec<u8> = model.linears().map(|(_, l)| l.bits).collect();
    assert_eq!(bits, [2, 2, 8, 2, 2]);
}

#[test]
fn tensors_that_only_move_or_select_elements_share_scale_and_zero_point() {
    let mut m = all_operators();
    let (_, c) = m.calibrated(16);
    let model = quantize(
        &m.graph,
        &c,
        &QuantizeConfig::default(),
        &[],
        Preprocess::default(),
    )
    .expect("ordinary");
    let tied = |op: &Op| {
        matches!(
            op,
            Op::MaxPool(_) | Op::AveragePool(_) | Op::Pad(_) | Op::Reshape | Op::Transpose { .. }
        )
    };
    let mut seen = 0;
    for n in model.nodes.iter().filter(|n| tied(&n.op)) {
        let (x, y) = (model.tensor(n.inputs[0]), model.tensor(n.output));
        assert_eq!(
            (x.scale, x.zero_point),
            (y.scale, y.zero_point),
            "{}",
            n.name
        );
        if let Op::Pad(p) = &n.op {
            assert_eq!(p.value, x.zero_point);
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn fewer_bits_lose_more_and_better_methods_lose_less() {
    let mut m = Maker::new(3, [6, 6, 8]);
    let mut v = m.graph.input;
    for _ in 0..3 {
        v = m.conv(v, 16, 1, Activation::Relu);
    }
    m.fully_connected(v, 10, Activation::Identity);
    let (x, c) = m.calibrated(300);
    let held_out = m.random(300 * 6 * 6 * 8, 1.0);
    let error = |config: &QuantizeConfig| {
        let model = quantize(&m.graph, &c, config, &x, Preprocess::default()).expect("ordinary");
        relative_errors(&m, &model, &held_out)
            .pop()
            .expect("an output")
            .1
    };
    let at = |bits| QuantizeConfig {
        bits,
        ..Default::default()
    };
    let nearest: Vec<f64> = [8, 4, 3, 2].map(|b| error(&at(b))).to_vec();
    assert!(nearest.is_sorted(), "{nearest:?}");
    let three = nearest[2];
    let with = |edit: fn(&mut QuantizeConfig)| {
        let mut config = at(3);
        edit(&mut config);
        error(&config)
    };
    let corrected = with(|c| c.bias_correction = true);
    let gptq = with(|c| c.weight_rounding = WeightRounding::Gptq);
    let max = with(|c| c.scales = Some(Scales::Max));
    let tensor = with(|c| c.per_tensor = true);
    let ends = with(|c| c.keep_ends_8bit = true);
    assert!(corrected < three, "{corrected} {three}");
    assert!(gptq < three, "{gptq} {three}");
    assert!(ends < three, "{ends} {three}");
    assert!(max > three && tensor > three, "{max} {tensor} {three}");
}

#[test]
fn bias_correction_leaves_no_mean_error_in_any_channel() {
    let mut m = Maker::new(5, [7, 7, 3]);
    let x = m.graph.input;
    // No activations, so that outputs are pre-activations.
    let a = m.conv(x, 6, 1, Activation::Identity);
    let b = m.conv(a, 6, 6, Activation::Identity);
    m.conv(b, 5, 1, Activation::Identity);
    let (x, c) = m.calibrated(200);
    let mean_errors = |bias_correction: bool| {
        let config = QuantizeConfig {
            bits: 3,
            bias_correction,
            ..Default::default()
        };
        let model = quantize(&m.graph, &c, &config, &x, Preprocess::default()).expect("ordinary");
        let engine = Engine::new(&model).expect("checked");
        let acts = engine.activations(&integer_inputs(&model, &x));
        let mut worst = 0.0f64;
        for (i, node) in model.nodes.iter().enumerate() {
            let out_c = model.tensor(node.output).shape[2];
            let acc = engine.accumulators(i, acts.tensor(node.inputs[0]));
            let real = &m
                .net()
                .run_keep(&x, &[m.graph.nodes[i].output])
                .expect("finite")[0];
            for ch in 0..out_c {
                let unit = model.accumulator_scale(i, ch);
                let n = (real.len() / out_c) as f64;
                let sum: f64 = (ch..real.len())
                    .step_by(out_c)
                    .map(|j| acc[j] as f64 * unit - real[j] as f64)
                    .sum();
                worst = worst.max((sum / n).abs() / unit);
            }
        }
        worst
    };
    // Half a unit is the bias's own rounding; the rest is the float network's f32.
    let (with, without) = (mean_errors(true), mean_errors(false));
    assert!(with <= 0.75, "{with} units");
    assert!(
        without > 20.0,
        "there should have been something to correct: {without}"
    );
}
