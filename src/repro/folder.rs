//! The files of the folder.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use inferdiff_schemas::capture::{CaptureMeta, CaptureWriter, Ledger, RecorderMeta, WriterOptions};
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::run::manifest::Manifest;
use inferdiff_schemas::storage::Disk;
use inferdiff_schemas::{Datatype, Exchange, Tensor};
use serde_json::{Value, json};

use super::choose::Chosen;
use super::models;

/// The script; it reads `repro.json`.
const SCRIPT: &str = include_str!("onnxruntime.py");

/// Writes models, requests, ladder, script and a note.
pub(super) fn write(
    into: &Path,
    reference: &Stage,
    chosen: &Chosen,
    requests: &[Exchange],
    manifest: &Manifest,
) -> Result<(), String> {
    let text = |name: &str, text: &str| {
        let path = into.join(name);
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    let mut stages = Vec::new();
    for stage in [reference, &chosen.stage] {
        let model = stage.model.as_ref().ok_or("a stage without a model")?;
        let folder = into.join("models").join(&stage.name);
        let copy = models::copy(model, &folder)?;
        let copy = copy.strip_prefix(into).unwrap_or(&copy).to_owned();
        stages.push((stage, copy.display().to_string()));
    }
    let mut described = Vec::new();
    for (n, e) in requests.iter().enumerate() {
        let folder = format!("requests/{n:03}");
        let path = into.join(&folder);
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut inputs = Vec::new();
        for (i, t) in e.inputs.iter().flatten().enumerate() {
            let file = format!("{folder}/{i}.npy");
            inputs.push(json!({"name": t.name, "datatype": t.datatype.name(), "file": file}));
            npy(&into.join(&file), t)?;
        }
        described.push(json!({
            "id": e.client_request_id.as_ref().unwrap_or(&e.id), "inputs": inputs,
        }));
    }
    let settings: Vec<Value> = stages
        .iter()
        .map(|(stage, model)| {
            let mut options = stage.options.clone();
            options.remove("library");
            json!({"name": stage.name, "model": model, "options": options})
        })
        .collect();
    let json = json!({"stages": settings, "requests": described});
    let json = serde_json::to_string_pretty(&json).map_err(|e| e.to_string())?;
    text("repro.json", &(json + "\n"))?;
    text("repro.py", SCRIPT)?;
    text("ladder.toml", &ladder(&stages)?)?;
    text("README.md", &readme(reference, chosen, requests, manifest))?;
    capture(&into.join("capture"), requests, manifest)
}

/// A little capture for those who have inferdiff.
fn capture(into: &Path, requests: &[Exchange], manifest: &Manifest) -> Result<(), String> {
    let first = requests.first().ok_or("no request")?;
    let meta = RecorderMeta::new(first.recorder, manifest.created.clone());
    let (mut writer, _) = CaptureWriter::open(
        Arc::new(Disk),
        into,
        CaptureMeta::new(manifest.created.clone()),
        meta,
        WriterOptions::default(),
    )
    .map_err(|e| e.to_string())?;
    let mut ledger = Ledger::default();
    for e in requests {
        ledger.accepted += 1;
        ledger.in_flight += 1;
        writer.append(e.clone());
        if writer.due(Instant::now()) {
            writer.checkpoint(&mut ledger).map_err(|e| e.to_string())?;
        }
    }
    writer
        .close(&mut ledger, manifest.created.clone())
        .map_err(|e| e.to_string())
}

/// The two stages as a ladder file. The library is left to whoever replays it.
fn ladder(stages: &[(&Stage, String)]) -> Result<String, String> {
    let mut text = String::new();
    for (stage, model) in stages {
        let mut table = toml::Table::new();
        table.insert("name".to_owned(), stage.name.clone().into());
        table.insert("runtime".to_owned(), stage.runtime.clone().into());
        table.insert("model".to_owned(), model.clone().into());
        for (key, value) in stage
            .options
            .iter()
            .filter(|(k, v)| *k != "library" && !v.is_null())
        {
            let value = toml::Value::try_from(value).map_err(|e| e.to_string())?;
            table.insert(key.clone(), value);
        }
        let mut one = toml::Table::new();
        one.insert("stage".to_owned(), toml::Value::Array(vec![table.into()]));
        text += &toml::to_string(&one).map_err(|e| e.to_string())?;
        text.push('\n');
    }
    Ok(text)
}

fn readme(
    reference: &Stage,
    chosen: &Chosen,
    requests: &[Exchange],
    manifest: &Manifest,
) -> String {
    let mut text = format!(
        "# `{stage}` answers otherwise than `{reference}`\n\n\
         {n} request(s); the last one shows it:\n\n    python3 repro.py\n\n\
         It needs numpy and onnxruntime only. It ends with 1 where an output differs (`DIFFERENT`),\n\
         with 0 where all bits are equal.\n\n\
         With inferdiff: `inferdiff replay capture --ladder ladder.toml --run run`\n\n\
         ## What was seen\n",
        stage = chosen.stage.name,
        reference = reference.name,
        n = requests.len()
    );
    for line in &chosen.says {
        let _ = writeln!(text, "- {line}");
    }
    let _ = writeln!(
        text,
        "- exchange {}, inferdiff {}, run of {}",
        chosen.id, manifest.version, manifest.created
    );
    for (key, value) in &manifest.environment {
        let _ = writeln!(text, "- {key}: {value}");
    }
    text
}

/// A tensor as `.npy` (NEP 1, version 1.0). BF16, which NumPy lacks, is saved as its 16 bits;
/// BYTES as texts of their bytes, each as long as the longest.
fn npy(path: &Path, t: &Tensor) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("{}: {e}", path.display());
    let data = t.data.as_deref().ok_or_else(|| {
        format!(
            "input `{}` is not in the capture ({})",
            t.name,
            t.payload.name()
        )
    })?;
    let (kind, padded) = match t.datatype {
        Datatype::Bool => ("|b1".to_owned(), None),
        Datatype::Uint8 => ("|u1".to_owned(), None),
        Datatype::Int8 => ("|i1".to_owned(), None),
        Datatype::Uint16 | Datatype::Bf16 => ("<u2".to_owned(), None),
        Datatype::Uint32 => ("<u4".to_owned(), None),
        Datatype::Uint64 => ("<u8".to_owned(), None),
        Datatype::Int16 => ("<i2".to_owned(), None),
        Datatype::Int32 => ("<i4".to_owned(), None),
        Datatype::Int64 => ("<i8".to_owned(), None),
        Datatype::Fp16 => ("<f2".to_owned(), None),
        Datatype::Fp32 => ("<f4".to_owned(), None),
        Datatype::Fp64 => ("<f8".to_owned(), None),
        Datatype::Bytes => {
            let (width, data) = texts(data);
            (format!("|S{width}"), Some(data))
        }
    };
    let dims: Vec<String> = t.shape.iter().map(|d| format!("{d},")).collect();
    let mut header = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}",
        dims.join(" ")
    );
    // Magic, version, length and header together are a multiple of 64 bytes, with a line end.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|e| e.to_string())?;
    let mut file = std::fs::File::create(path).map_err(fail)?;
    file.write_all(b"\x93NUMPY\x01\x00").map_err(fail)?;
    file.write_all(&length.to_le_bytes()).map_err(fail)?;
    file.write_all(header.as_bytes()).map_err(fail)?;
    file.write_all(padded.as_deref().unwrap_or(data))
        .map_err(fail)
}

fn texts(mut data: &[u8]) -> (usize, Vec<u8>) {
    let mut all: Vec<&[u8]> = Vec::new();
    while let Some((prefix, tail)) = data.split_first_chunk::<4>() {
        let length = (u32::from_le_bytes(*prefix) as usize).min(tail.len());
        all.push(&tail[..length]);
        data = &tail[length..];
    }
    let width = all.iter().map(|e| e.len()).max().unwrap_or(0).max(1);
    let mut padded = Vec::with_capacity(width * all.len());
    for e in all {
        padded.extend_from_slice(e);
        padded.resize(padded.len() + width - e.len(), 0);
    }
    (width, padded)
}
