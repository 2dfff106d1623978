//! Convolutions that run in two parts for want of memory.

use qmend_shared::image::{self as format, ImageError, Memory, Model, Scratch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::tests::{random_input, run_image, with_bytes};
use super::write_image;
use crate::engine::Engine;
use crate::export::plan::plan;
use crate::export::test_models::{convolution_of, model_of};
use crate::model::QuantizedModel;

/// Two convolutions, depthwise or not, over pictures large enough for working memory to find room
/// on them.
fn convolutions(rng: &mut StdRng) -> QuantizedModel {
    let first = [
        rng.random_range(20..40),
        rng.random_range(8..16),
        rng.random_range(2..9),
    ];
    let mut shapes = vec![first];
    let mut nodes = Vec::new();
    for i in 0..2 {
        let depthwise = rng.random_bool(0.2);
        let (conv, shape) = convolution_of(shapes[i], depthwise, rng);
        shapes.push(shape);
        nodes.push(crate::export::test_models::node(conv, &[i], i + 1));
    }
    model_of(&shapes, nodes)
}

#[test]
fn convolutions_in_two_parts_give_the_host_engines_bits() {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut split, mut at_the_bound) = (0, 0);
    for round in 0..150 {
        let model = convolutions(&mut rng);
        let p = plan(&model).unwrap();
        let parts = |m: &Option<Memory>| matches!(m, Some(Memory::Split { .. }));
        split += p.memory.iter().filter(|m| parts(m)).count();
        at_the_bound += (p.arena_bytes == p.lower_bound) as usize;
        let image = write_image(&model).unwrap_or_else(|e| panic!("round {round}: {e}"));
        let engine = Engine::new(&model).unwrap();
        for _ in 0..3 {
            let input = random_input(&model, &mut rng);
            assert_eq!(
                run_image(&image, &input),
                engine.run(&input),
                "round {round}"
            );
        }
    }
    assert!(split > 50, "{split} operators in two parts");
    assert!(
        at_the_bound > 30,
        "{at_the_bound} of 150 arenas no larger than their tensors"
    );
}

#[test]
fn working_memory_of_two_parts_is_refused_where_it_is_needed_for_something_else() {
    let mut split = 0;
    let mut rng = StdRng::seed_from_u64(2);
    for seed in 0..300 {
        let model = convolutions(&mut rng);
        let image = write_image(&model).unwrap();
        let view = Model::from_bytes(&image).unwrap();
        for (i, op) in view.ops().enumerate() {
            let (format::Op::Conv2d(o) | format::Op::DepthwiseConv2d(o)) = op else {
                continue;
            };
            let Some(memory @ Memory::Split { first, rows, rest }) = o.memory() else {
                continue;
            };
            split += 1;
            let (x, y) = (view.tensor(o.input), view.tensor(o.output));
            let at = o.hints.as_ptr().addr() - image.as_ptr().addr();
            let load = |memory: Memory| {
                let mut buffer = [0; Memory::MOST_BYTES];
                let image = with_bytes(&image, at, memory.to_hints(&mut buffer));
                Model::from_bytes(&image).map(|_| ())
            };
            assert_eq!(load(memory), Ok(()), "seed {seed}: unchanged");
            let row = |s: [u16; 3]| s[1] as u32 * s[2] as u32;
            let (needed, _) = o.window.first_row(rows as usize);
            let at = |offset| Scratch { offset, bytes: 1 };
            let first_at = |first| Memory::Split { first, rows, rest };
            let rest_at = |rest| Memory::Split { first, rows, rest };
            let after = |rows| Memory::Split { first, rows, rest };
            for bad in [
                first_at(at(x.offset)),
                first_at(at(y.offset + rows * row(y.shape) - 1)),
                first_at(Scratch { bytes: 0, ..first }),
                rest_at(at(y.offset)),
                rest_at(at(x.offset + needed as u32 * row(x.shape))),
                rest_at(at(view.arena_bytes() as u32)),
                after(0),
                after(y.shape[0] as u32),
            ] {
                match load(bad) {
                    Err(ImageError::Op { index, fault, .. }) => {
                        assert_eq!((index as usize, fault), (i, format::OpFault::Hints));
                    }
                    other => panic!("seed {seed}: {bad:?} gave {other:?}"),
                }
            }
            // What the second part overwrites is gone for every later operator.
            let readers: Vec<_> = view.ops().skip(i + 1).collect();
            assert!(readers.iter().all(|r| r.inputs().all(|t| t != o.input)));
        }
    }
    assert!(split > 100, "{split} operators in two parts");
}
