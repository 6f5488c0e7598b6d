//! Passes kept out by name: Paddle takes unknown names in silence, so it is seen to that the pass
//! ran without the key and did not with it.

use inferdiff_schemas::run::evidence::{Acted, OptionEvidence};

use super::log::{PassLog, Ran};
use crate::ladder::hint;

/// `without` is the log of the same stage without the key, `with` the stage's own.
///
/// # Errors
/// A name that no pass of this stage has, with the nearest one.
pub(super) fn prove(
    names: &[String],
    without: &PassLog,
    with: &PassLog,
) -> Result<Vec<OptionEvidence>, String> {
    let one = |name: &String| {
        let runs: Vec<&Ran> = without.passes.iter().filter(|p| p.name == *name).collect();
        if runs.is_empty() {
            let known = without.passes.iter().map(|p| p.name.as_str());
            return Err(format!(
                "disabled_passes: no pass `{name}` runs in this stage, and Paddle would ignore it \
                 in silence{}",
                hint(name, known)
            ));
        }
        let hits: u64 = runs.iter().filter_map(|p| p.hits).sum();
        let (acted, shown_by) = if with.ran(name) {
            let what = "it is in the log nevertheless: this Paddle does not let it be kept out";
            (Acted::DidNotAct, what.to_owned())
        } else {
            let what = format!("without the key it ran and hit {hits} times, with it it is gone");
            (Acted::Acted, what)
        };
        Ok(OptionEvidence {
            option: format!("disabled_passes.{name}"),
            requested: "disabled".to_owned(),
            acted,
            shown_by,
        })
    };
    names.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(names: &[&str]) -> PassLog {
        let lines = names
            .iter()
            .map(|n| format!("--- Running PIR pass [{n}]\n"));
        PassLog::parse(&lines.collect::<String>())
    }

    #[test]
    fn a_name_is_proved_or_refused() {
        let before = log(&["fc_fuse_pass", "conv_bn_fuse_pass"]);
        let names = ["fc_fuse_pass".to_owned()];
        let gone = prove(&names, &before, &log(&["conv_bn_fuse_pass"])).unwrap();
        assert_eq!(gone[0].acted, Acted::Acted);
        let stays = prove(&names, &before, &before).unwrap();
        assert_eq!(stays[0].acted, Acted::DidNotAct);
        let slip = prove(&["fc_fuse_pas".to_owned()], &before, &before).unwrap_err();
        assert!(slip.contains("did you mean `fc_fuse_pass`?"), "{slip}");
    }
}
