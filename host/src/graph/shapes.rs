//! Shape rules of the operators, and the check that a whole [`Graph`] keeps them.

use super::{Activation, Graph, Op, Pads, Pool, Shape};

/// A rule of [`Graph`] that is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// An operator does not fit its operands.
    #[error("node `{node}` ({kind}): {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// [`Op::kind`].
        kind: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// A weight, bias, scale or shift that is not finite.
    #[error(
        "node `{node}` ({kind}) has a weight, bias, scale or shift that is not finite: folding its neighbours' constants into it left the float range"
    )]
    NotFinite {
        /// The node's name.
        node: String,
        /// [`Op::kind`].
        kind: &'static str,
    },
}

/// Length of a windowed axis: `floor((n + before + after - ((k - 1) * d + 1)) / s) + 1`.
fn windows(
    n: usize,
    k: usize,
    s: usize,
    d: usize,
    before: usize,
    after: usize,
) -> Result<usize, String> {
    if k == 0 || s == 0 || d == 0 {
        return Err("kernel, stride and dilation must be at least 1".into());
    }
    let too_large = || "kernel, dilation or padding is too large".to_string();
    let span = (k - 1)
        .checked_mul(d)
        .and_then(|x| x.checked_add(1))
        .ok_or_else(too_large)?;
    let padded = n
        .checked_add(before)
        .and_then(|x| x.checked_add(after))
        .ok_or_else(too_large)?;
    let room = padded.checked_sub(span).ok_or_else(|| {
        format!("the window spans {span} elements, but the padded input only has {padded}")
    })?;
    Ok(room / s + 1)
}

fn window_map(
    shape: Shape,
    k: [usize; 2],
    s: [usize; 2],
    d: [usize; 2],
    p: Pads,
) -> Result<[usize; 2], String> {
    Ok([
        windows(shape[0], k[0], s[0], d[0], p.top, p.bottom)?,
        windows(shape[1], k[1], s[1], d[1], p.left, p.right)?,
    ])
}

fn pool(shape: Shape, p: &Pool) -> Result<Shape, String> {
    let [h, w] = window_map(shape, p.kernel, p.stride, p.dilation, p.pads)?;
    let span = |i: usize| (p.kernel[i] - 1) * p.dilation[i] + 1;
    if p.pads.top.max(p.pads.bottom) >= span(0) || p.pads.left.max(p.pads.right) >= span(1) {
        return Err("a window lies in the padding alone".into());
    }
    Ok([h, w, shape[2]])
}

/// The shape that two operands have in common when axes of length 1 are repeated.
pub fn broadcast_shape(a: Shape, b: Shape) -> Option<Shape> {
    let mut shape = a;
    for (length, other) in shape.iter_mut().zip(b) {
        *length = match (*length, other) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return None,
        };
    }
    Some(shape)
}

/// The shape that an operator gives for operands of these shapes; `None` for
/// [`Op::Reshape`], which may give any shape with as many elements.
///
/// # Errors
/// A sentence about what does not fit.
pub fn output_shape(op: &Op, inputs: &[Shape]) -> Result<Option<Shape>, String> {
    let arity = match op {
        Op::Add { .. } | Op::Sub { .. } | Op::Mul { .. } => 2,
        Op::Concat { .. } => inputs.len().max(1),
        _ => 1,
    };
    if inputs.len() != arity {
        return Err(format!("takes {arity} operands, got {}", inputs.len()));
    }
    let x = inputs[0];
    Ok(Some(match op {
        Op::Conv2d(c) => {
            let &[o, kh, kw, i] = c.weights.shape.as_slice() else {
                return Err(format!(
                    "weights of shape {:?} are not [out, kh, kw, in / groups]",
                    c.weights.shape
                ));
            };
            if c.groups == 0 || i.checked_mul(c.groups) != Some(x[2]) {
                return Err(format!(
                    "weights for {i} channels in each of {} groups do not fit {} channels",
                    c.groups, x[2]
                ));
            }
            if o % c.groups != 0 {
                return Err(format!(
                    "{o} output channels are not a multiple of {} groups",
                    c.groups
                ));
            }
            if c.bias.len() != o || c.weights.data.len() != o * kh * kw * i {
                return Err("weights or bias have the wrong length".into());
            }
            let [h, w] = window_map(x, [kh, kw], c.stride, c.dilation, c.pads)?;
            [h, w, o]
        }
        Op::FullyConnected(f) => {
            let n: usize = x.iter().product();
            let &[o, i] = f.weights.shape.as_slice() else {
                return Err(format!(
                    "weights of shape {:?} are not [out, in]",
                    f.weights.shape
                ));
            };
            if i != n {
                return Err(format!("weights for {i} inputs do not fit {n} elements"));
            }
            if f.bias.len() != o || f.weights.data.len() != o * i {
                return Err("weights or bias have the wrong length".into());
            }
            [1, 1, o]
        }
        Op::Affine(a) => {
            if a.scale.len() != x[2] || a.shift.len() != x[2] {
                return Err(format!(
                    "{} scales do not fit {} channels",
                    a.scale.len(),
                    x[2]
                ));
            }
            x
        }
        Op::Add { .. } | Op::Sub { .. } | Op::Mul { .. } => broadcast_shape(x, inputs[1])
            .ok_or_else(|| {
                format!(
                    "operands of shapes {x:?} and {:?} differ on an axis where neither is 1",
                    inputs[1]
                )
            })?,
        Op::Activation(_) | Op::Softmax => x,
        Op::ResizeNearest { rows, columns } => {
            if rows.iter().any(|r| *r >= x[0]) || columns.iter().any(|c| *c >= x[1]) {
                return Err(format!("a row or column is beyond {x:?}"));
            }
            if rows.is_empty() || columns.is_empty() {
                return Err("it makes no rows or columns".into());
            }
            [rows.len(), columns.len(), x[2]]
        }
        Op::MaxPool(p) => pool(x, p)?,
        Op::AveragePool(p) => {
            if p.dilation != [1, 1] {
                return Err("a mean has no dilation".into());
            }
            pool(x, p)?
        }
        Op::GlobalAveragePool => [1, 1, x[2]],
        Op::Pad { before, after, .. } => {
            let mut y = x;
            for i in 0..3 {
                y[i] = before[i]
                    .checked_add(after[i])
                    .and_then(|p| p.checked_add(x[i]))
                    .ok_or("the padding is too large")?;
            }
            y
        }
        Op::Concat { axis } => {
            if *axis > 2 || inputs.is_empty() {
                return Err(format!(
                    "cannot join {} operands on axis {axis}",
                    inputs.len()
                ));
            }
            let mut y = x;
            for s in &inputs[1..] {
                if (0..3).any(|i| i != *axis && s[i] != x[i]) {
                    return Err(format!(
                        "operands of shapes {x:?} and {s:?} differ outside axis {axis}"
                    ));
                }
                y[*axis] += s[*axis];
            }
            y
        }
        Op::Reshape => return Ok(None),
        Op::Transpose { perm } => {
            let mut sorted = *perm;
            sorted.sort_unstable();
            if sorted != [0, 1, 2] {
                return Err(format!("{perm:?} is not a permutation of three axes"));
            }
            perm.map(|p| x[p])
        }
    }))
}

fn fused(op: &Op) -> Activation {
    match op {
        Op::Conv2d(c) => c.activation,
        Op::FullyConnected(f) => f.activation,
        Op::Affine(a) => a.activation,
        Op::Add { activation } | Op::Sub { activation } | Op::Mul { activation } => *activation,
        _ => Activation::Identity,
    }
}

fn finite(op: &Op) -> bool {
    let ok = |v: &[f32]| v.iter().all(|x| x.is_finite());
    match op {
        Op::Conv2d(c) => ok(&c.weights.data) && ok(&c.bias),
        Op::FullyConnected(f) => ok(&f.weights.data) && ok(&f.bias),
        Op::Affine(a) => ok(&a.scale) && ok(&a.shift),
        Op::Pad { value, .. } => value.is_finite(),
        _ => true,
    }
}

impl Graph {
    /// Checks execution order, shapes, fused functions and finite weights.
    ///
    /// # Errors
    /// [`GraphError`], for the first node that breaks a rule.
    pub fn check(&self) -> Result<(), GraphError> {
        let mut known = vec![false; self.values.len()];
        known[self.input.0] = true;
        for node in &self.nodes {
            let kind = node.op.kind();
            let fail = |reason: String| GraphError::Node {
                node: node.name.clone(),
                kind,
                reason,
            };
            if let Some(missing) = node.inputs.iter().find(|v| !known[v.0]) {
                return Err(fail(format!(
                    "reads `{}` before it is made",
                    self.value_name(*missing)
                )));
            }
            if std::mem::replace(&mut known[node.output.0], true) {
                return Err(fail(format!(
                    "makes `{}` a second time",
                    self.value_name(node.output)
                )));
            }
            let shapes: Vec<Shape> = node.inputs.iter().map(|&v| self.shape(v)).collect();
            let out = self.shape(node.output);
            match output_shape(&node.op, &shapes).map_err(&fail)? {
                Some(s) if s != out => {
                    return Err(fail(format!("gives {s:?}, recorded as {out:?}")));
                }
                None if shapes[0].iter().product::<usize>() != out.iter().product::<usize>() => {
                    return Err(fail(format!(
                        "cannot give {:?} the shape {out:?}",
                        shapes[0]
                    )));
                }
                _ => {}
            }
            if fused(&node.op).clamp_range().is_none() {
                return Err(fail("has a fused function that is not a clamp".into()));
            }
            if !finite(&node.op) {
                return Err(GraphError::NotFinite {
                    node: node.name.clone(),
                    kind,
                });
            }
        }
        if known[self.output.0] {
            return Ok(());
        }
        Err(GraphError::Node {
            node: self.value_name(self.output).into(),
            kind: "output",
            reason: "no node makes the graph's output".into(),
        })
    }
}
