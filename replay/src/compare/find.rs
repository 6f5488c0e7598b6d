//! Where a value is.

use super::level::{Kernel, LANES, Level};

/// Index of the first element that equals `wanted`.
pub(super) fn first_equal(level: Level, values: &[f64], wanted: f64) -> Option<usize> {
    level.run(FirstEqual { values, wanted })
}

struct FirstEqual<'a> {
    values: &'a [f64],
    wanted: f64,
}

/// Elements that are looked at before one of them is asked for.
const STEP: usize = 8 * LANES;

impl Kernel for FirstEqual<'_> {
    type Out = Option<usize>;

    #[inline(always)]
    fn run(self) -> Option<usize> {
        let (steps, _) = self.values.as_chunks::<STEP>();
        let holds = |step: &&[f64; STEP]| {
            let mut found = false;
            for v in *step {
                found |= *v == self.wanted;
            }
            found
        };
        // In vectors to the step that has it, then element by element.
        let from = STEP * steps.iter().take_while(|step| !holds(step)).count();
        let mut rest = self.values[from..].iter();
        rest.position(|v| *v == self.wanted).map(|at| from + at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_one_is_found_at_every_level(
            values in prop::collection::vec((0i32..60).prop_map(f64::from), 0..300),
            wanted in (0i32..60).prop_map(f64::from),
        ) {
            let expected = values.iter().position(|v| *v == wanted);
            for level in Level::available() {
                prop_assert_eq!(first_equal(level, &values, wanted), expected);
            }
        }
    }
}
