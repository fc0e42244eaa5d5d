//! The management interface: requests on stdin, answers and events on stdout (docs/ipc.md).

mod request;
mod stdio;

use crate::edge::Edge;
use crate::engine::Engine;
use crate::engine::admin::{Answered, Unanswered};
use crate::engine::call::{self, not_running, streams};
use crate::engine::kept_edges::KeptEdges;
use crate::engine::metrics;
use crate::hub::Hub;
use crate::hub::control::HubControl;
use crate::hub::self_test;
use remoteingress_config::commands::{
    Answer, EdgeSetBegun, EdgeSetCommit, HubStarted, IPC_VERSION, Method, Metrics, Nothing,
    Subscribable, Subscription,
};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::events::{Event, Ready};
use remoteingress_config::reasons::Feature;
use remoteingress_config::{decode, parse_edge, parse_hub};
use remoteingress_core::hub::edge_set::EdgeSet;
use remoteingress_observe::events::Events;
use remoteingress_observe::metrics::Format;
use remoteingress_os::signals::Signals;
use remoteingress_proto::handshake::PROTOCOL_VERSION;
use request::{Recent, Request};
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Instant;
use stdio::{Input, Line, Output};
use tokio::sync::{mpsc, oneshot, watch};

/// Answers that come after those to later requests, and wait for their turn.
const MAX_LATE: usize = 8;

/// Runs until stdin ends, nobody reads the answers, `stop` is called or a signal says so.
pub(crate) async fn serve(signals: Signals) -> std::io::Result<()> {
    let events = Events::queued();
    let ready = Event::Ready(Ready {
        version: crate::version::VERSION.to_owned(),
        protocol_version: IPC_VERSION,
        wire_version: PROTOCOL_VERSION,
        features: Feature::ALL.to_vec(),
    });
    let mut output = Output::start(&json!(ready), events.clone())?;
    let mut input = Input::start()?;
    let (late_sender, mut late_answers) = mpsc::channel(MAX_LATE);
    let mut server = Server {
        late: late_sender,
        engine: None,
        admin: None,
        stopping: false,
        events,
        signals: Rc::new(signals),
        seen: Recent::default(),
        set: EdgeSet::default(),
        orphaned: watch::Sender::new(false),
    };
    let (mut stopped, mut done): (Option<oneshot::Receiver<()>>, Option<String>) = (None, None);
    let mut has_parent = true;
    loop {
        let is_stopping = stopped.is_some();
        let set_is_late = late(server.set.deadline());
        let stop_finished = async {
            match &mut stopped {
                // Its sender is dropped only when it is done.
                Some(stopped) => drop(stopped.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop_finished => break,
            () = set_is_late => {
                server.set.drop_open();
                tracing::warn!("a set of allowed edges was begun and not committed: it is dropped");
            }
            next = next(&mut input, &mut output, &mut late_answers), if has_parent => match next {
                Next::Late(answer) => output.answer(&answer),
                Next::Line(line) => match server.line(&line).await {
                    Some(Reply::Now(answer)) => output.answer(&answer),
                    Some(Reply::AfterDrain(id)) => {
                        done = Some(id);
                        stopped = Some(server.stop());
                    }
                    None => {}
                },
                Next::Gone => {
                    has_parent = false;
                    server.orphaned.send_replace(true);
                    stopped = stopped.or_else(|| Some(server.stop()));
                }
            },
            () = server.signals.terminated(), if !is_stopping => {
                stopped = Some(server.stop());
            }
            () = Answered::drain(server.admin.as_ref()), if !is_stopping => {
                stopped = Some(server.stop());
            }
            () = server.signals.reload() => server.reload(),
        }
    }
    let late = std::iter::from_fn(|| late_answers.try_recv().ok());
    let last = done.map(|id| answer(&id, Ok(json!(Nothing {}))));
    let last: Vec<Value> = late.chain(last).collect();
    output.finish(&last).await;
    Ok(())
}

/// Resolves at the deadline, if there is one.
async fn late(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

enum Next {
    Line(Line),
    /// An answer that was still to come.
    Late(Value),
    /// The parent.
    Gone,
}

/// The next line or late answer, when the last answer has found room. Dropped, it has lost nothing.
async fn next(input: &mut Input, output: &mut Output, late: &mut mpsc::Receiver<Value>) -> Next {
    if output.flush().await.is_err() {
        tracing::warn!("the answers aren't read: the parent counts as gone");
        return Next::Gone;
    }
    tokio::select! {
        line = input.next() => line.map_or(Next::Gone, Next::Line),
        Some(answer) = late.recv() => Next::Late(answer),
    }
}

fn answer(id: &str, result: Result<Value, CodedError>) -> Value {
    json!(Answer::new(id, result))
}

enum Reply {
    Now(Value),
    /// The id of a request to stop.
    AfterDrain(String),
}

struct Server {
    /// Answers that come later than others.
    late: mpsc::Sender<Value>,
    engine: Option<Engine>,
    /// It answers during a drain, too.
    admin: Option<Answered>,
    stopping: bool,
    events: Events,
    signals: Rc<Signals>,
    seen: Recent,
    /// Allowed edges that come in parts.
    set: EdgeSet,
    /// The parent is gone: nobody waits for the end of a drain.
    orphaned: watch::Sender<bool>,
}

impl Server {
    /// A line that is no request has no reply, and some requests have theirs later.
    async fn line(&mut self, line: &Line) -> Option<Reply> {
        let request = match Request::parse(line) {
            Ok(request) => request,
            Err((Some(id), error)) => return Some(Reply::Now(answer(&id, Err(error)))),
            Err((None, error)) => {
                tracing::warn!(%error, "ignored a line that is no request");
                return None;
            }
        };
        let Request { id, method, params } = request;
        if !self.seen.insert(&id) {
            let message = format!("the id {id:?} was used before");
            let error = CodedError::new(ErrorCode::DuplicateId, message);
            return Some(Reply::Now(answer(&id, Err(error))));
        }
        if method == Method::Stop.as_str() && !self.stopping {
            return Some(Reply::AfterDrain(id));
        }
        if let (Some(Method::SelfTest), Some(Engine::Hub(hub))) =
            (Method::from_text(&method), &self.engine)
        {
            return self.self_test(id, hub.control(), &params);
        }
        let bytes = if let Line::Whole(line) = line {
            line.len()
        } else {
            0
        };
        let result = self.call(&method, &params, bytes).await;
        Some(Reply::Now(answer(&id, result)))
    }

    /// Begins a test, which nobody else waits for; there is a reply at once only if it can't begin.
    fn self_test(&self, id: String, hub: &HubControl, params: &Value) -> Option<Reply> {
        let test = match self_test::begin(hub, params) {
            Ok(test) => test,
            Err(error) => return Some(Reply::Now(answer(&id, Err(error)))),
        };
        let late = self.late.clone();
        tokio::task::spawn_local(async move {
            // The loop may have ended already.
            let _ = late.send(answer(&id, test.await)).await;
        });
        None
    }

    /// `bytes` are those of the whole request.
    async fn call(
        &mut self,
        method: &str,
        params: &Value,
        bytes: usize,
    ) -> Result<Value, CodedError> {
        let running = self.engine.is_some() || self.stopping;
        let Some(method) = Method::from_text(method) else {
            let message = format!("there is no method {method:?}; see docs/ipc.md");
            return Err(CodedError::new(ErrorCode::UnknownMethod, message));
        };
        match (method, &self.engine) {
            (Method::Ping | Method::Stop, _) => Ok(json!(Nothing {})),
            (Method::StartHub | Method::StartEdge, _) if running => {
                let message = "this process already runs a hub or an edge; start another process";
                Err(CodedError::new(ErrorCode::AlreadyRunning, message))
            }
            (Method::StartHub, _) => {
                let config = parse_hub(params)?;
                let admin = Unanswered::start(config.admin.as_ref(), &self.events)?;
                let hub = Hub::start(config, self.events.clone())?;
                let started = HubStarted {
                    tunnel_port: hub.control().tunnel_port(),
                    hub_pin: hub.control().pin(),
                };
                self.run(Engine::Hub(Box::new(hub)), admin);
                Ok(json!(started))
            }
            (Method::StartEdge, _) => {
                let config = parse_edge(params)?;
                let admin = Unanswered::start(config.admin.as_ref(), &self.events)?;
                let edge = Edge::start(config, self.events.clone())?;
                self.run(Engine::Edge(Box::new(edge)), admin);
                Ok(json!(Nothing {}))
            }
            (Method::Subscribe, _) => self.subscribe(params),
            (Method::GetStatus, Some(Engine::Hub(hub))) => Ok(json!(hub.control().status().await)),
            (Method::GetStatus, Some(Engine::Edge(edge))) => {
                Ok(json!(edge.control().status().await))
            }
            (Method::GetStreams, Some(engine)) => streams(&engine.control(), params).await,
            (Method::GetMetrics, Some(engine)) => {
                let text = metrics::text(&engine.control(), Format::OpenMetrics).await?;
                Ok(json!(Metrics { text }))
            }
            (method, Some(Engine::Hub(hub))) => {
                call_hub(hub.control(), &mut self.set, method, params, bytes)
            }
            (method, _) => Err(not_running(method)),
        }
    }

    /// Reads what may have changed in files.
    fn reload(&self) {
        Answered::reload(self.admin.as_ref());
        match &self.engine {
            Some(Engine::Hub(hub)) => hub.control().reopen_log(),
            Some(Engine::Edge(edge)) => edge.control().reopen_log(),
            None => {}
        }
    }

    fn run(&mut self, engine: Engine, admin: Option<Unanswered>) {
        self.admin = admin.map(|admin| admin.answer(engine.control(), KeptEdges::under_program()));
        self.engine = Some(engine);
    }

    fn subscribe(&self, params: &Value) -> Result<Value, CodedError> {
        let Subscription { events } = decode(params)?;
        let wants = |name| events.contains(&name);
        self.events.subscribe(
            wants(Subscribable::StreamOpened),
            wants(Subscribable::StreamClosed),
        );
        Ok(json!(Nothing {}))
    }

    /// Begins to drain; the receiver resolves when that is done.
    fn stop(&mut self) -> oneshot::Receiver<()> {
        self.stopping = true;
        self.set.drop_open();
        let (done, stopped) = oneshot::channel();
        let (engine, signals) = (self.engine.take(), self.signals.clone());
        let mut orphaned = self.orphaned.subscribe();
        tokio::task::spawn_local(async move {
            if let Some(engine) = engine {
                let orphaned = async {
                    if orphaned.wait_for(|is_orphan| *is_orphan).await.is_err() {
                        std::future::pending().await
                    }
                };
                engine.stop(signals.cut(), orphaned).await;
            }
            // The loop may have ended already.
            let _ = done.send(());
        });
        stopped
    }
}

/// A method that only a running hub has. Sets of edges in parts are for this interface alone, whose lines are bounded.
fn call_hub(
    hub: &HubControl,
    set: &mut EdgeSet,
    method: Method,
    params: &Value,
    bytes: usize,
) -> Result<Value, CodedError> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all others don't know of sets"
    )]
    match method {
        Method::BeginAllowedEdges => {
            let set = set.begin(Instant::now());
            Ok(json!(EdgeSetBegun { set }))
        }
        Method::AddAllowedEdges => {
            set.add(params, bytes, hub.allows_special_targets(), Instant::now())?;
            Ok(json!(Nothing {}))
        }
        Method::CommitAllowedEdges => {
            let commit: EdgeSetCommit = decode(params)?;
            let edges = set.commit(commit.set, Instant::now())?;
            Ok(json!(if commit.keep_others {
                hub.upsert_edges(edges)?
            } else {
                hub.update_edges(edges)?
            }))
        }
        method => call::call_hub(hub, method, params),
    }
}
