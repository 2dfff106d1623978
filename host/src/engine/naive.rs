//! Convolution as its definition reads, in i64, for the tests to compare with.

use crate::model::{Linear, Node, Op, QuantizedModel, Rounding};

/// Accumulators of a linear node for one sample, `[h][w][out_c]`.
pub(super) fn accumulators(model: &QuantizedModel, node: &Node, x: &[i8]) -> Vec<i64> {
    let input = model.tensor(node.inputs[0]);
    let [h, w, c] = input.shape;
    let [oh, ow, oc] = model.tensor(node.output).shape;
    let zx = input.zero_point as i64;
    match &node.op {
        Op::FullyConnected(f) => {
            if oh * ow > 1 {
                let one = |o: usize, x: &[i8]| {
                    let products = f.linear.row(o).iter().zip(x);
                    products
                        .map(|(&w, &x)| w as i64 * (x as i64 - zx))
                        .sum::<i64>()
                };
                return x
                    .chunks_exact(c)
                    .flat_map(|x| (0..oc).map(move |o| f.linear.bias[o] as i64 + one(o, x)))
                    .collect();
            }
            let row = |o: usize| {
                f.linear
                    .row(o)
                    .iter()
                    .zip(x)
                    .map(|(&w, &x)| w as i64 * (x as i64 - zx))
                    .sum::<i64>()
            };
            (0..oc).map(|o| f.linear.bias[o] as i64 + row(o)).collect()
        }
        Op::Conv2d(conv) => {
            let (gin, gout) = (c / conv.groups, oc / conv.groups);
            let mut out = Vec::new();
            for oy in 0..oh {
                for ox in 0..ow {
                    for o in 0..oc {
                        let mut acc = conv.linear.bias[o] as i64;
                        for ky in 0..conv.kernel[0] {
                            for kx in 0..conv.kernel[1] {
                                for i in 0..gin {
                                    let y = (oy * conv.stride[0] + ky * conv.dilation[0]) as i64
                                        - conv.pads.top as i64;
                                    let xx = (ox * conv.stride[1] + kx * conv.dilation[1]) as i64
                                        - conv.pads.left as i64;
                                    if y < 0 || xx < 0 || y >= h as i64 || xx >= w as i64 {
                                        continue;
                                    }
                                    let v = x
                                        [(y as usize * w + xx as usize) * c + o / gout * gin + i]
                                        as i64
                                        - zx;
                                    let tap = (ky * conv.kernel[1] + kx) * gin + i;
                                    acc += conv.linear.row(o)[tap] as i64 * v;
                                }
                            }
                        }
                        out.push(acc);
                    }
                }
            }
            out
        }
        _ => panic!("not a linear node"),
    }
}

/// Outputs of a linear node for one sample: the TFLite specification in i128 arithmetic.
pub(super) fn outputs(model: &QuantizedModel, node: &Node, x: &[i8]) -> Vec<i8> {
    let l: &Linear = node.op.linear().expect("linear");
    let once =
        model.rounding == Rounding::LiteRtReference && matches!(node.op, Op::FullyConnected(_));
    let zy = model.tensor(node.output).zero_point as i128;
    accumulators(model, node, x)
        .iter()
        .enumerate()
        .map(|(i, &acc)| {
            let m = l.multipliers[i % l.out_channels()];
            let (mantissa, e) = (m.mantissa as i128, m.exponent as i32);
            let scaled = if once {
                floor_shift(acc as i128 * mantissa, 31 - e)
            } else {
                let high = away(acc as i128 * (1 << e.max(0)) * mantissa, 31);
                away_from_zero(high, -e.min(0))
            };
            (scaled + zy).clamp(l.act_min as i128, l.act_max as i128) as i8
        })
        .collect()
}

/// Nearest, ties up.
fn floor_shift(x: i128, s: i32) -> i128 {
    (x + (1 << (s - 1))) >> s
}

/// gemmlowp's high multiply: nearest; a tie below zero goes up, as its nudge of 1 - 2^30 says.
fn away(x: i128, s: i32) -> i128 {
    let half = 1i128 << (s - 1);
    if x >= 0 {
        (x + half) / (1 << s)
    } else {
        (x + 1 - half) / (1 << s)
    }
}

/// Nearest, ties away from zero.
fn away_from_zero(x: i128, s: i32) -> i128 {
    if s == 0 {
        return x;
    }
    let half = 1i128 << (s - 1);
    if x >= 0 {
        (x + half) >> s
    } else {
        -((-x + half) >> s)
    }
}
