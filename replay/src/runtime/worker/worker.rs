//! A worker: one Python process, started again where it died.

use std::path::PathBuf;

use inferdiff_schemas::Tensor;
use serde::Serialize;
use serde_json::{Map, Value};

use super::frame::{Said, Spec};
use super::process::{Process, Trouble};
use crate::runtime::{InferError, OpenError};

/// One Python source of a worker; the first of a list is the protocol's.
#[derive(Debug, Clone, Copy)]
pub(in crate::runtime) struct Source {
    pub name: &'static str,
    pub text: &'static str,
}

/// What opening a stage answered.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Opened {
    /// The engine's own answer.
    pub answer: Map<String, Value>,
    /// Everything that it printed meanwhile.
    pub log: String,
}

/// One engine in one process.
#[derive(Debug)]
pub(in crate::runtime) struct Worker {
    python: PathBuf,
    sources: &'static [Source],
    environment: Vec<(&'static str, String)>,
    /// What opened the stage; a process that replaces a dead one is asked the same.
    opening: Option<Value>,
    process: Option<Process>,
}

#[derive(Serialize)]
struct Question<'a> {
    op: &'static str,
    /// The bodies are in the shared memory and not behind the header.
    shared: bool,
    tensors: Vec<Spec>,
    #[serde(skip)]
    bodies: Vec<&'a [u8]>,
}

impl Worker {
    /// A worker of `python`, not started yet. `environment` is set for its process.
    pub fn new(
        python: PathBuf,
        sources: &'static [Source],
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        Self {
            python,
            sources,
            environment,
            opening: None,
            process: None,
        }
    }

    /// Opens a stage: `request` is the engine's own header. A worker may be opened more than once;
    /// it answers by the last one.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`] where the interpreter or the engine's package is missing, else in
    /// the engine's own words, or how its process died.
    pub fn open(&mut self, mut request: Map<String, Value>) -> Result<Opened, OpenError> {
        request.insert("op".to_owned(), "open".into());
        let request = Value::Object(request);
        let opened = self.opened(&request);
        match &opened {
            Ok(_) => self.opening = Some(request),
            // It is dead, or in a state that nobody knows.
            Err(_) => self.process = None,
        }
        opened
    }

    fn opened(&mut self, request: &Value) -> Result<Opened, OpenError> {
        let python = self.python.display().to_string();
        let dead = |trouble: Trouble, when: &str| match trouble {
            Trouble::Start(why) => OpenError::Unavailable(why),
            Trouble::Died(how) => {
                OpenError::Failed(format!("its Python process died {when}: {how}"))
            }
            Trouble::Protocol(why) => {
                OpenError::Failed(format!("its Python process went wrong {when}: {why}"))
            }
        };
        let refused = |said: Said, log: &str| {
            let words = said.message;
            match said.kind.as_str() {
                "unavailable" => {
                    OpenError::Unavailable(format!("{words} ({python}){}", complaints(log)))
                }
                _ => OpenError::Failed(words),
            }
        };
        if self.process.is_none() {
            let process = Process::start(&self.python, self.sources, &self.environment);
            let mut process = process.map_err(|t| dead(t, "when it was started"))?;
            let answer = process
                .answer()
                .map_err(|t| dead(t, "when it was started"))?;
            if let Some(said) = parse(&answer)?.1 {
                return Err(refused(said, &process.log.text()));
            }
            self.process = Some(process);
        }
        let process = self.process.as_mut().expect("it was started above");
        process.log.clear();
        let when = "when it opened the model";
        process
            .send(request.to_string().as_bytes(), &[])
            .map_err(|t| dead(t, when))?;
        let answer = process.answer().map_err(|t| dead(t, when))?;
        let log = process.log.text();
        match parse(&answer)? {
            (_, Some(said)) => Err(refused(said, &log)),
            (answer, None) => Ok(Opened { answer, log }),
        }
    }

    /// Answers one request. Where its process dies of it, that is this request's error and the next
    /// one gets a new process.
    ///
    /// # Errors
    /// [`InferError`].
    pub fn infer(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        let mut question = Question::of(inputs)?;
        if self.process.is_none() {
            let request = self
                .opening
                .clone()
                .ok_or_else(|| InferError::Engine("no stage is open".to_owned()))?;
            let again = |e: OpenError| {
                InferError::Engine(format!(
                    "its Python process could not be started again: {e}"
                ))
            };
            self.opened(&request).map_err(again)?;
        }
        let process = self.process.as_mut().expect("it was started above");
        question.shared = process.shared.put(&question.bodies);
        let header = serde_json::to_vec(&question).expect("a question is plain data");
        let asked = process
            .send(
                &header,
                if question.shared {
                    &[]
                } else {
                    &question.bodies
                },
            )
            .and_then(|()| process.tensors());
        match asked {
            Ok(Ok(outputs)) => {
                process.log.trim();
                Ok(outputs)
            }
            Ok(Err(said)) if said.kind == "bad_request" => {
                Err(InferError::BadRequest(said.message))
            }
            Ok(Err(said)) => Err(InferError::Engine(said.message)),
            Err(trouble) => {
                self.process = None;
                Err(InferError::Engine(match trouble {
                    Trouble::Start(why) => why,
                    Trouble::Died(how) => format!("its Python process died of this request: {how}"),
                    Trouble::Protocol(why) => format!("its Python process went wrong: {why}"),
                }))
            }
        }
    }

    /// What the process printed since the stage was opened (the end of it).
    pub fn log(&self) -> String {
        self.process
            .as_ref()
            .map_or_else(String::new, |p| p.log.text())
    }

    /// Number of the process, where one is alive.
    #[cfg(test)]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

impl<'a> Question<'a> {
    fn of(inputs: &'a [Tensor]) -> Result<Self, InferError> {
        let mut question = Self {
            op: "infer",
            shared: false,
            tensors: Vec::with_capacity(inputs.len()),
            bodies: Vec::with_capacity(inputs.len()),
        };
        for input in inputs {
            let data = input.data.as_deref().ok_or_else(|| {
                InferError::BadRequest(format!("the data of input `{}` was not kept", input.name))
            })?;
            question.tensors.push(Spec {
                name: input.name.clone(),
                datatype: input.datatype.name().to_owned(),
                shape: input.shape.clone(),
                bytes: data.len() as u64,
            });
            question.bodies.push(data);
        }
        Ok(question)
    }
}

fn parse(answer: &[u8]) -> Result<(Map<String, Value>, Option<Said>), OpenError> {
    let wrong = |e: serde_json::Error| {
        OpenError::Failed(format!("its Python process answered nonsense: {e}"))
    };
    let mut answer: Map<String, Value> = serde_json::from_slice(answer).map_err(wrong)?;
    let said = answer
        .remove("error")
        .map(serde_json::from_value)
        .transpose()
        .map_err(wrong)?;
    Ok((answer, said))
}

/// Errors that the engine logged and did not raise.
fn complaints(log: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in log.lines() {
        // glog: severity, month and day, then "] " before the words.
        let glog = line.starts_with('E')
            && line
                .get(1..5)
                .is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
        if let (true, Some((_, words))) = (glog, line.split_once("] ")) {
            let words = words.trim().to_owned();
            if !lines.contains(&words) {
                lines.push(words);
            }
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    format!("; it logged: {}", lines.join(" | "))
}
