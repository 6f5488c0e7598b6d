//! `Comparison → Verdict`: the statistics (`docs/verdicts.md`).

mod bh;
mod binomial;
mod clusters;
mod holm;
mod power;
mod tango;

pub use bh::benjamini_hochberg;
pub use binomial::{lower as binomial_lower, upper as binomial_upper};
pub(crate) use clusters::SplitMix;
pub use clusters::{Cluster, ClusterEstimate, FEW, Seen};
pub use holm::holm;
pub use power::{SoFar, n_to_decide};
pub use tango::interval as tango_interval;

/// The quantile of the standard normal distribution.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF, Normal};
    Normal::standard().inverse_cdf(p)
}

/// P(Z ≤ z).
pub(crate) fn normal_cdf(z: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF, Normal};
    Normal::standard().cdf(z)
}
