//! BatchNormalization at inference: <https://onnx.ai/onnx/operators/onnx__BatchNormalization.html>.

use crate::graph::{Activation, Affine, Op};
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

/// `gamma (x - mean) / sqrt(var + epsilon) + beta` per channel, as an affine map in `f64`.
pub(super) fn batch_norm<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    if n.flag("training_mode") {
        return Err(Fail::unsupported(
            "training mode",
            "export the model in inference mode: model.eval() before the export",
        ));
    }
    let Some(&channels) = x.dims.first() else {
        return Err(Fail::invalid("its input has no channels"));
    };
    let mut parameters = Vec::new();
    for (i, what) in ["", "scale", "shift", "mean", "variance"]
        .into_iter()
        .enumerate()
        .skip(1)
    {
        let c = im
            .weights(n, i, what)?
            .ok_or_else(|| Fail::invalid(format!("its {what} is missing")))?;
        if c.shape != [channels] {
            return Err(Fail::invalid(format!(
                "{what} `{}` of shape {:?} does not fit {channels} channels",
                c.name, c.shape
            )));
        }
        parameters.push(c);
    }
    im.spend(2 * channels)?;
    let epsilon = f64::from(n.float("epsilon", 1e-5));
    let (mut scale, mut shift) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
    for c in 0..channels {
        let [gamma, beta, mean, variance] =
            [0, 1, 2, 3].map(|i| f64::from(parameters[i].floats().unwrap_or_default()[c]));
        let root = (variance + epsilon).sqrt();
        if root.is_nan() || root <= 0.0 {
            return Err(Fail::invalid(format!(
                "variance `{}` of channel {c} is {variance}, which has no square root with epsilon {epsilon}",
                parameters[3].name
            )));
        }
        let s = gamma / root;
        scale.push(s as f32);
        shift.push((beta - mean * s) as f32);
    }
    let x = im.channel_last(&x, 0)?;
    let id = im.emit(
        n,
        Op::Affine(Affine {
            scale,
            shift,
            activation: Activation::Identity,
        }),
        &[x.id],
    )?;
    Ok(Tensor { id, ..x })
}
