//! What is read, what is refused and how, and that no bytes bring the reader down.

use super::builder::*;
use super::schema::{code, options};
use super::{TfliteError, import_tflite_int8};
use crate::engine::Engine;
use crate::model::{Op, Rounding, TensorId};

/// `[1, 4] -> FULLY_CONNECTED -> [1, 2]`.
fn fully_connected() -> Network {
    Network::new(
        vec![
            activation("x", &[1, 4], 0.5, 3),
            constant("w", &[2, 4], &[1, -2, 3, -4, 5, -6, 7, -8], 0.25),
            activation("y", &[1, 2], 0.25, -1),
        ],
        vec![operator(code::FULLY_CONNECTED, &[0, 1], &[2])],
        0,
        2,
    )
}

fn import(n: &Network) -> Result<crate::model::QuantizedModel, TfliteError> {
    import_tflite_int8(&n.bytes(), "net.tflite")
}

#[test]
fn a_fully_connected_layer_is_read_as_written() {
    let model = import(&fully_connected()).expect("it is whole");
    assert_eq!(model.rounding, Rounding::Tflm);
    assert_eq!((model.input, model.output), (TensorId(0), TensorId(1)));
    assert_eq!(
        (model.tensors[0].name.as_str(), model.tensors[0].shape),
        ("x", [1, 1, 4])
    );
    assert_eq!(
        (model.tensors[1].scale, model.tensors[1].zero_point),
        (0.25, -1)
    );
    assert_eq!(model.nodes[0].name, "y");
    let linear = model.nodes[0].op.linear().expect("weights");
    assert_eq!(linear.row(1), [5, -6, 7, -8]);
    assert_eq!((&linear.bias[..], linear.bits), (&[0, 0][..], 8));
    // 0.5 * 0.25 / 0.25 = 0.5, so y = (sum w * (x - 3)) / 2 - 1.
    let y = Engine::new(&model).expect("it runs").run(&[5, 3, 3, 7]);
    assert_eq!(y, [-8, -12]);
}

#[test]
fn old_files_have_their_codes_in_the_deprecated_field() {
    let old = Network {
        old_codes: true,
        ..fully_connected()
    };
    assert_eq!(import(&old), import(&fully_connected()));
}

#[test]
fn float_ends_fall_away() {
    let mut n = fully_connected();
    n.tensors
        .extend([float("in", &[1, 4]), float("out", &[1, 2])]);
    n.operators.insert(0, operator(code::QUANTIZE, &[3], &[0]));
    n.operators.push(operator(code::DEQUANTIZE, &[2], &[4]));
    (n.inputs, n.outputs) = (vec![3], vec![4]);
    let model = import(&n).expect("it is whole");
    assert_eq!(model, import(&fully_connected()).expect("it is whole"));
}

#[test]
fn a_uint8_input_is_the_int8_that_is_128_lower() {
    let mut n = fully_connected();
    n.tensors.push(super::builder::FileTensor {
        element: 3,
        ..activation("bytes", &[1, 4], 0.5, 131)
    });
    n.operators.insert(0, operator(code::QUANTIZE, &[3], &[0]));
    n.inputs = vec![3];
    let model = import(&n).expect("it is whole");
    assert_eq!(model.tensor(model.input).zero_point, 3);
    let y = Engine::new(&model).expect("it runs").run(&[5, 3, 3, 7]);
    assert_eq!(
        y,
        [-8, -12],
        "requantizing to the same scale changes nothing"
    );
}

#[test]
fn all_unsupported_operators_are_listed_at_once_with_a_way_out() {
    let mut n = fully_connected();
    n.tensors.extend([
        activation("doubled", &[1, 2], 0.25, 0),
        activation("squashed", &[1, 2], 0.1, 0),
        activation("clipped", &[1, 2], 0.2, 0),
    ]);
    n.operators.push(operator(26, &[2], &[3]));
    n.operators.push(operator(code::LOGISTIC, &[3], &[4]));
    n.operators.push(operator(code::RELU, &[4], &[5]));
    n.outputs = vec![5];
    let error = import(&n).expect_err("SPACE_TO_DEPTH is not supported");
    let text = error.to_string();
    let TfliteError::Unsupported { operators, .. } = error else {
        panic!("{text}")
    };
    let listed: Vec<(usize, &str, &str)> = operators
        .iter()
        .map(|o| (o.index, o.operator.as_str(), o.output.as_str()))
        .collect();
    assert_eq!(
        listed,
        [
            (1, "SPACE_TO_DEPTH", "doubled"),
            (2, "LOGISTIC", "squashed")
        ]
    );
    for part in [
        "net.tflite: 2 of its operators",
        "operator 1 `doubled` (SPACE_TO_DEPTH, inputs [1, 2])",
        "zero point -128",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(operators.iter().all(|o| !o.remedy.is_empty()));
}

#[test]
fn float_and_hybrid_networks_are_told_apart_from_unsupported_ones() {
    let mut n = fully_connected();
    n.tensors[0] = float("x", &[1, 4]);
    n.tensors[2] = float("y", &[1, 2]);
    let error = import(&n).expect_err("it is not int8");
    assert_eq!(
        error,
        TfliteError::NotInt8 {
            file: "net.tflite".into(),
            kind: "float32".into()
        }
    );
}

#[test]
fn several_inputs_or_subgraphs_are_refused_by_name() {
    let two = Network {
        inputs: vec![0, 2],
        ..fully_connected()
    };
    let names = vec!["`x`".to_string(), "`y`".to_string()];
    assert_eq!(
        import(&two),
        Err(TfliteError::Ends {
            file: "net.tflite".into(),
            what: "input",
            names
        })
    );
    let graphs = Network {
        subgraphs: 2,
        ..fully_connected()
    };
    assert_eq!(
        import(&graphs),
        Err(TfliteError::Subgraphs {
            file: "net.tflite".into(),
            count: 2
        })
    );
}

/// Changes one thing in a whole network and expects an error that holds some words.
fn refused(words: &str, change: impl Fn(&mut Network)) {
    let mut n = fully_connected();
    change(&mut n);
    let error = import(&n).expect_err(words).to_string();
    assert!(
        error.contains(words) && error.contains("net.tflite"),
        "{words:?} is not in {error:?}"
    );
}

#[test]
fn contradictions_are_refused_with_their_reason() {
    refused("schema version 2", |n| n.version = 2);
    refused("tensor 9, which does not exist", |n| {
        n.operators[0].inputs[0] = 9
    });
    refused("before anything has written it", |n| {
        n.operators[0].inputs[0] = 2
    });
    refused("tensor -7", |n| n.outputs = vec![-7]);
    refused("shape [2, 5] and 8 bytes", |n| {
        n.tensors[1].shape = vec![2, 5]
    });
    refused("do not lead from", |n| n.tensors[1].shape = vec![4, 2]);
    refused("`w` have 3 scales for 2 channels", |n| {
        n.tensors[1].scales = vec![0.1; 3]
    });
    refused("scales along axis 1", |n| {
        n.tensors[1].scales = vec![0.1; 2];
        n.tensors[1].axis = 1;
    });
    refused("zero point of 4", |n| n.tensors[1].zero_points = vec![4]);
    refused("the batch, is not 1", |n| {
        n.tensors[2].shape = vec![2, 1, 1, 1]
    });
    refused("not fixed, or empty", |n| n.tensors[2].shape = vec![1, -1]);
    refused("more than four axes", |n| n.tensors[2].shape = vec![1; 5]);
    refused("`y` has scale NaN", |n| {
        n.tensors[2].scales = vec![f32::NAN]
    });
    refused("zero point 128", |n| n.tensors[2].zero_points = vec![128]);
    refused("0 scales instead of one", |n| n.tensors[2].scales.clear());
    refused("written twice", |n| {
        n.operators.push(n.operators[0].clone())
    });
    refused("options of kind 1 instead of 8", |n| {
        n.operators[0].options = Some((options::CONV_2D, vec![]))
    });
    refused("activation is TANH (4)", |n| {
        n.operators[0].options = Some((options::FULLY_CONNECTED, vec![(0, Value::I8(4))]));
    });
    refused("weights are shuffled", |n| {
        n.operators[0].options = Some((options::FULLY_CONNECTED, vec![(1, Value::I8(1))]));
    });
    refused("not in 0..2^30", |n| n.tensors[2].scales = vec![1e-30]);
    refused("exceeds the importer's limit", |n| {
        n.tensors[0].shape = vec![1, 1 << 15, 1 << 15, 4];
        n.operators[0].code = code::RESHAPE;
    });
    refused(
        "its constant `w` of shape [2, 4] differs by more than the channel",
        |n| {
            n.operators[0].code = code::ADD;
            n.operators[0].options = Some((options::ADD, vec![]));
        },
    );
    refused("computed while the network runs", |n| {
        n.tensors[1].data = None
    });
}

#[test]
fn weights_that_many_operators_share_are_bounded_in_all() {
    // 2 MB of weights behind 40 operators would make 80 MB.
    let side = 1 << 21;
    let mut n = fully_connected();
    n.tensors = vec![
        activation("x", &[1, side], 0.5, 0),
        constant("w", &[1, side], &vec![0; side as usize], 0.25),
    ];
    n.operators.clear();
    for i in 0..40 {
        n.tensors
            .push(activation(&format!("y{i}"), &[1, 1], 0.5, 0));
        n.operators
            .push(operator(code::FULLY_CONNECTED, &[0, 1], &[i + 2]));
    }
    let error = import(&n).expect_err("it is too large");
    assert!(
        matches!(
            error,
            TfliteError::TooLarge {
                what: "its number of weights",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn an_f32_option_is_read() {
    let mut n = fully_connected();
    n.tensors.push(activation("z", &[1, 2], 0.25, -1));
    let options = Some((options::LEAKY_RELU, vec![(0, Value::F32(0.5))]));
    n.operators.push(super::builder::FileOperator {
        options,
        ..operator(code::LEAKY_RELU, &[2], &[3])
    });
    n.operators[0].options = Some((
        options::FULLY_CONNECTED,
        vec![(0, Value::I8(0)), (2, Value::I32(0))],
    ));
    n.outputs = vec![3];
    let model = import(&n).expect("it is whole");
    let Op::Lut { table } = &model.nodes[1].op else {
        panic!("a table")
    };
    assert_eq!(
        (table[128 + 9], table[128 - 1], table[128 - 9]),
        (9, -1, -5)
    );
}

#[test]
fn no_cut_or_mutation_brings_the_reader_down() {
    let mut n = fully_connected();
    n.tensors.push(activation("z", &[1, 2], 1.0 / 256.0, -128));
    let options = Some((options::SOFTMAX, vec![(0, Value::F32(1.0))]));
    n.operators.push(super::builder::FileOperator {
        options,
        ..operator(code::SOFTMAX, &[2], &[3])
    });
    n.outputs = vec![3];
    let bytes = n.bytes();
    assert!(import_tflite_int8(&bytes, "whole").is_ok());
    for cut in 0..bytes.len() {
        let _ = import_tflite_int8(&bytes[..cut], "cut");
    }
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    let mut refused = 0;
    for _ in 0..5000 {
        let mut copy = bytes.clone();
        for _ in 0..1 + next() % 3 {
            let at = next() % copy.len();
            copy[at] = [0, 1, 0x7f, 0x80, 0xff, next() as u8][next() % 6];
        }
        match import_tflite_int8(&copy, "damaged") {
            Ok(model) => {
                let _ = Engine::new(&model);
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1000, "{refused}");
    for _ in 0..2000 {
        let noise: Vec<u8> = (0..next() % 300)
            .map(|i| {
                if (4..8).contains(&i) {
                    b"TFL3"[i - 4]
                } else {
                    next() as u8
                }
            })
            .collect();
        assert!(import_tflite_int8(&noise, "noise").is_err());
    }
}
