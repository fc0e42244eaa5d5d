//! The edge engine: starts its control task and workers, and ends them.

mod admission;
mod backoff;
mod connect;
mod control;
mod listener;
mod port_table;
mod session;
mod shared;
mod worker;

use crate::config::EdgeConfig;
use crate::error::{CodedError, ErrorCode};
use crate::events::Events;
use crate::net::socket_options::raise_descriptor_limit;
use crate::tunnel::tls::ClientTls;
use crate::worker::{Worker, stop_all};
use control::Control;
use remoteingress_proto::handshake::InstanceId;
use serde_json::Value;
use shared::{Command, Shared};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Reports that wait for the control task.
const MAX_REPORTS: usize = 1_024;
/// How often a drain looks whether streams still run.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// A running edge.
pub(crate) struct Edge {
    shared: Arc<Shared>,
    workers: Vec<Worker<Command>>,
    control: JoinHandle<()>,
    questions: mpsc::Sender<oneshot::Sender<Value>>,
}

impl Edge {
    /// Starts workers and begins to dial the hub.
    pub(crate) fn start(config: EdgeConfig, events: Events) -> Result<Self, CodedError> {
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let internal = |error: std::io::Error| {
            CodedError::new(ErrorCode::Internal, format!("failed to start: {error}"))
        };
        let descriptors = raise_descriptor_limit().map_err(internal)?;
        let pins: Vec<[u8; 32]> = config.hub_pins.iter().map(|pin| pin.0).collect();
        let verify = config.verify_hostname.as_ref().map(|host| host.bare());
        let tls = ClientTls::new(config.hub_host.as_str(), &pins, verify).map_err(|error| {
            let code = ErrorCode::from_text(error.code()).unwrap_or(ErrorCode::Tls);
            CodedError::new(code, error.to_string())
        })?;
        let (reports, received) = mpsc::channel(MAX_REPORTS);
        let instance = InstanceId(crate::random::bytes());
        let shared = Shared::new(config, instance, tls, events, descriptors, reports);
        let count = shared.gauges.len();
        let start = |ordinal: usize| {
            let shared = shared.clone();
            Worker::start(&format!("edge-{ordinal}"), move |commands| {
                worker::run(shared, ordinal, commands)
            })
        };
        let workers = (0..count)
            .map(start)
            .collect::<Result<Vec<_>, _>>()
            .map_err(internal)?;
        let senders: Vec<_> = workers
            .iter()
            .map(|worker| worker.commands.clone())
            .collect();
        if let Some(first) = senders.first() {
            // An empty queue takes a command.
            let _ = first.send(Command::Connect);
        }
        // Set once, here.
        let _ = shared.workers.set(senders);
        let (questions, asked) = mpsc::channel(16);
        let control = Control::new(shared.clone());
        let control = tokio::task::spawn_local(control.run(received, asked));
        Ok(Self {
            shared,
            workers,
            control,
            questions,
        })
    }

    /// See docs/ipc.md.
    pub(crate) async fn status(&self) -> Value {
        let (reply, answer) = oneshot::channel();
        if self.questions.send(reply).await.is_err() {
            return Value::Null;
        }
        answer.await.unwrap_or_default()
    }

    /// Accepts no more, waits for streams up to the drain timeout, resets the rest, and ends.
    pub(crate) async fn stop(self, cut: impl Future<Output = ()>) {
        let shared = &self.shared;
        shared.draining.store(true, Ordering::Relaxed);
        self.tell(|| Command::Drain);
        let drained = async {
            while shared.gauges.iter().any(|gauge| gauge.streams() > 0)
                || shared.held.load(Ordering::Relaxed) > 0
            {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        let timeout = shared.config.engine.drain_timeout;
        tokio::select! {
            _ = tokio::time::timeout(timeout, drained) => {}
            () = cut => {}
        }
        self.tell(|| Command::EndStreams);
        stop_all(self.workers, Command::Stop).await;
        self.control.abort();
        // Cancelled just now.
        let _ = self.control.await;
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker that has ended needs no telling.
            let _ = worker.commands.send(command());
        }
    }
}
