//! int8 .tflite files against the runtimes themselves: `python/tflm_bits.py` runs TFLM's and
//! LiteRT's reference kernels on inputs of noise and extremes, and every output element is compared
//! with the host engine's under the rule of each.

use std::path::{Path, PathBuf};
use std::process::Command;

use qmend::engine::Engine;
use qmend::import::tflite::import_tflite_int8_as;
use qmend::model::{QuantizedModel, Rounding};
use qmend_tests::golden::{Arrays, same};
use qmend_tests::litert;
use qmend_tests::random_model::random_inputs;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/models");
const OPERATORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/fixtures/tflite_operators/operators.npz"
);
const RULES: [(&str, Rounding); 2] = [
    ("tflm", Rounding::Tflm),
    ("litert", Rounding::LiteRtReference),
];
/// Inputs of each network.
const SAMPLES: usize = 100;

/// A Python that has both runtimes, or `None` (said aloud).
fn python(test: &str) -> Option<PathBuf> {
    let python = litert::python(test)?;
    let both = Command::new(&python)
        .args(["-c", "import tflite_micro.python.tflite_micro.runtime"])
        .output()
        .is_ok_and(|o| o.status.success());
    if !both {
        println!(
            "SKIPPED: {test}: no Python with tflite-micro, so nothing was compared with TFLM; run tests/python/setup.sh"
        );
    }
    both.then_some(python)
}

/// A runtime's outputs; `None` where it refuses the network.
fn outputs(
    python: &Path,
    runtime: &str,
    file: &[u8],
    model: &QuantizedModel,
    inputs: &[i8],
) -> Option<Vec<i8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("net.tflite"), file).expect("written");
    let bytes: Vec<u8> = inputs.iter().map(|q| *q as u8).collect();
    std::fs::write(at("inputs"), bytes).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/tflm_bits.py");
    let mut command = Command::new(python);
    command.arg(script).args(["--run", runtime]).args([
        at("net.tflite"),
        at("inputs"),
        at("outputs"),
    ]);
    for end in [model.input, model.output] {
        let t = model.tensor(end);
        command.args([t.scale.to_string(), t.zero_point.to_string()]);
    }
    let out = command.output().expect("Python starts");
    let said = String::from_utf8_lossy(&out.stderr);
    match out.status.code() {
        Some(0) => {}
        Some(4) => {
            println!("{runtime} refuses {}", model.name);
            return None;
        }
        other => panic!("{runtime} ended with {other:?}: {said}"),
    }
    let outputs = std::fs::read(at("outputs")).expect("outputs");
    Some(outputs.into_iter().map(|b| b as i8).collect())
}

/// Elements compared with each runtime: none may differ.
fn compare(python: &Path, name: &str, file: &[u8]) -> [usize; 2] {
    RULES.map(|(runtime, rounding)| {
        let model = import_tflite_int8_as(file, name, rounding).unwrap_or_else(|e| panic!("{e}"));
        let inputs = random_inputs(&model, SAMPLES, 11);
        let Some(theirs) = outputs(python, runtime, file, &model, &inputs) else {
            return 0;
        };
        let ours = Engine::new(&model)
            .unwrap_or_else(|e| panic!("{name}: {e}"))
            .run(&inputs);
        let n = same(&format!("{name} in {runtime}"), &theirs, &ours);
        println!("{name}: 0 of {n} outputs differ from {runtime} ({SAMPLES} inputs)");
        n
    })
}

#[test]
fn int8_networks_from_the_field_give_the_bits_of_tflm_and_of_litert() {
    let test = "int8 networks in TFLM and LiteRT";
    let Ok(folder) = std::fs::read_dir(DATA) else {
        println!("SKIPPED: {test}: {DATA} is absent");
        return;
    };
    let Some(python) = python(test) else { return };
    let mut paths: Vec<PathBuf> = folder
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|p| p.to_string_lossy().ends_with("_int8.tflite"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{DATA} holds no int8 network");
    for path in paths {
        let file = std::fs::read(&path).expect("readable");
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        let [tflm, litert] = compare(&python, &name.unwrap_or_default(), &file);
        assert!(tflm > 0 && litert > 0, "both runtimes take it");
    }
}

#[test]
fn networks_with_several_operators_give_the_bits_of_the_installed_runtimes() {
    let test = "operators in TFLM and LiteRT";
    let Some(python) = python(test) else { return };
    let mut arrays = Arrays::open(Path::new(OPERATORS));
    // Those with several operators, repeated or constant operands, several vectors, uint8 ends.
    for name in [
        "mul_0",
        "mul_repeated_1",
        "sub_constant_channels_0",
        "add_repeated_over_channels",
        "fully_connected_of_vectors_0",
        "fully_connected_of_vectors_3",
        "fully_connected_quotient_0",
        "resize_nearest_neighbor_6",
        "uint8_ends_1",
    ] {
        let file = arrays.bytes(&format!("{name}.network"));
        let [tflm, litert] = compare(&python, name, &file);
        assert!(tflm > 0 && litert > 0, "both runtimes take {name}");
    }
}
