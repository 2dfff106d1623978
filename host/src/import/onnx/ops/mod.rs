//! One file an operator (or family): reads the node, emits graph operators.

mod activation;
mod arithmetic;
mod batch_norm;
mod concat;
mod conv;
mod gate;
mod linear;
mod pad;
mod pool;
mod reduce;
mod remedy;
mod shape;
mod softmax;
mod transpose;
mod window;

use onnx_rs::ast::OpType;

pub(super) use shape::axes_of;

use super::fold;
use super::importer::{Fail, Importer, Item, Step};
use super::node::OnnxNode;

/// Imports one node: computes it if its operands are known, else emits its operators.
pub(super) fn import_node<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Item> {
    if !matches!(n.raw.domain, "" | "ai.onnx") {
        return Err(remedy::unknown_domain(n.raw.domain));
    }
    if !remedy::is_supported(&n.raw.op_type) && !fold::is_foldable(&n.raw.op_type) {
        return Err(remedy::unsupported(&n.raw.op_type));
    }
    let mut operands = Vec::with_capacity(n.raw.input.len());
    for &name in n.raw.input.iter().filter(|name| !name.is_empty()) {
        operands.push(im.item(name)?);
    }
    // What depends on an unsupported node cannot be judged; that node is on the list already.
    if operands.iter().any(|item| matches!(item, Item::Unknown)) {
        return Ok(Item::Unknown);
    }
    if let Some(constant) = fold::fold(im, n)? {
        return Ok(constant);
    }
    if !remedy::is_supported(&n.raw.op_type) {
        return Err(remedy::unsupported(&n.raw.op_type));
    }
    // Only a few operators have a second output, and none of ours computes it.
    if let Some(second) = n
        .raw
        .output
        .iter()
        .skip(1)
        .find(|o| im.uses.contains_key(*o))
    {
        return Err(Fail::unsupported(
            format!("its second result `{second}` is used"),
            "only the first result of an operator is supported; change the model so that it does not need the other",
        ));
    }
    let t = match n.raw.op_type {
        OpType::Conv => conv::conv(im, n),
        OpType::Gemm => linear::gemm(im, n),
        OpType::MatMul => linear::mat_mul(im, n),
        OpType::BatchNormalization => batch_norm::batch_norm(im, n),
        OpType::Relu
        | OpType::LeakyRelu
        | OpType::Sigmoid
        | OpType::Tanh
        | OpType::HardSwish
        | OpType::HardSigmoid => activation::plain(im, n),
        OpType::Clip => activation::clip(im, n),
        OpType::Min | OpType::Max => activation::bound(im, n),
        OpType::PRelu => activation::prelu(im, n),
        OpType::Add | OpType::Sub | OpType::Mul | OpType::Div => arithmetic::binary(im, n),
        OpType::Sum => arithmetic::sum(im, n),
        OpType::Neg => arithmetic::negate(im, n),
        OpType::MaxPool => pool::max_pool(im, n),
        OpType::AveragePool => pool::average_pool(im, n),
        OpType::GlobalAveragePool => pool::global(im, n, false),
        OpType::GlobalMaxPool => pool::global(im, n, true),
        OpType::ReduceMean | OpType::ReduceSum | OpType::ReduceMax => reduce::reduce(im, n),
        OpType::Flatten => shape::flatten(im, n),
        OpType::Reshape => shape::reshape(im, n),
        OpType::Squeeze => shape::squeeze(im, n),
        OpType::Unsqueeze => shape::unsqueeze(im, n),
        OpType::Transpose => transpose::transpose(im, n),
        OpType::Pad => pad::pad(im, n),
        OpType::Concat => concat::concat(im, n),
        OpType::Softmax => softmax::softmax(im, n),
        OpType::Identity => im.tensor(n, 0),
        OpType::Dropout => activation::dropout(im, n),
        OpType::Cast => activation::cast(im, n),
        _ => Err(remedy::unsupported(&n.raw.op_type)),
    }?;
    Ok(Item::Tensor(t))
}
