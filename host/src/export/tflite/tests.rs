//! What is replaced, what stays, and what is refused.

use super::{Patchable, TfliteExportError, write_tflite};
use crate::import::tflite::builder::*;
use crate::import::tflite::import_tflite_int8;
use crate::import::tflite::schema_codes::{CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED};
use crate::model::QuantizedModel;

fn bias(name: &str, data: &[i32]) -> FileTensor {
    FileTensor {
        element: 2,
        data: Some(data.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ..activation(name, &[data.len() as i32], 0.1, 0)
    }
}

/// A depthwise convolution with multiplier 2, a convolution and a dense layer without biases.
fn network() -> Network {
    let window = |op: FileOperator, kind, multiplier: bool| FileOperator {
        options: Some((
            kind,
            [(0, Value::I8(1)), (1, Value::I32(1)), (2, Value::I32(1))]
                .into_iter()
                .chain(multiplier.then_some((3, Value::I32(2))))
                .collect(),
        )),
        ..op
    };
    let w: Vec<i8> = (1..=16).collect();
    Network::new(
        vec![
            activation("x", &[1, 3, 2, 2], 0.5, 3),
            constant("wd", &[1, 2, 2, 4], &w, 0.25),
            bias("bd", &[1, 2, 3, 4]),
            activation("d", &[1, 2, 1, 4], 0.5, 0),
            constant("wc", &[2, 1, 1, 4], &w[..8], 0.25),
            bias("bc", &[-5, 6]),
            activation("c", &[1, 2, 1, 2], 0.5, 0),
            constant("wf", &[2, 4], &w[8..], 0.25),
            activation("y", &[1, 2], 0.5, -1),
        ],
        vec![
            window(operator(DEPTHWISE_CONV_2D, &[0, 1, 2], &[3]), 2, true),
            window(operator(CONV_2D, &[3, 4, 5], &[6]), 1, false),
            operator(FULLY_CONNECTED, &[6, 7], &[8]),
        ],
        0,
        8,
    )
}

fn edited(model: &QuantizedModel) -> QuantizedModel {
    let mut model = model.clone();
    for (k, (_, l)) in model.linears_mut().enumerate() {
        for (i, w) in l.weights.iter_mut().enumerate() {
            *w = (7 * i as i32 - 50 + k as i32) as i8;
        }
        if k < 2 {
            l.bias.iter_mut().for_each(|b| *b = -1_000_000 - 3 * *b);
        }
    }
    model
}

#[test]
fn a_patched_file_reads_back_as_exactly_the_repaired_model_and_nothing_else_changes() {
    let bytes = network().bytes();
    let file = Patchable::new(&bytes, "net.tflite").expect("it is whole");
    let model = import_tflite_int8(&bytes, "net.tflite").expect("it is whole");
    let repaired = edited(&model);
    let (new, replaced) = file.patch(&repaired).expect("it fits");
    assert_eq!(
        import_tflite_int8(&new, "net.tflite").as_ref(),
        Ok(&repaired)
    );
    assert_eq!((new.len(), replaced.layers), (bytes.len(), 3));
    // Weights: 16 + 8 + 8 bytes, biases: 4 * 6; no other byte may differ.
    let differing = new.iter().zip(&bytes).filter(|(a, b)| a != b).count();
    assert_eq!(differing, replaced.bytes);
    assert!((20..=56).contains(&differing), "{differing}");
    assert_eq!(
        file.patch(&model).expect("it fits"),
        (bytes, Default::default()),
        "nothing to change"
    );
}

#[test]
fn what_cannot_be_replaced_is_known_before_a_repair_and_refused_after() {
    let mut n = network();
    // One more reader of the convolution's bias.
    n.operators[0].inputs[2] = 5;
    n.tensors[5] = bias("bc", &[-5, 6, 0, 0]);
    n.tensors[4] = constant("wc", &[4, 1, 1, 4], &[1; 16], 0.25);
    n.tensors[6] = activation("c", &[1, 2, 1, 4], 0.5, 0);
    n.tensors[7] = constant("wf", &[2, 8], &[1; 16], 0.25);
    let bytes = n.bytes();
    let file = Patchable::new(&bytes, "net.tflite").expect("it is whole");
    let freedom = file.freedom();
    assert!(freedom.fixed_weights.is_empty() && !freedom.multipliers);
    assert_eq!(freedom.fixed_biases, [0, 1, 2].into());
    let model = import_tflite_int8(&bytes, "net.tflite").expect("it is whole");
    let refused = |edit: &dyn Fn(&mut QuantizedModel), words: &str| {
        let mut m = model.clone();
        edit(&mut m);
        let e = file.patch(&m).expect_err(words).to_string();
        assert!(
            e.contains(words) && e.contains("net.tflite"),
            "{words:?} is not in {e:?}"
        );
    };
    let linear = |m: &mut QuantizedModel, k: usize, f: &dyn Fn(&mut crate::model::Linear)| {
        f(m.nodes[k].op.linear_mut().expect("linear"))
    };
    refused(
        &|m| linear(m, 1, &|l| l.bias[0] = 1),
        "something else reads `bc` too",
    );
    refused(&|m| linear(m, 2, &|l| l.bias[0] = 1), "the file holds none");
    refused(
        &|m| linear(m, 2, &|l| l.multipliers[0].mantissa += 1),
        "a multiplier of `y`",
    );
    refused(&|m| linear(m, 0, &|l| l.act_max = 3), "operator `d`");
    refused(&|m| m.tensors[0].scale = 1.0, "scale or zero point");
    refused(&|m| drop(m.nodes.pop()), "the structure");
    let e = Patchable::new(b"nothing", "net.tflite").expect_err("no file");
    assert!(matches!(e, TfliteExportError::Import(_)));
}

#[test]
fn four_bit_weights_are_replaced_in_their_halves() {
    let mut n = network();
    n.tensors[7] = FileTensor {
        element: 17,
        data: Some(vec![0x21, 0x43, 0x65, 0x87]),
        ..constant("wf", &[2, 4], &[], 0.25)
    };
    let bytes = n.bytes();
    let model = import_tflite_int8(&bytes, "net.tflite").expect("it is whole");
    let file = Patchable::new(&bytes, "net.tflite").expect("it is whole");
    let mut m = model.clone();
    let l = m.nodes[2].op.linear_mut().expect("linear");
    assert_eq!(l.weights, [1, 2, 3, 4, 5, 6, 7, -8]);
    l.weights = vec![-1, 2, 3, -4, 5, 6, 0, 7];
    let (new, replaced) = file.patch(&m).expect("it fits");
    assert_eq!(replaced.bytes, 3);
    assert_eq!(import_tflite_int8(&new, "net.tflite"), Ok(m));
}

/// The example network at a width, with samples.
fn example(bits: u8) -> (QuantizedModel, Vec<i8>) {
    use rand::{Rng, SeedableRng};
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/fmnist_cnn.onnx");
    let graph = crate::import::load_graph(path).expect("the example");
    let net = crate::float::FloatNet::new(&graph, Default::default()).expect("it runs");
    let mut rng = rand::rngs::StdRng::seed_from_u64(bits.into());
    let x: Vec<f32> = (0..16 * graph.elements(graph.input))
        .map(|_| rng.random_range(0.0..1.0))
        .collect();
    let method = crate::calibrate::Method::default();
    let ranges = crate::calibrate::calibrate(&graph, &net, &x, method).expect("calibrated");
    let config = crate::quantize::QuantizeConfig {
        bits,
        ..Default::default()
    };
    let model = crate::quantize::quantize(&graph, &ranges, &config, &x, Default::default())
        .expect("quantized");
    let input = model.tensor(model.input).clone();
    let q = x.iter().map(|v| input.quantize(*v)).collect();
    (model, q)
}

#[test]
fn a_written_file_has_the_same_bits_and_its_constants_at_multiples_of_16() {
    use crate::engine::Engine;
    let hand_made = import_tflite_int8(&network().bytes(), "net").expect("it is whole");
    let x: Vec<i8> = (0..120).map(|i| (i * 37 % 256) as u8 as i8).collect();
    for (model, x) in [(hand_made.clone(), x.clone()), (edited(&hand_made), x)] {
        let written = write_tflite(&model, false).expect("it can be expressed");
        assert_eq!(written.rounded, 0);
        let read = import_tflite_int8(&written.bytes, "net.tflite").expect("it is whole");
        let run = |m: &QuantizedModel| Engine::new(m).expect("it runs").run(&x);
        assert_eq!(run(&read), run(&model));
        assert!(written.bytes.len().is_multiple_of(16));
        let (_, places) = crate::import::tflite::read(&written.bytes, "net").expect("whole");
        assert_eq!(places.len(), model.linears().count());
        for p in &places {
            let bias = p.bias.as_ref().expect("biases are always written");
            for at in [&p.weights, bias] {
                assert!(at.range.start.is_multiple_of(16) && !at.shared, "{at:?}");
            }
        }
    }
}

#[test]
fn a_multiplier_that_no_scale_gives_is_refused_unless_the_nearest_will_do() {
    for bits in [8, 4] {
        nearly(bits);
    }
}

/// An edited multiplier; the mean's may be one that TFLite does not have either.
fn nearly(bits: u8) {
    let (mut model, x) = example(bits);
    let node = model.linears().next().expect("a layer").0;
    let l = model.nodes[node].op.linear_mut().expect("linear");
    l.multipliers[0].mantissa ^= 1;
    let e = write_tflite(&model, false)
        .expect_err("other bits")
        .to_string();
    assert!(
        e.contains("multipliers of channels and means") && e.contains("--round-multipliers"),
        "{e}"
    );
    let written = write_tflite(&model, true).expect("nearly the same");
    assert!((1..=2).contains(&written.rounded), "{}", written.rounded);
    let read = import_tflite_int8(&written.bytes, "net.tflite").expect("it is whole");
    let run = |m: &QuantizedModel| crate::engine::Engine::new(m).expect("it runs").run(&x);
    let (a, b) = (run(&read), run(&model));
    assert!(a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 1));
}

#[test]
fn random_networks_are_either_refused_by_node_or_give_the_same_bits() {
    use crate::engine::Engine;
    use crate::model::random::random_operator;
    use qmend_shared::image::OPERATORS;
    let (mut written, mut kinds) = (0, std::collections::BTreeSet::new());
    for seed in 0..20 {
        for kind in OPERATORS {
            let model = random_operator(seed, kind);
            match write_tflite(&model, true) {
                Ok(w) => {
                    let read = import_tflite_int8(&w.bytes, "net").expect("it is whole");
                    if w.rounded == 0 {
                        let size = model.tensor(model.input).elements();
                        let x: Vec<i8> =
                            (0..4 * size).map(|i| (i * 37 % 256) as u8 as i8).collect();
                        let run = |m: &QuantizedModel| Engine::new(m).expect("it runs").run(&x);
                        assert_eq!(run(&read), run(&model), "{kind} {seed}");
                    }
                    written += 1;
                    kinds.insert(kind);
                }
                Err(e) => assert!(
                    matches!(
                        e,
                        TfliteExportError::Inexpressible { .. } | TfliteExportError::Import(_)
                    ),
                    "{kind} {seed}: {e}"
                ),
            }
        }
    }
    println!("{written} of {} written: {kinds:?}", 20 * OPERATORS.len());
    assert!(written > 20, "{written}: {kinds:?}");
}

/// Constants on either side, broadcasts, resizing by each convention, and a layer over several
/// vectors: what is read is written so that it reads back the same.
#[test]
fn elementwise_operators_resizing_and_layers_over_vectors_are_written_as_they_were_read() {
    use crate::import::tflite::schema_codes::{ADD, MUL, RESIZE_NEAREST_NEIGHBOR, SUB};
    let size = FileTensor {
        element: 2,
        data: Some([6i32, 4].iter().flat_map(|v| v.to_le_bytes()).collect()),
        ..activation("size", &[2], 0.1, 0)
    };
    for (corners, centers) in [(0, 0), (1, 0), (0, 1)] {
        let n = Network::new(
            vec![
                activation("x", &[1, 3, 2, 4], 0.5, 3),
                constant("one", &[1], &[7], 0.25),
                activation("a", &[1, 3, 2, 4], 0.5, -5),
                constant("four", &[4], &[1, -2, 3, -128], 0.02),
                activation("b", &[1, 3, 2, 4], 0.05, 1),
                activation("c", &[1, 3, 2, 4], 0.6, 9),
                size.clone(),
                activation("r", &[1, 6, 4, 4], 0.6, 9),
                constant("w", &[3, 4], &[5; 12], 0.25),
                bias("bw", &[1, -2, 3]),
                activation("y", &[1, 6, 4, 3], 0.5, -1),
            ],
            vec![
                operator(SUB, &[1, 0], &[2]),
                operator(MUL, &[2, 3], &[4]),
                operator(ADD, &[4, 2], &[5]),
                FileOperator {
                    options: Some((
                        crate::import::tflite::schema_options::RESIZE_NEAREST_NEIGHBOR,
                        vec![(0, Value::I8(corners)), (1, Value::I8(centers))],
                    )),
                    ..operator(RESIZE_NEAREST_NEIGHBOR, &[5, 6], &[7])
                },
                operator(FULLY_CONNECTED, &[7, 8, 9], &[10]),
            ],
            0,
            10,
        );
        let model = import_tflite_int8(&n.bytes(), "net.tflite").expect("it is whole");
        let written = write_tflite(&model, false).expect("TFLite has all of it");
        let back = import_tflite_int8(&written.bytes, "net.tflite").expect("it is whole");
        assert_eq!(written.rounded, 0);
        for (a, b) in model.nodes.iter().zip(&back.nodes) {
            assert_eq!((&a.op, &a.inputs, a.output), (&b.op, &b.inputs, b.output));
        }
    }
    let mut odd = Network::new(
        vec![
            activation("x", &[1, 3, 2, 4], 0.6, 9),
            size,
            activation("y", &[1, 6, 4, 4], 0.6, 9),
        ],
        vec![operator(RESIZE_NEAREST_NEIGHBOR, &[0, 1], &[2])],
        0,
        2,
    );
    odd.operators[0].options = None;
    let mut model = import_tflite_int8(&odd.bytes(), "net.tflite").expect("it is whole");
    let crate::model::Op::ResizeNearest { rows, .. } = &mut model.nodes[0].op else {
        panic!("it is a resizing");
    };
    rows.reverse();
    let e = write_tflite(&model, false).expect_err("no convention turns it over");
    assert!(e.to_string().contains("conventions"), "{e}");
}
