//! The edge engine: starts its control task and workers, and ends them.

mod connect;
mod control;
mod gate;
mod listener;
mod probe;
mod session;
mod state;
mod udp;
mod worker;

use control::Control;
use remoteingress_config::EdgeConfig;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_observe::events::Events;
use remoteingress_os::socket_options::raise_descriptor_limit;
use remoteingress_os::worker::{Gauge, Worker, ask_all, drain, stop_all, tell_all};
use remoteingress_proto::handshake::InstanceId;
use remoteingress_tunnel::transport::quic::config::ClientQuic;
use remoteingress_tunnel::transport::tls::ClientTls;
use serde_json::Value;
use state::{Command, EdgeState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Reports that wait for the control task.
const MAX_REPORTS: usize = 1_024;

/// A running edge.
pub(crate) struct Edge {
    state: Arc<EdgeState>,
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
        let verify = config.verify_hostname.as_ref().map(|host| host.bare());
        let tls = ClientTls::new(config.hub_host.as_str(), &config.hub_pins, verify)
            .map_err(|error| CodedError::new(error.code(), error.to_string()))?;
        let quic = ClientQuic::new(&tls, config.engine.congestion_controller)
            .map_err(|error| CodedError::new(error.code(), error.to_string()))?;
        let (reports, received) = mpsc::channel(MAX_REPORTS);
        let instance = InstanceId(remoteingress_os::random::bytes());
        let state = EdgeState::new(config, instance, tls, quic, events, descriptors, reports);
        let count = state.gauges.len();
        let start = |ordinal: usize| {
            let state = state.clone();
            Worker::start(&format!("edge-{ordinal}"), move |commands| {
                worker::run(state, ordinal, commands)
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
        let _ = state.workers.set(senders);
        let (questions, asked) = mpsc::channel(16);
        let control = Control::new(state.clone());
        let control = tokio::task::spawn_local(control.run(received, asked));
        Ok(Self {
            state,
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
        let state = &self.state;
        state.draining.store(true, Ordering::Relaxed);
        ask_all(&self.workers, Command::Drain).await;
        tell_all(&self.workers, || Command::Leave);
        let is_idle = || {
            state.gauges.iter().all(|gauge| gauge.streams() == 0)
                && state.held.load(Ordering::Relaxed) == 0
        };
        let streams: usize = state.gauges.iter().map(Gauge::streams).sum();
        tracing::info!(
            streams,
            drain_timeout_secs = state.config.engine.drain_timeout.as_secs(),
            "edge drains"
        );
        drain(is_idle, state.config.engine.drain_timeout, cut).await;
        tell_all(&self.workers, || Command::EndStreams);
        stop_all(self.workers, Command::Stop).await;
        self.control.abort();
        // Cancelled just now.
        let _ = self.control.await;
        tracing::info!("edge has stopped");
    }
}
