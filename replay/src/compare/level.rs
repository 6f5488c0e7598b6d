//! Kernels compiled once for each set of vector instructions, chosen when the program runs.
//!
//! Every kernel works in [`LANES`] lanes whatever the registers hold, and never fuses a
//! multiplication with an addition: all levels give the same bits on all machines.

/// Elements that one step of a kernel handles.
pub(super) const LANES: usize = 8;

/// A set of vector instructions that this processor has. Only detection makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Instructions);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instructions {
    /// Those of the compilation target.
    Target,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Every level that this processor can run, the widest first.
    pub fn available() -> Vec<Self> {
        let mut levels = Vec::with_capacity(3);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                levels.push(Self(Instructions::Avx512));
            }
            if is_x86_feature_detected!("avx2") {
                levels.push(Self(Instructions::Avx2));
            }
        }
        levels.push(Self(Instructions::Target));
        levels
    }

    /// The widest.
    pub fn best() -> Self {
        let available = Self::available();
        *available.first().expect("the target's own is always there")
    }

    /// For people: `avx512`, `avx2` or `target`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Instructions::Target => "target",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => "avx512",
        }
    }

    /// Runs a kernel with these instructions.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self.0 {
            Instructions::Target => kernel.run(),
            // SAFETY: detection found these instructions, and nothing else makes such a level.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "instructions found by detection")]
            Instructions::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "instructions found by detection")]
            Instructions::Avx512 => unsafe { avx512(kernel) },
        }
    }
}

/// A loop worth compiling for each level. `run` must be `#[inline(always)]`, and so must all that it
/// calls: only inlined code is compiled for the caller's instructions.
pub(super) trait Kernel {
    type Out;
    fn run(self) -> Self::Out;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run()
}
