//! Integer networks in ONNX's QDQ form, as onnxruntime's static quantization writes them: a float
//! network with QuantizeLinear and DequantizeLinear pairs around its operators, which an integer
//! runtime is meant to merge with them.
//!
//! `strip` takes the pairs away, notes the scale and zero point of every tensor, and puts the real
//! values of integer weights in their place; the float importer reads what is left (so layouts,
//! windows and shapes are understood once); `build` makes the integer network of the graph and the
//! notes. Operators: <https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html>.
//!
//! **Numbers.** Activations are int8, or uint8 taken 128 lower; weights become int8 with zero point
//! 0, exactly as in the file, or are refused; biases are rounded to units of input scale * weight
//! scale, which is what onnxruntime stores. Accumulators are therefore the same here and there.
//! onnxruntime scales them by a float product and rounds once, this network by Q31 multipliers and
//! twice, as TFLM does: one or two of a hundred elements of a layer differ, by one step.
//!
//! **Placement.** A pair between an operator and its activation function stays a rounding of its
//! own. Operators that only move elements (pools, reshapes) keep their input's scale, and rescale
//! after where the file says so. A final softmax without a pair gets the scale 1/256.

mod build;
mod linear;
mod strip;
#[cfg(test)]
mod tests;

use onnx_rs::ast::{self, OpType};

use super::{ImportError, check_file_size, convert, guard, opset};
use crate::graph::{Graph, passes};
use crate::model::QuantizedModel;

/// Whether bytes are an ONNX network with quantized tensors. Bytes that are no ONNX file are not;
/// what is wrong with them, the importer says.
pub fn is_qdq(bytes: &[u8]) -> bool {
    if guard::check(bytes).is_err() {
        return false;
    }
    let Ok(model) = onnx_rs::parse(bytes) else {
        return false;
    };
    model
        .graph
        .is_some_and(|g| g.node.iter().any(is_quantization))
}

/// QuantizeLinear or DequantizeLinear, of ONNX or as onnxruntime's own of the same meaning.
fn is_quantization(node: &ast::Node<'_>) -> bool {
    quantizes(node) || dequantizes(node)
}

fn is_operator(node: &ast::Node<'_>, op: OpType<'static>, name: &str) -> bool {
    let domain = matches!(node.domain, "" | "ai.onnx" | "com.microsoft");
    domain && (node.op_type == op || matches!(node.op_type, OpType::Custom(n) if n == name))
}

fn quantizes(node: &ast::Node<'_>) -> bool {
    is_operator(node, OpType::QuantizeLinear, "QuantizeLinear")
}

fn dequantizes(node: &ast::Node<'_>) -> bool {
    is_operator(node, OpType::DequantizeLinear, "DequantizeLinear")
}

/// Reads a QDQ network's bytes; `file` is its name in messages.
///
/// The network takes the file's real inputs (NHWC where the file's are NCHW) in the scale of the
/// pair behind them. Tensors and nodes keep the file's names.
///
/// # Errors
/// [`ImportError`]; [`ImportError::Unsupported`] lists every node that cannot be imported, among
/// them operators without a pair, weights that are not symmetric, and types other than int8, uint8
/// and int32.
pub fn import_qdq(bytes: &[u8], file: &str) -> Result<QuantizedModel, ImportError> {
    check_file_size(bytes.len() as u64, file)?;
    let damaged = |reason: String| ImportError::Damaged {
        file: file.into(),
        reason,
    };
    guard::check(bytes).map_err(damaged)?;
    let model = onnx_rs::parse(bytes).map_err(|e| damaged(e.to_string()))?;
    let source = model
        .graph
        .as_ref()
        .ok_or_else(|| damaged("it holds no graph".into()))?;
    let opset = opset(&model, file)?;
    super::check_node_count(source, file)?;
    let stripped = strip::strip(source, file)?;
    let mut graph = convert(&stripped.float, opset, file)?;
    arrange(&mut graph);
    graph.check().map_err(|source| ImportError::Graph {
        file: file.into(),
        source,
    })?;
    build::build(&graph, &stripped.notes, file)
}

/// The passes that leave every quantized tensor where it is.
fn arrange(graph: &mut Graph) {
    let passes: [fn(&mut Graph) -> bool; 3] = [
        passes::drop_identity,
        passes::recognise_global_pool,
        passes::permute_columns,
    ];
    let mut changed = true;
    while changed {
        changed = passes
            .iter()
            .fold(false, |changed, pass| pass(graph) | changed);
        passes::remove_dead_nodes(graph);
    }
}
