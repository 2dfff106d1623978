//! One node made ready, and its execution over a chunk of samples.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::avx512::add::Sum;
use super::conv::Conv;
use super::depthwise::Depthwise;
#[cfg(target_arch = "x86_64")]
use super::depthwise_flat::FlatDepthwise;
use super::isa::Isa;
use super::pool;
use super::shared_op::SharedOp;
use crate::model::{Conv2d, Op, QuantizedModel, Rounding};

/// What a node became.
#[derive(Clone, Debug)]
pub(super) enum Kernel {
    Conv(Conv),
    Depthwise(Depthwise),
    /// For AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    FlatDepthwise(FlatDepthwise),
    /// Everything that has no multiply-accumulate loop: the shared kernel, sample by sample.
    Shared(SharedOp),
}

/// A node with what its kernel needs to know of the tensors.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub kernel: Kernel,
    pub inputs: Vec<usize>,
    pub output: usize,
}

/// Working memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    pub pairs: Vec<i16>,
    pub quads: Vec<u8>,
    pub origins: Vec<usize>,
    pub sums: Vec<i32>,
}

impl Step {
    /// Packs a node that [`super::check::node`] has passed.
    pub(super) fn new(model: &QuantizedModel, index: usize, isa: Isa) -> Self {
        let node = &model.nodes[index];
        let x = model.tensor(node.inputs[0]);
        let y = model.tensor(node.output);
        let is_depthwise = |c: &Conv2d| c.groups > 1 && c.groups == x.shape[2];
        let kernel = match &node.op {
            #[cfg(target_arch = "x86_64")]
            Op::Conv2d(c) if is_depthwise(c) && isa == Isa::Avx512Vnni => Kernel::FlatDepthwise(
                FlatDepthwise::new(c, x.shape, y.shape, x.zero_point, y.zero_point),
            ),
            Op::Conv2d(c) if is_depthwise(c) => Kernel::Depthwise(Depthwise::new(
                c,
                x.shape,
                y.shape,
                x.zero_point,
                y.zero_point,
            )),
            Op::Conv2d(c) => Kernel::Conv(Conv::from_conv(
                c,
                x.shape,
                y.shape,
                x.zero_point,
                y.zero_point,
                isa,
            )),
            Op::FullyConnected(f) => Kernel::Conv(Conv::from_fully_connected(
                f,
                x.shape,
                y.shape,
                x.zero_point,
                y.zero_point,
                model.rounding == Rounding::LiteRtReference,
                isa,
            )),
            _ => Kernel::Shared(SharedOp::new(model, node)),
        };
        Self {
            kernel,
            inputs: node.inputs.iter().map(|id| id.0).collect(),
            output: node.output.0,
        }
    }

    /// Bytes of scratch a sample.
    pub(super) fn scratch_bytes(&self) -> usize {
        match &self.kernel {
            Kernel::Conv(c) => c.scratch_bytes(),
            Kernel::Depthwise(d) => 2 * d.plane_elements(),
            #[cfg(target_arch = "x86_64")]
            Kernel::FlatDepthwise(d) => d.scratch_bytes(),
            Kernel::Shared(_) => 0,
        }
    }

    /// The node over `n` samples, operands `[n][elements]` each.
    pub(super) fn execute(
        &self,
        isa: Isa,
        inputs: &[&[i8]],
        out: &mut [i8],
        n: usize,
        scratch: &mut Scratch,
    ) {
        match &self.kernel {
            Kernel::Conv(c) => c.run(inputs[0], n, scratch, out),
            Kernel::Depthwise(d) => d.run(isa, inputs[0], n, &mut scratch.pairs, out),
            #[cfg(target_arch = "x86_64")]
            Kernel::FlatDepthwise(d) => d.run(inputs[0], n, scratch, out),
            Kernel::Shared(SharedOp::AveragePool(p)) => isa.vectorized(
                #[inline(always)]
                || {
                    let samples = inputs[0].chunks_exact(inputs[0].len() / n);
                    for (x, out) in samples.zip(out.chunks_exact_mut(out.len() / n)) {
                        pool::average_pool(p, x, &mut scratch.sums, out);
                    }
                },
            ),
            Kernel::Shared(SharedOp::Mean(p)) => isa.vectorized(
                #[inline(always)]
                || {
                    let samples = inputs[0].chunks_exact(inputs[0].len() / n);
                    for (x, out) in samples.zip(out.chunks_exact_mut(out.len() / n)) {
                        pool::mean(p, x, &mut scratch.sums, out);
                    }
                },
            ),
            Kernel::Shared(op) if op.is_elementwise() => {
                #[cfg(target_arch = "x86_64")]
                if let (Isa::Avx512Vnni, SharedOp::Add(p)) = (isa, op)
                    && let Some(sum) = Sum::new(p)
                {
                    // SAFETY: an `Isa` other than `Portable` comes from detection on this machine.
                    unsafe { sum.run(inputs[0], inputs[1], out) };
                    return;
                }
                isa.vectorized(
                    #[inline(always)]
                    || op.elementwise(inputs, out),
                );
            }
            Kernel::Shared(op) => {
                let size = out.len() / n;
                let mut one: Vec<&[i8]> = Vec::with_capacity(inputs.len());
                for (i, out) in out.chunks_exact_mut(size).enumerate() {
                    one.clear();
                    one.extend(inputs.iter().map(|x| {
                        let e = x.len() / n;
                        &x[i * e..(i + 1) * e]
                    }));
                    op.run_one(&one, out);
                }
            }
        }
    }

    /// Accumulators of a linear node, `[n][y]`, from its input, `[n][x]`, on all cores; empty for
    /// one without weights.
    pub(super) fn accumulators(
        &self,
        isa: Isa,
        input: &[i8],
        (x, y): (usize, usize),
        chunk: usize,
    ) -> Vec<i32> {
        if matches!(self.kernel, Kernel::Shared(_)) {
            return Vec::new();
        }
        let mut out = vec![0; input.len() / x * y];
        out.par_chunks_mut(chunk * y)
            .zip(input.par_chunks(chunk * x))
            .for_each_init(Scratch::default, |scratch, (out, input)| {
                match &self.kernel {
                    Kernel::Conv(c) => c.accumulators(input, input.len() / x, scratch, out),
                    Kernel::Depthwise(d) => {
                        d.accumulators(isa, input, input.len() / x, &mut scratch.pairs, out)
                    }
                    #[cfg(target_arch = "x86_64")]
                    Kernel::FlatDepthwise(d) => {
                        d.accumulators(input, input.len() / x, scratch, out)
                    }
                    Kernel::Shared(_) => {}
                }
            });
        out
    }
}
