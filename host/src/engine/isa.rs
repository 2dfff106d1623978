//! Which vector instructions the multiply-accumulate loops use.

/// An instruction set that the loops were compiled for. All give the same integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What the compiler makes of plain loops.
    Portable,
    /// x86-64 AVX2 (`vpmaddwd`).
    Avx2,
    /// x86-64 AVX-512 with VNNI (`vpdpwssd`).
    Avx512Vnni,
}

impl Isa {
    /// The best that this machine has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                return Isa::Avx512Vnni;
            }
            if is_x86_feature_detected!("avx2") {
                return Isa::Avx2;
            }
        }
        Isa::Portable
    }

    /// All that this machine can run, for tests and benchmarks.
    pub fn available() -> Vec<Self> {
        match Self::detect() {
            Isa::Portable => vec![Isa::Portable],
            Isa::Avx2 => vec![Isa::Portable, Isa::Avx2],
            Isa::Avx512Vnni => vec![Isa::Portable, Isa::Avx2, Isa::Avx512Vnni],
        }
    }

    /// Where, within the weights of one pair of taps (two for each lane), the weight of tap `half`
    /// (0 or 1) of a lane lies: side by side for instructions that multiply pairs, else tap by tap,
    /// which plain loops vectorise best.
    pub(super) fn weight_place(self, lane: usize, half: usize) -> usize {
        match self {
            Isa::Portable => half * self.lanes() + lane,
            Isa::Avx2 | Isa::Avx512Vnni => 2 * lane + half,
        }
    }

    /// Output channels that one vector of accumulators holds.
    pub(super) fn lanes(self) -> usize {
        match self {
            Isa::Portable | Isa::Avx2 => 8,
            Isa::Avx512Vnni => 16,
        }
    }
}
