//! Questions of the server to whoever runs the engine, and the answers.

use remoteingress_config::commands::Method;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::TargetStateParams;
use remoteingress_observe::metrics::Format;
use serde_json::Value;
use std::net::IpAddr;
use tokio::sync::{mpsc, oneshot};

/// Questions that may wait; connections are bounded, and each asks one at a time.
const MAX_QUESTIONS: usize = 64;

/// What is asked about pools.
#[derive(Debug)]
pub enum PoolAsk {
    /// All pools.
    All,
    /// The one of this name.
    One(Name),
    /// To add a pool, or replace the one of this name.
    Put(Name, Value),
    /// To remove the pool of this name.
    Delete(Name),
    /// To set a target's state.
    Target(TargetStateParams),
    /// Why a client would get which target; the edge is named by its id.
    Explain(Name, IpAddr, Option<String>),
    /// Which target a client has.
    Binding(Name, IpAddr),
    /// To forget which target a client has.
    Unbind(Name, IpAddr),
    /// Where an address is.
    Geo(IpAddr),
    /// A target registers itself.
    Register(Value),
    /// A target that has registered gives a sign of life.
    Heartbeat(Name),
    /// A target that has registered leaves.
    Deregister(Name),
    /// All that have registered, or the one with this id.
    Registered(Option<Name>),
}

/// What is asked.
#[derive(Debug)]
pub enum Ask {
    /// Something about pools.
    Pool(PoolAsk),
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
