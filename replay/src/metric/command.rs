//! A user's own command: one JSON line per item in, one number per line out.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use inferdiff_schemas::Datatype;
use serde_json::{Value, json};

use super::{ItemAnswers, Row};
use crate::labels::LabelValue;

/// The rows of both sides, on their way to a command. It is run twice, once for each side, so that
/// it cannot know which side it scores.
#[derive(Debug)]
pub(super) struct Command {
    run: Vec<String>,
    timeout: Duration,
    output: String,
    rows: [BufWriter<File>; 2],
    items: usize,
}

impl Command {
    pub fn new(run: &[String], timeout: f64, output: &str) -> Result<Self, String> {
        let file = || {
            tempfile()
                .map(BufWriter::new)
                .map_err(|e| format!("cannot make a temporary file for a metric's command: {e}"))
        };
        Ok(Self {
            run: run.to_vec(),
            timeout: Duration::from_secs_f64(timeout),
            output: output.to_owned(),
            rows: [file()?, file()?],
            items: 0,
        })
    }

    pub fn add(&mut self, item: &ItemAnswers<'_>, stage: &Row) -> Result<(), String> {
        for (file, row) in self.rows.iter_mut().zip([item.reference, stage]) {
            let line = json!({
                "recorder": item.recorder.to_string(),
                "seq": item.seq,
                "item": item.item,
                "output": self.output,
                "datatype": row.datatype.name(),
                "shape": row.shape,
                "values": values(row),
                "label": item.label.map(|l| match &l.label {
                    LabelValue::Class(class) => json!(class),
                    LabelValue::Score(score) => json!(score),
                    LabelValue::Text(text) => json!(text),
                }),
            });
            writeln!(file, "{line}")
                .map_err(|e| format!("cannot write the rows of a metric's command: {e}"))?;
        }
        self.items += 1;
        Ok(())
    }

    /// The numbers of both sides.
    pub fn finish(self) -> Result<[Vec<f64>; 2], String> {
        let (items, name) = (self.items, self.run.join(" "));
        let mut sides = Vec::with_capacity(2);
        for rows in self.rows {
            let run = |mut file: File| -> std::io::Result<Result<String, String>> {
                file.rewind()?;
                once(&self.run, self.timeout, file)
            };
            let file = rows.into_inner().map_err(|e| e.to_string())?;
            let text = run(file)
                .map_err(|e| e.to_string())
                .and_then(|r| r)
                .map_err(|e| format!("metric command `{name}`: {e}"))?;
            sides.push(numbers(&text, items).map_err(|e| format!("metric command `{name}`: {e}"))?);
        }
        let stage = sides.pop().unwrap_or_default();
        Ok([sides.pop().unwrap_or_default(), stage])
    }
}

/// JSON has no NaN and no infinities: they are text.
fn values(row: &Row) -> Value {
    match row.numbers() {
        None => row
            .elements()
            .into_iter()
            .map(|e| Value::String(String::from_utf8_lossy(e).into_owned()))
            .collect(),
        Some(_) if matches!(row.datatype, Datatype::Int64 | Datatype::Uint64) => row
            .elements()
            .into_iter()
            .map(|e| {
                let e = e.try_into().expect("elements of eight bytes");
                match row.datatype {
                    Datatype::Int64 => json!(i64::from_le_bytes(e)),
                    _ => json!(u64::from_le_bytes(e)),
                }
            })
            .collect(),
        Some(numbers) => numbers
            .into_iter()
            .map(|v| match v {
                v if v.is_finite() => json!(v),
                v if v.is_nan() => json!("NaN"),
                v if v > 0.0 => json!("Infinity"),
                _ => json!("-Infinity"),
            })
            .collect(),
    }
}

fn once(run: &[String], timeout: Duration, rows: File) -> std::io::Result<Result<String, String>> {
    let (mut out, mut errors) = (tempfile()?, tempfile()?);
    // Files, not pipes: neither side can block the other.
    let started = std::process::Command::new(&run[0])
        .args(&run[1..])
        .stdin(Stdio::from(rows))
        .stdout(Stdio::from(out.try_clone()?))
        .stderr(Stdio::from(errors.try_clone()?))
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(e) => return Ok(Err(format!("it cannot be started: {e}"))),
    };
    let Some(status) = wait(&mut child, timeout)? else {
        let seconds = timeout.as_secs_f64();
        return Ok(Err(format!(
            "it did not end within {seconds} s and was stopped (timeout=SECONDS)"
        )));
    };
    if !status.success() {
        let mut text = String::new();
        errors.rewind()?;
        errors
            .take(64 * 1024)
            .read_to_string(&mut text)
            .or_else(not_text)?;
        let last = text
            .lines()
            .rev()
            .find(|l| !l.trim().is_empty())
            .unwrap_or("");
        return Ok(Err(format!("it failed ({status}): {last}")));
    }
    let mut text = String::new();
    out.rewind()?;
    if out.read_to_string(&mut text).is_err() {
        return Ok(Err("its output is no text".to_owned()));
    }
    Ok(Ok(text))
}

fn not_text(e: std::io::Error) -> std::io::Result<usize> {
    match e.kind() {
        std::io::ErrorKind::InvalidData => Ok(0),
        _ => Err(e),
    }
}

/// Waits; stops the child and gives `None` when the time is over.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= timeout {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn numbers(text: &str, items: usize) -> Result<Vec<f64>, String> {
    let mut out = Vec::with_capacity(items);
    for (i, line) in text.lines().enumerate() {
        match line.trim().parse::<f64>() {
            Ok(v) if v.is_finite() => out.push(v),
            _ => {
                return Err(format!(
                    "line {} of its output is no number: `{line}`",
                    i + 1
                ));
            }
        }
    }
    if out.len() != items {
        return Err(format!("it answered {} lines to {items} items", out.len()));
    }
    Ok(out)
}

/// A file without a name, gone with its last handle.
fn tempfile() -> std::io::Result<File> {
    let fd = rustix::fs::memfd_create("inferdiff-metric", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(File::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    fn score(program: &str, timeout: f64) -> Result<[Vec<f64>; 2], String> {
        let script = tempfile::Builder::new().suffix(".sh").tempfile().unwrap();
        std::fs::write(script.path(), program).unwrap();
        let run = vec!["sh".to_owned(), script.path().display().to_string()];
        let mut command = Command::new(&run, timeout, "y").unwrap();
        for (i, value) in [1.5f32, f32::NAN, -2.0].into_iter().enumerate() {
            let row = |v: f32| Row {
                datatype: Datatype::Fp32,
                shape: vec![1],
                data: v.to_le_bytes().to_vec().into(),
            };
            let (reference, stage) = (row(value), row(value * 2.0));
            let item = ItemAnswers {
                request: u32::try_from(i).unwrap(),
                recorder: Ulid::nil(),
                seq: i as u64,
                item: 0,
                label: None,
                reference: &reference,
                stage: Some(&stage),
            };
            command.add(&item, &stage).unwrap();
        }
        command.finish()
    }

    #[test]
    fn rows_go_in_and_one_number_per_item_comes_out() {
        // The length of `"values":[…]` without JSON: cut what stands between the brackets.
        let [reference, stage] = score(
            r#"sed -e 's/.*"values":\["NaN"\].*/7/' -e 's/.*"values":\[\([^]]*\)\].*/\1/'"#,
            20.0,
        )
        .unwrap();
        assert_eq!(
            (reference, stage),
            (vec![1.5, 7.0, -2.0], vec![3.0, 7.0, -4.0])
        );
    }

    #[test]
    fn whatever_it_does_wrong_is_said() {
        let why = |program: &str| score(program, 20.0).unwrap_err();
        assert!(why("echo boom >&2; exit 3").contains("boom"));
        assert!(why("echo 1").contains("1 lines to 3 items"));
        assert!(why("yes 1 | head -n 4").contains("4 lines to 3 items"));
        assert!(why("printf '1\\ncat\\n2\\n'").contains("line 2"));
        assert!(why("printf '1\\nnan\\n2\\n'").contains("line 2"));
        assert!(score("exec sleep 100", 0.2).unwrap_err().contains("0.2 s"));
        let none = Command::new(&["/nowhere/score".to_owned()], 1.0, "y").unwrap();
        assert!(none.finish().unwrap_err().contains("cannot be started"));
    }
}
