//! Gemm and MatMul with a constant matrix.

use std::rc::Rc;

use crate::graph::{Activation, Conv2d, FullyConnected, Op, Pads, Weights};
use crate::import::onnx::constant::Constant;
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

/// The matrix as `[out, in]`, each element times `factor`.
fn rows(
    im: &mut Importer<'_, '_>,
    c: &Rc<Constant>,
    transposed: bool,
    factor: f32,
    inputs: usize,
) -> Step<Weights> {
    let &[a, b] = c.shape.as_slice() else {
        return Err(Fail::unsupported(
            format!("its matrix `{}` has the shape {:?}", c.name, c.shape),
            "only products of the last axis with a matrix [in, out] are supported",
        ));
    };
    let (i, o) = if transposed { (b, a) } else { (a, b) };
    if i != inputs || o == 0 {
        return Err(Fail::invalid(format!(
            "its matrix `{}` of shape {:?} does not fit {inputs} inputs",
            c.name, c.shape
        )));
    }
    let data = c.floats().unwrap_or_default();
    im.spend(data.len())?;
    let at = |row: usize, column: usize| {
        factor
            * if transposed {
                data[row * i + column]
            } else {
                data[column * o + row]
            }
    };
    let data = (0..o)
        .flat_map(|row| (0..i).map(move |column| at(row, column)))
        .collect();
    Ok(Weights {
        shape: vec![o, i],
        data,
    })
}

/// `alpha x B + beta C`: <https://onnx.ai/onnx/operators/onnx__Gemm.html>.
pub(super) fn gemm<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    if n.flag("transA") {
        return Err(Fail::unsupported(
            "transA moves the batch",
            "transpose the constant operand instead",
        ));
    }
    let &[inputs] = x.dims.as_slice() else {
        return Err(Fail::invalid("its input is not a matrix [N, features]"));
    };
    let matrix = im
        .weights(n, 1, "matrix B")?
        .ok_or_else(|| Fail::invalid("it has no matrix B"))?;
    let weights = rows(im, &matrix, n.flag("transB"), n.float("alpha", 1.0), inputs)?;
    let outputs = weights.shape[0];
    let beta = n.float("beta", 1.0);
    let bias = match im.weights(n, 2, "bias C")? {
        None => vec![0.0; outputs],
        Some(c) => {
            let data = c.floats().unwrap_or_default();
            let row = c.shape.last().copied().unwrap_or(1);
            if row != data.len() || (row != 1 && row != outputs) || c.shape.len() > 2 {
                return Err(Fail::invalid(format!(
                    "bias `{}` of shape {:?} does not fit {outputs} outputs",
                    c.name, c.shape
                )));
            }
            (0..outputs).map(|o| beta * data[o % row]).collect()
        }
    };
    let x = im.lay_out(&x, &[2])?;
    let id = im.emit(
        n,
        Op::FullyConnected(FullyConnected {
            weights,
            bias,
            activation: Activation::Identity,
        }),
        &[x.id],
    )?;
    Ok(Tensor::of(im, id, vec![2]))
}

/// The last axis times a matrix; over several positions this is a 1x1 convolution.
pub(super) fn mat_mul<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let matrix = im
        .weights(n, 1, "matrix")?
        .ok_or_else(|| Fail::invalid("it has no matrix"))?;
    let Some((&inputs, positions)) = x.dims.split_last() else {
        return Err(Fail::invalid("its input has no features"));
    };
    let weights = rows(im, &matrix, false, 1.0, inputs)?;
    let single = positions.iter().all(|&d| d == 1);
    let x = im.channel_last(&x, x.dims.len() - 1)?;
    let (bias, activation) = (vec![0.0; weights.shape[0]], Activation::Identity);
    let op = if single {
        Op::FullyConnected(FullyConnected {
            weights,
            bias,
            activation,
        })
    } else {
        let weights = Weights {
            shape: vec![weights.shape[0], 1, 1, inputs],
            data: weights.data,
        };
        let (stride, dilation, pads) = ([1, 1], [1, 1], Pads::default());
        Op::Conv2d(Conv2d {
            weights,
            bias,
            stride,
            dilation,
            pads,
            groups: 1,
            activation,
        })
    };
    let id = im.emit(n, op, &[x.id])?;
    Ok(Tensor::of(im, id, x.axes))
}
