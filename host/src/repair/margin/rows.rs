//! The rows of the program: margins of endangered tests, and gradients of pre-activations.

use crate::float::{FloatError, Surrogate};
use crate::model::TensorId;
use crate::repair::State;

/// One margin: test `test`'s logit of its target less that of `rival`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MarginRow {
    /// Index in the repair set.
    pub test: usize,
    /// Class that should win.
    pub target: usize,
    /// Class that it competes with.
    pub rival: usize,
    /// The margin now, in real logit units.
    pub margin: f64,
}

/// The margins of one test against its two strongest rivals.
pub fn margins_of(state: &State<'_>, test: usize) -> impl Iterator<Item = MarginRow> {
    let id = state.logits();
    let tensor = state.model().tensor(id);
    let width = tensor.elements();
    let scale = tensor.scale as f64;
    let row = &state.activations().tensor(id)[test * width..(test + 1) * width];
    let target = state.repair().targets[test];
    let mut best: [Option<usize>; 2] = [None, None];
    for j in (0..width).filter(|&j| j != target) {
        if best[0].is_none_or(|b| row[j] > row[b]) {
            best = [Some(j), best[0]];
        } else if best[1].is_none_or(|b| row[j] > row[b]) {
            best[1] = Some(j);
        }
    }
    let at = move |rival: usize| MarginRow {
        test,
        target,
        rival,
        margin: scale * (row[target] as i32 - row[rival] as i32) as f64,
    };
    best.map(|b| b.map(&at)).into_iter().flatten()
}

/// The `limit` smallest margins of the repair set, smallest first.
///
/// In strict mode half of them belong to tests that passed at the start (the most endangered) and half
/// to others (the nearest to passing), since what must not be lost has to be in the program.
pub fn endangered(state: &State<'_>, limit: usize) -> Vec<MarginRow> {
    let mut rows: Vec<MarginRow> = (0..state.repair().len())
        .flat_map(|test| margins_of(state, test))
        .collect();
    let by_margin =
        |a: &MarginRow, b: &MarginRow| a.margin.total_cmp(&b.margin).then(a.test.cmp(&b.test));
    rows.sort_by(by_margin);
    if !state.strict() {
        rows.truncate(limit);
        return rows;
    }
    let (mut passing, mut failing): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|r| state.passed_at_start(r.test));
    failing.reverse();
    failing.truncate(limit / 2);
    passing.truncate(limit - failing.len());
    passing.extend(failing);
    passing.sort_by(by_margin);
    passing
}

/// What [`for_each_chunk`] hands out: some rows, and per linear node what it saw and what moves it.
pub struct Chunk<'a> {
    /// Position of the chunk's first row among all rows.
    pub first: usize,
    /// Number of rows.
    pub rows: usize,
    /// Per linear node: its index, input `[rows][elements]`, and gradient of the margin with
    /// respect to the real pre-activation, `[rows][h][w][out_c]`.
    pub nodes: Vec<(usize, &'a [i8], Vec<f32>)>,
}

/// Rows that are differentiated at once: bounds the memory of the gradients.
const CHUNK: usize = 128;

/// Differentiates every row's margin and hands the result out chunk by chunk.
///
/// # Errors
/// [`FloatError`] where the model cannot be differentiated.
pub fn for_each_chunk(
    state: &State<'_>,
    surrogate: &Surrogate,
    rows: &[MarginRow],
    mut visit: impl FnMut(Chunk<'_>),
) -> Result<(), FloatError> {
    let model = state.model();
    let logits = state.logits();
    let width = model.tensor(logits).elements();
    for (chunk_index, chunk) in rows.chunks(CHUNK).enumerate() {
        let gathered: Vec<Vec<i8>> = (0..model.tensors.len())
            .map(|t| {
                let id = TensorId(t);
                let e = model.tensor(id).elements();
                let all = state.activations().tensor(id);
                let mut out = Vec::with_capacity(chunk.len() * e);
                for row in chunk {
                    out.extend_from_slice(&all[row.test * e..(row.test + 1) * e]);
                }
                out
            })
            .collect();
        let mut seeds = vec![0.0f32; chunk.len() * width];
        for (seed, row) in seeds.chunks_exact_mut(width).zip(chunk) {
            seed[row.target] += 1.0;
            seed[row.rival] -= 1.0;
        }
        let slices: Vec<&[i8]> = gathered.iter().map(Vec::as_slice).collect();
        let gradients = surrogate.preactivation_gradients(&slices, chunk.len(), logits, &seeds)?;
        visit(Chunk {
            first: chunk_index * CHUNK,
            rows: chunk.len(),
            nodes: gradients
                .into_iter()
                .map(|(node, g)| (node, slices[model.nodes[node].inputs[0].0], g))
                .collect(),
        });
    }
    Ok(())
}
