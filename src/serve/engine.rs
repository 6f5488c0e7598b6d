//! The predictor on a thread of its own: it is not `Send`, and the event loop must stay free.

use std::sync::mpsc;

use inferdiff_replay::runtime::{InferError, OpenError, Request, Runtimes};
use inferdiff_schemas::run::evidence::Signature;
use inferdiff_schemas::run::ladder::Stage;
use inferdiff_schemas::{Exchange, Tensor};
use tokio::sync::oneshot;

type Answer = Result<Vec<Tensor>, InferError>;

struct Job {
    inputs: Vec<Tensor>,
    answer: oneshot::Sender<Answer>,
}

/// A stage that answers requests, one after the other.
pub struct Engine {
    /// The model's name in routes.
    pub model: String,
    /// Declared inputs and outputs.
    pub signature: Signature,
    jobs: mpsc::Sender<Job>,
}

/// The version that the endpoint reports.
pub const VERSION: &str = "1";

impl Engine {
    /// Opens the stage on its own thread.
    ///
    /// # Errors
    /// [`OpenError`], in the runtime's own words.
    pub fn open(model: String, stage: Stage, runtimes: Runtimes) -> Result<Self, OpenError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (opened, result) = mpsc::channel();
        std::thread::Builder::new()
            .name("predictor".to_owned())
            .spawn(move || {
                let mut predictor = match runtimes.open(&stage) {
                    Ok(predictor) => predictor,
                    Err(e) => {
                        let _ = opened.send(Err(e));
                        return;
                    }
                };
                let Some(signature) = predictor.signature().cloned() else {
                    let why = "this runtime has no model to serve".to_owned();
                    let _ = opened.send(Err(OpenError::Failed(why)));
                    return;
                };
                let _ = opened.send(Ok(signature));
                // Predictors see the exchange that a request comes from; a live one has none yet.
                let exchange = Exchange::new(ulid::Ulid::nil(), 0);
                for job in queue {
                    let request = Request {
                        exchange: &exchange,
                        inputs: &job.inputs,
                    };
                    // A client that went away wants no answer.
                    let _ = job.answer.send(predictor.infer(&request));
                }
            })
            .map_err(|e| OpenError::Failed(format!("cannot start the predictor's thread: {e}")))?;
        let signature = result
            .recv()
            .map_err(|_| OpenError::Failed("the predictor's thread died".to_owned()))??;
        Ok(Self {
            model,
            signature,
            jobs,
        })
    }

    /// Answers one request.
    ///
    /// # Errors
    /// [`InferError`].
    pub async fn infer(&self, inputs: Vec<Tensor>) -> Answer {
        let gone = || InferError::Engine("the predictor is gone".to_owned());
        let (answer, result) = oneshot::channel();
        self.jobs.send(Job { inputs, answer }).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}
