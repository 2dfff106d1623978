//! Pad: <https://onnx.ai/onnx/operators/onnx__Pad.html>.

use crate::graph::Op;
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

/// A constant border. Its sizes are an attribute before operator set 11 and an operand since; the
/// axes that they are for may be given since 18.
pub(super) fn pad<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let mode = n.text("mode", "constant")?;
    if mode != "constant" {
        return Err(Fail::unsupported(
            format!("padding of mode `{mode}`"),
            "use zero padding in the model",
        ));
    }
    let rank = x.dims.len() + 1;
    let (pads, value) = if im.opset < 11 {
        (n.ints("pads").map(<[i64]>::to_vec), n.float("value", 0.0))
    } else {
        let pads = im.known_ints(n, 1, "padding")?;
        let value = match im.weights(n, 2, "padding value")? {
            None => 0.0,
            Some(c) => match c.floats() {
                Some(&[v]) => v,
                _ => {
                    return Err(Fail::invalid(format!(
                        "its padding value `{}` is not one number",
                        c.name
                    )));
                }
            },
        };
        (pads, value)
    };
    let pads = pads.ok_or_else(|| Fail::invalid("it has no pads"))?;
    let axes = im
        .known_ints(n, 3, "axes")?
        .unwrap_or_else(|| (0..rank as i64).collect());
    if pads.len() != 2 * axes.len() || axes.len() > rank {
        return Err(Fail::invalid(format!(
            "{} pads do not fit {} axes",
            pads.len(),
            axes.len()
        )));
    }
    if pads.iter().any(|&p| p < 0) {
        return Err(Fail::unsupported(
            "negative padding",
            "crop the data before the network instead",
        ));
    }
    let (mut before, mut after, mut seen) = ([0; 3], [0; 3], [false; 3]);
    for (i, &axis) in axes.iter().enumerate() {
        let size = |p: i64| usize::try_from(p).unwrap_or(usize::MAX);
        let (b, a) = (size(pads[i]), size(pads[axes.len() + i]));
        if (b, a) == (0, 0) {
            continue;
        }
        let at = x.axes[x.axis(axis)?];
        if std::mem::replace(&mut seen[at], true) {
            return Err(Fail::invalid(format!("axis {axis} is padded twice")));
        }
        (before[at], after[at]) = (b, a);
    }
    if seen == [false; 3] {
        return Ok(x);
    }
    let id = im.emit(
        n,
        Op::Pad {
            before,
            after,
            value,
        },
        &[x.id],
    )?;
    Ok(Tensor::of(im, id, x.axes))
}
