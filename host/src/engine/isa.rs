//! Which vector instructions the multiply-accumulate loops use.

/// An instruction set that the loops were compiled for. All give the same integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What the compiler makes of plain loops.
    Portable,
    /// AArch64's vectors, which every such processor has (`smlal`).
    Neon,
    /// x86-64 AVX2 (`vpmaddwd`).
    Avx2,
    /// x86-64 AVX-512 with VNNI (`vpdpbusd`).
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
        if cfg!(target_arch = "aarch64") {
            return Isa::Neon;
        }
        Isa::Portable
    }

    /// All that this machine can run, for tests and benchmarks.
    pub fn available() -> Vec<Self> {
        match Self::detect() {
            Isa::Portable => vec![Isa::Portable],
            Isa::Neon => vec![Isa::Portable, Isa::Neon],
            Isa::Avx2 => vec![Isa::Portable, Isa::Avx2],
            Isa::Avx512Vnni => vec![Isa::Portable, Isa::Avx2, Isa::Avx512Vnni],
        }
    }

    /// Consecutive taps that are read at a time.
    pub(super) fn taps(self) -> usize {
        match self {
            Isa::Portable | Isa::Avx2 => 2,
            Isa::Neon | Isa::Avx512Vnni => 4,
        }
    }

    /// Where, within the weights of one group of taps ([`Self::taps`] for each lane), the weight of
    /// a lane's `tap` lies: side by side for instructions that multiply groups, else tap by tap,
    /// which plain loops vectorise best and `smlal` multiplies.
    pub(super) fn weight_place(self, lane: usize, tap: usize) -> usize {
        match self {
            Isa::Portable | Isa::Neon => tap * self.lanes() + lane,
            Isa::Avx2 | Isa::Avx512Vnni => self.taps() * lane + tap,
        }
    }

    /// Output channels that one vector of accumulators holds.
    pub(super) fn lanes(self) -> usize {
        match self {
            Isa::Portable | Isa::Neon | Isa::Avx2 => 8,
            Isa::Avx512Vnni => 16,
        }
    }

    /// Runs `work` compiled for this instruction set, as far as it is inlined: plain loops over
    /// `#[inline]` arithmetic become vector code.
    #[inline(always)]
    pub(super) fn vectorized<R>(self, work: impl FnOnce() -> R) -> R {
        match self {
            // Plain loops are compiled for Neon on AArch64.
            Isa::Portable | Isa::Neon => work(),
            // SAFETY: an `Isa` other than `Portable` comes from detection on this machine.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { with_avx2(work) },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { with_avx512(work) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => work(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn with_avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}
