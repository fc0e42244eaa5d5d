//! Questions of the server to whoever runs the engine, and the answers.

use remoteingress_config::commands::Method;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_observe::metrics::Format;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// Questions that may wait; connections are bounded, and each asks one at a time.
const MAX_QUESTIONS: usize = 64;

/// What is asked.
#[derive(Debug)]
pub enum Ask {
    /// A method of the management interface, with its parameters.
    Call(Method, Value),
    /// To add an edge, or replace the one of this id.
    PutEdge(String, Value),
    /// To remove the edge of this id.
    DeleteEdge(String),
    /// What runs here and its status.
    Overview,
    /// The metrics in this form, as a string.
    Metrics(Format),
    /// The configuration in force, without its secrets.
    Config,
    /// True or false: traffic can flow.
    IsReady,
    /// The allowed edges and their state, all or the one of this id.
    Edges(Option<String>),
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub ask: Ask,
    /// Where the answer goes. Nobody may wait for it any more.
    pub answer: oneshot::Sender<Result<Value, CodedError>>,
}

/// Where the server asks. Clones are the same.
#[derive(Clone, Debug)]
pub struct Console(mpsc::Sender<Question>);

impl Console {
    /// A console, and where its questions arrive.
    pub fn new() -> (Self, mpsc::Receiver<Question>) {
        let (sender, receiver) = mpsc::channel(MAX_QUESTIONS);
        (Self(sender), receiver)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// That of the answer, or `E_NOT_RUNNING` once nobody answers any more.
    pub async fn ask(&self, ask: Ask) -> Result<Value, CodedError> {
        let (answer, answered) = oneshot::channel();
        let is_over = || CodedError::new(ErrorCode::NotRunning, "the process ends");
        let question = Question { ask, answer };
        self.0.send(question).await.map_err(|_| is_over())?;
        answered.await.map_err(|_| is_over())?
    }
}
