//! Data that are damaged, hostile, or not what the model takes.

use qmend::data::npy_bytes;

use super::support::*;

#[test]
fn labels_outside_the_models_outputs_are_refused_by_index() {
    let dir = quantized("8");
    std::fs::write(dir.path().join("labels.txt"), "1\n2\n10\n").expect("a file");
    let data = images("0..3");
    refused(
        dir.path(),
        &["eval", "m.qmend", "--data", &data, "--labels", "labels.txt"],
        &["labels.txt", "10000 samples"],
    );
    // As many labels as samples: a file of three samples.
    let mut idx = vec![0u8, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 28, 0, 0, 0, 28];
    idx.extend(vec![7u8; 3 * 28 * 28]);
    std::fs::write(dir.path().join("three"), idx).expect("a file");
    refused(
        dir.path(),
        &[
            "eval",
            "m.qmend",
            "--data",
            "three",
            "--labels",
            "labels.txt",
        ],
        &[
            "label of sample 2 is 10",
            "10 outputs (labels 0 to 9)",
            "help: ",
        ],
    );
}

/// A .npy file whose header says whatever it likes.
fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn damaged_and_hostile_data_are_refused_at_once() {
    let dir = quantized("8");
    let floats = |v: f32| [v; 784].map(f32::to_le_bytes).concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "huge.npy",
            npy(
                "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999, 28, 28), }",
                b"abc",
            ),
            "bytes of memory",
        ),
        (
            "wraps.npy",
            npy(
                "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4), }",
                b"",
            ),
            "bytes of memory",
        ),
        (
            "short.npy",
            npy_bytes("|u1", &[9, 28, 28], &[0; 784]),
            "[9, 28, 28] elements",
        ),
        (
            "header.npy",
            b"\x93NUMPY\x02\x00\xff\xff\xff\xffabc".to_vec(),
            "header is too long",
        ),
        (
            "nan.npy",
            npy_bytes("<f4", &[1, 28, 28], &floats(f32::NAN)),
            "sample 0, element 0 is NaN",
        ),
        (
            "inf.npy",
            npy_bytes("<f4", &[1, 28, 28], &floats(f32::INFINITY)),
            "is inf",
        ),
        ("complex.npy", npy_bytes("<c8", &[1, 1], &[0; 8]), "\"<c8\""),
        ("scalar.npy", npy_bytes("<f4", &[], &[0; 4]), "shape []"),
        (
            "many.npy",
            npy_bytes("|u1", &[1, 1, 1, 28, 28], &[0; 784]),
            "[1, 1, 1, 28, 28]",
        ),
        (
            "none.npy",
            npy_bytes("|u1", &[0, 28, 28], &[]),
            "holds no samples",
        ),
        (
            "flat.npy",
            npy_bytes("|u1", &[4, 28, 0], &[]),
            "holds no samples",
        ),
        (
            "huge-idx3-ubyte",
            idx(&[u32::MAX; 3], b"x"),
            "bytes of memory",
        ),
        (
            "cut-idx3-ubyte",
            idx(&[10, 28, 28], &[0; 99]),
            "ends inside the array",
        ),
        (
            "cut.gz",
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xcb".to_vec(),
            "cut.gz",
        ),
        ("cut.npz", b"PK\x03\x04 and no more".to_vec(), "damaged"),
        (
            "words.csv",
            b"hello,there\ngood,bye\n".to_vec(),
            "is not a number",
        ),
        (
            "ragged.csv",
            b"1,2,0\n1,2,3,0\n".to_vec(),
            "line 2 has 4 columns",
        ),
        ("latin.csv", b"caf\xe9,1\n2,3\n".to_vec(), "UTF-8"),
    ];
    for (name, bytes, wanted) in cases {
        put(dir.path(), name, bytes);
        refused(
            dir.path(),
            &["eval", "m.qmend", "--data", name],
            &[name, wanted, "help: "],
        );
    }
}

#[test]
fn an_archive_without_the_usual_names_is_refused_with_what_it_holds() {
    let dir = quantized("8");
    let file = std::fs::File::create(dir.path().join("d.npz")).expect("a file");
    let mut zip = zip::ZipWriter::new(file);
    for name in ["first", "second"] {
        let bytes = npy_bytes("|u1", &[1, 28, 28], &[0; 784]);
        zip.start_file(format!("{name}.npy"), Default::default())
            .expect("an entry");
        std::io::Write::write_all(&mut zip, &bytes).expect("its bytes");
    }
    zip.finish().expect("the archive");
    let eval = ["eval", "m.qmend", "--data", "d.npz"];
    refused(
        dir.path(),
        &eval,
        &["first [1, 28, 28], second [1, 28, 28]", "--x-key"],
    );
    refused(
        dir.path(),
        &[&eval[..], &["--x-key", "third"]].concat(),
        &["no array \"third\""],
    );
    let chosen = ["--x-key", "second", "--outputs", "o.npy"];
    assert_eq!(json(dir.path(), &[&eval[..], &chosen].concat())["n"], 1);
}

#[test]
fn values_that_the_preprocessing_was_not_made_for_are_warned_of() {
    let dir = quantized("8");
    let scaled: Vec<u8> = samples(4)
        .0
        .iter()
        .flat_map(|&x| (f32::from(x) / 255.0).to_le_bytes())
        .collect();
    put(
        dir.path(),
        "scaled.npy",
        npy_bytes("<f4", &[4, 28, 28], &scaled),
    );
    let warned = |data: &str| {
        let args = [
            "eval",
            "m.qmend",
            "--data",
            data,
            "--outputs",
            "o.npy",
            "--force",
        ];
        let out = qmend(dir.path(), &args);
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stderr).contains("are they the raw values")
    };
    assert!(warned("scaled.npy"));
    assert!(!warned(&images("0..4")));
}

#[test]
fn a_network_that_brings_no_preprocessing_takes_it_from_the_command_line() {
    let net = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/qdq/fashion_int8.onnx"
    );
    let dir = tempfile::tempdir().expect("a folder");
    let data = images("0..200");
    let eval = ["eval", net, "--data", &data];
    let correct = |more: &[&str]| number(&json(dir.path(), &[&eval[..], more].concat())["correct"]);
    assert!(correct(&["--scale", "1/255"]) > 170.0);
    assert!(correct(&["--scale", "1/255"]) > correct(&[]) + 10.0);
    let verify = ["verify", net, "--data", &data, "--scale", "1/255"];
    assert_eq!(json(dir.path(), &verify)["identical"], true);
}
