//! From a float network to a repaired, certified integer model.

use serde_json::Value;

use super::support::*;

#[test]
fn a_users_own_files_go_from_float_to_repaired_and_certified() {
    let dir = quantized("3");
    let at = dir.path();
    let (repair, holdout, test) = (
        images("256..756"),
        images("756..1256"),
        images("5000..6000"),
    );

    let before = json(
        at,
        &["eval", "m.qmend", "--data", &test, "--reference", MODEL],
    );
    assert_eq!(before["n"], 1000);
    let share = |v: &Value| v.as_f64().expect("a number");
    assert!(share(&before["reference"]["accuracy"]) > 0.85, "{before}");
    assert!(
        share(&before["accuracy"]) < share(&before["reference"]["accuracy"]),
        "{before}"
    );

    let found = json(
        at,
        &[
            "localize", MODEL, "m.qmend", "--data", &repair, "--top", "3", "--metric", "dstar",
        ],
    );
    assert_eq!(found["neurons"].as_array().map(Vec::len), Some(3));
    assert!(found["failing"].as_u64() > Some(0), "{found}");

    let mended = json(
        at,
        &[
            "repair",
            MODEL,
            "m.qmend",
            "--data",
            &repair,
            "--holdout",
            &holdout,
            "-o",
            "r.qmend",
            "--certificate",
            "c.json",
            "--time-budget",
            "5",
        ],
    );
    let (r, h) = (&mended["repair"], &mended["holdout"]);
    assert!(
        share(&r["agreement_after"]) > share(&r["agreement_before"]),
        "{mended}"
    );
    assert!(
        share(&h["agreement_after"]) >= share(&h["agreement_before"]),
        "{mended}"
    );

    let proof = json(
        at,
        &[
            "verify",
            "r.qmend",
            "--certificate",
            "c.json",
            "--data",
            &repair,
            "--inputs",
            "20",
        ],
    );
    assert_eq!(
        (&proof["certificate"]["holds"], &proof["identical"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
    assert_eq!(proof["device"]["differing"], 0);

    // The certificate is of the repaired image, and of this data.
    for (model, data) in [("m.qmend", &repair), ("r.qmend", &holdout)] {
        let out = qmend(
            at,
            &[
                "verify",
                model,
                "--certificate",
                "c.json",
                "--data",
                data,
                "--inputs",
                "1",
            ],
        );
        assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
        assert!(
            text(&out.stderr).contains("does not hold"),
            "{}",
            text(&out.stderr)
        );
    }
    let shown = json(at, &["inspect", "c.json"]);
    assert_eq!(shown["certificate"]["tests"], 500);
}
