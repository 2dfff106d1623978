//! Images of random networks: back and forth, and against every kind of damage.

use qmend_shared::engine;
use qmend_shared::image::{self as format, Header, ImageError, Model, Scratch};
use qmend_shared::weights::Layout;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{naive, read_image, write_image, write_image_in};
use crate::engine::Engine;
use crate::export::ExportError;
use crate::export::test_models::{identity, model_of};
use crate::model::random::{random_model, random_operator};
use crate::model::{
    FullyConnected, Linear, Multiplier, Node, Op, QuantizedModel, Tensor, TensorId,
};
use qmend_shared::image::OPERATORS;

pub(super) fn run_image(image: &[u8], input: &[i8]) -> Vec<i8> {
    let model = Model::from_bytes(image).unwrap();
    let mut arena = vec![0x55; model.arena_bytes()];
    let mut output = vec![0; model.output().elements() as usize];
    engine::run(&model, &mut arena, input, &mut output).unwrap();
    output
}

pub(super) fn random_input(model: &QuantizedModel, rng: &mut StdRng) -> Vec<i8> {
    let mut input = vec![0i8; model.tensor(model.input).elements()];
    rng.fill(&mut input[..]);
    input
}

#[test]
fn what_was_written_is_read_back() {
    for seed in 0..200 {
        let model = random_model(seed, 12);
        let image = write_image(&model).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(read_image(&image).unwrap(), model, "seed {seed}");
    }
}

#[test]
fn both_layouts_hold_the_same_model_and_give_the_same_outputs() {
    let mut rng = StdRng::seed_from_u64(11);
    for seed in 0..100 {
        let model = random_model(seed, 12);
        let [rows, halfwords] =
            [Layout::Rows, Layout::Halfwords].map(|layout| write_image_in(&model, layout).unwrap());
        assert_eq!(Model::from_bytes(&rows).unwrap().layout(), Layout::Rows);
        assert_eq!(read_image(&rows).unwrap(), model, "seed {seed}");
        assert_eq!(rows.len(), halfwords.len());
        let input = random_input(&model, &mut rng);
        assert_eq!(run_image(&rows, &input), run_image(&halfwords, &input));
    }
}

/// Runs the image and compares every operator's output with [`naive`]; the output's values.
fn compare_with_naive(model: &QuantizedModel, input: &[i8], what: &str) -> Vec<i8> {
    let image = write_image(model).unwrap_or_else(|e| panic!("{what}: {e}"));
    let view = Model::from_bytes(&image).unwrap();
    let mut arena = vec![0x55; view.arena_bytes()];
    let mut output = vec![0; view.output().elements() as usize];
    // Node by node from the kernels' own values: a softmax may be one off the naive one.
    let mut values = vec![Vec::new(); model.tensors.len()];
    values[model.input.0] = input.to_vec();
    engine::run_with(&view, &mut arena, input, &mut output, |index, _, got| {
        let node = &model.nodes[index];
        let want = naive::node(model, index, &values);
        let allowed = if matches!(node.op, Op::Softmax { .. }) {
            1
        } else {
            0
        };
        for (i, (&g, &w)) in got.iter().zip(&want).enumerate() {
            let off = (g as i32 - w as i32).abs();
            assert!(
                off <= allowed,
                "{what}: node '{}' element {i} is {g} instead of {w}",
                node.name
            );
        }
        assert_eq!(got.len(), want.len(), "{what}");
        values[node.output.0] = got.to_vec();
    })
    .unwrap();
    output
}

#[test]
fn every_operator_gives_the_bits_of_the_definition() {
    let mut rng = StdRng::seed_from_u64(3);
    for kind in OPERATORS {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..200 {
            let model = random_operator(seed, kind);
            let input = random_input(&model, &mut rng);
            seen.extend(compare_with_naive(
                &model,
                &input,
                &format!("{kind} {seed}"),
            ));
        }
        assert!(
            seen.len() > 100,
            "{kind}: the outputs take only {} values",
            seen.len()
        );
    }
}

#[test]
fn whole_random_networks_give_the_bits_of_the_definition() {
    let mut rng = StdRng::seed_from_u64(4);
    for seed in 1000..1300 {
        let model = random_model(seed, 15);
        let input = random_input(&model, &mut rng);
        compare_with_naive(&model, &input, &format!("network {seed}"));
    }
}

#[test]
fn the_devices_engine_gives_the_host_engines_bits() {
    let mut rng = StdRng::seed_from_u64(9);
    let operators = OPERATORS
        .iter()
        .flat_map(|k| (500..560).map(|seed| random_operator(seed, k)));
    for model in operators.chain((2000..2200).map(|seed| random_model(seed, 15))) {
        let host = Engine::new(&model).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        let image = write_image(&model).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        let inputs: Vec<i8> = (0..3)
            .flat_map(|_| random_input(&model, &mut rng))
            .collect();
        let each = inputs.chunks(inputs.len() / 3);
        let device: Vec<i8> = each.flat_map(|x| run_image(&image, x)).collect();
        assert_eq!(device, host.run(&inputs), "{}", model.name);
    }
}

#[test]
fn an_image_in_a_larger_slot_is_found_and_its_bytes_are_those_written() {
    let image = write_image(&random_model(5, 6)).unwrap();
    let mut slot = image.clone();
    slot.extend([0xff; 100]);
    assert_eq!(Model::from_slot(&slot).unwrap().bytes(), image);
    assert!(matches!(
        Model::from_bytes(&slot),
        Err(ImageError::Length { .. })
    ));
}

#[test]
fn every_single_flipped_bit_of_a_small_image_is_refused() {
    let mut image = write_image(&random_operator(1, "FullyConnected")).unwrap();
    for bit in 0..image.len() * 8 {
        image[bit / 8] ^= 1 << (bit % 8);
        assert!(Model::from_bytes(&image).is_err(), "bit {bit}");
        assert!(Model::from_slot(&image).is_err(), "bit {bit}, as a slot");
        image[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(Model::from_bytes(&image).is_ok());
}

#[test]
fn a_thousand_random_flips_are_all_refused() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut image = write_image(&random_model(77, 20)).unwrap();
    for _ in 0..1000 {
        let (at, bit) = (rng.random_range(0..image.len()), rng.random_range(0..8));
        image[at] ^= 1 << bit;
        assert!(Model::from_bytes(&image).is_err());
        image[at] ^= 1 << bit;
    }
}

#[test]
fn every_truncation_is_refused() {
    let image = write_image(&random_model(6, 8)).unwrap();
    for len in 0..image.len() {
        assert!(Model::from_bytes(&image[..len]).is_err());
    }
}

/// Damage with a CRC that agrees: what an attacker, or a faulty writer, could send.
#[test]
fn damaged_payloads_with_a_right_crc_are_refused_or_run_without_a_panic() {
    let mut rng = StdRng::seed_from_u64(6);
    let (mut refused, mut ran) = (0, 0);
    for round in 0..6000 {
        let good = write_image(&random_model(round % 40, 8)).unwrap();
        let mut payload = good[16..].to_vec();
        // Most of an image is weights, which may have any value: aim at the front as well.
        let reach = if rng.random() {
            payload.len()
        } else {
            payload.len().min(400)
        };
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..reach);
            payload[at] = if rng.random() {
                rng.random()
            } else {
                payload[at] ^ (1 << rng.random_range(0..8))
            };
        }
        let header =
            Header::for_payload(crate::model::Rounding::Tflm, Layout::default(), &payload).unwrap();
        let image = [&header.to_bytes()[..], &payload].concat();
        let Ok(model) = Model::from_bytes(&image) else {
            refused += 1;
            continue;
        };
        ran += 1;
        if model.arena_bytes() < 1 << 24 {
            let input = vec![-7; model.input().elements() as usize];
            run_image(&image, &input);
        }
        // Reading may refuse scales or notes, but must not panic; what it gives can be written.
        if let Ok(read) = read_image(&image) {
            let again = write_image(&read).unwrap_or_else(|e| panic!("round {round}: {e}"));
            assert_eq!(read_image(&again).unwrap(), read);
        }
    }
    assert!(refused > 1000 && ran > 500, "{refused} refused, {ran} ran");
}

/// The image with these hints in place of those that start at `at`, its check sum set right.
fn with_hints(image: &[u8], at: usize, scratch: Scratch) -> Vec<u8> {
    with_bytes(image, at, &scratch.to_bytes())
}

pub(super) fn with_bytes(image: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut payload = image[16..].to_vec();
    payload[at - 16..][..bytes.len()].copy_from_slice(bytes);
    let view = Model::from_bytes(image).unwrap();
    let header = Header::for_payload(view.rounding(), view.layout(), &payload).unwrap();
    [&header.to_bytes()[..], &payload].concat()
}

#[test]
fn working_memory_that_would_overwrite_a_tensor_is_refused() {
    let (mut operands, mut living, mut outside) = (0, 0, 0);
    for seed in 0..600 {
        let image = write_image(&random_model(seed, 12)).unwrap();
        let view = Model::from_bytes(&image).unwrap();
        let ops: Vec<_> = view.ops().collect();
        for (i, op) in ops.iter().enumerate() {
            let hints = match op {
                format::Op::Conv2d(o) | format::Op::DepthwiseConv2d(o) => o.hints,
                format::Op::FullyConnected(o) => o.hints,
                _ => continue,
            };
            let Some(scratch) = op.memory().and_then(|m| m.pieces().next()) else {
                continue;
            };
            let at = hints.as_ptr().addr() - image.as_ptr().addr();
            let damaged = |scratch| Model::from_bytes(&with_hints(&image, at, scratch)).map(|_| ());
            assert_eq!(damaged(scratch), Ok(()), "seed {seed}: unchanged");
            let fault = |scratch| match damaged(scratch) {
                Err(ImageError::Op { index, fault, .. }) => (index as usize, fault),
                other => panic!("seed {seed}: {other:?}"),
            };
            let on = |tensor| Scratch {
                offset: view.tensor(tensor).offset,
                bytes: 1,
            };
            for id in op.inputs().chain([op.output()]) {
                assert_eq!(fault(on(id)), (i, format::OpFault::Hints));
                operands += 1;
            }
            for bad in [
                Scratch {
                    bytes: 0,
                    ..scratch
                },
                Scratch {
                    offset: view.arena_bytes() as u32,
                    bytes: 1,
                },
                Scratch {
                    offset: u32::MAX,
                    bytes: u32::MAX,
                },
            ] {
                assert_eq!(fault(bad), (i, format::OpFault::Hints));
                outside += 1;
            }
            // Tensors that were written before and are read after this operator, and whose place is
            // not an operand's as well.
            let before =
                |id| id == view.manifest().input || ops[..i].iter().any(|o| o.output() == id);
            let read = |o: &format::Op, id| o.inputs().any(|input| input == id);
            for id in 0..view.tensor_count() as u16 {
                let place = view.tensor(id).offset;
                let shares = op
                    .inputs()
                    .chain([op.output()])
                    .any(|t| view.tensor(t).overlaps(place as u64, 1));
                if before(id) && !shares && ops[i + 1..].iter().any(|o| read(o, id)) {
                    let (later, fault) = fault(on(id));
                    assert!(later > i, "seed {seed}");
                    assert_eq!(fault, format::OpFault::NotThere(id));
                    living += 1;
                }
            }
        }
    }
    assert!(
        operands > 500 && outside > 500 && living >= 4,
        "{operands} operands, {outside} outside, {living} living"
    );
}

#[test]
fn random_bytes_are_refused() {
    let mut rng = StdRng::seed_from_u64(8);
    for _ in 0..5000 {
        let mut payload = vec![0u8; rng.random_range(0..200)];
        rng.fill(&mut payload[..]);
        let header =
            Header::for_payload(crate::model::Rounding::Tflm, Layout::default(), &payload).unwrap();
        assert!(Model::from_bytes(&payload).is_err());
        assert!(Model::from_bytes(&[&header.to_bytes()[..], &payload].concat()).is_err());
    }
}

#[test]
fn an_accumulator_that_could_overflow_is_refused_with_the_nodes_name() {
    let mut model = random_operator(2, "FullyConnected");
    let linear = model.nodes[0].op.linear_mut().unwrap();
    linear.bias[0] = i32::MAX;
    linear.weights[0] = 1;
    let error = write_image(&model).unwrap_err();
    assert!(matches!(error, ExportError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("FullyConnected 0"), "{error}");
    assert!(
        error.to_string().contains("might not fit in 32 bits"),
        "{error}"
    );
}

#[test]
fn models_that_do_not_fit_the_format_are_refused_with_a_reason() {
    let wide = model_of(&[[1, 1, 70_000]; 2], vec![identity(0, 1)]);
    assert!(
        write_image(&wide)
            .unwrap_err()
            .to_string()
            .contains("longer than 65535")
    );

    let shape = model_of(&[[2, 2, 1], [3, 2, 1]], vec![identity(0, 1)]);
    assert!(
        write_image(&shape)
            .unwrap_err()
            .to_string()
            .contains("do not give [3, 2, 1]")
    );

    let mut weight = random_operator(3, "Conv2d");
    let linear = weight.nodes[0].op.linear_mut().unwrap();
    linear.bits = 2;
    linear.weights[0] = 5;
    assert!(
        write_image(&weight)
            .unwrap_err()
            .to_string()
            .contains("weight 5 at column 0 does not fit in 2 bits")
    );

    let mut scale = model_of(&[[1, 1, 1]; 2], vec![identity(0, 1)]);
    scale.tensors[1].scale = f32::NAN;
    assert!(
        write_image(&scale)
            .unwrap_err()
            .to_string()
            .contains("positive and finite")
    );

    let mut multiplier = random_operator(4, "Requantize");
    multiplier.nodes[0].op = Op::Requantize {
        multiplier: Multiplier {
            mantissa: 5,
            exponent: 0,
        },
    };
    assert!(
        write_image(&multiplier)
            .unwrap_err()
            .to_string()
            .contains("multiplier 0 is out of range")
    );
}

/// The image that `shared/FORMAT.md` takes apart.
fn example() -> QuantizedModel {
    let tensor = |name: &str, channels, scale, zero_point| Tensor {
        name: name.into(),
        shape: [1, 1, channels],
        scale,
        zero_point,
    };
    let linear = Linear {
        weights: vec![1, -2, 3, -4, 0, 2],
        bits: 3,
        bias: vec![10, -5],
        multipliers: vec![
            Multiplier {
                mantissa: 1 << 30,
                exponent: 0,
            },
            Multiplier {
                mantissa: 3 << 29,
                exponent: -1,
            },
        ],
        act_min: -128,
        act_max: 100,
    };
    let mut model = model_of(&[[1, 1, 1]], Vec::new());
    model.name = "tiny".into();
    model.tensors = vec![tensor("x", 3, 0.5, -1), tensor("y", 2, 0.25, 2)];
    let op = Op::FullyConnected(FullyConnected { linear });
    model.nodes = vec![Node {
        name: "fc".into(),
        op,
        inputs: vec![TensorId(0)],
        output: TensorId(1),
    }];
    model.output = TensorId(1);
    model
}

/// Bytes in hexadecimal behind an offset and a colon, up to a bar.
fn bytes_of_dump(text: &str) -> Vec<u8> {
    let lines = text.lines().filter_map(|l| l.split_once(": "));
    lines
        .flat_map(|(_, rest)| rest.split('|').next().unwrap().split_whitespace())
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect()
}

#[test]
fn the_example_in_the_formats_book_is_what_is_written() {
    let book = include_str!("../../../../shared/FORMAT.md");
    let dump = book
        .split("```dump\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let image = write_image(&example()).unwrap();
    let hex = |b: &[u8]| {
        b.chunks(16)
            .map(|l| format!("{l:02x?}\n"))
            .collect::<String>()
    };
    assert_eq!(hex(&bytes_of_dump(dump)), hex(&image));
    assert_eq!(run_image(&image, &[4, -3, 0]), [13, -7]);
}
