//! How much flash the agents take, read from their ELF files.

use std::path::Path;

use object::{Object, ObjectSegment};
use qmend::device::{DeviceError, DeviceIdentity, check_fits};
use qmend::export::image::write_image;
use qmend_shared::image::{BUILT_IN, Model, OPERATORS};
use qmend_shared::link::capabilities::describe;
use qmend_shared::slot::boards::{BOARDS, MICROBIT};
use qmend_shared::slot::{Sector, Storage, StorageError};
use qmend_tests::emulator::device_is_required;
use qmend_tests::random_model::random_network;

/// The bar: 48 kB without a model.
const MICROBIT_BYTES: u64 = 48 * 1024;

/// Bytes that are loaded: code, constants, and initial values of variables.
fn flash_bytes(elf: &Path) -> u64 {
    let data = std::fs::read(elf).unwrap();
    let file = object::File::parse(&*data).unwrap();
    file.segments().map(|s| s.file_range().1).sum()
}

#[test]
fn the_agent_of_the_microbit_leaves_flash_for_models() {
    let test = "the_agent_of_the_microbit_leaves_flash_for_models";
    let elf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target-firmware/agent-microbit.elf");
    if !elf.is_file() {
        assert!(!device_is_required(), "{} is not there", elf.display());
        println!("SKIPPED {test}: no firmware, build it with firmware/build.sh");
        return;
    }
    let bytes = flash_bytes(&elf);
    println!("agent-microbit.elf: {bytes} bytes of flash");
    assert!((10_000..MICROBIT_BYTES).contains(&bytes), "{bytes}");
}

/// Flash that is all erased, in pages of 1 KiB.
struct Erased(Vec<u8>);

impl Storage for Erased {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn write_unit(&self) -> usize {
        4
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        let start = offset / 1024 * 1024;
        ((offset as usize) < self.0.len()).then_some(Sector { start, len: 1024 })
    }

    fn erase(&mut self, _: Sector) -> Result<(), StorageError> {
        Err(StorageError)
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), StorageError> {
        Err(StorageError)
    }
}

#[test]
fn an_operator_that_the_firmware_lacks_is_named_with_the_way_out() {
    assert_eq!(BUILT_IN.count_ones() as usize, OPERATORS.len());
    let image = write_image(&random_network(20, 8, 5)).unwrap();
    let identity = DeviceIdentity {
        name: "test".into(),
        core: "none".into(),
        firmware: "0".into(),
        slot_bytes: 1 << 20,
        memory_bytes: 1 << 20,
        code_bytes: 0,
    };
    let storage = Erased(vec![0xff; 160 * 1024]);
    let mut description = describe(&storage, &MICROBIT.layout, 0);
    check_fits(&image, &identity, &description).expect("all operators are there");
    let model = Model::from_bytes(&image).unwrap();
    for (index, op) in model.ops().enumerate() {
        description.operators = BUILT_IN & !(1 << op.number());
        let error = check_fits(&image, &identity, &description).unwrap_err();
        let DeviceError::OperatorMissing { operator, kind, .. } = error else {
            panic!("{error}");
        };
        assert!(operator <= index && kind == op.kind());
        let text = error.to_string();
        assert!(text.contains("--operators"), "{text}");
    }
}

#[test]
fn the_feature_of_every_operator_is_one_of_the_firmware_s() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    for kind in OPERATORS {
        let feature = qmend::device::operator_feature(kind);
        assert!(manifest.contains(&format!("\n{feature} = [")), "{feature}");
    }
}

#[test]
fn slots_of_known_boards_lie_apart_and_hold_a_record() {
    for board in BOARDS {
        let [a, b] = board.layout.slots;
        let mut regions = [a.image, a.records, b.image, b.records];
        regions.sort_by_key(|r| r.start);
        assert!(
            regions.windows(2).all(|w| w[0].end() <= w[1].start),
            "{}",
            board.name
        );
        assert!(regions.iter().all(|r| r.len >= 1024 && r.start % 1024 == 0));
    }
}
