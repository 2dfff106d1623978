//! Self-tests in an image: inputs with the outputs that the model must give for them.

use qmend_shared::image::{HEADER_BYTES, Header, Manifest, Model, self_test_footer};

use super::ExportError;

/// The image with these self-tests instead of those that it has: `inputs` (`[n][h][w][c]`, int8) with
/// `outputs` (`[n][elements]`). No tests take the old ones out.
///
/// # Errors
/// Bytes that are no image, and vectors that are not `n` inputs and `n` outputs of it.
pub fn with_self_tests(
    image: &[u8],
    inputs: &[i8],
    outputs: &[i8],
) -> Result<Vec<u8>, ExportError> {
    let model = Model::from_bytes(image)?;
    let manifest = *model.manifest();
    let fail = |problem: String| ExportError::Model {
        name: String::from_utf8_lossy(manifest.name).into_owned(),
        problem,
    };
    let (input_len, output_len) = (
        model.input().elements() as usize,
        model.output().elements() as usize,
    );
    let count = inputs.len() / input_len;
    if inputs.len() != count * input_len || outputs.len() != count * output_len {
        return Err(fail(format!(
            "{} and {} elements are no self-tests of {input_len} and {output_len} elements each",
            inputs.len(),
            outputs.len()
        )));
    }
    let old = model.self_tests().map_or(0, |tests| tests.bytes());
    let mut weights = manifest.weights[..manifest.weights.len() - old].to_vec();
    for (input, output) in inputs
        .chunks_exact(input_len)
        .zip(outputs.chunks_exact(output_len))
    {
        weights.extend(input.iter().chain(output).map(|&x| x as u8));
    }
    if count > 0 {
        let footer = self_test_footer(count, input_len + output_len)
            .ok_or_else(|| fail("its self-tests are too large".into()))?;
        weights.extend(footer);
    }
    let encode = |m: &Manifest| postcard::to_allocvec(m).expect("writing to memory cannot fail");
    let mut manifest = Manifest {
        pad: &[],
        weights: &weights,
        ..manifest
    };
    let unpadded = encode(&manifest).len() + HEADER_BYTES - weights.len();
    let zeros = [0; 15];
    manifest.pad = &zeros[..unpadded.next_multiple_of(16) - unpadded];
    let payload = encode(&manifest);
    let header = Header::for_payload(model.rounding(), model.layout(), &payload)
        .ok_or_else(|| fail("its self-tests are too large".into()))?;
    let image = [&header.to_bytes()[..], &payload].concat();
    Model::from_bytes(&image)?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, HostDevice};
    use crate::export::test_models::{identity, model_of};
    use crate::export::{read_image, write_image};

    #[test]
    fn self_tests_come_and_go_and_leave_the_model_as_it_is() {
        let model = model_of(&[[1, 1, 3], [1, 1, 3]], vec![identity(0, 1)]);
        let plain = write_image(&model).expect("a sound model");
        let parsed = Model::from_bytes(&plain).expect("sound");
        assert_eq!(parsed.self_tests(), None);
        let (input, output) = (
            parsed.input().elements() as usize,
            parsed.output().elements() as usize,
        );
        let mut host = HostDevice::new();
        host.load(&plain).expect("it loads");
        // From one vector to so many that the section's length takes another byte.
        for n in [1, 2, 40, 4000] {
            let inputs: Vec<i8> = (0..n * input).map(|i| (i * 37) as i8).collect();
            let outputs: Vec<i8> = inputs
                .chunks_exact(input)
                .flat_map(|x| host.infer(x).expect("it runs").output)
                .collect();
            let image = with_self_tests(&plain, &inputs, &outputs).expect("they fit");
            let parsed = Model::from_bytes(&image).expect("sound");
            let tests = parsed.self_tests().expect("there are some");
            assert_eq!(tests.count(), n);
            let bytes = |x: &[i8]| x.iter().map(|&x| x as u8).collect::<Vec<_>>();
            let last = tests.vector(n - 1).expect("the last one");
            assert_eq!(last.0, bytes(&inputs[(n - 1) * input..]));
            assert_eq!(last.1, bytes(&outputs[(n - 1) * output..]));
            assert_eq!(tests.vector(n), None);
            assert_eq!(tests.vector(usize::MAX), None);
            // A reader that does not look for them reads the same model.
            assert_eq!(read_image(&image).expect("readable"), model);
            let again = with_self_tests(&image, &inputs[..input], &outputs[..output]);
            let again = again.expect("others instead");
            let count = Model::from_bytes(&again).map(|m| m.self_tests().map(|t| t.count()));
            assert_eq!(count, Ok(Some(1)));
            assert_eq!(with_self_tests(&image, &[], &[]), Ok(plain.clone()));
        }
        for (inputs, outputs) in [
            (input + 1, output),
            (input, output + 1),
            (2 * input, output),
        ] {
            assert!(with_self_tests(&plain, &vec![0; inputs], &vec![0; outputs]).is_err());
        }
    }
}
