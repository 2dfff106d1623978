//! Benchmarks that others can repeat.

use std::path::Path;

use serde_json::Value;

use super::support::*;

/// A suite of the example on few images.
fn suite(folder: &Path, name: &str, change: impl Fn(String) -> String) {
    let text = format!(
        r#"
        seeds = [0, 1]
        time_budget = 5
        widths = [3]
        roundings = ["nearest"]
        methods = ["none", "neuron:ochiai:top=3"]
        [localize]
        tops = [1, 0]
        metrics = ["ochiai"]
        draws = 2
        [[model]]
        float = "{MODEL}"
        scale = "1/255"
        [model.data]
        pool = "{IMAGES}:0..500"
        calibration = 50
        repair = 100
        holdout = 100
        test = "rest"
        "#
    );
    put(folder, name, change(text));
}

fn bench(folder: &Path, what: &str, file: &str, more: &[&str]) -> Value {
    let args = [&["bench", what, "--suite", file, "-o", "t.md"], more].concat();
    json(folder, &args)
}

#[test]
fn a_suite_gives_one_table_three_times_and_goes_on_where_it_was_cut_off() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    suite(at, "s.toml", |s| s);
    let first = bench(at, "repair", "s.toml", &[]);
    assert_eq!(
        files(at),
        ["s.toml", "t.csv", "t.json", "t.md", "t.rows.jsonl"]
    );
    let rows = first["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 4);
    for r in rows {
        let n = number(&r["test_samples"]);
        assert_eq!(n, 250.0);
        assert!(
            number(&r["after_accuracy"]) == number(&r["after_correct"]) / n,
            "{r}"
        );
        // Nothing ends below where it began on the holdout set.
        assert!(number(&r["holdout"][1]) >= number(&r["holdout"][0]), "{r}");
    }
    assert_ne!(
        rows[0]["float_correct"], rows[2]["float_correct"],
        "each seed splits anew"
    );
    assert_eq!(first["groups"].as_array().map(Vec::len), Some(2));
    let table = std::fs::read_to_string(at.join("t.csv")).expect("the table");
    assert_eq!(table.lines().count(), 5, "{table}");
    let report = std::fs::read_to_string(at.join("t.md")).expect("the report");
    assert!(
        report.contains("qmend bench repair --suite s.toml"),
        "{report}"
    );

    // Cut off in the middle of the last row.
    let journal = std::fs::read_to_string(at.join("t.rows.jsonl")).expect("the rows");
    put(at, "t.rows.jsonl", &journal[..journal.len() - 20]);
    let out = qmend(
        at,
        &[
            "bench", "repair", "--suite", "s.toml", "-o", "t.md", "--force",
        ],
    );
    let said = text(&out.stderr);
    assert!(
        out.status.success() && said.contains("3 of 4 rows were finished before"),
        "{said}"
    );
    let again = bench(at, "repair", "s.toml", &["--force"]);
    for (a, b) in rows.iter().zip(again["rows"].as_array().expect("rows")) {
        for key in [
            "method",
            "seed",
            "before_correct",
            "after_correct",
            "edits",
            "key",
        ] {
            assert_eq!(a[key], b[key], "{key}");
        }
    }
    // What is there is not replaced without a word.
    refused(
        at,
        &["bench", "repair", "--suite", "s.toml", "-o", "t.md"],
        &["exists already"],
    );
}

#[test]
fn a_sweep_over_neurons_compares_every_metric_with_random_draws() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    suite(at, "s.toml", |s| s);
    let found = bench(at, "localize", "s.toml", &[]);
    let methods: Vec<&str> = found["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|r| r["method"].as_str())
        .collect();
    let wanted = [
        "neuron:ochiai:top=1:seed=0",
        "neuron:random:top=1:seed=0",
        "neuron:random:top=1:seed=1",
        "neuron:ochiai:top=all:seed=0",
    ];
    assert_eq!(methods, wanted);
    let text = std::fs::read_to_string(at.join("t.md")).expect("the report");
    assert!(text.contains("| metric | 1 | all |"), "{text}");
}

#[test]
fn suites_that_cannot_be_run_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    let refuse = |name: &str, change: &dyn Fn(String) -> String, wanted: &[&str]| {
        suite(at, name, change);
        refused(at, &["bench", "repair", "--suite", name], wanted);
    };
    let overlapping =
        |s: String| s.replace("repair = 100", &format!("repair = \"{IMAGES}:0..500\""));
    refuse(
        "a.toml",
        &overlapping,
        &[
            "50 of the 500 repair samples are in the calibration set too",
            "disjoint",
        ],
    );
    let large = |s: String| s.replace("repair = 100", "repair = 1000");
    refuse("b.toml", &large, &["repair set", "500"]);
    let variable = |s: String| s.replace(MODEL, "$QMEND_NO_SUCH_FOLDER/x.onnx");
    refuse("c.toml", &variable, &["QMEND_NO_SUCH_FOLDER", "export"]);
    let word = |s: String| s.replace("\"none\"", "\"nonsense\"");
    refuse("d.toml", &word, &["nonsense"]);
    refuse("e.toml", &|_| "not a suite".into(), &["not a suite"]);
    refused(at, &["bench", "repair"], &["required"]);
}
