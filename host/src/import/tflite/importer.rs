//! From a file's bytes to the integer network: operator after operator.

use super::call::Call;
use super::error::TfliteError;
use super::file::{File, Listed, MAX_SHOWN, require_batch_of_one};
use super::network::Network;
use super::ops;
use super::place::{Place, locate};
use super::problem::{Issues, Problem};
use super::schema::ElementType;
use super::types::refuse_types;
use crate::model::{Preprocess, QuantizedModel, Rounding};

/// Reads an int8 TFLite network.
///
/// `name` stands for the file in messages and becomes the network's name. The result computes with
/// [`Rounding::Tflm`], TFLM's arithmetic; [`import_tflite_int8_as`] takes that of LiteRT's reference
/// kernels. There is one node for
/// every operator, in the file's order, named after its output tensor (QUANTIZE of a float input
/// and DEQUANTIZE into a float output excepted, and reshapes around a layer over several vectors
/// added); tensors have the file's names, or `tensor N` where it has none. Input and output
/// are int8; their real values are those of the file's input and output.
///
/// # Errors
/// See [`TfliteError`]; operators that cannot be imported are listed all at once.
pub fn import_tflite_int8(bytes: &[u8], name: &str) -> Result<QuantizedModel, TfliteError> {
    read(bytes, name).map(|(model, _)| model)
}

/// As [`import_tflite_int8`], to compute as TFLM or as LiteRT's reference kernels do. Besides the
/// rounding this decides the multipliers of MUL, RELU, LEAKY_RELU and of FULLY_CONNECTED with one
/// weight scale: TFLM takes their quotients in f64, LiteRT in f32, which differs in the last bits.
///
/// # Errors
/// As [`import_tflite_int8`].
pub fn import_tflite_int8_as(
    bytes: &[u8],
    name: &str,
    rounding: Rounding,
) -> Result<QuantizedModel, TfliteError> {
    read_as(bytes, name, rounding).map(|(model, _)| model)
}

/// As [`import_tflite_int8`], with where in the file each linear node has its integers from.
pub(crate) fn read(bytes: &[u8], name: &str) -> Result<(QuantizedModel, Vec<Place>), TfliteError> {
    read_as(bytes, name, Rounding::Tflm)
}

fn read_as(
    bytes: &[u8],
    name: &str,
    rounding: Rounding,
) -> Result<(QuantizedModel, Vec<Place>), TfliteError> {
    let (file, operators) = File::open(bytes, name)?;
    refuse_types(&file, &operators, ops::is_supported)?;
    require_int8(&file, &operators)?;
    let mut network = Network::new(file, rounding);
    open(&mut network).map_err(|p| p.of_file(name))?;
    let mut issues = Issues::default();
    for (index, listed) in operators.iter().enumerate() {
        let mut call = Call {
            network: &mut network,
            operator: listed.operator,
            code: listed.code,
        };
        let Err(problem) = ops::convert(&mut call) else {
            continue;
        };
        for output in listed.operator.outputs.iter().take(MAX_SHOWN) {
            network.give_up(output);
        }
        issues.add(&network.file, index, listed, problem)?;
    }
    issues.finish(name)?;
    let (Some(input), Some(output)) = (network.input, network.output()) else {
        return Err(TfliteError::Damaged {
            file: name.to_string(),
            reason: "its input is never read, or its output never written".to_string(),
        });
    };
    let model = QuantizedModel {
        name: name.to_string(),
        rounding,
        tensors: network.tensors,
        nodes: network.nodes,
        input,
        output,
        preprocess: Preprocess::default(),
        labels: Vec::new(),
    };
    let places =
        locate(bytes, &network.file, &operators, &network.places).map_err(|p| p.of_file(name))?;
    Ok((model, places))
}

/// Refuses networks in which no operator reads and writes int8, as a whole.
fn require_int8(file: &File, operators: &[Listed]) -> Result<(), TfliteError> {
    let mut first = None;
    for Listed { operator, .. } in operators {
        let (Some(x), Some(y)) = (operator.inputs.get(0), operator.outputs.get(0)) else {
            continue;
        };
        let (Ok(x), Ok(y)) = (file.tensor(x), file.tensor(y)) else {
            continue;
        };
        if x.element == ElementType::INT8 && y.element == ElementType::INT8 {
            return Ok(());
        }
        first.get_or_insert(x.element);
    }
    match first {
        Some(kind) => Err(TfliteError::NotInt8 {
            file: file.name.to_string(),
            kind: kind.to_string(),
        }),
        // What is wrong with operators that have no operands is theirs to say.
        None => Ok(()),
    }
}

/// Declares the input, or notes that it is float.
fn open(network: &mut Network) -> Result<(), Problem> {
    let input = network.file.input;
    let t = network.file.tensor(input)?;
    require_batch_of_one(&t)?;
    if t.element == ElementType::FLOAT32 {
        network.float_input = Some(input as usize);
        return Ok(());
    }
    let types = [ElementType::INT8, ElementType::UINT8];
    network.input = Some(network.declare(input, &types)?.id);
    Ok(())
}
