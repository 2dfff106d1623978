//! Transpose: <https://onnx.ai/onnx/operators/onnx__Transpose.html>.

use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

/// Only relabels axes; the batch must stay first.
pub(super) fn transpose<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let rank = x.dims.len() as i64 + 1;
    let perm = n
        .ints("perm")
        .map_or_else(|| (0..rank).rev().collect(), <[i64]>::to_vec);
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..rank) {
        return Err(Fail::invalid(format!(
            "perm = {perm:?} is not a permutation of {rank} axes"
        )));
    }
    if perm[0] != 0 {
        return Err(Fail::unsupported(
            format!("perm = {perm:?} moves the batch"),
            "change the model so that the first axis stays the batch",
        ));
    }
    let from: Vec<usize> = perm[1..].iter().map(|&p| p as usize - 1).collect();
    Ok(Tensor {
        id: x.id,
        dims: from.iter().map(|&i| x.dims[i]).collect(),
        axes: from.iter().map(|&i| x.axes[i]).collect(),
    })
}
