//! Certificates that say what is not so.

use serde_json::Value;

use super::support::*;

#[test]
fn a_certificate_that_was_changed_does_not_hold() {
    let dir = quantized("3");
    let at = dir.path();
    let (data, holdout) = (images("0..200"), images("200..400"));
    let mended = json(
        at,
        &[
            "repair",
            MODEL,
            "m.qmend",
            "--data",
            &data,
            "--holdout",
            &holdout,
            "-o",
            "r.qmend",
            "--certificate",
            "c.json",
            // One sweep that mends much and breaks some.
            "--strategy",
            "layer",
            "--time-budget",
            "2",
            "--robust",
            "1",
        ],
    );
    assert!(mended["robust"]["certified"].is_u64(), "{mended}");
    for key in ["repair", "holdout"] {
        assert!(
            number(&mended[key]["agreement_after"]) >= number(&mended[key]["agreement_before"])
        );
    }
    for key in ["biases", "multipliers", "weights"] {
        assert!(mended["edits"][key].is_u64(), "{mended}");
    }
    assert!(
        mended["unfixable"].is_u64() && number(&mended["seconds"]) > 0.0,
        "{mended}"
    );

    let good: Value =
        serde_json::from_slice(&std::fs::read(at.join("c.json")).expect("it")).expect("JSON");
    let verify = |certificate: &Value, code: i32| {
        put(at, "t.json", certificate.to_string());
        let args = [
            "verify",
            "r.qmend",
            "--certificate",
            "t.json",
            "--data",
            &data,
            "--inputs",
            "2",
            "--original",
            "m.qmend",
        ];
        let out = qmend(at, &[&args[..], &["--json"]].concat());
        assert_eq!(out.status.code(), Some(code), "{}", text(&out.stderr));
        serde_json::from_slice::<Value>(&out.stdout).expect("one JSON object")
    };
    let held = verify(&good, 0);
    assert_eq!(held["certificate"]["holds"], true);
    assert_eq!(held["certificate"]["on_device"], 2);
    assert_eq!(held["certificate"]["original_replayed"], true);
    assert!(
        good["repaired"].as_array().is_some_and(|r| !r.is_empty()),
        "{good}"
    );

    type Change = fn(&mut Value);
    let changes: [(&str, Change); 15] = [
        ("a logit", |c| c["repaired"][0]["logits"][0] = 127.into()),
        ("the class after", |c| c["repaired"][0]["after"] = 77.into()),
        ("the target", |c| c["repaired"][0]["target"] = 77.into()),
        ("the class before", |c| {
            c["repaired"][0]["before"] = c["repaired"][0]["target"].clone()
        }),
        ("the test", |c| c["repaired"][0]["test"] = 99_999.into()),
        ("no repaired tests", |c| {
            c["repaired"] = Value::Array(vec![])
        }),
        ("the passing tests", |c| c["passing"][1] = 200.into()),
        ("the failing tests", |c| {
            c["unfixable"] = Value::Array(vec![])
        }),
        ("a lost test more", |c| {
            let repaired = c["repaired"][0]["test"].clone();
            c["lost"].as_array_mut().expect("a list").push(repaired);
        }),
        ("the holdout tests", |c| {
            c["holdout_passing"][1] = 201.into()
        }),
        // A lie that is consistent in itself: a lost test is called one that always failed. The
        // class before gives it away without the data.
        ("a lost test fewer", |c| {
            let lost = c["lost"].as_array_mut().expect("a list");
            assert!(!lost.is_empty(), "the repair should have lost some test");
            lost.pop();
            c["passing"][0] = (c["passing"][0].as_u64().expect("a count") - 1).into();
        }),
        ("a class before", |c| {
            let other = (c["classes"]["before"][0].as_u64().expect("a class") + 1) % 10;
            c["classes"]["before"][0] = other.into();
        }),
        ("the boxes", |c| {
            c["robust"]["certified"] = 0.into();
            c["repaired"][0]["robust_steps"] = 200.into();
        }),
        ("the image", |c| c["image_sha256"] = "0".repeat(64).into()),
        ("the inputs", |c| c["inputs_sha256"] = "0".repeat(64).into()),
    ];
    for (what, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(bad, good, "{what}");
        let found = verify(&bad, 1);
        assert_eq!(found["certificate"]["holds"], false, "{what}: {found}");
    }
    let mut newer = good.clone();
    newer["schema"] = 3.into();
    assert!(
        verify(&newer, 2)["error"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("schema 3"))
    );
}
