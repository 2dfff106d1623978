//! Concat: <https://onnx.ai/onnx/operators/onnx__Concat.html>.

use crate::graph::Op;
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

/// All operands in the first one's layout.
pub(super) fn concat<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let first = im.tensor(n, 0)?;
    if !n.has("axis") {
        return Err(Fail::invalid("it has no axis"));
    }
    let axis = first.axis(n.int("axis", 0))?;
    let mut ids = Vec::new();
    for i in 0..n.raw.input.len() {
        let x = im.tensor(n, i)?;
        if x.dims.len() != first.dims.len() {
            return Err(Fail::invalid("its operands have different numbers of axes"));
        }
        ids.push(im.lay_out(&x, &first.axes)?.id);
    }
    let id = im.emit(
        n,
        Op::Concat {
            axis: first.axes[axis],
        },
        &ids,
    )?;
    Ok(Tensor::of(im, id, first.axes))
}
