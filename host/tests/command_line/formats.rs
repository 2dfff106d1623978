//! The same samples in every format give the same outputs.

use std::io::Write;

use qmend::data::npy_bytes;

use super::support::*;

const N: usize = 60;

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).expect("memory");
    packer.finish().expect("memory")
}

fn npz(path: &std::path::Path, entries: &[(&str, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).expect("an archive"));
    for (name, bytes) in entries {
        zip.start_file(format!("{name}.npy"), Default::default())
            .expect("an entry");
        zip.write_all(bytes).expect("its bytes");
    }
    zip.finish().expect("the archive");
}

#[test]
fn arrays_idx_and_tables_are_read_alike() {
    let dir = quantized("8");
    let at = dir.path();
    let (x, y) = samples(N);
    let n = N as u32;
    put(at, "t-images-idx3-ubyte", idx(&[n, 28, 28], &x));
    put(at, "t-labels-idx1-ubyte", idx(&[n], &y));
    put(at, "g-images-idx3-ubyte.gz", gz(&idx(&[n, 28, 28], &x)));
    put(at, "g-labels-idx1-ubyte.gz", gz(&idx(&[n], &y)));
    put(at, "x_test.npy", npy_bytes("|u1", &[N, 28, 28, 1], &x));
    put(at, "y_test.npy", npy_bytes("|u1", &[N], &y));
    put(
        at,
        "channels_first.npy",
        npy_bytes("|u1", &[N, 1, 28, 28], &x),
    );
    put(at, "rows.npy", npy_bytes("|u1", &[N, 784], &x));
    let reals: Vec<u8> = x.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
    let wide: Vec<u8> = y.iter().flat_map(|&v| i64::from(v).to_le_bytes()).collect();
    npz(
        &at.join("usual.npz"),
        &[
            ("images", npy_bytes("|u1", &[N, 28, 28], &x)),
            ("labels", npy_bytes("<i8", &[N], &wide)),
        ],
    );
    npz(
        &at.join("named.npz"),
        &[
            ("a", npy_bytes("<f8", &[N, 28, 28], &reals)),
            ("b", npy_bytes("|u1", &[N], &y)),
        ],
    );
    let row = |i: usize| {
        x[784 * i..784 * (i + 1)]
            .iter()
            .map(u8::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let table: String = (0..N).map(|i| format!("{},{}\n", row(i), y[i])).collect();
    put(at, "t.csv", &table);
    put(at, "t.csv.gz", gz(table.as_bytes()));
    let first: String = (0..N).map(|i| format!("{},{}\n", y[i], row(i))).collect();
    let names = (0..784)
        .map(|i| format!("p{i}"))
        .collect::<Vec<_>>()
        .join(",");
    put(at, "headed.csv", format!("kind,{names}\n{first}"));
    let alone: String = (0..N).map(|i| row(i) + "\n").collect();
    put(at, "unlabelled.csv", alone);
    put(
        at,
        "y.txt",
        y.iter().map(|l| format!("{l}\n")).collect::<String>(),
    );

    let cases: [&[&str]; 11] = [
        &["t-images-idx3-ubyte"],
        &["g-images-idx3-ubyte.gz"],
        &["x_test.npy"],
        &["channels_first.npy", "--labels", "y_test.npy"],
        &["rows.npy", "--labels", "y.txt"],
        &["usual.npz"],
        &["named.npz", "--x-key", "a", "--y-key", "b"],
        &["t.csv"],
        &["t.csv.gz"],
        &["headed.csv", "--label-column", "kind"],
        &["unlabelled.csv", "--labels", "y.txt"],
    ];
    let whole = images(&format!("0..{N}"));
    let run = |data: &[&str]| {
        let args = [
            &["eval", "m.qmend", "--outputs", "o.npy", "--force", "--data"],
            data,
        ]
        .concat();
        let found = json(at, &args);
        let outputs = std::fs::read(at.join("o.npy")).expect("the outputs");
        (found["correct"].clone(), found["n"].clone(), outputs)
    };
    let wanted = run(&[&whole]);
    assert!(wanted.0.as_u64() > Some(N as u64 / 2), "{}", wanted.0);
    for case in cases {
        assert!(run(case) == wanted, "{case:?}");
    }
}

#[test]
fn a_folder_of_images_has_a_class_a_folder() {
    let dir = quantized("8");
    let at = dir.path();
    let (x, y) = samples(N);
    for i in 0..N {
        let folder = at.join(format!("photos/class-{}", y[i]));
        std::fs::create_dir_all(&folder).expect("a folder");
        let pixels =
            image::GrayImage::from_raw(28, 28, x[784 * i..784 * (i + 1)].to_vec()).expect("pixels");
        pixels
            .save(folder.join(format!("{i}.png")))
            .expect("an image");
    }
    let classes = std::fs::read_dir(at.join("photos"))
        .expect("the folder")
        .count();
    assert_eq!(classes, 10, "every class is among the samples");
    let from = |data: &str| json(at, &["eval", "m.qmend", "--data", data])["correct"].clone();
    assert_eq!(from("photos"), from(&images(&format!("0..{N}"))));
    let seen = json(at, &["inspect", "photos"]);
    assert_eq!(
        (&seen["n"], &seen["classes"][3]["name"]),
        (&N.into(), &"class-3".into()),
        "{seen}"
    );

    put(at, "photos/class-0/broken.png", "no image");
    refused(
        at,
        &["eval", "m.qmend", "--data", "photos"],
        &["broken.png"],
    );
    std::fs::remove_file(at.join("photos/class-0/broken.png")).expect("the file");
    let small = image::GrayImage::new(20, 14);
    small
        .save(at.join("photos/class-0/small.png"))
        .expect("an image");
    refused(
        at,
        &["eval", "m.qmend", "--data", "photos"],
        &["small.png", "--resize"],
    );
    let resized = json(
        at,
        &["eval", "m.qmend", "--data", "photos", "--resize", "28x28"],
    );
    assert_eq!(resized["n"], N + 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_text_is_a_path_all_the_same() {
    use std::os::unix::ffi::OsStrExt;
    let dir = quantized("8");
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.npy");
    let bytes = npy_bytes("|u1", &[1, 28, 28], &[9; 784]);
    std::fs::write(dir.path().join(name), bytes).expect("a file");
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_qmend"))
        .args(["eval", "m.qmend", "--outputs", "o.npy", "--data"])
        .arg(name)
        .current_dir(dir.path())
        .output()
        .expect("the program starts");
    assert!(out.status.success(), "{}", text(&out.stderr));
}
