//! Degenerate and wrong input.

use super::Maker;
use crate::calibrate::{CalibrateError, Calibration, Method, Range, calibrate};
use crate::engine::Engine;
use crate::graph::{Activation, Op, Weights};
use crate::model::Preprocess;
use crate::quantize::{QuantizeConfig, QuantizeError, WeightRounding, quantize};

fn small() -> Maker {
    let mut m = Maker::new(1, [4, 4, 2]);
    let x = m.graph.input;
    let a = m.conv(x, 3, 1, Activation::Relu);
    m.fully_connected(a, 2, Activation::Identity);
    m
}

fn weights(m: &mut Maker, node: usize) -> (&mut Weights, &mut Vec<f32>) {
    match &mut m.graph.nodes[node].op {
        Op::Conv2d(c) => (&mut c.weights, &mut c.bias),
        Op::FullyConnected(f) => (&mut f.weights, &mut f.bias),
        _ => unreachable!("a linear node was asked for"),
    }
}

#[test]
fn dead_channels_huge_biases_and_dead_layers_still_give_a_sound_network() {
    let mut m = small();
    let (w, b) = weights(&mut m, 0);
    w.data[..18].fill(0.0);
    b[0] = 0.7;
    w.data[18..36].fill(1e-30);
    b[1] = 5.0;
    w.data[36..].fill(1e-9);
    b[2] = -1.0; // never active
    let (x, c) = m.calibrated(8);
    for bits in [8, 4, 3, 2] {
        let config = QuantizeConfig {
            bits,
            ..Default::default()
        };
        let model = quantize(&m.graph, &c, &config, &x, Preprocess::default())
            .expect("degenerate, not wrong");
        let engine = Engine::new(&model).expect("checked");
        let q: Vec<i8> = x
            .iter()
            .map(|&v| model.tensor(model.input).quantize(v))
            .collect();
        let t = &model.tensors[1];
        let acts = engine.activations(&q);
        for out in acts.tensor(model.nodes[0].output).chunks(3) {
            let real = [0, 1, 2].map(|i| t.dequantize(out[i]));
            for (got, want) in real.iter().zip([0.7f32, 5.0, 0.0]) {
                assert!(
                    (got - want).abs() <= 0.51 * t.scale,
                    "{bits} bits: {got} for {want}"
                );
            }
        }
    }
}

#[test]
fn a_layer_that_is_always_zero_quantizes() {
    let mut m = small();
    let (w, b) = weights(&mut m, 0);
    w.data.fill(0.0);
    b.fill(0.0);
    let (x, c) = m.calibrated(4);
    let config = QuantizeConfig {
        bias_correction: true,
        weight_rounding: WeightRounding::Gptq,
        ..Default::default()
    };
    quantize(&m.graph, &c, &config, &x, Preprocess::default()).expect("nothing wrong with zero");
}

#[test]
fn an_output_range_far_too_narrow_is_widened_until_nothing_overflows() {
    let m = small();
    let wide = Some(Range {
        lo: -1000.0,
        hi: 1000.0,
    });
    let ranges = vec![wide, Some(Range { lo: 0.0, hi: 1e-5 }), wide];
    let c = Calibration::from_ranges(ranges);
    let model = quantize(
        &m.graph,
        &c,
        &QuantizeConfig::default(),
        &[],
        Preprocess::default(),
    )
    .expect("widened");
    assert!(model.tensors[1].scale > 1e-5 / 255.0);
    Engine::new(&model).expect("checked");
}

#[test]
fn parameters_that_are_not_finite_are_refused_with_the_node_named() {
    let mut m = small();
    let (x, c) = m.calibrated(4);
    weights(&mut m, 1).0.data[3] = f32::NAN;
    let err = quantize(
        &m.graph,
        &c,
        &QuantizeConfig::default(),
        &x,
        Preprocess::default(),
    )
    .expect_err("NaN");
    assert!(
        matches!(&err, QuantizeError::NotFinite { node, what: "weight", .. } if node == "n1"),
        "{err}"
    );
    let net = m.net();
    let err = calibrate(&m.graph, &net, &x, Method::MinMax).expect_err("NaN");
    assert!(
        matches!(&err, CalibrateError::NotFinite { value, .. } if value == "v1"),
        "{err}"
    );
}

#[test]
fn missing_ranges_means_and_samples_are_refused() {
    let mut m = small();
    let (x, c) = m.calibrated(4);
    let run = |c: &Calibration, config: &QuantizeConfig, x: &[f32]| {
        quantize(&m.graph, c, config, x, Preprocess::default()).expect_err("must be refused")
    };
    let plain = QuantizeConfig::default();
    let corrected = QuantizeConfig {
        bias_correction: true,
        ..plain.clone()
    };
    let gptq = QuantizeConfig {
        weight_rounding: WeightRounding::Gptq,
        ..plain.clone()
    };
    assert!(matches!(
        run(&Calibration::from_ranges(vec![]), &plain, &x),
        QuantizeError::NotCalibrated { .. }
    ));
    assert!(matches!(
        run(&c, &gptq, &[]),
        QuantizeError::NoSamples { method: "gptq" }
    ));
    assert!(matches!(
        run(&c, &corrected, &x[1..]),
        QuantizeError::Length { .. }
    ));
    // Means over other samples than those given would correct the wrong way.
    assert!(matches!(
        run(&c, &corrected, &x[..32]),
        QuantizeError::NoMeans { .. }
    ));
    assert!(matches!(
        calibrate(&m.graph, &m.net(), &[], Method::MinMax),
        Err(CalibrateError::NoSamples)
    ));
    let part = calibrate(&m.graph, &m.net(), &x[..31], Method::MinMax);
    assert!(matches!(part, Err(CalibrateError::Length { got: 31, .. })));
}

#[test]
fn every_method_gives_ranges_inside_what_was_seen_and_percentiles_are_narrower() {
    let mut m = small();
    let (x, all) = m.calibrated(200);
    for method in [Method::Percentile(99.0), Method::Mse] {
        let c = calibrate(&m.graph, &m.net(), &x, method).expect("finite");
        for v in 0..m.graph.values.len() {
            let id = crate::graph::ValueId(v);
            let (seen, got) = (all.range(id).expect("seen"), c.range(id).expect("seen"));
            assert!(
                got.lo >= seen.lo.min(0.0) && got.hi <= seen.hi && got.lo < got.hi,
                "{method} {v}: {got:?} {seen:?}"
            );
            if v > 0 && method != Method::Mse {
                assert!(got.hi < seen.hi, "{method} {v}");
            }
        }
    }
}
