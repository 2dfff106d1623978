//! Every operator once more, in f64 and in the order of its definition, to test against.

use crate::graph::{Activation, Conv2d, Graph, Op, Pool, Shape, ValueId};

/// All values of one sample.
pub fn run(graph: &Graph, x: &[f32]) -> Vec<Vec<f64>> {
    let mut values = vec![Vec::new(); graph.values.len()];
    values[graph.input.0] = x.iter().map(|&v| v as f64).collect();
    for node in &graph.nodes {
        let inputs: Vec<(&[f64], Shape)> = node
            .inputs
            .iter()
            .map(|&v: &ValueId| (&values[v.0][..], graph.shape(v)))
            .collect();
        values[node.output.0] = eval(&node.op, &inputs, graph.shape(node.output));
    }
    values
}

/// One operator; elements in HWC order.
pub fn eval(op: &Op, inputs: &[(&[f64], Shape)], out: Shape) -> Vec<f64> {
    let (x, shape) = inputs[0];
    let act =
        |v: Vec<f64>, a: Activation| v.into_iter().map(|v| activate(v, a)).collect::<Vec<_>>();
    let at = |[h, w, c]: Shape, [y, x, k]: Shape| {
        debug_assert!(y < h && x < w && k < c);
        (y * w + x) * c + k
    };
    let each = |f: &dyn Fn(Shape) -> f64| {
        let mut v = Vec::new();
        for y in 0..out[0] {
            for x in 0..out[1] {
                v.extend((0..out[2]).map(|c| f([y, x, c])));
            }
        }
        v
    };
    match op {
        Op::Conv2d(c) => act(conv(c, x, shape, out), c.activation),
        Op::FullyConnected(f) => {
            let row = |o: usize| &f.weights.data[o * x.len()..(o + 1) * x.len()];
            let sum = |o: usize| {
                f.bias[o] as f64
                    + row(o)
                        .iter()
                        .zip(x)
                        .map(|(&w, &x)| w as f64 * x)
                        .sum::<f64>()
            };
            act((0..out[2]).map(sum).collect(), f.activation)
        }
        Op::Affine(a) => {
            let f = |(i, v): (usize, &f64)| {
                v * a.scale[i % shape[2]] as f64 + a.shift[i % shape[2]] as f64
            };
            act(x.iter().enumerate().map(f).collect(), a.activation)
        }
        Op::Add { activation } | Op::Sub { activation } | Op::Mul { activation } => {
            let operand = |k: usize, o: Shape| {
                let (x, s) = inputs[k];
                x[at(s, [0, 1, 2].map(|i| if s[i] == 1 { 0 } else { o[i] }))]
            };
            let pair = |o: Shape| match op {
                Op::Add { .. } => operand(0, o) + operand(1, o),
                Op::Sub { .. } => operand(0, o) - operand(1, o),
                _ => operand(0, o) * operand(1, o),
            };
            act(each(&pair), *activation)
        }
        Op::ResizeNearest { rows, columns } => {
            each(&|o| x[at(shape, [rows[o[0]], columns[o[1]], o[2]])])
        }
        Op::Activation(a) => act(x.to_vec(), *a),
        Op::MaxPool(p) => each(&|o| {
            taps(p, x, shape, o)
                .into_iter()
                .fold(f64::NEG_INFINITY, f64::max)
        }),
        Op::AveragePool(p) => each(&|o| {
            let t = taps(p, x, shape, o);
            t.iter().sum::<f64>() / t.len() as f64
        }),
        Op::GlobalAveragePool => {
            let n = (shape[0] * shape[1]) as f64;
            each(&|o| x.iter().skip(o[2]).step_by(shape[2]).sum::<f64>() / n)
        }
        Op::Pad { before, value, .. } => each(&|o| {
            let inside = (0..3).all(|i| o[i] >= before[i] && o[i] - before[i] < shape[i]);
            if inside {
                x[at(
                    shape,
                    [o[0] - before[0], o[1] - before[1], o[2] - before[2]],
                )]
            } else {
                *value as f64
            }
        }),
        Op::Concat { axis } => each(&|mut o| {
            for (data, s) in inputs {
                if o[*axis] < s[*axis] {
                    return data[at(*s, o)];
                }
                o[*axis] -= s[*axis];
            }
            unreachable!("the inputs fill the output")
        }),
        Op::Reshape => x.to_vec(),
        Op::Transpose { perm } => each(&|o| {
            let mut i = [0; 3];
            (0..3).for_each(|k| i[perm[k]] = o[k]);
            x[at(shape, i)]
        }),
        Op::Softmax => x
            .chunks(shape[2])
            .flat_map(|p| {
                let sum: f64 = p.iter().map(|v| v.exp()).sum();
                p.iter().map(move |v| v.exp() / sum).collect::<Vec<_>>()
            })
            .collect(),
    }
}

fn activate(x: f64, a: Activation) -> f64 {
    match a {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Clip { lo, hi } => x.max(lo as f64).min(hi as f64),
        Activation::LeakyRelu { alpha } => x * if x < 0.0 { alpha as f64 } else { 1.0 },
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::HardSigmoid { alpha, beta } => (alpha as f64 * x + beta as f64).clamp(0.0, 1.0),
    }
}

fn conv(c: &Conv2d, x: &[f64], [h, w, ci]: Shape, out: Shape) -> Vec<f64> {
    let [_, kh, kw, per_group] = [0, 1, 2, 3].map(|i| c.weights.shape[i]);
    let filters_per_group = out[2] / c.groups;
    let mut y = Vec::new();
    for oy in 0..out[0] {
        for ox in 0..out[1] {
            for o in 0..out[2] {
                let mut sum = c.bias[o] as f64;
                for ky in 0..kh {
                    for kx in 0..kw {
                        let iy = (oy * c.stride[0] + ky * c.dilation[0]).wrapping_sub(c.pads.top);
                        let ix = (ox * c.stride[1] + kx * c.dilation[1]).wrapping_sub(c.pads.left);
                        if iy >= h || ix >= w {
                            continue;
                        }
                        for k in 0..per_group {
                            let channel = o / filters_per_group * per_group + k;
                            let weight = c.weights.data[((o * kh + ky) * kw + kx) * per_group + k];
                            sum += weight as f64 * x[(iy * w + ix) * ci + channel];
                        }
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

fn taps(p: &Pool, x: &[f64], [h, w, c]: Shape, [oy, ox, ch]: Shape) -> Vec<f64> {
    let mut found = Vec::new();
    for ky in 0..p.kernel[0] {
        for kx in 0..p.kernel[1] {
            let iy = (oy * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.pads.top);
            let ix = (ox * p.stride[1] + kx * p.dilation[1]).wrapping_sub(p.pads.left);
            if iy < h && ix < w {
                found.push(x[(iy * w + ix) * c + ch]);
            }
        }
    }
    found
}
