//! Where every tensor lies in the arena.
//!
//! A tensor lives from the operator that writes it to the last one that reads it. An operator that
//! works element by element (reshape, table, requantization, addition) writes on an input that
//! dies there ([`super::place`] says where buffers go). Working memory never makes the arena larger: it is in
//! bytes that no tensor uses while its operator runs. Where there are too few, and the input dies there, a
//! convolution runs in two parts: its working memory is under the output's last rows while the first ones
//! are computed, and on the input's first rows, which nothing reads then, while the last ones are. Where one of
//! the parts has too little, or the whole operator, its kernel works in blocks on the stack.

use std::ops::Range;

use qmend_shared::image::{Memory, Scratch, Window};
use qmend_shared::kernels::{
    conv2d_scratch_bytes, depthwise_scratch_bytes, fully_connected_scratch_bytes,
};

use super::ExportError;
use super::place::{Buffer, arrange, lower_bound};
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
    /// The largest sum of tensors alive at one operator, those counted once that follow each other in
    /// place: no plan is smaller.
    pub lower_bound: usize,
    /// Nodes that write on one of their inputs.
    pub in_place: Vec<usize>,
    /// Working memory of each node, where its kernels use some.
    pub memory: Vec<Option<Memory>>,
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
    let least = lower_bound(&buffers);
    let needs: Vec<Option<Need>> = model.nodes.iter().map(|n| Need::of(model, n)).collect();
    let (places, arena_bytes) = arrange_with_room(&buffers, &needs, least);
    let offsets: Vec<usize> = buffer_of.iter().map(|&b| places[b]).collect();
    let arena = Arena {
        model,
        buffers: &buffers,
        places: &places,
        buffer_of: &buffer_of,
        bytes: arena_bytes,
    };
    let memory = needs
        .iter()
        .enumerate()
        .map(|(i, need)| arena.memory(i, need.as_ref()?))
        .collect();
    Ok(Plan {
        offsets,
        arena_bytes,
        lower_bound: least,
        in_place,
        memory,
    })
}

/// Places tensors, and with them room for working memory, as much as the tensors leave or as one of the steps takes,
/// as long as the arena is not larger for it.
fn arrange_with_room(
    tensors: &[Buffer],
    needs: &[Option<Need>],
    least: usize,
) -> (Vec<usize>, usize) {
    let attempt = |all_that_is_left: bool| {
        let mut buffers = tensors.to_vec();
        for (i, need) in needs.iter().enumerate() {
            let Some(need) = need else {
                continue;
            };
            let alive = tensors
                .iter()
                .filter(|b| (b.from..=b.to).contains(&(i + 1)));
            let free = least - alive.map(|b| b.bytes).sum::<usize>();
            let Some(&step) = need.steps.iter().rev().find(|b| **b <= free) else {
                continue;
            };
            let bytes = if all_that_is_left {
                free.min(need.steps[2])
            } else {
                step
            };
            buffers.push(Buffer {
                bytes,
                from: i + 1,
                to: i + 1,
            });
        }
        let (mut places, bytes) = arrange(&buffers);
        places.truncate(tensors.len());
        (places, bytes)
    };
    let with_room = [true, false].into_iter().map(attempt);
    let alone = std::iter::once_with(|| arrange(tensors));
    let mut best: Option<(Vec<usize>, usize)> = None;
    for next in with_room.chain(alone) {
        if best.as_ref().is_none_or(|(_, bytes)| next.1 < *bytes) {
            best = Some(next);
        }
        if best.as_ref().is_some_and(|(_, bytes)| *bytes <= least) {
            break;
        }
    }
    best.unwrap_or_default()
}

/// The working memory of a node, in multiples of [`ALIGN`] bytes.
struct Need {
    /// With how much it is how fast: on the processors that take least with few channels at a time, on these with
    /// all channels, and on all processors.
    steps: [usize; 3],
}

impl Need {
    /// `None` for operators that use none, or too much.
    fn of(model: &QuantizedModel, node: &Node) -> Option<Self> {
        let x = model.tensor(*node.inputs.first()?);
        let steps = match &node.op {
            Op::Conv2d(c) => {
                let positions = c.kernel.iter().product::<usize>();
                if c.is_depthwise(x.shape[2]) {
                    [depthwise_scratch_bytes(positions); 3]
                } else {
                    let taps = positions.checked_mul(x.shape[2] / c.groups.max(1))?;
                    let (outputs, bits) = (model.tensor(node.output).shape[2], c.linear.bits);
                    let few = conv2d_scratch_bytes(taps, outputs.min(FEW_CHANNELS), bits);
                    let all = conv2d_scratch_bytes(taps, outputs, bits);
                    // Half of each of four columns' words, where activations are halfwords.
                    let half = if bits == 8 { 8 * taps } else { 0 };
                    [few - half, all - half, all]
                }
            }
            Op::FullyConnected(f) => {
                let all = fully_connected_scratch_bytes(f.linear.taps());
                [all.div_ceil(2), all.div_ceil(2), all]
            }
            _ => return None,
        };
        let fits = (1..=MOST_SCRATCH).contains(&steps[2]);
        fits.then(|| Self {
            steps: steps.map(|b| b.next_multiple_of(ALIGN)),
        })
    }

    /// How good it is to have so many bytes.
    fn worth(&self, bytes: usize) -> usize {
        self.steps.iter().filter(|step| **step <= bytes).count()
    }
}

/// Tensors in their places.
struct Arena<'m> {
    model: &'m QuantizedModel,
    buffers: &'m [Buffer],
    places: &'m [usize],
    buffer_of: &'m [usize],
    bytes: usize,
}

impl Arena<'_> {
    /// Where the working memory of node `i` is: in bytes that no tensor uses while it runs, or else in two parts.
    fn memory(&self, i: usize, need: &Need) -> Option<Memory> {
        let node = &self.model.nodes[i];
        let (input, output) = (*node.inputs.first()?, node.output);
        let all = need.steps[2];
        // Places beyond 4 GiB are refused with their tensors.
        let piece = |gap: Range<usize>| {
            Some(Scratch {
                offset: u32::try_from(gap.start).ok()?,
                bytes: u32::try_from(gap.len().min(all)).ok()?,
            })
        };
        let whole = self.gap(i, &[]);
        let height = self.height(output);
        let most = height * need.steps.len();
        let mut best = (self.worth_of(need, &whole, height), None);
        for rows in 1..height {
            let Some(needed) = first_row_needed(self.model, node, rows) else {
                break;
            };
            if best.0 == most || needed >= self.height(input) {
                break;
            }
            let written = rows * row_bytes(self.model, output);
            let dead = needed * row_bytes(self.model, input);
            let first = self.gap(i, &[(output, written..usize::MAX)]);
            let mut rest = whole.clone();
            if self.buffers[self.buffer_of[input.0]].to == i + 1 {
                rest = self.gap(i, &[(input, 0..dead)]);
            }
            let worth =
                self.worth_of(need, &first, rows) + self.worth_of(need, &rest, height - rows);
            if worth > best.0 && !first.is_empty() && !rest.is_empty() {
                best = (worth, Some((rows, first, rest)));
            }
        }
        match best {
            (0, _) => None,
            (_, None) => Some(Memory::Whole(piece(whole)?)),
            (_, Some((rows, first, rest))) => Some(Memory::Split {
                first: piece(first)?,
                rows: u32::try_from(rows).ok()?,
                rest: piece(rest)?,
            }),
        }
    }

    fn height(&self, id: TensorId) -> usize {
        self.model.tensor(id).shape[0]
    }

    /// How good a gap is for some rows of the output.
    fn worth_of(&self, need: &Need, gap: &Range<usize>, rows: usize) -> usize {
        rows * need.worth(gap.len())
    }

    /// The longest run of bytes that no tensor needs while node `i` runs, but for these parts of tensors, which may be
    /// overwritten.
    fn gap(&self, i: usize, free: &[(TensorId, Range<usize>)]) -> Range<usize> {
        let mut used: Vec<Range<usize>> = Vec::new();
        for (b, (buffer, &at)) in self.buffers.iter().zip(self.places).enumerate() {
            if !(buffer.from..=buffer.to).contains(&(i + 1)) {
                continue;
            }
            let parts = free.iter().find(|(id, _)| self.buffer_of[id.0] == b);
            match parts {
                Some((_, part)) => {
                    used.push(at..at + part.start);
                    used.push(at + part.end.min(buffer.bytes)..at + buffer.bytes);
                }
                None => used.push(at..at + buffer.bytes),
            }
        }
        used.push(self.bytes..self.bytes);
        used.sort_by_key(|r| r.start);
        let (mut end, mut best) = (0usize, 0..0);
        for r in used {
            let gap = end.next_multiple_of(ALIGN)..r.start / ALIGN * ALIGN;
            if gap.start < gap.end && gap.len() > best.len() {
                best = gap;
            }
            end = end.max(r.end);
        }
        best
    }
}

/// The first row of the input that a convolution still reads when the first `rows` rows of its output are done.
fn first_row_needed(model: &QuantizedModel, node: &Node, rows: usize) -> Option<usize> {
    let Op::Conv2d(conv) = &node.op else {
        return None;
    };
    let step = |v: usize| u8::try_from(v).ok();
    let window = Window {
        kernel: [1, 1],
        stride: [step(conv.stride[0])?, 1],
        dilation: [1, 1],
        pad: [step(conv.pads.top)?, 0],
    };
    debug_assert!(rows < model.tensor(node.output).shape[0]);
    Some(window.first_row(rows).0)
}

/// Bytes of a row of a tensor.
fn row_bytes(model: &QuantizedModel, id: TensorId) -> usize {
    let [_, w, c] = model.tensor(id).shape;
    w * c
}

/// More than this is not worth it: the kernels work in blocks then.
const MOST_SCRATCH: usize = 64 * 1024;

/// Channels that are worth making a convolution's columns for.
const FEW_CHANNELS: usize = 16;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::test_models::{
        add, convolution_3x3, fully_connected, identity, model_of, reshape,
    };

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

    #[test]
    fn a_chain_of_convolutions_needs_no_more_than_its_tensors() {
        let nodes = vec![
            convolution_3x3(16, 0, 1),
            convolution_3x3(16, 1, 2),
            convolution_3x3(16, 2, 3),
        ];
        let p = plan(&model_of(&[[32, 16, 16]; 4], nodes)).unwrap();
        assert_eq!(p.lower_bound, 2 * 32 * 16 * 16);
        assert_eq!(p.arena_bytes, p.lower_bound);
        let split = |m: &Option<Memory>| matches!(m, Some(Memory::Split { .. }));
        assert!(p.memory.iter().all(split), "{:?}", p.memory);
    }

    #[test]
    fn fully_connected_layers_never_make_the_arena_larger() {
        let shapes = [[1, 1, 640], [1, 1, 128], [1, 1, 8], [1, 1, 16]];
        let dense = |bits| {
            (0..3)
                .map(|i| fully_connected(bits, shapes[i][2], shapes[i + 1][2], i, i + 1))
                .collect()
        };
        for bits in [8, 4, 3, 2] {
            let p = plan(&model_of(&shapes, dense(bits))).unwrap();
            assert_eq!(p.lower_bound, 640 + 128);
            assert_eq!(p.arena_bytes, p.lower_bound, "{bits} bits");
            // Where there is room anyway it is used.
            let has = p.memory.iter().map(|m| m.is_some());
            assert_eq!(has.collect::<Vec<_>>(), [false, true, true], "{bits} bits");
        }
    }

    #[test]
    fn an_input_that_is_needed_later_is_not_overwritten() {
        // Tensor 1 is added again, so only the middle convolution may run in two parts.
        let nodes = vec![
            convolution_3x3(16, 0, 1),
            convolution_3x3(16, 1, 2),
            convolution_3x3(16, 2, 3),
            add(1, 3, 4),
        ];
        let p = plan(&model_of(&[[32, 16, 16]; 5], nodes)).unwrap();
        let kinds: Vec<_> = p.memory[..3]
            .iter()
            .map(|m| matches!(m, Some(Memory::Split { .. })))
            .collect();
        assert_eq!(kinds, [false, false, true]);
        assert_eq!(p.arena_bytes, p.lower_bound);
        assert_eq!(p.lower_bound, 3 * 32 * 16 * 16);
    }

    #[test]
    fn working_memory_is_never_what_makes_the_arena_larger() {
        // Outputs from much larger than working memory to much smaller, inputs that die and one that does not.
        for channels in [4, 16, 40, 120] {
            for height in 1..12 {
                let nodes = vec![
                    convolution_3x3(channels, 0, 1),
                    convolution_3x3(channels, 1, 2),
                    convolution_3x3(channels, 2, 3),
                    add(1, 3, 4),
                ];
                let m = model_of(&[[height, 5, channels]; 5], nodes);
                let p = plan(&m).unwrap();
                assert_eq!(p.arena_bytes, p.lower_bound, "{height} x 5 x {channels}");
                // The check refuses memory that a tensor needs.
                assert!(crate::export::write_image(&m).is_ok());
            }
        }
    }
}
