//! Default tolerances by datatype.

use std::collections::BTreeMap;

use inferdiff_schemas::Datatype;
use inferdiff_schemas::run::ladder::Tolerance;

/// The tolerance of an output: the ladder's by output name, else the default of its datatype.
///
/// Defaults (relative to the reference's magnitude / absolute): FP64 1e-7 / 1e-7; FP32 1e-3 / 1e-5
/// (across engines); FP16 1e-3 / 1e-5; BF16 1.6e-2 / 1e-5; integers, BOOL and BYTES exact.
/// Source: `torch.testing.assert_close` for FP64, FP16 and BF16; FP32 across engines is wider there
/// than `assert_close`'s 1.3e-6, which holds for equal kernels only.
pub fn tolerance_for(
    output: &str,
    datatype: Datatype,
    given: &BTreeMap<String, Tolerance>,
) -> Tolerance {
    if let Some(t) = given.get(output) {
        return *t;
    }
    let (rtol, atol) = match datatype {
        Datatype::Fp64 => (1e-7, 1e-7),
        Datatype::Fp32 | Datatype::Fp16 => (1e-3, 1e-5),
        Datatype::Bf16 => (1.6e-2, 1e-5),
        _ => (0.0, 0.0),
    };
    Tolerance { rtol, atol }
}
