//! The embedded example.

use serde_json::Value;

use super::support::*;

#[test]
fn the_demo_walks_the_road_and_leaves_its_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let args = [
        "demo",
        "--out",
        "d",
        "--device",
        "host",
        "--inputs",
        "5",
        "--time-budget",
        "20",
    ];
    let d = json(dir.path(), &args);
    let share = |key: &str| d[key].as_f64().unwrap_or_else(|| panic!("{key} in {d}"));
    assert_eq!(d["test_size"], 4744);
    assert!(share("float_accuracy") > 0.88, "{d}");
    let widths = d["widths"].as_array().expect("one object a width");
    assert_eq!(widths.len(), 4);
    let gain = |w: &Value| {
        let share = |key: &str| w[key].as_f64().unwrap_or_else(|| panic!("{key} in {w}"));
        share("repaired_accuracy") - share("quantized_accuracy")
    };
    // How far a repair gets depends on the machine's speed; that it never harms does not.
    assert!(widths.iter().all(|w| gain(w) > -0.005), "{d}");
    assert!(widths.iter().any(|w| gain(w) > 0.02), "{d}");
    assert_eq!(
        (&d["device"]["differing"], &d["device"]["inputs"]),
        (&Value::from(0), &Value::from(5))
    );
    for key in ["name", "instructions"] {
        assert!(d["device"].get(key).is_some(), "{key} in {d}");
    }
    assert!(share("seconds") > 0.0);
    assert_eq!(d["certificate"]["holds"], true);
    for file in d["files"].as_array().expect("files") {
        let path = dir.path().join(file.as_str().expect("a path"));
        assert!(
            path.metadata().is_ok_and(|m| m.len() > 0),
            "{}",
            path.display()
        );
    }
}
