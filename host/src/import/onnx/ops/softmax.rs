//! Softmax: <https://onnx.ai/onnx/operators/onnx__Softmax.html>.

use crate::graph::Op;
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

/// Over one axis since operator set 13; before, over that axis and all behind it together.
pub(super) fn softmax<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let together = im.opset < 13;
    let axis = x.axis(n.int("axis", if together { 1 } else { -1 }))?;
    if together && x.dims[axis..].iter().filter(|&&d| d != 1).count() > 1 {
        return Err(Fail::unsupported(
            format!(
                "before operator set 13 it normalises axes {} to {} together",
                axis + 1,
                x.dims.len()
            ),
            "export with opset_version=17",
        ));
    }
    // Of the axes normalised together at most one is longer than one.
    let axis = if together {
        (axis..x.dims.len())
            .find(|&i| x.dims[i] != 1)
            .unwrap_or(axis)
    } else {
        axis
    };
    let x = im.channel_last(&x, axis)?;
    let id = im.emit(n, Op::Softmax, &[x.id])?;
    Ok(Tensor { id, ..x })
}
