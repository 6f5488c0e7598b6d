//! `inferdiff doctor`.

use std::path::{Path, PathBuf};

use clap::Args;
use inferdiff_replay::runtime::{Need, OnnxReference, OnnxRuntime, Paddle, Runtime, cpu};
use serde_json::json;

use super::{Ended, interpreter, library, print, print_json};

/// Say what is there for every runtime, and what is missing.
///
/// Exit code: 0 every runtime can run a model on the CPU, 1 one cannot.
#[derive(Args)]
pub struct DoctorArgs {
    /// ONNX Runtime library to look at, or NAME=FILE for one that ladders call by name (repeatable).
    #[arg(long, value_name = "[NAME=]FILE")]
    library: Vec<PathBuf>,
    /// Python interpreter to look at; default: every one that has paddle.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// JSON to stdout instead of lines.
    #[arg(long)]
    json: bool,
}

/// Runs `doctor`.
pub fn run(args: &DoctorArgs) -> Ended {
    let libraries = library::find_all(&args.library)?;
    let onnx = OnnxRuntime {
        default_library: libraries.unnamed,
        named: libraries.named,
    };
    let mut examined = vec![("onnxruntime", onnx.examine())];
    let reference = OnnxReference {
        default_python: interpreter::find(args.python.as_deref()).onnx,
    };
    examined.push(("onnx-reference", reference.examine()));
    for python in interpreters(args.python.as_deref()) {
        let paddle = Paddle {
            default_python: python,
        };
        examined.push(("paddle", paddle.examine()));
    }
    // The first need of a runtime is what it cannot do without.
    let healthy = |needs: &[Need]| needs.first().is_some_and(|n| n.found.is_ok());
    let code = u8::from(!examined.iter().all(|(_, needs)| healthy(needs)));
    if args.json {
        print_json(
            &json!({"cpu": cpu(), "runtimes": examined.iter().map(entry).collect::<Vec<_>>()}),
        )?;
        return Ok(code);
    }
    let mut text = format!("cpu: {}\n", cpu().join(", "));
    for (runtime, needs) in &examined {
        text += &format!("\n{runtime}\n");
        for need in needs {
            let (mark, words) = match &need.found {
                Ok(words) => ("+", words),
                Err(words) => ("-", words),
            };
            text += &format!("  {mark} {}: {words}\n", need.what);
        }
    }
    print(&text)?;
    Ok(code)
}

fn entry((runtime, needs): &(&str, Vec<Need>)) -> serde_json::Value {
    let needs: Vec<_> = needs
        .iter()
        .map(|n| {
            let (found, words) = match &n.found {
                Ok(words) => (true, words),
                Err(words) => (false, words),
            };
            json!({"what": n.what, "found": found, "words": words})
        })
        .collect();
    json!({"runtime": runtime, "needs": needs})
}

/// Those to look at; one that is `None` where there is none at all.
fn interpreters(given: Option<&Path>) -> Vec<Option<PathBuf>> {
    if let Some(given) = given {
        return vec![Some(given.to_owned())];
    }
    let all: Vec<_> = interpreter::all("paddle").map(Some).collect();
    if all.is_empty() { vec![None] } else { all }
}
