//! Gradients of the surrogate against directional derivatives of each operator's definition.

use super::test_network::{Builder, ROWS, multiplier, network};
use super::{Seeds, Surrogate};
use crate::float::{Backend, FloatError};
use crate::model::*;
use rand::Rng;
use std::collections::BTreeMap;

fn seeds(b: &mut Builder, at: TensorId) -> Vec<f32> {
    (0..ROWS * b.model.tensor(at).elements())
        .map(|_| b.rng.random_range(-1.0..1.0))
        .collect()
}

/// Compares all gradients with directional derivatives; returns how many were zero and how many not.
fn check_at(b: &mut Builder, at: TensorId, backend: Backend) -> (usize, usize) {
    let seeds = seeds(b, at);
    let surrogate = Surrogate::new(&b.model, backend).unwrap();
    let got = surrogate
        .preactivation_gradients(&b.acts(), ROWS, at, &seeds)
        .unwrap();
    let (mut zeros, mut others) = (0, 0);
    for (node, gradient) in &got {
        let n = gradient.len() / ROWS;
        assert_eq!(n, b.model.tensor(b.model.nodes[*node].output).elements());
        let want: Vec<f64> = (0..ROWS * n)
            .map(|i| b.derivative(*node, i % n, i / n, at, &seeds))
            .collect();
        let largest = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        for (i, (&g, &w)) in gradient.iter().zip(&want).enumerate() {
            let close = (g as f64 - w).abs() <= 1e-4 * largest;
            assert!(
                close,
                "{backend}, tensor {at:?}: node {node}, row {}, element {}: {g} instead of {w}",
                i / n,
                i % n
            );
            *if w == 0.0 { &mut zeros } else { &mut others } += 1;
        }
    }
    (zeros, others)
}

#[test]
fn gradients_equal_directional_derivatives_of_every_operator() {
    let mut b = network();
    for &backend in Backend::ALL {
        let logits = b.model.nodes[b.model.nodes.len() - 2].output;
        let (zeros, others) = check_at(&mut b, logits, backend);
        assert!(
            zeros > 200 && others > 200,
            "{zeros} gradients are zero, {others} are not: the test tests too little"
        );
        let softmax = b.model.output;
        check_at(&mut b, softmax, backend);
    }
}

#[test]
fn only_nodes_that_the_tensor_depends_on_have_a_gradient() {
    let mut b = network();
    let surrogate = Surrogate::new(&b.model, Backend::Flex).unwrap();
    let of = |b: &mut Builder, at: TensorId| -> Vec<usize> {
        let seeds = seeds(b, at);
        surrogate
            .preactivation_gradients(&b.acts(), ROWS, at, &seeds)
            .unwrap()
            .iter()
            .map(|(node, _)| *node)
            .collect()
    };
    let linear: Vec<usize> = b.model.linears().map(|(i, _)| i).collect();
    let [first, depthwise, hidden, logits] = linear[..] else {
        panic!("four linear nodes")
    };
    let outputs: Vec<TensorId> = b.model.nodes.iter().map(|n| n.output).collect();
    assert_eq!(
        of(&mut b, outputs[logits]),
        [first, depthwise, hidden, logits]
    );
    assert_eq!(of(&mut b, outputs[depthwise]), [first, depthwise]);
    assert_eq!(of(&mut b, outputs[first]), [first]);
    assert!(of(&mut b, TensorId(0)).is_empty());
}

#[test]
fn a_samples_gradient_does_not_depend_on_its_neighbours() {
    let mut b = network();
    let at = b.model.output;
    let seeds = seeds(&mut b, at);
    let surrogate = Surrogate::new(&b.model, Backend::Flex).unwrap();
    let together = surrogate
        .preactivation_gradients(&b.acts(), ROWS, at, &seeds)
        .unwrap();
    // Many batches of the same samples, so that batch borders fall everywhere.
    let copies = 67;
    let many: Vec<Vec<i8>> = b.acts.iter().map(|a| a.repeat(copies)).collect();
    let views: Vec<&[i8]> = many.iter().map(|a| &a[..]).collect();
    let mut next = 0;
    surrogate
        .for_each_batch(
            &views,
            ROWS * copies,
            &[(at, &seeds.repeat(copies))],
            |range, batch| {
                assert_eq!(range.start, next);
                next = range.end;
                for ((node, got), (also, all)) in batch.iter().zip(&together) {
                    assert_eq!(node, also);
                    let n = all.len() / ROWS;
                    for (i, row) in range.clone().enumerate() {
                        let want = &all[row % ROWS * n..(row % ROWS + 1) * n];
                        let largest = want.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
                        for (g, w) in got[i * n..(i + 1) * n].iter().zip(want) {
                            assert!(
                                (g - w).abs() <= 1e-5 * largest,
                                "row {row}, node {node}: {g} instead of {w}"
                            );
                        }
                    }
                }
            },
        )
        .unwrap();
    assert_eq!(next, ROWS * copies);
}

#[test]
fn a_dead_relu_stops_the_gradient_and_a_live_one_passes_it() {
    let mut b = Builder::new([1, 1, 1], 0);
    let y = b.dense(TensorId(0), 2);
    for t in &mut b.model.tensors {
        (t.scale, t.zero_point) = (0.5, -128);
    }
    let Op::FullyConnected(f) = &mut b.model.nodes[0].op else {
        unreachable!()
    };
    f.linear.weights = vec![1, 1];
    f.linear.multipliers = vec![multiplier(0.25); 2];
    // The input is 10 steps above zero: accumulators 0 (exactly on the ReLU) and -1.
    f.linear.bias = vec![-10, -11];
    (f.linear.act_min, f.linear.act_max) = (-128, 127);
    let surrogate = Surrogate::new(&b.model, Backend::Flex).unwrap();
    let acts: [&[i8]; 2] = [&[-118], &[-128, -128]];
    let got = surrogate
        .preactivation_gradients(&acts, 1, y, &[3.0, 7.0])
        .unwrap();
    assert_eq!(got, [(0, vec![3.0, 0.0])]);
}

#[test]
fn slices_of_the_wrong_length_and_unknown_tensors_are_errors() {
    let mut b = network();
    let at = b.model.output;
    let seeds = seeds(&mut b, at);
    let surrogate = Surrogate::new(&b.model, Backend::Flex).unwrap();
    let acts = b.acts();
    let fails = |acts: &[&[i8]], rows, at, seeds: &[f32]| {
        surrogate
            .preactivation_gradients(acts, rows, at, seeds)
            .unwrap_err()
    };
    assert!(matches!(
        fails(&acts[1..], ROWS, at, &seeds),
        FloatError::Length { .. }
    ));
    assert!(matches!(
        fails(&acts, ROWS, at, &seeds[1..]),
        FloatError::Length { .. }
    ));
    assert!(
        fails(&acts, ROWS + 1, at, &seeds)
            .to_string()
            .contains("tensor `t")
    );
    assert!(matches!(
        fails(&acts, ROWS, TensorId(99), &seeds),
        FloatError::NoSuchValue { id: 99, .. }
    ));
    let nothing: Vec<&[i8]> = vec![&[]; acts.len()];
    surrogate
        .for_each_batch(&nothing, 0, &[(at, &[])], |_, _| {
            panic!("there is no sample")
        })
        .unwrap();
}

#[test]
fn gradients_of_several_tensors_are_those_of_each_added_up() {
    let mut b = network();
    let last = b.model.output;
    let (node, _) = b.model.linears().nth(1).unwrap();
    let hidden = b.model.nodes[node].output;
    let [of_last, of_hidden] = [last, hidden].map(|t| seeds(&mut b, t));
    let surrogate = Surrogate::new(&b.model, Backend::Flex).unwrap();
    let collect = |all: &[Seeds<'_>]| {
        let mut found: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        surrogate
            .for_each_batch(&b.acts(), ROWS, all, |_, batch| {
                for (node, g) in batch {
                    found.entry(*node).or_default().extend_from_slice(g);
                }
            })
            .unwrap();
        found
    };
    let both = collect(&[(last, &of_last), (hidden, &of_hidden)]);
    let (a, c) = (
        collect(&[(last, &of_last)]),
        collect(&[(hidden, &of_hidden)]),
    );
    assert!(c.len() < a.len() && c.contains_key(&node));
    for (node, both) in &both {
        let zero = vec![0.0; both.len()];
        let (a, c) = (a.get(node).unwrap_or(&zero), c.get(node).unwrap_or(&zero));
        for ((both, a), c) in both.iter().zip(a).zip(c) {
            assert!(
                (both - (a + c)).abs() <= 1e-4 * (1.0 + both.abs()),
                "{node}: {both} {a} {c}"
            );
        }
    }
}

#[test]
fn sums_made_span_by_span_are_those_of_all_samples_and_follow_an_edit() {
    let mut b = network();
    let last = b.model.output;
    let (node, _) = b.model.linears().nth(1).unwrap();
    let hidden = b.model.nodes[node].output;
    let [of_last, of_hidden] = [last, hidden].map(|t| seeds(&mut b, t));
    let part = |all: &[f32], rows: &std::ops::Range<usize>| {
        let e = all.len() / ROWS;
        all[rows.start * e..rows.end * e].to_vec()
    };
    // The gradients of all samples, put together again.
    let folded = |surrogate: &Surrogate| {
        let mut next = 0;
        let mut all: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        let spans = surrogate
            .fold_batches(
                &b.acts(),
                ROWS,
                &[last, hidden],
                |rows| vec![part(&of_last, &rows), part(&of_hidden, &rows)],
                Vec::new,
                |sum, rows, batch| sum.push((rows, batch.to_vec())),
            )
            .unwrap();
        for (rows, batch) in spans.into_iter().flatten() {
            assert_eq!(rows.start, next, "spans and batches come in order");
            next = rows.end;
            for (node, g) in batch {
                all.entry(node).or_default().extend(g);
            }
        }
        assert_eq!(next, ROWS);
        all
    };
    let whole = |surrogate: &Surrogate| {
        let mut all: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        let seeds: [Seeds<'_>; 2] = [(last, &of_last), (hidden, &of_hidden)];
        surrogate
            .for_each_batch(&b.acts(), ROWS, &seeds, |_, batch| {
                for (node, g) in batch {
                    all.entry(*node).or_default().extend_from_slice(g);
                }
            })
            .unwrap();
        all
    };
    let near = |a: &BTreeMap<usize, Vec<f32>>, b: &BTreeMap<usize, Vec<f32>>| {
        a.len() == b.len()
            && a.iter().zip(b).all(|((node, a), (also, b))| {
                let largest = b.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
                let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * largest;
                node == also && a.len() == b.len() && a.iter().zip(b).all(close)
            })
    };
    let mut surrogate = Surrogate::new(&b.model, Backend::Flex).unwrap();
    let before = folded(&surrogate);
    assert!(near(&before, &whole(&surrogate)));

    let mut edited = b.model.clone();
    let weights = &mut edited.nodes[node].op.linear_mut().unwrap().weights;
    weights.iter_mut().for_each(|w| *w /= 2);
    surrogate.update_node(&edited, node).unwrap();
    let after = folded(&surrogate);
    assert!(near(
        &after,
        &folded(&Surrogate::new(&edited, Backend::Flex).unwrap())
    ));
    assert!(!near(&after, &before));
}

#[test]
fn a_seed_of_the_wrong_length_is_an_error_in_a_fold_too() {
    let b = network();
    let surrogate = Surrogate::new(&b.model, Backend::Flex).unwrap();
    let failed = surrogate.fold_batches(
        &b.acts(),
        ROWS,
        &[b.model.output],
        |_| vec![vec![0.0]],
        || (),
        |_, _, _| panic!("nothing is added"),
    );
    assert!(matches!(failed, Err(FloatError::Length { .. })));
}

#[test]
fn a_model_that_does_not_fit_together_is_refused() {
    let refused = |change: &dyn Fn(&mut QuantizedModel)| {
        let mut b = network();
        change(&mut b.model);
        Surrogate::new(&b.model, Backend::Flex)
            .err()
            .expect("a broken model is refused")
            .to_string()
    };
    fn conv(m: &mut QuantizedModel) -> &mut Conv2d {
        match &mut m.nodes[1].op {
            Op::Conv2d(c) => c,
            _ => unreachable!(),
        }
    }
    assert!(refused(&|m| conv(m).linear.multipliers.truncate(2)).contains("2 multipliers"));
    assert!(refused(&|m| conv(m).linear.bias.truncate(2)).contains("n1"));
    assert!(refused(&|m| conv(m).kernel = [0, 3]).contains("n1"));
    assert!(refused(&|m| m.tensors[2].scale = 0.0).contains("`t2`"));
    assert!(refused(&|m| m.tensors[2].scale = f32::NAN).contains("`t2`"));
    assert!(refused(&|m| m.nodes[3].inputs[0] = TensorId(99)).contains("99"));
}
