//! The self-tests that an image carries, run by a device.

use qmend_shared::link::{BootTest, Request, Response};
use serde::Serialize;

use super::{Device, DeviceError, LinkDevice, Transport};

/// An element of a self-test's output that is not as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SelfTestFailure {
    /// The self-test, from 0.
    pub vector: usize,
    /// Element of its output in HWC order.
    pub element: usize,
    /// What the image says.
    pub expected: i8,
    /// What the device computed.
    pub got: i8,
}

/// One self-test's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTestRun {
    /// How many self-tests the image has.
    pub count: usize,
    /// The first element that differs.
    pub failure: Option<SelfTestFailure>,
}

/// What [`self_test`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SelfTestReport {
    /// Self-tests of the image.
    pub vectors: usize,
    /// Those with every output element as it must be.
    pub passed: usize,
    /// The others.
    pub failed: usize,
    /// Where the first difference is.
    pub first_failure: Option<SelfTestFailure>,
}

/// Lets a device run all self-tests of the image that is loaded. `progress` is called with the
/// number that is done and of all.
///
/// # Errors
/// [`DeviceError::NoSelfTests`] where the image has none, [`DeviceError::Unsupported`] where the
/// firmware was built without them; where the device does not answer. A failure is no error.
pub fn self_test(
    device: &mut dyn Device,
    mut progress: impl FnMut(usize, usize),
) -> Result<SelfTestReport, DeviceError> {
    let mut report = SelfTestReport {
        vectors: device.self_test_vector(0)?.count,
        passed: 0,
        failed: 0,
        first_failure: None,
    };
    if report.vectors == 0 {
        return Err(DeviceError::NoSelfTests);
    }
    for vector in 0..report.vectors {
        match device.self_test_vector(vector)?.failure {
            None => report.passed += 1,
            Some(failure) => {
                report.failed += 1;
                report.first_failure.get_or_insert(failure);
            }
        }
        progress(vector + 1, report.vectors);
    }
    Ok(report)
}

impl<T: Transport> LinkDevice<T> {
    /// One attempt to run one self-test of the model that is open.
    pub(super) fn self_test_once(&mut self, vector: usize) -> Result<SelfTestRun, DeviceError> {
        let request = Request::SelfTest {
            vector: vector as u32,
        };
        self.ask("self-test", request, |answer| match answer {
            Response::SelfTest(r) if r.vector as usize == vector => Some(Ok(SelfTestRun {
                count: r.count as usize,
                failure: r.failed_at.map(|(element, expected, got)| SelfTestFailure {
                    vector,
                    element: element as usize,
                    expected,
                    got,
                }),
            })),
            _ => None,
        })
    }

    /// What came of the self-tests that the device ran when it started, where it was built to.
    ///
    /// # Errors
    /// Where the device does not answer.
    pub fn boot_test(&mut self) -> Result<Option<BootTest>, DeviceError> {
        self.ask("boot test", Request::BootTest, |answer| match answer {
            Response::BootTest(done) => Some(Ok(done)),
            _ => None,
        })
    }
}
