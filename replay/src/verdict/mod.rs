//! `Comparison → Verdict`: the statistics (`docs/verdicts.md`).

mod binomial;
mod clusters;
mod holm;
mod tango;

pub use binomial::{lower as binomial_lower, upper as binomial_upper};
pub use clusters::{Cluster, ClusterEstimate};
pub use holm::holm;
pub use tango::{interval as tango_interval, p_value as paired_p_value};

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

/// The n that would decide: half-width wanted `h`, disagreement rate `f`, two-sided `confidence`.
///
/// n ≈ z²f/h²; where nothing disagreed yet, the n at which even z²/(n+z²) falls below h.
pub fn n_to_decide(f: f64, h: f64, confidence: f64) -> Option<u64> {
    if h <= 0.0 || !h.is_finite() {
        return None;
    }
    let z2 = normal_quantile(0.5 + confidence / 2.0).powi(2);
    let n = (z2 * f / (h * h)).max(z2 * (1.0 - h) / h);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked below 2^53"
    )]
    (n < 9e15).then(|| n.ceil() as u64)
}
