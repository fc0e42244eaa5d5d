//! The admin server of this process: started with the engine, and answered from it, also while it drains.

mod pools;

use super::call::{call_hub, streams};
use super::kept_edges::KeptEdges;
use super::{Control, metrics};
use crate::hub::self_test;
use remoteingress_admin::{Admin, Ask, Console, Question};
use remoteingress_config::commands::{Method, Nothing};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::overview::{EdgesShown, Role};
use remoteingress_config::shown::ConfigShown;
use remoteingress_config::{AdminConfig, AllowedEdge};
use remoteingress_observe::events::Events;
use serde_json::{Value, json};
use std::rc::Rc;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

/// An admin server that nobody answers yet: it is bound before the engine starts, so that a start fails as a whole.
pub(crate) struct Unanswered {
    admin: Admin,
    questions: mpsc::Receiver<Question>,
}

/// An admin server, whose questions are answered until it is dropped.
pub(crate) struct Answered {
    admin: Admin,
    drain: Rc<Notify>,
}

impl Unanswered {
    /// Binds the server, if one is configured.
    pub(crate) fn start(
        config: Option<&AdminConfig>,
        events: &Events,
    ) -> Result<Option<Self>, CodedError> {
        let Some(config) = config else {
            return Ok(None);
        };
        let (console, questions) = Console::new();
        let admin = Admin::start(config.clone(), console, events.clone())?;
        Ok(Some(Self { admin, questions }))
    }

    /// Answers from this engine from now on.
    pub(crate) fn answer(self, control: Control, edges: KeptEdges) -> Answered {
        let Self {
            admin,
            mut questions,
        } = self;
        let drain = Rc::new(Notify::new());
        control.times().turn_on();
        match &control {
            Control::Hub(hub) => admin.count_refusals(hub.admin_refusals()),
            Control::Edge(edge) => admin.count_refusals(edge.admin_refusals()),
        }
        let answering = Answering {
            control,
            edges,
            drain: drain.clone(),
        };
        spawn_local(async move {
            // It ends when the server has gone with its last connection.
            while let Some(question) = questions.recv().await {
                let answering = answering.clone();
                spawn_local(async move {
                    let answer = answering.answer(question.ask).await;
                    // Who asked may have gone.
                    let _ = question.answer.send(answer);
                });
            }
        });
        Answered { admin, drain }
    }
}

impl Answered {
    /// Resolves when the engine is to drain. Without a server it never does.
    pub(crate) async fn drain(server: Option<&Self>) {
        match server {
            Some(server) => server.drain.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Reads what may have changed in files, if there is a server.
    pub(crate) fn reload(server: Option<&Self>) {
        if let Some(server) = server {
            server.admin.reload_token();
        }
    }
}

/// An error of the management interface, with what a caller over REST does next.
fn of_rest(error: CodedError, params: &Value) -> CodedError {
    match (error.code, params["edgeId"].as_str()) {
        (ErrorCode::UnknownEdge, Some(id)) => unknown(id),
        _ => error,
    }
}

fn unknown(id: &str) -> CodedError {
    let message = format!(
        "there is no edge {id:?}; GET /api/v1/edges (ctl edges) lists them, and PUT /api/v1/edges/ID (ctl put ID) adds one"
    );
    CodedError::new(ErrorCode::UnknownEdge, message)
}

#[derive(Clone)]
struct Answering {
    control: Control,
    edges: KeptEdges,
    drain: Rc<Notify>,
}

impl Answering {
    async fn answer(&self, ask: Ask) -> Result<Value, CodedError> {
        match (ask, &self.control) {
            (Ask::Overview, _) => Ok(json!(self.control.overview().await)),
            (Ask::Metrics(format), control) => {
                Ok(Value::String(metrics::text(control, format).await?))
            }
            (Ask::Config, _) => Ok(json!(self.config())),
            (Ask::IsReady, Control::Hub(hub)) => Ok(json!(hub.is_ready())),
            (Ask::IsReady, Control::Edge(edge)) => Ok(json!(edge.is_ready())),
            (Ask::Call(Method::Stop, _), _) => {
                tracing::info!("the admin server was told to drain");
                self.drain.notify_one();
                Ok(json!(Nothing {}))
            }
            (Ask::Call(Method::GetStreams, params), control) => streams(control, &params).await,
            (Ask::Call(Method::SelfTest, params), Control::Hub(hub)) => {
                self_test::begin(hub, &params)?.await
            }
            (Ask::Edges(id), Control::Hub(hub)) => {
                let origin = |edge: &AllowedEdge| self.edges.origin(edge);
                let mut edges = hub.edges(id.as_deref(), origin).await;
                match id {
                    None => Ok(json!(EdgesShown { edges })),
                    Some(id) => edges
                        .pop()
                        .map(|edge| json!(edge))
                        .ok_or_else(|| unknown(&id)),
                }
            }
            (Ask::PutEdge(id, edge), Control::Hub(hub)) => {
                let put = self.edges.put(hub, &id, edge).await?;
                tracing::info!(edge_id = id, "the admin server was given an edge");
                Ok(json!(put))
            }
            (Ask::DeleteEdge(id), Control::Hub(hub)) => {
                let deleted = self.edges.delete(hub, &id).await?;
                tracing::info!(edge_id = id, "the admin server was told to remove an edge");
                Ok(json!(deleted))
            }
            (Ask::Pool(ask), Control::Hub(hub)) => pools::answer(hub, ask, self.edges.of_pools()),
            (Ask::Call(method, params), Control::Hub(hub)) => {
                let answer =
                    call_hub(hub, method, &params).map_err(|error| of_rest(error, &params))?;
                // The answer may be a token.
                tracing::info!(method = method.as_str(), "the admin server was called");
                Ok(answer)
            }
            (
                Ask::Edges(_)
                | Ask::PutEdge(..)
                | Ask::DeleteEdge(_)
                | Ask::Pool(_)
                | Ask::Call(..),
                Control::Edge(_),
            ) => {
                let message =
                    "this process runs an edge; its hub knows and changes the edges and pools";
                Err(CodedError::new(ErrorCode::NotFound, message))
            }
        }
    }

    fn config(&self) -> ConfigShown {
        let (role, hub, edge) = match &self.control {
            Control::Hub(hub) => (Role::Hub, Some(hub.config()), None),
            Control::Edge(edge) => (Role::Edge, None, Some(edge.config())),
        };
        ConfigShown { role, hub, edge }
    }
}
