//! Where every tensor lies in the arena.
//!
//! A tensor lives from the operator that writes it to the last one that reads it. An operator that
//! works element by element (reshape, table, requantization, addition) writes on an input that
//! dies there. Buffers are placed one at a time, each in the smallest gap that the buffers alive at
//! the same time leave (greedy by size with best fit: Pisarchyk and Lee, "Efficient Memory
//! Management for Deep Neural Net Inference", 2020); three orders are tried and the smallest arena
//! is kept. A convolution's working memory is a buffer that lives while it runs.

use qmend_shared::image::Scratch;
use qmend_shared::kernels::{
    conv2d_scratch_bytes, depthwise_scratch_bytes, fully_connected_scratch_bytes,
};

use super::ExportError;
use crate::model::{Node, Op, QuantizedModel, TensorId};

/// Tensors start at multiples of this many bytes: one 32-bit load of a microcontroller.
pub const ALIGN: usize = 4;

/// A memory plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Byte offset of each tensor.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// The largest sum of buffers alive at one operator: no plan with these buffers is smaller.
    pub lower_bound: usize,
    /// Nodes that write on one of their inputs.
    pub in_place: Vec<usize>,
    /// Working memory of each node, where its kernels use some.
    pub scratch: Vec<Option<Scratch>>,
}

/// One piece of the arena, shared by tensors that follow each other in place.
#[derive(Clone, Copy, Debug)]
struct Buffer {
    bytes: usize,
    /// Times are inclusive: the model's input is written at 0, node `i` runs at `i + 1`.
    from: usize,
    to: usize,
}

impl Buffer {
    fn meets(&self, other: &Buffer) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// Plans the arena of a model.
///
/// # Errors
///
/// A tensor that is read before it is written, written twice, or neither; an operand that does not
/// exist.
pub fn plan(model: &QuantizedModel) -> Result<Plan, ExportError> {
    let lives = lifetimes(model)?;
    let mut in_place = Vec::new();
    let mut buffers: Vec<Buffer> = Vec::new();
    let mut buffer_of = vec![usize::MAX; model.tensors.len()];
    let open = |t: usize, buffers: &mut Vec<Buffer>, buffer_of: &mut Vec<usize>| {
        buffer_of[t] = buffers.len();
        let bytes = model.tensors[t].elements().next_multiple_of(ALIGN);
        buffers.push(Buffer {
            bytes,
            from: lives[t].0,
            to: lives[t].1,
        });
    };
    open(model.input.0, &mut buffers, &mut buffer_of);
    for (i, node) in model.nodes.iter().enumerate() {
        let out = node.output.0;
        match reusable_input(model, i, &lives) {
            Some(input) => {
                let b = buffer_of[input.0];
                buffers[b].to = buffers[b].to.max(lives[out].1);
                buffer_of[out] = b;
                in_place.push(i);
            }
            None => open(out, &mut buffers, &mut buffer_of),
        }
    }
    let scratch_of: Vec<Option<usize>> = model
        .nodes
        .iter()
        .enumerate()
        .map(|(i, node)| {
            let bytes = scratch_bytes(model, node)?.next_multiple_of(ALIGN);
            buffers.push(Buffer {
                bytes,
                from: i + 1,
                to: i + 1,
            });
            Some(buffers.len() - 1)
        })
        .collect();
    let lower_bound = (0..=model.nodes.len() + 1)
        .map(|t| {
            buffers
                .iter()
                .filter(|b| (b.from..=b.to).contains(&t))
                .map(|b| b.bytes)
                .sum()
        })
        .max()
        .unwrap_or(0);
    let (places, arena_bytes) = orders(&buffers)
        .into_iter()
        .map(|order| place(&buffers, &order))
        .min_by_key(|(_, bytes)| *bytes)
        .expect("there are three orders");
    let offsets = buffer_of.iter().map(|&b| places[b]).collect();
    let scratch = scratch_of
        .into_iter()
        .map(|b| {
            let b = b?;
            // Places beyond 4 GiB are refused with their tensors.
            Some(Scratch {
                offset: u32::try_from(places[b]).ok()?,
                bytes: u32::try_from(buffers[b].bytes).ok()?,
            })
        })
        .collect();
    Ok(Plan {
        offsets,
        arena_bytes,
        lower_bound,
        in_place,
        scratch,
    })
}

/// More than this is not worth it: the kernels that need none are used then.
const MOST_SCRATCH: usize = 64 * 1024;

/// Bytes of working memory that make a node fast.
fn scratch_bytes(model: &QuantizedModel, node: &Node) -> Option<usize> {
    let x = model.tensor(*node.inputs.first()?);
    let c = match &node.op {
        Op::Conv2d(c) => c,
        Op::FullyConnected(f) => {
            let bytes = fully_connected_scratch_bytes(f.linear.taps());
            return (bytes <= MOST_SCRATCH).then_some(bytes);
        }
        _ => return None,
    };
    let [positions, in_c] = [c.kernel.iter().product::<usize>(), x.shape[2]];
    let bytes = if c.is_depthwise(in_c) {
        depthwise_scratch_bytes(positions)
    } else {
        let taps = positions.checked_mul(in_c / c.groups.max(1))?;
        conv2d_scratch_bytes(taps, model.tensor(node.output).shape[2])
    };
    (bytes <= MOST_SCRATCH).then_some(bytes)
}

/// First and last time at which each tensor must be in the arena.
fn lifetimes(model: &QuantizedModel) -> Result<Vec<(usize, usize)>, ExportError> {
    let count = model.tensors.len();
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; count];
    for (what, id) in [("input", model.input), ("output", model.output)] {
        if id.0 >= count {
            let problem = format!("its {what} is tensor {} of {count}", id.0);
            return Err(ExportError::Model {
                name: model.name.clone(),
                problem,
            });
        }
    }
    lives[model.input.0] = Some((0, 0));
    for (i, node) in model.nodes.iter().enumerate() {
        let fail = |problem| {
            let (name, kind) = (node.name.clone(), node.op.kind());
            Err(ExportError::Node {
                index: i,
                name,
                kind,
                problem,
            })
        };
        let name = |id: TensorId| model.tensors.get(id.0).map_or("?", |t| &t.name);
        for &input in &node.inputs {
            match lives.get_mut(input.0) {
                Some(Some(life)) => life.1 = i + 1,
                _ => {
                    let problem = format!(
                        "it reads tensor {} ('{}') before that is written",
                        input.0,
                        name(input)
                    );
                    return fail(problem);
                }
            }
        }
        match lives.get_mut(node.output.0) {
            Some(life @ None) => *life = Some((i + 1, i + 1)),
            Some(Some(_)) => {
                return fail(format!(
                    "tensor {} ('{}') has a value already",
                    node.output.0,
                    name(node.output)
                ));
            }
            None => return fail(format!("its output is tensor {} of {count}", node.output.0)),
        }
    }
    if let Some(life) = &mut lives[model.output.0] {
        life.1 = model.nodes.len() + 1;
    }
    let written = |(index, life): (usize, Option<(usize, usize)>)| {
        life.ok_or_else(|| ExportError::Tensor {
            index,
            name: model.tensors[index].name.clone(),
            shape: model.tensors[index].shape,
            problem: "it is neither the model's input nor any node's result; remove it".into(),
        })
    };
    lives.into_iter().enumerate().map(written).collect()
}

/// An input on which node `i` can write its output.
fn reusable_input(model: &QuantizedModel, i: usize, lives: &[(usize, usize)]) -> Option<TensorId> {
    let node = &model.nodes[i];
    let works = matches!(
        node.op,
        Op::Reshape
            | Op::Lut { .. }
            | Op::Requantize { .. }
            | Op::Add(_)
            | Op::Mul(_)
            | Op::Sub(_)
            | Op::BroadcastAdd(_)
    );
    let elements = model.tensor(node.output).elements();
    let dies = |id: &&TensorId| lives[id.0].1 == i + 1 && model.tensor(**id).elements() == elements;
    node.inputs.iter().find(|id| works && dies(id)).copied()
}

/// Orders in which buffers are placed.
fn orders(buffers: &[Buffer]) -> [Vec<usize>; 3] {
    let by = |key: &dyn Fn(&Buffer) -> usize| {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&b| (std::cmp::Reverse(key(&buffers[b])), buffers[b].from));
        order
    };
    let length = |b: &Buffer| b.to - b.from + 1;
    [
        by(&|b| b.bytes),
        by(&|b| length(b) * b.bytes),
        by(&|b| length(b)),
    ]
}

/// Places buffers in an order, each in the smallest gap; the offsets, and the arena's size.
fn place(buffers: &[Buffer], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0usize; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut arena = 0;
    for &b in order {
        let buffer = &buffers[b];
        let mut around: Vec<usize> = placed
            .iter()
            .copied()
            .filter(|&p| buffers[p].meets(buffer))
            .collect();
        around.sort_by_key(|&p| offsets[p]);
        let mut end = 0;
        let mut best: Option<(usize, usize)> = None;
        for p in around {
            let gap = offsets[p].saturating_sub(end);
            if gap >= buffer.bytes && best.is_none_or(|(smallest, _)| gap < smallest) {
                best = Some((gap, end));
            }
            end = end.max(offsets[p] + buffers[p].bytes);
        }
        offsets[b] = best.map_or(end, |(_, at)| at);
        arena = arena.max(offsets[b] + buffer.bytes);
        placed.push(b);
    }
    (offsets, arena)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::test_models::{add, identity, model_of, reshape};
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn random_buffers_never_share_bytes_while_both_are_alive() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..300 {
            let buffers: Vec<Buffer> = (0..rng.random_range(1..40))
                .map(|_| {
                    let from = rng.random_range(0..30);
                    Buffer {
                        bytes: rng.random_range(1..200) * ALIGN,
                        from,
                        to: from + rng.random_range(0..6),
                    }
                })
                .collect();
            for order in orders(&buffers) {
                let (offsets, arena) = place(&buffers, &order);
                for a in 0..buffers.len() {
                    assert!(offsets[a] + buffers[a].bytes <= arena);
                    assert_eq!(offsets[a] % ALIGN, 0);
                    for b in 0..a {
                        let apart = offsets[a] + buffers[a].bytes <= offsets[b]
                            || offsets[b] + buffers[b].bytes <= offsets[a];
                        assert!(apart || !buffers[a].meets(&buffers[b]));
                    }
                }
            }
        }
    }

    #[test]
    fn a_chain_reuses_two_places() {
        let m = model_of(
            &[[4, 4, 8]; 5],
            vec![
                identity(0, 1),
                identity(1, 2),
                identity(2, 3),
                identity(3, 4),
            ],
        );
        let p = plan(&m).unwrap();
        assert_eq!(p.arena_bytes, 256);
        assert_eq!(p.lower_bound, 256);
        assert!(p.in_place.is_empty());
    }

    #[test]
    fn element_wise_operators_write_on_an_input_that_dies() {
        let nodes = vec![identity(0, 1), identity(1, 2), add(1, 2, 3), reshape(3, 4)];
        let mut m = model_of(&[[4, 4, 8]; 5], nodes);
        m.tensors[4].shape = [1, 1, 128];
        let p = plan(&m).unwrap();
        assert_eq!(p.in_place, [2, 3]);
        assert_eq!(p.offsets[1], p.offsets[3]);
        assert_eq!(p.offsets[3], p.offsets[4]);
        assert_eq!(p.arena_bytes, 256);
    }

    #[test]
    fn an_input_that_is_read_again_is_not_written_on() {
        let nodes = vec![identity(0, 1), reshape(1, 2), add(1, 2, 3)];
        let p = plan(&model_of(&[[2, 2, 2]; 4], nodes)).unwrap();
        assert_eq!(p.in_place, [2]);
        assert_ne!(p.offsets[1], p.offsets[2]);
    }

    #[test]
    fn wrong_orders_are_refused_with_the_nodes_name() {
        let early = plan(&model_of(
            &[[1, 1, 1]; 3],
            vec![identity(1, 2), identity(0, 1)],
        ))
        .unwrap_err();
        assert!(
            early.to_string().contains("before that is written"),
            "{early}"
        );
        let twice = plan(&model_of(
            &[[1, 1, 1]; 2],
            vec![identity(0, 1), identity(0, 1)],
        ))
        .unwrap_err();
        assert!(twice.to_string().contains("has a value already"), "{twice}");
        let unused = plan(&model_of(&[[1, 1, 1]; 3], vec![identity(0, 1)])).unwrap_err();
        assert!(unused.to_string().contains("remove it"), "{unused}");
    }
}
