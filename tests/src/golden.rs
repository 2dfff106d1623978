//! Recorded outputs and the two engines that have to give them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use npyz::{NpyFile, TypeChar};
use qmend::export::write_image;
use qmend::model::QuantizedModel;
use qmend_shared::image::Model;
use zip::ZipArchive;

/// The arrays of an `.npz` file.
pub struct Arrays(ZipArchive<BufReader<File>>);

impl Arrays {
    /// Opens a file.
    ///
    /// # Panics
    /// Where there is none, or another kind of file.
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(
            ZipArchive::new(BufReader::new(file))
                .unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        )
    }

    /// Names of all arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .0
            .file_names()
            .filter_map(|n| n.strip_suffix(".npy"))
            .map(String::from)
            .collect();
        names.sort();
        names
    }

    /// Elements of an int8 array, or of a uint8 array as the int8 that are 128 lower.
    ///
    /// # Panics
    /// Where there is no such array, or one of another type.
    pub fn int8(&mut self, name: &str) -> Vec<i8> {
        let bytes = self.file(name);
        let array = NpyFile::new(&bytes[..]).expect(name);
        match array.header().dtype() {
            npyz::DType::Plain(t) if t.type_char() == TypeChar::Uint => array
                .into_vec::<u8>()
                .expect(name)
                .into_iter()
                .map(|x| (x ^ 0x80) as i8)
                .collect(),
            _ => array.into_vec().expect(name),
        }
    }

    /// Elements of a uint8 array.
    ///
    /// # Panics
    /// As [`Self::int8`].
    pub fn bytes(&mut self, name: &str) -> Vec<u8> {
        NpyFile::new(&self.file(name)[..])
            .expect(name)
            .into_vec()
            .expect(name)
    }

    fn file(&mut self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut entry = self.0.by_name(&format!("{name}.npy")).expect(name);
        entry.read_to_end(&mut bytes).expect(name);
        bytes
    }
}

/// What the device's engine computes on the host, from the image: outputs `[n][elements]`, and those
/// of every operator.
///
/// # Panics
/// Where no image can be written, the check refuses it, or `inputs` are not whole samples.
pub fn on_device_engine(model: &QuantizedModel, inputs: &[i8]) -> (Vec<i8>, Vec<Vec<i8>>) {
    let image = write_image(model).expect("an image can be written");
    let view = Model::from_bytes(&image).expect("the device accepts it");
    let mut arena = vec![0i8; view.arena_bytes()];
    let size = view.input().elements() as usize;
    let mut output = vec![0i8; view.output().elements() as usize];
    let (mut outputs, mut operators) = (Vec::new(), vec![Vec::new(); model.nodes.len()]);
    assert!(
        !inputs.is_empty() && inputs.len().is_multiple_of(size),
        "whole samples"
    );
    for sample in inputs.chunks_exact(size) {
        qmend_shared::engine::run_with(
            &view,
            &mut arena,
            sample,
            &mut output,
            |index, _, result| {
                operators[index].extend_from_slice(result);
            },
        )
        .expect("it runs");
        outputs.extend_from_slice(&output);
    }
    (outputs, operators)
}

/// Compares all elements and returns their number.
///
/// # Panics
/// Where one differs, or there is none.
pub fn same(what: &str, got: &[i8], want: &[i8]) -> usize {
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    assert!(!want.is_empty(), "{what}: nothing to compare");
    let differing = count_differing(got, want);
    let first = got.iter().zip(want).position(|(a, b)| a != b);
    assert!(
        differing == 0,
        "{what}: {differing} of {} elements differ, the first at {first:?}: {:?} instead of {:?}",
        want.len(),
        first.map(|i| got[i]),
        first.map(|i| want[i]),
    );
    want.len()
}

/// How many elements differ.
pub fn count_differing(a: &[i8], b: &[i8]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count()
}
