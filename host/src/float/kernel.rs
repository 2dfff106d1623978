//! An operator of the float network, ready to compute.

use super::layout::ohwi_to_oihw;
use super::ops::*;
use crate::graph::{Activation, Op, Pool, Shape};
use burn_tensor::{Device, Int, Tensor, TensorData};

/// An operator with its constants on the device.
pub(super) enum Kernel {
    Conv2d {
        weights: Tensor<4>,
        bias: Tensor<1>,
        geometry: ConvGeometry,
    },
    FullyConnected {
        weights: Tensor<2>,
        bias: Tensor<2>,
    },
    Affine {
        scale: Tensor<4>,
        shift: Tensor<4>,
    },
    Add,
    Sub,
    Mul,
    Activation,
    MaxPool(PoolGeometry),
    AveragePool {
        geometry: PoolGeometry,
        factor: Option<Tensor<4>>,
    },
    GlobalAveragePool,
    Pad {
        before: [usize; 3],
        after: [usize; 3],
        value: f32,
    },
    Concat {
        axis: usize,
    },
    Reshape(Shape),
    Transpose {
        perm: [usize; 3],
    },
    Softmax,
    ResizeNearest {
        rows: Tensor<1, Int>,
        columns: Tensor<1, Int>,
    },
}

impl Kernel {
    /// The result, before the fused function.
    pub(super) fn apply(&self, mut inputs: Vec<Tensor<4>>) -> Tensor<4> {
        if let Kernel::Concat { axis } = self {
            return concat(inputs, *axis);
        }
        let last = inputs.pop().expect("check_graph: every node has an input");
        match self {
            Kernel::Add | Kernel::Sub | Kernel::Mul => {
                let first = inputs.pop().expect("check_graph: a sum has two inputs");
                // Axes of length 1 are repeated.
                match self {
                    Kernel::Add => first + last,
                    Kernel::Sub => first - last,
                    _ => first * last,
                }
            }
            Kernel::Conv2d {
                weights,
                bias,
                geometry,
            } => conv2d(last, weights.clone(), Some(bias.clone()), geometry),
            Kernel::FullyConnected { weights, bias } => {
                fully_connected(last, weights.clone(), bias.clone())
            }
            Kernel::Affine { scale, shift } => last * scale.clone() + shift.clone(),
            Kernel::Activation | Kernel::Concat { .. } => last,
            Kernel::MaxPool(g) => max_pool(last, g),
            Kernel::AveragePool { geometry, factor } => {
                average_pool(last, geometry, factor.clone())
            }
            Kernel::GlobalAveragePool => global_average(last),
            Kernel::Pad {
                before,
                after,
                value,
            } => pad(last, *before, *after, *value),
            Kernel::Reshape(shape) => reshape(last, *shape),
            Kernel::Transpose { perm } => transpose(last, *perm),
            Kernel::Softmax => softmax(last),
            Kernel::ResizeNearest { rows, columns } => {
                last.select(2, rows.clone()).select(3, columns.clone())
            }
        }
    }

    /// Puts an operator of a checked graph on the device; also its fused (or own) function.
    pub(super) fn build(
        op: &Op,
        input: Shape,
        output: Shape,
        device: &Device,
    ) -> (Kernel, Activation) {
        let per_channel = |v: &[f32]| {
            Tensor::<4>::from_data(TensorData::new(v.to_vec(), [1, v.len(), 1, 1]), device)
        };
        let pool = |p: &Pool| PoolGeometry {
            kernel: p.kernel,
            stride: p.stride,
            dilation: p.dilation,
            pads: p.pads,
        };
        match op {
            Op::Conv2d(c) => {
                let [o, kh, kw, i] = [
                    c.weights.shape[0],
                    c.weights.shape[1],
                    c.weights.shape[2],
                    c.weights.shape[3],
                ];
                let data = TensorData::new(
                    ohwi_to_oihw(&c.weights.data, [o, kh, kw, i]),
                    [o, i, kh, kw],
                );
                let kernel = Kernel::Conv2d {
                    weights: Tensor::from_data(data, device),
                    bias: Tensor::from_data(TensorData::new(c.bias.clone(), [o]), device),
                    geometry: ConvGeometry {
                        stride: c.stride,
                        dilation: c.dilation,
                        pads: c.pads,
                        groups: c.groups,
                    },
                };
                (kernel, c.activation)
            }
            Op::FullyConnected(f) => {
                let out = f.bias.len();
                let kernel = Kernel::FullyConnected {
                    weights: flatten_weights(&f.weights.data, out, input, device),
                    bias: Tensor::from_data(TensorData::new(f.bias.clone(), [1, out]), device),
                };
                (kernel, f.activation)
            }
            Op::Affine(a) => (
                Kernel::Affine {
                    scale: per_channel(&a.scale),
                    shift: per_channel(&a.shift),
                },
                a.activation,
            ),
            Op::Add { activation } => (Kernel::Add, *activation),
            Op::Sub { activation } => (Kernel::Sub, *activation),
            Op::Mul { activation } => (Kernel::Mul, *activation),
            Op::Activation(a) => (Kernel::Activation, *a),
            Op::MaxPool(p) => (Kernel::MaxPool(pool(p)), Activation::Identity),
            Op::AveragePool(p) => {
                let geometry = pool(p);
                let factor = average_pool_factor(
                    &geometry,
                    [input[0], input[1]],
                    [output[0], output[1]],
                    device,
                );
                (
                    Kernel::AveragePool { geometry, factor },
                    Activation::Identity,
                )
            }
            Op::GlobalAveragePool => (Kernel::GlobalAveragePool, Activation::Identity),
            Op::Pad {
                before,
                after,
                value,
            } => (
                Kernel::Pad {
                    before: *before,
                    after: *after,
                    value: *value,
                },
                Activation::Identity,
            ),
            Op::Concat { axis } => (Kernel::Concat { axis: *axis }, Activation::Identity),
            Op::Reshape => (Kernel::Reshape(output), Activation::Identity),
            Op::Transpose { perm } => (Kernel::Transpose { perm: *perm }, Activation::Identity),
            Op::Softmax => (Kernel::Softmax, Activation::Identity),
            Op::ResizeNearest { rows, columns } => {
                let indices = |v: &[usize]| {
                    let data: Vec<i32> = v.iter().map(|i| *i as i32).collect();
                    let shape = [data.len()];
                    Tensor::<1, Int>::from_data(TensorData::new(data, shape), device)
                };
                let kernel = Kernel::ResizeNearest {
                    rows: indices(rows),
                    columns: indices(columns),
                };
                (kernel, Activation::Identity)
            }
        }
    }
}
