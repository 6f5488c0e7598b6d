//! `inferdiff shapes`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use inferdiff_replay::shapes::{collect, onnxruntime, paddle, trtexec};
use inferdiff_schemas::capture::Capture;
use inferdiff_schemas::storage::Disk;

use super::{Ended, Failure, encryption_key, print};

/// Shape ranges of a capture's requests, for TensorRT with dynamic shapes.
#[derive(Args)]
pub struct ShapesArgs {
    /// The capture's directory.
    capture: PathBuf,
    /// The key of an encrypted capture.
    #[arg(long, value_name = "FILE")]
    encryption_key: Option<PathBuf>,
    /// For whom.
    #[arg(long, value_enum)]
    emit: Format,
    /// Into this file; default: stdout.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only requests of this model.
    #[arg(long)]
    model_name: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// `shape_range_info.pbtxt` of Paddle Inference.
    Paddle,
    /// Profile options of ONNX Runtime's TensorRT provider.
    Onnxruntime,
    /// Flags of trtexec.
    Trtexec,
}

/// Runs `shapes`.
pub fn run(args: &ShapesArgs) -> Ended {
    let key = encryption_key(args.encryption_key.as_deref())?;
    let capture = Capture::open_with_key(Arc::new(Disk), &args.capture, key.as_ref())
        .map_err(Failure::usage)?;
    let profile = collect(&capture, args.model_name.as_deref()).map_err(Failure::usage)?;
    let text = match args.emit {
        Format::Paddle => paddle(&profile),
        Format::Onnxruntime => onnxruntime(&profile),
        Format::Trtexec => trtexec(&profile),
    };
    match &args.output {
        None => print(&text)?,
        Some(path) => std::fs::write(path, text)
            .map_err(|e| Failure::usage(format!("cannot write {}: {e}", path.display())))?,
    }
    Ok(0)
}
