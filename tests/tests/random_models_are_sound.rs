//! The generator itself: what it makes must be accepted by the host's engine and cover what it
//! promises, or the tests that rely on it prove little.

use qmend::engine::Engine;
use qmend::model::Op;
use qmend_tests::random_model::{Focus, random_inputs, random_model, random_network};

#[test]
fn every_random_model_is_accepted_by_the_host_engine() {
    for focus in Focus::ALL {
        for bits in [2, 3, 4, 8] {
            for seed in 0..20 {
                let model = random_model(focus, bits, seed);
                let engine = Engine::new(&model)
                    .unwrap_or_else(|e| panic!("{focus:?} {bits} bits seed {seed}: {e}"));
                let outputs = engine.run(&random_inputs(&model, 6, seed));
                assert_eq!(outputs.len(), 6 * model.tensor(model.output).elements());
            }
        }
    }
}

#[test]
fn random_models_hold_the_edges_that_they_promise() {
    let models: Vec<_> = Focus::ALL
        .iter()
        .flat_map(|&f| (0..40).map(move |seed| random_model(f, 4, seed)))
        .chain((0..20).map(|seed| random_network(12, 8, seed)))
        .collect();
    let any = |what: &str, f: &dyn Fn(&qmend::model::QuantizedModel) -> bool| {
        assert!(models.iter().any(f), "no random model has {what}");
    };
    let conv = |f: fn(&qmend::model::Conv2d) -> bool| {
        move |m: &qmend::model::QuantizedModel| {
            m.nodes
                .iter()
                .any(|n| matches!(&n.op, Op::Conv2d(c) if f(c)))
        }
    };
    any("stride 2", &conv(|c| c.stride[0] == 2));
    any("dilation", &conv(|c| c.dilation[1] == 2));
    any("lopsided padding", &conv(|c| c.pads.left != c.pads.right));
    any(
        "groups of several channels",
        &conv(|c| c.groups > 1 && c.linear.taps() > c.kernel[0] * c.kernel[1]),
    );
    any(
        "a depthwise multiplier",
        &conv(|c| {
            c.groups > 1
                && c.linear.taps() == c.kernel[0] * c.kernel[1]
                && c.linear.out_channels() > c.groups
        }),
    );
    for zero_point in [-128, 127] {
        any("an end as zero point", &|m| {
            m.tensor(m.input).zero_point == zero_point
        });
    }
    any("an accumulator next to 2^31", &|m| {
        m.linears()
            .any(|(_, l)| l.bias.iter().any(|b| b.unsigned_abs() > 1 << 30))
    });
    any("a zero multiplier", &|m| {
        m.linears()
            .any(|(_, l)| l.multipliers.iter().any(|m| m.mantissa == 0))
    });
    any("a left shift", &|m| {
        m.linears()
            .any(|(_, l)| l.multipliers.iter().any(|m| m.exponent > 4))
    });
    any("a narrow activation", &|m| {
        m.linears()
            .any(|(_, l)| l.act_min > -128 && l.act_max < 127)
    });
    any("a sum of a tensor with itself", &|m| {
        m.nodes
            .iter()
            .any(|n| matches!(n.op, Op::Add(_)) && n.inputs[0] == n.inputs[1])
    });
}
