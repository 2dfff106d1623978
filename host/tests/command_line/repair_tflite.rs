//! Pairs from elsewhere: an int8 .tflite that is repaired stays the file that it was.

use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use super::support::*;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

/// A flatbuffer read just so far as a test needs it, by its format and not by the product's reader.
#[derive(Clone, Copy)]
struct Table<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Table<'b> {
    fn root(bytes: &'b [u8]) -> Self {
        let at = u32_at(bytes, 0);
        Table { bytes, at }
    }

    /// Where a field stands.
    fn field(&self, number: usize) -> Option<usize> {
        let vtable = self.at - u32_at(self.bytes, self.at) as i32 as usize;
        let length = usize::from(u16_at(self.bytes, vtable));
        let slot = 4 + 2 * number;
        let offset = usize::from(u16_at(self.bytes, vtable + slot.min(length - 2)));
        (slot < length && offset > 0).then_some(self.at + offset)
    }

    fn number(&self, field: usize) -> u32 {
        self.field(field)
            .map_or(0, |at| u32_at(self.bytes, at) as u32)
    }

    /// Start of a vector's elements, and their number.
    fn vector(&self, field: usize) -> (usize, usize) {
        let Some(at) = self.field(field) else {
            return (0, 0);
        };
        let start = at + u32_at(self.bytes, at);
        (start + 4, u32_at(self.bytes, start))
    }

    fn tables(&self, field: usize) -> Vec<Table<'b>> {
        let (start, n) = self.vector(field);
        let at = |i: usize| start + 4 * i + u32_at(self.bytes, start + 4 * i);
        (0..n)
            .map(|i| Table {
                bytes: self.bytes,
                at: at(i),
            })
            .collect()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

/// Bytes of the weights and biases of convolutions and fully connected layers; and, where asked,
/// those of their scales.
fn integers(file: &[u8], scales: bool) -> Vec<Range<usize>> {
    const LINEAR: [u32; 3] = [3, 4, 9];
    let model = Table::root(file);
    let codes: Vec<u32> = model
        .tables(1)
        .iter()
        .map(|c| {
            let old = c.field(0).map_or(0, |at| u32::from(file[at]));
            old.max(c.number(3))
        })
        .collect();
    let buffers = model.tables(4);
    let graph = &model.tables(2)[0];
    let tensors = graph.tables(0);
    let mut found = Vec::new();
    for operator in graph.tables(3) {
        if !LINEAR.contains(&codes[operator.number(0) as usize]) {
            continue;
        }
        let (start, n) = operator.vector(1);
        for operand in 1..n {
            let tensor = tensors[u32_at(file, start + 4 * operand)];
            let (data, len) = buffers[tensor.number(2) as usize].vector(0);
            found.push(data..data + len);
            if scales {
                let at = tensor.field(4).expect("a quantization");
                let quantization = Table {
                    bytes: file,
                    at: at + u32_at(file, at),
                };
                let (data, len) = quantization.vector(2);
                found.push(data..data + 4 * len);
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Bytes that differ, all of which must be weights and biases.
fn only_integers_differ(before: &[u8], after: &[u8], scales: bool) -> usize {
    assert_eq!(before.len(), after.len());
    let allowed = integers(before, scales);
    let mut differing = 0;
    for i in (0..before.len()).filter(|i| before[*i] != after[*i]) {
        assert!(
            allowed.iter().any(|r| r.contains(&i)),
            "byte {i} is none of a weight or bias, and changed"
        );
        differing += 1;
    }
    let metadata = |file: &[u8]| Table::root(file).tables(6).len();
    assert_eq!(metadata(before), metadata(after));
    differing
}

/// A folder with `q.tflite`: the example at 3 bits, as TFLite's int8.
fn coarse() -> tempfile::TempDir {
    let dir = quantized("3");
    json(dir.path(), &["export", "m.qmend", "-o", "q.tflite"]);
    dir
}

const SCALE: [&str; 2] = ["--scale", "1/255"];

#[test]
fn an_onnx_network_and_a_tflite_are_repaired_by_flags_or_by_place_and_only_integers_change() {
    let dir = coarse();
    let at = dir.path();
    let before = std::fs::read(at.join("q.tflite")).expect("the file");
    let data = images("256..1056");
    let rest = ["--data", &data, "--time-budget", "6"];
    let by_flags = [
        &["repair", "--float", MODEL, "--quant", "q.tflite"],
        &rest[..],
        &SCALE,
        &["-o", "repaired.tflite"],
    ]
    .concat();
    let found = json(at, &by_flags);
    // Without --holdout, a quarter of the data decides.
    assert_eq!(
        (&found["repair"]["n"], &found["holdout"]["n"]),
        (&600.into(), &200.into())
    );
    let share = |set: &str, when: &str| number(&found[set][when]);
    assert!(
        share("repair", "agreement_after") > share("repair", "agreement_before"),
        "{found}"
    );
    assert!(share("holdout", "agreement_after") >= share("holdout", "agreement_before"));
    assert_eq!(found["edits"]["multipliers"], 0);
    let after = std::fs::read(at.join("repaired.tflite")).expect("the file");
    let differing = only_integers_differ(&before, &after, false);
    assert!(
        differing > 0 && found["replaced"]["bytes"] == differing,
        "{found}"
    );

    // The file on the disk is the model of which the numbers speak.
    let test = images("256..856");
    let args = [
        "eval",
        "repaired.tflite",
        "--reference",
        MODEL,
        "--data",
        &test,
    ];
    let seen = json(at, &[&args[..], &SCALE].concat());
    assert_eq!(
        number(&seen["reference"]["agreement"]),
        share("repair", "agreement_after")
    );

    let holdout = images("1056..1256");
    let by_place = [
        &["repair", MODEL, "q.tflite"],
        &rest[..],
        &SCALE,
        &["--holdout", &holdout, "-o", "again.tflite"],
    ]
    .concat();
    let found = json(at, &by_place);
    assert_eq!(found["holdout"]["n"], 200);
    let after = std::fs::read(at.join("again.tflite")).expect("the file");
    only_integers_differ(&before, &after, false);
}

#[test]
fn multipliers_change_where_asked_by_the_scales_of_their_channels() {
    let dir = coarse();
    let at = dir.path();
    let before = std::fs::read(at.join("q.tflite")).expect("the file");
    let [data, holdout] = [images("256..856"), images("856..1156")];
    let args = [
        &[
            "repair",
            MODEL,
            "q.tflite",
            "--data",
            &data,
            "--holdout",
            &holdout,
        ],
        &SCALE[..],
        &["--strategy", "margin", "--no-weight-steps", "--rounds", "3"],
        &["--repair-multipliers", "-o", "r.tflite"],
    ]
    .concat();
    let found = json(at, &args);
    assert!(number(&found["edits"]["multipliers"]) > 0.0, "{found}");
    assert_eq!(found["edits"]["weights"], 0, "{found}");
    let after = std::fs::read(at.join("r.tflite")).expect("the file");
    let differing = only_integers_differ(&before, &after, true);
    assert_eq!(found["replaced"]["bytes"], differing);
    // The file is the model of which the numbers speak, multipliers included.
    let args = ["eval", "r.tflite", "--reference", MODEL, "--data", &data];
    let seen = json(at, &[&args[..], &SCALE].concat());
    let (file, said) = (
        &seen["reference"]["agreement"],
        &found["repair"]["agreement_after"],
    );
    assert_eq!(number(file), number(said));
    assert!(number(said) > number(&found["repair"]["agreement_before"]));
    refused(
        at,
        &[
            "repair",
            MODEL,
            "m.qmend",
            "--data",
            &data,
            "--repair-multipliers",
            "-o",
            "r.qmend",
        ],
        &["--repair-multipliers is for .tflite"],
    );
}

#[test]
fn the_pair_is_given_whole_and_once() {
    let dir = coarse();
    let at = dir.path();
    let data = images("0..100");
    let tail = ["--data", &data, "-o", "r.tflite"];
    for (given, wanted) in [
        (&["--float", MODEL][..], "--quant"),
        (&["--quant", "q.tflite"], "--float"),
        (&[MODEL, "--quant", "q.tflite"], "--quant"),
        (&[MODEL], "QUANT"),
    ] {
        let args = [&["repair"], given, &tail].concat();
        refused(at, &args, &[wanted]);
    }
    let args = [&["repair", MODEL, "m.qmend"], &tail[..]].concat();
    refused(at, &args, &["did not come from a .tflite", "qmend export"]);
}

#[test]
fn a_qdq_network_and_its_float_original_are_a_pair_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let qdq = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/qdq/fashion_int8.onnx"
    );
    let data = images("0..400");
    let args = [
        &["repair", "--float", MODEL, "--quant", qdq, "--data", &data],
        &SCALE[..],
        &["-o", "r.qmend", "--time-budget", "4"],
    ]
    .concat();
    let found = json(dir.path(), &args);
    let matched = &found["matched"];
    let layers = number(&matched["by_name"]) + number(&matched["by_structure"]);
    assert!(
        layers >= 6.0 && matched["unmatched"] == Value::Array(vec![]),
        "{found}"
    );
    assert!(
        number(&found["repair"]["agreement_after"]) >= number(&found["repair"]["agreement_before"])
    );
    assert_eq!(json(dir.path(), &["inspect", "r.qmend"])["kind"], "integer");
}

#[test]
fn float_and_int8_files_of_one_converter_are_a_pair_and_their_tables_stay() {
    let test = "float and int8 files of one converter";
    let [float, quant, data] = [
        "models/resnet8_cifar10_float.tflite",
        "models/resnet8_cifar10_int8.tflite",
        "cifar10_test_even.npz",
    ]
    .map(|f| format!("{DATA}/{f}"));
    if let Some(missing) = [&float, &quant, &data]
        .into_iter()
        .find(|f| !Path::new(f).exists())
    {
        println!("SKIPPED: {test}: {missing} is absent");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    let data = format!("{data}:0..300");
    let args = [
        "repair",
        "--float",
        &float,
        "--quant",
        &quant,
        "--data",
        &data,
        "-o",
        "repaired.tflite",
        "--strategy",
        "margin",
        "--no-weight-steps",
        "--time-budget",
        "8",
    ];
    let found = json(at, &args);
    assert_eq!(
        found["matched"]["unmatched"],
        Value::Array(vec![]),
        "{found}"
    );
    let before = std::fs::read(&quant).expect("the original");
    let after = std::fs::read(at.join("repaired.tflite")).expect("the result");
    let differing = only_integers_differ(&before, &after, false);
    assert_eq!(found["replaced"]["bytes"], differing);
    assert!(!Table::root(&after).tables(6).is_empty(), "metadata");
}
