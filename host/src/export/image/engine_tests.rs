//! The host's engine against the portable one that runs the image, on random networks.

use qmend_shared::image::Model;
use rand::prelude::*;

use super::write_image;
use crate::engine::{Engine, Isa};
use crate::model::random::{random_model, random_operator};
use crate::model::{QuantizedModel, TensorId};
use qmend_shared::image::OPERATORS;

fn every_tensor_agrees(model: &QuantizedModel, rng: &mut StdRng, what: &str) {
    let image = write_image(model).unwrap_or_else(|e| panic!("{what}: {e}"));
    let view = Model::from_bytes(&image).unwrap_or_else(|e| panic!("{what}: {e}"));
    let elements = model.tensor(model.input).elements();
    let n = 5;
    let inputs: Vec<i8> = (0..n * elements).map(|_| rng.random()).collect();
    let engines: Vec<Engine> = Isa::available()
        .into_iter()
        .map(|isa| Engine::with_isa(model, isa).unwrap_or_else(|e| panic!("{what}: {e}")))
        .collect();
    let acts: Vec<_> = engines.iter().map(|e| e.activations(&inputs)).collect();
    for (sample, input) in inputs.chunks(elements).enumerate() {
        let mut arena = vec![0x55; view.arena_bytes()];
        let mut output = vec![0; view.output().elements() as usize];
        qmend_shared::engine::run_with(&view, &mut arena, input, &mut output, |index, _, want| {
            let id = model.nodes[index].output;
            for ((engine, acts), isa) in engines.iter().zip(&acts).zip(Isa::available()) {
                let e = engine.elements(id);
                let got = &acts.tensor(id)[sample * e..(sample + 1) * e];
                assert_eq!(
                    got,
                    want,
                    "{what}: node {index} {} on {:?}",
                    model.nodes[index].op.kind(),
                    isa
                );
            }
        })
        .unwrap_or_else(|e| panic!("{what}: {e}"));
        for engine in &engines {
            assert_eq!(engine.run(input), output, "{what}");
        }
    }
    // Kept tensors and a resumed run are the same bytes again.
    let all: Vec<TensorId> = (0..model.tensors.len()).map(TensorId).collect();
    let kept = engines[0].run_keep(&inputs, &all);
    let mut resumed = acts[0].clone();
    resumed.rerun(&engines[0], model.nodes.len() / 2);
    for id in model.nodes.iter().map(|n| n.output) {
        assert_eq!(kept[id.0], acts[0].tensor(id), "{what}");
        assert_eq!(resumed.tensor(id), acts[0].tensor(id), "{what}");
    }
}

#[test]
fn every_operator_gives_the_bytes_of_the_devices_engine() {
    let mut rng = StdRng::seed_from_u64(1);
    for kind in OPERATORS {
        for seed in 0..60 {
            every_tensor_agrees(
                &random_operator(seed, kind),
                &mut rng,
                &format!("{kind} {seed}"),
            );
        }
    }
}

#[test]
fn whole_networks_give_the_bytes_of_the_devices_engine() {
    let mut rng = StdRng::seed_from_u64(2);
    for seed in 0..150 {
        every_tensor_agrees(
            &random_model(1000 + seed, 14),
            &mut rng,
            &format!("network {seed}"),
        );
    }
}
