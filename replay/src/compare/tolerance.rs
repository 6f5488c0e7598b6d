//! Default tolerances by datatype.

use std::collections::BTreeMap;

use inferdiff_schemas::Datatype;
use inferdiff_schemas::run::ladder::{OutputTolerance, Tolerance};

/// The tolerance of an output: the ladder's for its name, else for `*` (of each its datatype's first),
/// else the default of its datatype. Of two datatypes it is the coarser one.
///
/// Defaults (relative to the reference's magnitude / absolute): FP64 1e-7 / 1e-7; FP32 1e-3 / 1e-5
/// (across engines); FP16 1e-3 / 1e-5; BF16 1.6e-2 / 1e-5; integers, BOOL and BYTES exact.
/// Source: `torch.testing.assert_close` for FP64, FP16 and BF16; FP32 across engines is wider there
/// than `assert_close`'s 1.3e-6, which holds for equal kernels only.
pub fn tolerance_for(
    output: &str,
    datatype: Datatype,
    given: &BTreeMap<String, OutputTolerance>,
) -> Tolerance {
    let said = [output, "*"].into_iter().find_map(|name| {
        let of = given.get(name)?;
        of.datatypes.get(datatype.name()).or(of.any.as_ref())
    });
    if let Some(tolerance) = said {
        return *tolerance;
    }
    let (rtol, atol) = match datatype {
        Datatype::Fp64 => (1e-7, 1e-7),
        Datatype::Fp32 | Datatype::Fp16 => (1e-3, 1e-5),
        Datatype::Bf16 => (1.6e-2, 1e-5),
        _ => (0.0, 0.0),
    };
    Tolerance { rtol, atol }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_saying_counts() {
        let of = |rtol| Tolerance { rtol, atol: 0.0 };
        let output = |any: Option<f64>, datatypes: &[(&str, f64)]| OutputTolerance {
            any: any.map(of),
            datatypes: datatypes
                .iter()
                .map(|&(name, t)| (name.to_owned(), of(t)))
                .collect(),
        };
        let given = BTreeMap::from([
            ("y".to_owned(), output(Some(1.0), &[("FP16", 2.0)])),
            ("z".to_owned(), output(None, &[("FP16", 3.0)])),
            ("*".to_owned(), output(Some(4.0), &[("BF16", 5.0)])),
        ]);
        let rtol = |name, datatype| tolerance_for(name, datatype, &given).rtol;
        assert_eq!(rtol("y", Datatype::Fp16), 2.0);
        assert_eq!(rtol("y", Datatype::Fp32), 1.0);
        assert_eq!(rtol("z", Datatype::Fp16), 3.0);
        assert_eq!(rtol("z", Datatype::Fp32), 4.0);
        assert_eq!(rtol("other", Datatype::Bf16), 5.0);
        assert_eq!(
            tolerance_for("y", Datatype::Fp64, &BTreeMap::new()).rtol,
            1e-7
        );
    }
}
