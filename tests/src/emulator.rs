//! The emulated device for tests.

use qmend::device::{DeviceError, LinkDevice, Qemu, QemuOptions};

/// Whether a missing emulator or firmware fails a test: in continuous integration, and on request.
pub fn device_is_required() -> bool {
    ["CI", "QMEND_REQUIRE_DEVICE"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|v| v == "true" || v == "1"))
}

/// A started emulator, or `None` after printing that `test` is skipped and what it lacks.
///
/// # Panics
/// Where it is required and not there, and where it is there and does not answer.
pub fn start_or_skip(test: &str) -> Option<LinkDevice<Qemu>> {
    start_with_or_skip(test, &QemuOptions::default())
}

/// As [`start_or_skip`], with options.
///
/// # Panics
/// As [`start_or_skip`].
pub fn start_with_or_skip(test: &str, options: &QemuOptions) -> Option<LinkDevice<Qemu>> {
    match Qemu::start(options) {
        Ok(device) => Some(device),
        Err(e @ (DeviceError::EmulatorMissing { .. } | DeviceError::FirmwareMissing { .. })) => {
            assert!(
                !device_is_required(),
                "{test} must not be skipped here: {e}"
            );
            println!("SKIPPED {test}: {e}");
            None
        }
        Err(e) => panic!("{test}: the emulator is there but does not start: {e}"),
    }
}
