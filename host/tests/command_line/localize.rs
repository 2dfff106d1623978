//! Rankings of neurons.

use super::support::*;

const FORMULAS: [&str; 7] = [
    "tarantula",
    "ochiai",
    "dstar",
    "jaccard",
    "ample",
    "euclid",
    "wong3",
];

#[test]
fn every_metric_ranks_the_network_and_each_layer() {
    let dir = quantized("3");
    let data = images("256..556");
    let run = |more: &[&str]| {
        let args = ["localize", MODEL, "m.qmend", "--data", &data, "--top", "0"];
        json(dir.path(), &[&args[..], more].concat())
    };
    for metric in FORMULAS {
        let found = run(&["--metric", metric]);
        assert_eq!(found["metric"], metric);
        let neurons = found["neurons"].as_array().expect("neurons");
        // 8, 8, 16, 16 and 32 channels of convolutions, 10 outputs.
        assert_eq!(neurons.len(), 90);
        let score = |n: &serde_json::Value| match &n["scores"][metric] {
            serde_json::Value::String(s) if s == "infinity" => f64::INFINITY,
            v => number(v),
        };
        assert!(
            neurons.windows(2).all(|w| score(&w[0]) >= score(&w[1])),
            "{metric}"
        );
        let tests = number(&found["failing"]) + number(&found["passing"]);
        for (i, n) in neurons.iter().enumerate() {
            assert_eq!(n["rank"], i + 1);
            let counts: f64 = ["caf", "cas", "cnf", "cns"]
                .iter()
                .map(|k| number(&n["spectrum"][k]))
                .sum();
            assert_eq!(counts, tests, "every test counts once: {n}");
        }
        let layers = found["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 6);
        for layer in layers {
            for f in FORMULAS {
                assert!(
                    layer["mean_scores"][f].is_number() && !layer["largest_scores"][f].is_null(),
                    "{layer}"
                );
            }
        }
    }
    let gemm = run(&["--layer", "/fc/Gemm"]);
    let ranks: Vec<u64> = gemm["neurons"]
        .as_array()
        .expect("neurons")
        .iter()
        .map(|n| n["rank_in_layer"].as_u64().expect("a rank"))
        .collect();
    assert_eq!(ranks, (1..=10).collect::<Vec<_>>());
}

#[test]
fn the_random_control_is_drawn_by_its_seed() {
    let dir = quantized("3");
    let order = |seed: &str| {
        let data = images("256..306");
        let args = [
            "localize", MODEL, "m.qmend", "--data", &data, "--metric", "random", "--seed", seed,
        ];
        let neurons = json(dir.path(), &args)["neurons"].clone();
        neurons
            .as_array()
            .expect("neurons")
            .iter()
            .map(|n| (n["node"].clone(), n["channel"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(order("1"), order("1"));
    assert_ne!(order("1"), order("2"));
}
