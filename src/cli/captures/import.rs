//! `inferdiff captures import`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use inferdiff_schemas::run::evidence::ModelIdentity;

use crate::cli::{Ended, Failure, now, print, print_json};
use crate::import::{Format, Imported, Origin, Roles, datatype, format_of, import, samples};

/// Arrays that were saved elsewhere, as a capture.
#[derive(Args)]
pub struct ImportArgs {
    /// A folder or file: .npz and .npy, Parquet with tensor columns, Polygraphy's saved inputs or
    /// outputs, perf_analyzer's input data.
    from: PathBuf,
    /// The capture to write; it must not exist yet.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// What the files are. Default: by their names.
    #[arg(long, value_enum)]
    format: Option<Kind>,
    /// Model that the arrays belong to.
    #[arg(long)]
    model: Option<String>,
    /// Its version.
    #[arg(long)]
    model_version: Option<String>,
    /// This array is an answer, not an input; may be repeated.
    #[arg(long = "answer", value_name = "NAME")]
    answers: Vec<String>,
    /// Leave this array out; may be repeated.
    #[arg(long, value_name = "NAME")]
    ignore: Vec<String>,
    /// Give an array the name that the model knows; may be repeated.
    #[arg(long, value_name = "FROM=TO", value_parser = pair)]
    rename: Vec<(String, String)>,
    /// Datatype of an array where the file does not say it (perf_analyzer, binary columns).
    #[arg(long, value_name = "NAME=FP32", value_parser = pair)]
    datatype: Vec<(String, String)>,
    /// Shape of an array where the file does not say it: NAME=1,3,224,224.
    #[arg(long, value_name = "NAME=DIMS", value_parser = pair)]
    shape: Vec<(String, String)>,
    /// Parquet column with the requests' ids.
    #[arg(long, value_name = "COLUMN")]
    id: Option<String>,
    /// Each row of axis 0 becomes a request with a batch of one.
    #[arg(long)]
    split: bool,
    /// The arrays lack the batch axis: put one of size 1 before the others.
    #[arg(long, conflicts_with = "split")]
    unsqueeze: bool,
    /// A fact for the environment's fingerprint, e.g. framework=paddle-2.6.2; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    note: Vec<(String, String)>,
    /// The model's file, for its digest.
    #[arg(long, value_name = "FILE")]
    model_file: Option<PathBuf>,
    /// JSON for machines.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Numpy,
    Parquet,
    Polygraphy,
    PerfAnalyzer,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs `captures import`. Exit code 1 where samples were left out.
pub fn run(args: &ImportArgs) -> Ended {
    if args.output.join("_capture.json").exists() {
        return Err(Failure::usage(format!(
            "{} is a capture already: name a new folder",
            args.output.display()
        )));
    }
    let format = match args.format {
        Some(Kind::Numpy) => Format::Numpy,
        Some(Kind::Parquet) => Format::Parquet,
        Some(Kind::Polygraphy) => Format::Polygraphy,
        Some(Kind::PerfAnalyzer) => Format::PerfAnalyzer,
        None => format_of(&args.from).map_err(Failure::usage)?,
    };
    let roles = roles(args)?;
    let model_file = args.model_file.as_ref().map(|path| {
        ModelIdentity::of(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
    });
    let origin = Origin {
        model: args.model.clone(),
        model_version: args.model_version.clone(),
        notes: args.note.iter().cloned().collect(),
        model_file: model_file.transpose()?,
        now: now(),
        now_ns: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0),
    };
    let found = samples(&args.from, format, &roles).map_err(Failure::usage)?;
    let done = import(found, &roles, &origin, &args.output).map_err(Failure::usage)?;
    if args.json {
        print_json(&done)?;
    } else {
        print(&text(&done, args))?;
    }
    Ok(u8::from(done.left_out > 0))
}

fn roles(args: &ImportArgs) -> Result<Roles, Failure> {
    let mut datatypes = BTreeMap::new();
    for (name, value) in &args.datatype {
        let found = datatype(value).map_err(|e| Failure::usage(format!("--datatype: {e}")))?;
        datatypes.insert(name.clone(), found);
    }
    let mut shapes = BTreeMap::new();
    for (name, value) in &args.shape {
        let dims = value.split(',').filter(|d| !d.is_empty());
        let shape: Result<Vec<i64>, _> = dims.map(|d| d.trim().parse()).collect();
        let shape = shape.map_err(|e| Failure::usage(format!("--shape {name}={value}: {e}")))?;
        shapes.insert(name.clone(), shape);
    }
    Ok(Roles {
        outputs: args.answers.iter().cloned().collect(),
        ignored: args.ignore.iter().cloned().collect(),
        rename: args.rename.iter().cloned().collect(),
        datatypes,
        shapes,
        id: args.id.clone(),
        split: args.split,
        unsqueeze: args.unsqueeze,
    })
}

fn text(done: &Imported, args: &ImportArgs) -> String {
    let mut text = format!(
        "{} requests, {} with answers, in {}\n",
        done.requests,
        done.with_answers,
        args.output.display()
    );
    for (name, what) in &done.arrays {
        text += &format!("  `{name}`: {what}\n");
    }
    if done.left_out > 0 {
        text += &format!("{} left out:\n", done.left_out);
    }
    for why in &done.problems {
        text += &format!("  {why}\n");
    }
    text
}
