//! Every intermediate tensor, and the self-tests in an image, on the agent's own code on a thread.

use std::time::Duration;

use qmend::device::{
    Device, DeviceError, DeviceIdentity, DeviceStats, HostDevice, Inference, LinkDevice,
    LoadedModel, SelfTestFailure, self_test, verify_layers,
};
use qmend::export::self_test::with_self_tests;
use qmend::export::write_image;
use qmend_tests::in_process::{Pipe, quiet, start, start_tested_at_boot};
use qmend_tests::random_model::{mended, random_inputs, random_network};

const SLOT: usize = 1 << 16;
const POOL: usize = 1 << 16;

#[test]
fn every_tensor_of_random_networks_is_the_host_engine_s() {
    let mut device = start(SLOT, POOL, quiet()).unwrap();
    let mut elements = 0;
    for seed in 0..15 {
        let model = random_network(12, 4, seed);
        device.load(&write_image(&model).unwrap()).unwrap();
        let inputs = random_inputs(&model, 4, seed);
        let mut seen = Vec::new();
        let report = verify_layers(&model, &inputs, &mut device, |n| seen.push(n)).unwrap();
        assert!(report.identical(), "seed {seed}: {report:?}");
        assert_eq!(report.first_difference, None);
        assert_eq!((report.inputs, report.operators), (4, model.nodes.len()));
        assert_eq!(seen, [1, 2, 3, 4]);
        elements += report.elements;
    }
    println!("{elements} elements");
}

/// A device that computes one tensor's element wrongly for one input.
struct Faulty {
    device: HostDevice,
    input: Vec<i8>,
    operator: usize,
    element: usize,
    /// Only in the digest: as a bit that fell over once.
    once: bool,
}

impl Device for Faulty {
    fn identity(&self) -> &DeviceIdentity {
        self.device.identity()
    }
    fn load(&mut self, image: &[u8]) -> Result<LoadedModel, DeviceError> {
        self.device.load(image)
    }
    fn infer(&mut self, input: &[i8]) -> Result<Inference, DeviceError> {
        self.device.infer(input)
    }
    fn operator_digests(&mut self, input: &[i8]) -> Result<Vec<u32>, DeviceError> {
        let mut digests = self.device.operator_digests(input)?;
        if input == self.input {
            digests[self.operator..].iter_mut().for_each(|d| *d ^= 1);
        }
        Ok(digests)
    }
    fn operator_output(&mut self, input: &[i8], operator: usize) -> Result<Vec<i8>, DeviceError> {
        let mut output = self.device.operator_output(input, operator)?;
        if input == self.input && operator == self.operator && !self.once {
            output[self.element] ^= 4;
        }
        Ok(output)
    }
    fn stats(&mut self) -> Result<DeviceStats, DeviceError> {
        self.device.stats()
    }
}

#[test]
fn a_wrong_element_is_named_with_input_operator_and_place() {
    let model = random_network(12, 4, 3);
    let inputs = random_inputs(&model, 5, 1);
    let size = model.tensor(model.input).elements();
    let mut device = Faulty {
        device: HostDevice::new(),
        input: inputs[3 * size..4 * size].to_vec(),
        operator: 5,
        element: 1,
        once: false,
    };
    device.load(&write_image(&model).unwrap()).unwrap();
    let report = verify_layers(&model, &inputs, &mut device, |_| ()).unwrap();
    assert!(!report.identical());
    // Random inputs of few elements repeat.
    let hit: Vec<usize> = (0..5)
        .filter(|i| inputs[i * size..][..size] == device.input)
        .collect();
    assert_eq!(report.differing_inputs, hit.len());
    assert_eq!(
        report.differing_tensors as usize,
        hit.len() * (model.nodes.len() - 5)
    );
    let d = report.first_difference.unwrap();
    assert_eq!((d.input, d.operator, d.element), (hit[0], Some(5), 1));
    assert_eq!(d.host ^ 4, d.device);
    assert_eq!(
        (d.name, d.kind.as_str()),
        (model.nodes[5].name.clone(), model.nodes[5].op.kind())
    );
    // What differs only at times is no place in the model, and not passed over.
    device.once = true;
    let error = verify_layers(&model, &inputs, &mut device, |_| ()).unwrap_err();
    assert!(
        matches!(error, DeviceError::UnexpectedAnswer { .. }),
        "{error}"
    );
    let error = verify_layers(&model, &inputs[1..], &mut device, |_| ()).unwrap_err();
    assert!(matches!(error, DeviceError::InputLength { .. }), "{error}");
}

/// An image with self-tests, of which the one numbered `wrong` expects another last element.
fn tested(wrong: Option<usize>) -> (Vec<u8>, usize) {
    let model = random_network(10, 4, 7);
    let image = write_image(&model).unwrap();
    let mut host = HostDevice::new();
    let loaded = host.load(&image).unwrap();
    let inputs = random_inputs(&model, 6, 2);
    let mut outputs: Vec<i8> = inputs
        .chunks(loaded.input_len)
        .flat_map(|x| host.infer(x).unwrap().output)
        .collect();
    if let Some(n) = wrong {
        outputs[(n + 1) * loaded.output_len - 1] ^= 1;
    }
    let image = with_self_tests(&image, &inputs, &outputs).unwrap();
    (image, loaded.output_len)
}

#[test]
fn self_tests_run_where_they_lie_and_the_first_failure_is_named() {
    let mut device = start(SLOT, POOL, quiet()).unwrap();
    let none = write_image(&random_network(10, 4, 7)).unwrap();
    assert!(matches!(
        self_test(&mut device, |_, _| ()),
        Err(DeviceError::NoImage)
    ));
    device.load(&none).unwrap();
    assert!(matches!(
        self_test(&mut device, |_, _| ()),
        Err(DeviceError::NoSelfTests)
    ));
    let (good, _) = tested(None);
    device.load(&good).unwrap();
    let mut seen = Vec::new();
    let report = self_test(&mut device, |n, of| seen.push((n, of))).unwrap();
    assert_eq!((report.vectors, report.passed, report.failed), (6, 6, 0));
    assert_eq!(seen.last(), Some(&(6, 6)));
    assert!(device.self_test_vector(6).is_err());
    let (bad, output_len) = tested(Some(4));
    device.load(&bad).unwrap();
    let on_device = self_test(&mut device, |_, _| ()).unwrap();
    assert_eq!((on_device.passed, on_device.failed), (5, 1));
    let SelfTestFailure {
        vector,
        element,
        expected,
        got,
    } = on_device.first_failure.unwrap();
    assert_eq!((vector, element, expected ^ 1), (4, output_len - 1, got));
    let mut host = HostDevice::new();
    host.load(&bad).unwrap();
    assert_eq!(self_test(&mut host, |_, _| ()).unwrap(), on_device);
    // They change nothing else: the model still runs.
    let model = random_network(10, 4, 7);
    let input = random_inputs(&model, 1, 9);
    let ours = host.infer(&input).unwrap().output;
    assert_eq!(device.infer(&input).unwrap().output, ours);
}

fn boot(image: Option<&[u8]>) -> LinkDevice<Pipe> {
    let pipe = start_tested_at_boot(SLOT, POOL, image);
    LinkDevice::connect(pipe, Duration::from_secs(20), None).unwrap()
}

#[test]
fn self_tests_at_the_start_are_remembered_for_the_host() {
    assert_eq!(boot(None).boot_test().unwrap(), None);
    let plain = write_image(&mended(&random_network(10, 4, 7), 1)).unwrap();
    assert_eq!(boot(Some(&plain)).boot_test().unwrap(), None);
    let done = boot(Some(&tested(None).0)).boot_test().unwrap().unwrap();
    assert_eq!((done.passed, done.failed, done.first_failing), (6, 0, None));
    let mut device = boot(Some(&tested(Some(2)).0));
    let done = device.boot_test().unwrap().unwrap();
    assert_eq!(
        (done.passed, done.failed, done.first_failing),
        (5, 1, Some(2))
    );
    // It is said in both states.
    device.open().unwrap();
    assert_eq!(device.boot_test().unwrap(), Some(done));
}
