//! Interval propagation: what every tensor can be for *all* inputs in a box, in the integers that
//! the device computes.
//!
//! Each element is an interval of int8. A linear operator's accumulator has its least value where
//! inputs under positive weights are least and those under negative weights are greatest, and the
//! other way round; scaling, rounding, zero point and clamp keep order, so the ends of the output
//! are the shared arithmetic's results for these two accumulators. Operators that keep order in
//! every input (sums, pools, means, movements, changes of scale) run the shared kernel on both
//! ends; products and differences have their least and greatest values at corners of the box of
//! their two inputs; a table takes the least and greatest entry of its interval; anything else may
//! give any value. The result is sound: no input in the box leaves an interval. It is not tight: how inputs
//! depend on each other is forgotten from one operator to the next.
//!
//! Source: interval bound propagation (Moore, *Interval Analysis*, 1966; Gowal et al., 2018), here
//! without outward rounding, since integers need none.

use qmend_shared::image::finish;

use super::shared_op::SharedOp;
use super::{EngineError, check};
use crate::model::{Conv2d, Linear, Node, Op, QuantizedModel, Rounding, TensorId};

/// The ends of a tensor's elements, `[h][w][c]` each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Least values.
    pub lo: Vec<i8>,
    /// Greatest values.
    pub hi: Vec<i8>,
}

impl Interval {
    /// The box of `x` and all that is within `steps` of it, as far as int8 reaches.
    pub fn around(x: &[i8], steps: u8) -> Self {
        let k = steps as i16;
        let end = |q: i8, by: i16| (q as i16 + by).clamp(-128, 127) as i8;
        Interval {
            lo: x.iter().map(|&q| end(q, -k)).collect(),
            hi: x.iter().map(|&q| end(q, k)).collect(),
        }
    }

    /// Whether `x` lies inside.
    pub fn contains(&self, x: &[i8]) -> bool {
        x.len() == self.lo.len()
            && x.iter()
                .zip(self.lo.iter().zip(&self.hi))
                .all(|(x, (lo, hi))| lo <= x && x <= hi)
    }
}

/// A network prepared for boxes of inputs.
#[derive(Clone, Debug)]
pub struct Intervals {
    steps: Vec<(Kind, Vec<usize>, usize)>,
    elements: Vec<usize>,
    input: usize,
}

#[derive(Clone, Debug)]
enum Kind {
    Linear(Box<Filter>),
    /// Keeps order in every input.
    Monotone(SharedOp),
    /// Keeps or turns round the order in each input, whatever the other one is.
    Corners(SharedOp),
    Table(Box<[i8; 256]>),
    /// Gives whatever it likes.
    Any,
}

impl Intervals {
    /// Checks a network and prepares it.
    ///
    /// # Errors
    /// As [`super::Engine::new`].
    pub fn new(model: &QuantizedModel) -> Result<Self, EngineError> {
        check::wiring(model)?;
        let mut steps = Vec::with_capacity(model.nodes.len());
        for node in &model.nodes {
            check::node(model, node)?;
            let inputs = node.inputs.iter().map(|id| id.0).collect();
            steps.push((Kind::of(model, node), inputs, node.output.0));
        }
        Ok(Self {
            steps,
            elements: model.tensors.iter().map(|t| t.elements()).collect(),
            input: model.input.0,
        })
    }

    /// What every tensor can be, by tensor id, for inputs in `input`.
    ///
    /// # Panics
    /// Where `input` is not one sample of the network's input.
    pub fn propagate(&self, input: Interval) -> Vec<Interval> {
        assert_eq!(
            [input.lo.len(), input.hi.len()],
            [self.elements[self.input]; 2],
            "a box of one sample"
        );
        let mut all = vec![Interval::default(); self.elements.len()];
        all[self.input] = input;
        for (kind, inputs, output) in &self.steps {
            let n = self.elements[*output];
            let mut out = Interval {
                lo: vec![i8::MIN; n],
                hi: vec![i8::MAX; n],
            };
            let x = &all[inputs[0]];
            match kind {
                Kind::Linear(f) => f.run(x, &mut out),
                Kind::Monotone(op) => {
                    let lo: Vec<&[i8]> = inputs.iter().map(|&i| &all[i].lo[..]).collect();
                    op.run_one(&lo, &mut out.lo);
                    let hi: Vec<&[i8]> = inputs.iter().map(|&i| &all[i].hi[..]).collect();
                    op.run_one(&hi, &mut out.hi);
                }
                Kind::Corners(op) => {
                    (out.lo, out.hi) = (vec![i8::MAX; n], vec![i8::MIN; n]);
                    let mut corner = vec![0; n];
                    for ends in 0..1u32 << inputs.len() {
                        let at = |(k, &i): (usize, &usize)| match ends >> k & 1 {
                            0 => &all[i].lo[..],
                            _ => &all[i].hi[..],
                        };
                        let operands: Vec<&[i8]> = inputs.iter().enumerate().map(at).collect();
                        op.run_one(&operands, &mut corner);
                        let to = out.lo.iter_mut().zip(&mut out.hi);
                        for (&v, (lo, hi)) in corner.iter().zip(to) {
                            (*lo, *hi) = (v.min(*lo), v.max(*hi));
                        }
                    }
                }
                Kind::Table(table) => {
                    let ends = x.lo.iter().zip(&x.hi);
                    let to = out.lo.iter_mut().zip(&mut out.hi);
                    for ((&a, &b), (lo, hi)) in ends.zip(to) {
                        let at = |q: i8| (q as i16 + 128) as usize;
                        let part = &table[at(a)..=at(b)];
                        (*lo, *hi) = part
                            .iter()
                            .fold((i8::MAX, i8::MIN), |(l, h), &v| (l.min(v), h.max(v)));
                    }
                }
                Kind::Any => {}
            }
            all[*output] = out;
        }
        all
    }

    /// Elements of one sample of a tensor.
    pub fn elements(&self, id: TensorId) -> usize {
        self.elements[id.0]
    }
}

impl Kind {
    fn of(model: &QuantizedModel, node: &Node) -> Self {
        match &node.op {
            Op::Conv2d(c) => Kind::Linear(Box::new(Filter::conv(model, node, c))),
            Op::FullyConnected(f) => {
                Kind::Linear(Box::new(Filter::fully_connected(model, node, &f.linear)))
            }
            Op::Lut { table } => Kind::Table(table.clone()),
            Op::Add(_)
            | Op::MaxPool(_)
            | Op::AveragePool(_)
            | Op::Mean { .. }
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Reshape
            | Op::Transpose { .. }
            | Op::Requantize { .. }
            | Op::BroadcastAdd(_)
            | Op::ResizeNearest { .. } => Kind::Monotone(SharedOp::new(model, node)),
            Op::Mul(_) | Op::Sub(_) => Kind::Corners(SharedOp::new(model, node)),
            // Sound for whatever it is. A final softmax is not needed: classes compete before it.
            _ => Kind::Any,
        }
    }
}

/// A linear operator with its weights parted by sign.
#[derive(Clone, Debug)]
struct Filter {
    input: [usize; 3],
    output: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Rows above, columns to the left.
    pad: [usize; 2],
    groups: usize,
    input_zero_point: i8,
    output_zero_point: i8,
    linear: Linear,
    /// `[out_c][taps]`: the weights above zero, and those below, the others 0.
    plus: Vec<i16>,
    minus: Vec<i16>,
    single_rounding: bool,
}

impl Filter {
    fn conv(model: &QuantizedModel, node: &Node, c: &Conv2d) -> Self {
        let (x, y) = (model.tensor(node.inputs[0]), model.tensor(node.output));
        Self {
            input: x.shape,
            output: y.shape,
            kernel: c.kernel,
            stride: c.stride,
            dilation: c.dilation,
            pad: [c.pads.top, c.pads.left],
            groups: c.groups,
            input_zero_point: x.zero_point,
            output_zero_point: y.zero_point,
            plus: signed(&c.linear, |w| w.max(0)),
            minus: signed(&c.linear, |w| w.min(0)),
            linear: c.linear.clone(),
            single_rounding: false,
        }
    }

    /// One position that sees all inputs.
    fn fully_connected(model: &QuantizedModel, node: &Node, linear: &Linear) -> Self {
        let (x, y) = (model.tensor(node.inputs[0]), model.tensor(node.output));
        // Over the whole input, or over the channels of each position.
        let (input, output) = match y.shape[0] * y.shape[1] {
            1 => ([1, 1, x.elements()], [1, 1, y.elements()]),
            _ => (x.shape, y.shape),
        };
        Self {
            input,
            output,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
            groups: 1,
            input_zero_point: x.zero_point,
            output_zero_point: y.zero_point,
            plus: signed(linear, |w| w.max(0)),
            minus: signed(linear, |w| w.min(0)),
            linear: linear.clone(),
            single_rounding: model.rounding == Rounding::LiteRtReference,
        }
    }

    fn run(&self, x: &Interval, out: &mut Interval) {
        let [oh, ow, oc] = self.output;
        let (taps, per_group) = (self.linear.taps(), oc / self.groups);
        let mut lo = vec![0i16; taps];
        let mut hi = vec![0i16; taps];
        for position in 0..oh * ow {
            for group in 0..self.groups {
                self.gather(&x.lo, group, position, &mut lo);
                self.gather(&x.hi, group, position, &mut hi);
                for c in group * per_group..(group + 1) * per_group {
                    let row = c * taps..(c + 1) * taps;
                    let (plus, minus) = (&self.plus[row.clone()], &self.minus[row]);
                    let bias = self.linear.bias[c];
                    // Both are sums that the proof against overflow covers: every term is at most
                    // |w| * max |x - zero point|.
                    let least = bias + dot(plus, &lo) + dot(minus, &hi);
                    let most = bias + dot(plus, &hi) + dot(minus, &lo);
                    out.lo[position * oc + c] = self.finish(least, c);
                    out.hi[position * oc + c] = self.finish(most, c);
                }
            }
        }
    }

    /// What the taps of a group see at a position, zero point taken off; nothing outside.
    fn gather(&self, x: &[i8], group: usize, position: usize, patch: &mut [i16]) {
        let [h, w, c] = self.input;
        let per = c / self.groups;
        let (oy, ox) = (position / self.output[1], position % self.output[1]);
        let z = self.input_zero_point as i16;
        patch.fill(0);
        for ky in 0..self.kernel[0] {
            let y = (oy * self.stride[0] + ky * self.dilation[0]).wrapping_sub(self.pad[0]);
            if y >= h {
                continue;
            }
            for kx in 0..self.kernel[1] {
                let xx = (ox * self.stride[1] + kx * self.dilation[1]).wrapping_sub(self.pad[1]);
                if xx >= w {
                    continue;
                }
                let to = &mut patch[(ky * self.kernel[1] + kx) * per..][..per];
                let from = &x[(y * w + xx) * c + group * per..][..per];
                to.iter_mut()
                    .zip(from)
                    .for_each(|(t, &q)| *t = q as i16 - z);
            }
        }
    }

    /// The output of an accumulator; keeps order, since multipliers are not negative.
    fn finish(&self, acc: i32, c: usize) -> i8 {
        let m = self.linear.multipliers[c];
        let scaled = if self.single_rounding {
            m.apply_single_rounding(acc)
        } else {
            m.apply(acc)
        };
        let (lo, hi) = (self.linear.act_min, self.linear.act_max);
        finish(scaled, self.output_zero_point, lo, hi)
    }
}

fn signed(linear: &Linear, part: impl Fn(i16) -> i16) -> Vec<i16> {
    linear.weights.iter().map(|&w| part(w as i16)).collect()
}

fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| a as i32 * b as i32).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::model::random::{random_model, random_operator};
    use qmend_shared::image::OPERATORS;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// Runs points of the box, its corners among them, and looks for one outside its intervals.
    fn check(model: &QuantizedModel, seed: u64) -> usize {
        let mut rng = StdRng::seed_from_u64(seed);
        let engine = Engine::new(model).expect("a sound model");
        let intervals = Intervals::new(model).expect("the same model");
        let ids: Vec<TensorId> = (0..model.tensors.len()).map(TensorId).collect();
        let mut narrow = 0;
        for steps in [0, 1, 3, 20, 255] {
            let x: Vec<i8> = (0..engine.input_elements()).map(|_| rng.random()).collect();
            let around = Interval::around(&x, steps);
            let all = intervals.propagate(around.clone());
            let mut points = vec![x, around.lo.clone(), around.hi.clone()];
            for p in 0..20 {
                points.push(
                    around
                        .lo
                        .iter()
                        .zip(&around.hi)
                        .map(|(&a, &b)| match p % 2 {
                            0 => rng.random_range(a..=b),
                            _ => *[a, b].get(rng.random_range(0..2)).expect("two"),
                        })
                        .collect(),
                );
            }
            let kept = engine.run_keep(&points.concat(), &ids);
            for (t, (values, interval)) in kept.iter().zip(&all).enumerate() {
                for (i, v) in values.chunks_exact(engine.elements(ids[t])).enumerate() {
                    assert!(
                        interval.contains(v),
                        "{}: point {i} of the box of {steps} leaves tensor {t}, {}",
                        model.name,
                        model.tensors[t].name
                    );
                }
            }
            let out = &all[model.output.0];
            narrow += out
                .lo
                .iter()
                .zip(&out.hi)
                .filter(|(a, b)| *b > *a && (**b as i16 - **a as i16) < 255)
                .count();
        }
        narrow
    }

    #[test]
    fn no_input_of_a_box_leaves_the_intervals_of_any_operator() {
        let mut narrow = 0;
        for kind in OPERATORS {
            for seed in 0..12 {
                narrow += check(&random_operator(seed, kind), seed);
            }
        }
        assert!(
            narrow > 1000,
            "intervals that say nothing prove nothing: {narrow}"
        );
    }

    #[test]
    fn no_input_of_a_box_leaves_the_intervals_of_random_networks() {
        for seed in 0..60 {
            check(&random_model(seed, 8), seed);
        }
    }

    #[test]
    fn a_box_of_one_point_gives_the_points_own_values() {
        for seed in 0..20 {
            let model = random_model(seed, 6);
            if model
                .nodes
                .iter()
                .any(|n| matches!(n.op, Op::Softmax { .. }))
            {
                continue;
            }
            let engine = Engine::new(&model).unwrap();
            let mut rng = StdRng::seed_from_u64(seed);
            let x: Vec<i8> = (0..engine.input_elements()).map(|_| rng.random()).collect();
            let all = Intervals::new(&model)
                .unwrap()
                .propagate(Interval::around(&x, 0));
            let out = &all[model.output.0];
            assert_eq!(
                (&out.lo, &out.hi),
                (&engine.run(&x), &engine.run(&x)),
                "{seed}"
            );
        }
    }

    #[test]
    fn a_wider_box_gives_wider_intervals() {
        for seed in 0..20 {
            let model = random_model(seed, 6);
            let i = Intervals::new(&model).unwrap();
            let mut rng = StdRng::seed_from_u64(seed);
            let x: Vec<i8> = (0..i.elements(model.input)).map(|_| rng.random()).collect();
            let [a, b] = [1, 5].map(|k| i.propagate(Interval::around(&x, k)));
            for (a, b) in a.iter().zip(&b) {
                assert!(b.contains(&a.lo) && b.contains(&a.hi));
            }
        }
    }
}
