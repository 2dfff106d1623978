//! A slow, plain interpreter of [`Graph`]: the yardstick for importers, passes and backends.
//!
//! One sample at a time, sums in `f64`, results rounded to `f32` after each operator.

use super::{Conv2d, Graph, Op, Pool, Shape, ValueId};

/// The graph's output for one sample `x` (`[h][w][c]`, as [`Graph::input`] is shaped).
///
/// # Panics
/// If `x` does not have the input's number of elements or the graph fails [`Graph::check`].
pub fn run(graph: &Graph, x: &[f32]) -> Vec<f32> {
    let mut all = run_all(graph, x);
    std::mem::take(&mut all[graph.output.0])
}

/// Every value (by [`ValueId`]) for one sample; values that no node makes are empty.
///
/// # Panics
/// As [`run`].
pub fn run_all(graph: &Graph, x: &[f32]) -> Vec<Vec<f32>> {
    assert_eq!(
        x.len(),
        graph.elements(graph.input),
        "one sample of the input's shape"
    );
    let mut all = vec![Vec::new(); graph.values.len()];
    all[graph.input.0] = x.to_vec();
    for node in &graph.nodes {
        let inputs: Vec<(&[f32], Shape)> = node
            .inputs
            .iter()
            .map(|&ValueId(i)| (all[i].as_slice(), graph.values[i].shape))
            .collect();
        let y = eval(&node.op, &inputs, graph.shape(node.output));
        all[node.output.0] = y;
    }
    all
}

/// Calls `f` with (h, w, c, linear index) of each element.
fn each(s: Shape, mut f: impl FnMut(usize, usize, usize, usize)) {
    let mut i = 0;
    for h in 0..s[0] {
        for w in 0..s[1] {
            for c in 0..s[2] {
                f(h, w, c, i);
                i += 1;
            }
        }
    }
}

fn index(s: Shape, p: [usize; 3]) -> usize {
    (p[0] * s[1] + p[1]) * s[2] + p[2]
}

fn eval(op: &Op, inputs: &[(&[f32], Shape)], out: Shape) -> Vec<f32> {
    let (x, s) = inputs[0];
    let mut y = vec![0.0f32; out.iter().product()];
    match op {
        Op::Conv2d(c) => conv(c, x, s, out, &mut y),
        Op::FullyConnected(f) => {
            for (o, y) in y.iter_mut().enumerate() {
                let row = &f.weights.data[o * x.len()..][..x.len()];
                let sum: f64 = row
                    .iter()
                    .zip(x)
                    .map(|(&w, &x)| f64::from(w) * f64::from(x))
                    .sum();
                *y = f.activation.eval((sum + f64::from(f.bias[o])) as f32);
            }
        }
        Op::Affine(a) => each(s, |_, _, c, i| {
            y[i] = a.activation.eval(a.scale[c] * x[i] + a.shift[c])
        }),
        Op::Add { activation } => pairs(inputs, out, |i, a, b| y[i] = activation.eval(a + b)),
        Op::Sub { activation } => pairs(inputs, out, |i, a, b| y[i] = activation.eval(a - b)),
        Op::Mul { activation } => pairs(inputs, out, |i, a, b| y[i] = activation.eval(a * b)),
        Op::ResizeNearest { rows, columns } => {
            each(out, |h, w, c, i| {
                y[i] = x[index(s, [rows[h], columns[w], c])]
            });
        }
        Op::Activation(a) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = a.eval(x)),
        Op::MaxPool(p) => each(out, |h, w, c, i| {
            let mut best = f32::NEG_INFINITY;
            taps(p, s, h, w, |h, w| best = best.max(x[index(s, [h, w, c])]));
            y[i] = best;
        }),
        Op::AveragePool(p) => each(out, |h, w, c, i| {
            let (mut sum, mut n) = (0.0f64, 0u32);
            taps(p, s, h, w, |h, w| {
                sum += f64::from(x[index(s, [h, w, c])]);
                n += 1;
            });
            y[i] = (sum / f64::from(n)) as f32;
        }),
        Op::GlobalAveragePool => {
            let mut sums = vec![0.0f64; s[2]];
            each(s, |_, _, c, i| sums[c] += f64::from(x[i]));
            y.iter_mut()
                .zip(sums)
                .for_each(|(y, sum)| *y = (sum / (s[0] * s[1]) as f64) as f32);
        }
        Op::Pad { before, value, .. } => {
            y.fill(*value);
            each(s, |h, w, c, i| {
                y[index(out, [h + before[0], w + before[1], c + before[2]])] = x[i]
            });
        }
        Op::Concat { axis } => {
            let mut offset = [0; 3];
            for &(x, s) in inputs {
                each(s, |h, w, c, i| {
                    y[index(out, [h + offset[0], w + offset[1], c + offset[2]])] = x[i]
                });
                offset[*axis] += s[*axis];
            }
        }
        Op::Reshape => y.copy_from_slice(x),
        Op::Transpose { perm } => each(out, |h, w, c, i| {
            let mut from = [0; 3];
            for (axis, position) in perm.iter().zip([h, w, c]) {
                from[*axis] = position;
            }
            y[i] = x[index(s, from)];
        }),
        Op::Softmax => {
            for (y, x) in y.chunks_mut(s[2]).zip(x.chunks(s[2])) {
                let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let e: Vec<f64> = x.iter().map(|&v| f64::from(v - top).exp()).collect();
                let sum: f64 = e.iter().sum();
                y.iter_mut().zip(e).for_each(|(y, e)| *y = (e / sum) as f32);
            }
        }
    }
    y
}

/// Calls `f` with the linear index and both operands of each element of the output.
fn pairs(inputs: &[(&[f32], Shape)], out: Shape, mut f: impl FnMut(usize, f32, f32)) {
    each(out, |h, w, c, i| {
        let [a, b] = [0, 1].map(|k| {
            let (x, s) = inputs[k];
            let at = |axis: usize, i: usize| if s[axis] == 1 { 0 } else { i };
            x[index(s, [at(0, h), at(1, w), at(2, c)])]
        });
        f(i, a, b);
    });
}

/// Calls `f` with (h, w) of each tap of window (oh, ow) that lies inside the input.
fn taps(p: &Pool, s: Shape, oh: usize, ow: usize, mut f: impl FnMut(usize, usize)) {
    for kh in 0..p.kernel[0] {
        for kw in 0..p.kernel[1] {
            let h = (oh * p.stride[0] + kh * p.dilation[0]).checked_sub(p.pads.top);
            let w = (ow * p.stride[1] + kw * p.dilation[1]).checked_sub(p.pads.left);
            if let (Some(h), Some(w)) = (h, w)
                && h < s[0]
                && w < s[1]
            {
                f(h, w);
            }
        }
    }
}

fn conv(c: &Conv2d, x: &[f32], s: Shape, out: Shape, y: &mut [f32]) {
    let [kh, kw, ic] = [c.weights.shape[1], c.weights.shape[2], c.weights.shape[3]];
    let per_group = out[2] / c.groups;
    each(out, |oh, ow, oc, i| {
        let first = oc / per_group * ic;
        let mut sum = f64::from(c.bias[oc]);
        for ky in 0..kh {
            let Some(h) = (oh * c.stride[0] + ky * c.dilation[0]).checked_sub(c.pads.top) else {
                continue;
            };
            for kx in 0..kw {
                let Some(w) = (ow * c.stride[1] + kx * c.dilation[1]).checked_sub(c.pads.left)
                else {
                    continue;
                };
                if h >= s[0] || w >= s[1] {
                    continue;
                }
                let row = &c.weights.data[((oc * kh + ky) * kw + kx) * ic..][..ic];
                let x = &x[index(s, [h, w, first])..][..ic];
                sum += row
                    .iter()
                    .zip(x)
                    .map(|(&a, &b)| f64::from(a) * f64::from(b))
                    .sum::<f64>();
            }
        }
        y[i] = c.activation.eval(sum as f32);
    });
}
