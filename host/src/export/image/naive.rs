//! The arithmetic of `shared/FORMAT.md` once more, as plainly as it can be written: wide integers,
//! every tap of every window, no shortcut. Only for tests, and independent of the kernels.

use crate::model::{
    ConcatInput, ConstantOperand, Linear, Multiplier, Op, Pool, QuantizedModel, Rounding, TensorId,
};

/// The output of one node, given all tensors before it.
pub(super) fn node(model: &QuantizedModel, index: usize, values: &[Vec<i8>]) -> Vec<i8> {
    let node = &model.nodes[index];
    let inputs: Vec<&[i8]> = node.inputs.iter().map(|t| &values[t.0][..]).collect();
    apply(model, &node.op, &node.inputs, &inputs, node.output)
}

/// floor(n / d), d > 0.
fn floor_div(n: i128, d: i128) -> i128 {
    n.div_euclid(d)
}

/// `value * m`: the high multiply rounds half up, the shift rounds half away from zero.
fn scale_twice(value: i64, m: Multiplier) -> i64 {
    let left = 1i128 << m.exponent.max(0);
    let right = 1i128 << (-m.exponent).max(0);
    let high = floor_div(
        2 * value as i128 * left * m.mantissa as i128 + (1 << 31),
        1 << 32,
    );
    let magnitude = floor_div(2 * high.abs() + right, 2 * right);
    (high.signum() * magnitude) as i64
}

/// `value * m`, rounded half up once.
fn scale_once(value: i64, m: Multiplier) -> i64 {
    let divisor = 1i128 << (31 - m.exponent as i32);
    floor_div(
        2 * value as i128 * m.mantissa as i128 + divisor,
        2 * divisor,
    ) as i64
}

fn clamp(value: i64, zero_point: i8, min: i8, max: i8) -> i8 {
    (value + zero_point as i64).clamp(min as i64, max as i64) as i8
}

fn at(shape: [usize; 3], y: i64, x: i64) -> Option<usize> {
    let inside = y >= 0 && x >= 0 && y < shape[0] as i64 && x < shape[1] as i64;
    inside.then(|| (y as usize * shape[1] + x as usize) * shape[2])
}

/// Offsets of the input positions that window (oy, ox) covers, with the tap's number.
fn taps(
    shape: [usize; 3],
    [kernel, stride, dilation]: [[usize; 2]; 3],
    pads: crate::graph::Pads,
    [oy, ox]: [usize; 2],
) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for ky in 0..kernel[0] {
        for kx in 0..kernel[1] {
            let y = (oy * stride[0] + ky * dilation[0]) as i64 - pads.top as i64;
            let x = (ox * stride[1] + kx * dilation[1]) as i64 - pads.left as i64;
            if let Some(offset) = at(shape, y, x) {
                found.push((ky * kernel[1] + kx, offset));
            }
        }
    }
    found
}

fn linear(l: &Linear, c: usize, sum: i64, zero_point: i8, once: bool) -> i8 {
    let acc = l.bias[c] as i64 + sum;
    let m = l.multipliers[c];
    let scaled = if once {
        scale_once(acc, m)
    } else {
        scale_twice(acc, m)
    };
    clamp(scaled, zero_point, l.act_min, l.act_max)
}

fn pool(
    p: &Pool,
    shape: [usize; 3],
    out: [usize; 3],
    reduce: impl Fn(Vec<i64>) -> i64,
    x: &[i8],
) -> Vec<i8> {
    let mut y = Vec::new();
    for oy in 0..out[0] {
        for ox in 0..out[1] {
            let taps = taps(shape, [p.kernel, p.stride, p.dilation], p.pads, [oy, ox]);
            for c in 0..out[2] {
                let values = taps
                    .iter()
                    .map(|(_, offset)| x[offset + c] as i64)
                    .collect();
                y.push(clamp(reduce(values), 0, p.act_min, p.act_max));
            }
        }
    }
    y
}

fn apply(
    model: &QuantizedModel,
    op: &Op,
    ids: &[TensorId],
    inputs: &[&[i8]],
    output: TensorId,
) -> Vec<i8> {
    let x = inputs[0];
    let tensor = |i: usize| model.tensor(ids[i]);
    let zx = tensor(0).zero_point as i64;
    let shape = tensor(0).shape;
    let (out, zy) = (model.tensor(output).shape, model.tensor(output).zero_point);
    let rescale = |x: i8, z: i64, m: Multiplier| clamp(scale_twice(x as i64 - z, m), zy, -128, 127);
    match op {
        Op::Conv2d(c) => {
            let (per_group, outputs) = (shape[2] / c.groups, out[2] / c.groups);
            let mut y = Vec::new();
            for oy in 0..out[0] {
                for ox in 0..out[1] {
                    let taps = taps(shape, [c.kernel, c.stride, c.dilation], c.pads, [oy, ox]);
                    for oc in 0..out[2] {
                        let mut sum = 0i64;
                        for &(tap, offset) in &taps {
                            for ic in 0..per_group {
                                let value = x[offset + oc / outputs * per_group + ic] as i64 - zx;
                                sum += value * c.linear.row(oc)[tap * per_group + ic] as i64;
                            }
                        }
                        y.push(linear(&c.linear, oc, sum, zy, false));
                    }
                }
            }
            y
        }
        Op::FullyConnected(f) => (0..out[0] * out[1] * out[2])
            .map(|i| {
                let (position, o) = (i / out[2], i % out[2]);
                let vector = &x[position * f.linear.taps()..];
                let sum = f
                    .linear
                    .row(o)
                    .iter()
                    .zip(vector)
                    .map(|(&w, &x)| w as i64 * (x as i64 - zx))
                    .sum();
                linear(
                    &f.linear,
                    o,
                    sum,
                    zy,
                    model.rounding == Rounding::LiteRtReference,
                )
            })
            .collect(),
        Op::Add(a) => x
            .iter()
            .zip(inputs[1])
            .map(|(&p, &q)| {
                let scaled = |v: i8, i: usize| {
                    scale_twice(
                        (v as i64 - tensor(i).zero_point as i64) << 20,
                        a.input_multipliers[i],
                    )
                };
                clamp(
                    scale_twice(scaled(p, 0) + scaled(q, 1), a.output_multiplier),
                    zy,
                    a.act_min,
                    a.act_max,
                )
            })
            .collect(),
        Op::MaxPool(p) => pool(p, shape, out, |v| v.into_iter().max().unwrap(), x),
        Op::AveragePool(p) => {
            let mean = |v: Vec<i64>| {
                let (sum, n) = (v.iter().sum::<i64>(), v.len() as i64);
                sum.signum() * ((2 * sum.abs() + n) / (2 * n))
            };
            pool(p, shape, out, mean, x)
        }
        Op::Mean { multiplier } => (0..out[2])
            .map(|c| {
                let sum = (0..shape[0] * shape[1])
                    .map(|p| x[p * shape[2] + c] as i64 - zx)
                    .sum();
                clamp(scale_twice(sum, *multiplier), zy, -128, 127)
            })
            .collect(),
        Op::Pad(p) => positions(out)
            .map(|o| {
                let from = [0, 1, 2].map(|i| o[i] as i64 - p.before[i] as i64);
                let inside = (0..3).all(|i| (0..shape[i] as i64).contains(&from[i]));
                if inside {
                    x[index(shape, from.map(|v| v as usize))]
                } else {
                    p.value
                }
            })
            .collect(),
        Op::Concat(c) => positions(out)
            .map(|mut o| {
                let mut which = 0;
                while o[c.axis] >= tensor(which).shape[c.axis] {
                    o[c.axis] -= tensor(which).shape[c.axis];
                    which += 1;
                }
                let value = inputs[which][index(tensor(which).shape, o)];
                match c.inputs[which] {
                    ConcatInput::Copy => value,
                    ConcatInput::Rescale(m) => rescale(value, tensor(which).zero_point as i64, m),
                }
            })
            .collect(),
        Op::Reshape => x.to_vec(),
        Op::Transpose { perm } => positions(out)
            .map(|o| {
                let mut from = [0; 3];
                for i in 0..3 {
                    from[perm[i]] = o[i];
                }
                x[index(shape, from)]
            })
            .collect(),
        Op::Requantize { multiplier } => x.iter().map(|&v| rescale(v, zx, *multiplier)).collect(),
        Op::Lut { table } => x
            .iter()
            .map(|&v| table[(v as i64 + 128) as usize])
            .collect(),
        Op::Softmax {
            multiplier,
            left_shift,
            diff_min,
        } => {
            // In real numbers: the kernel may differ by one. Its exact bits are pinned elsewhere.
            let beta = *multiplier as f64 / 2f64.powi(31 + 26 - *left_shift as i32);
            let mut y = Vec::new();
            for row in x.chunks_exact(shape[2]) {
                let max = *row.iter().max().unwrap() as i32;
                let exp = |v: i8| {
                    let difference = v as i32 - max;
                    if difference < *diff_min {
                        0.0
                    } else {
                        (beta * difference as f64).exp()
                    }
                };
                let sum: f64 = row.iter().map(|&v| exp(v)).sum();
                y.extend(
                    row.iter().map(|&v| {
                        (256.0 * exp(v) / sum - 128.0).round().clamp(-128.0, 127.0) as i8
                    }),
                );
            }
            y
        }
        Op::Mul(p) => pairs(model, ids, inputs, p.constant.as_ref(), out)
            .map(|[a, b]| clamp(scale_twice(a * b, p.multiplier), zy, p.act_min, p.act_max))
            .collect(),
        Op::Sub(s) | Op::BroadcastAdd(s) => {
            let sign = if matches!(op, Op::Sub(_)) { -1 } else { 1 };
            pairs(model, ids, inputs, s.constant.as_ref(), out)
                .map(|[a, b]| {
                    let [a, b] =
                        [(a, 0), (b, 1)].map(|(v, i)| scale_twice(v << 20, s.input_multipliers[i]));
                    let sum = scale_twice(a + sign * b, s.output_multiplier);
                    clamp(sum, zy, s.act_min, s.act_max)
                })
                .collect()
        }
        Op::ResizeNearest { rows, columns } => positions(out)
            .map(|[h, w, c]| x[index(shape, [rows[h], columns[w], c])])
            .collect(),
    }
}

/// Both operands of every output element, less their zero points.
fn pairs<'a>(
    model: &'a QuantizedModel,
    ids: &[TensorId],
    inputs: &'a [&'a [i8]],
    constant: Option<&'a ConstantOperand>,
    out: [usize; 3],
) -> impl Iterator<Item = [i64; 2]> + 'a {
    let mut operands: Vec<([usize; 3], i8, &[i8])> = ids
        .iter()
        .zip(inputs)
        .map(|(id, x)| (model.tensor(*id).shape, model.tensor(*id).zero_point, *x))
        .collect();
    if let Some(c) = constant {
        let shape = [1, 1, c.values.len()];
        operands.insert(c.position, (shape, c.zero_point, &c.values));
    }
    positions(out).map(move |o| {
        [0, 1].map(|i| {
            let (shape, zero, x) = operands[i];
            let at = [0, 1, 2].map(|axis| if shape[axis] == 1 { 0 } else { o[axis] });
            x[index(shape, at)] as i64 - zero as i64
        })
    })
}

fn positions([h, w, c]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..h * w * c).map(move |i| [i / (w * c), i / c % w, i % c])
}

fn index(shape: [usize; 3], [y, x, c]: [usize; 3]) -> usize {
    (y * shape[1] + x) * shape[2] + c
}
