//! The edge engine: starts its control task and workers, and ends them.

mod bind;
mod clients;
mod command;
mod control;
mod listener;
mod state;
mod streams;
mod udp;
mod worker;

use command::Command;
use control::Control;
use remoteingress_config::EdgeConfig;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::status::EdgeStatus;
use remoteingress_core::uplink::failure::Ends;
use remoteingress_observe::events::Events;
use remoteingress_os::process_options::raise_descriptor_limit;
use remoteingress_os::worker::{Gauge, Worker, ask_all, drain, stop_all, tell_all};
use remoteingress_proto::handshake::{InstanceId, ProofKeys};
use remoteingress_proto::mux::Role;
use remoteingress_tunnel::transport::quic::config::ClientQuic;
use remoteingress_tunnel::transport::tls::ClientTls;
use remoteingress_tunnel::uplink::report::Report;
use remoteingress_tunnel::uplink::{Keys, Settings, Uplink};
use state::EdgeState;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Reports that wait for the control task.
const MAX_REPORTS: usize = 1_024;
/// The words for both ends of the tunnel in messages to operators.
const ENDS: Ends = Ends {
    own: "edge",
    peer: "hub",
};

/// A running edge.
pub(crate) struct Edge {
    state: Arc<EdgeState>,
    workers: Vec<Worker<Command>>,
    control: JoinHandle<()>,
    questions: mpsc::Sender<oneshot::Sender<EdgeStatus>>,
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
        let (reports, received) = mpsc::channel(MAX_REPORTS);
        let uplink = uplink(&config, reports)?;
        let count = uplink.gauges().len();
        let state = EdgeState::new(config, uplink, events, descriptors);
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
        state.set_workers(senders);
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

    /// The edge's status now; none while it ends.
    pub(crate) async fn status(&self) -> Option<EdgeStatus> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(reply).await.ok()?;
        answer.await.ok()
    }

    /// Accepts no more, waits for streams up to the drain timeout, resets the rest, and ends.
    pub(crate) async fn stop(self, cut: impl Future<Output = ()>) {
        let state = &self.state;
        state.drain();
        ask_all(&self.workers, Command::Drain).await;
        tell_all(&self.workers, || Command::GoAway);
        let gauges = state.hub.uplink.gauges();
        let is_idle =
            || gauges.iter().all(|gauge| gauge.streams() == 0) && state.clients.held() == 0;
        let streams: usize = gauges.iter().map(Gauge::streams).sum();
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

/// The way to the hub that the configuration names.
fn uplink(config: &EdgeConfig, reports: mpsc::Sender<Report>) -> Result<Arc<Uplink>, CodedError> {
    let verify = config.verify_hostname.as_ref().map(|host| host.bare());
    let tls = ClientTls::new(config.hub_host.as_str(), &config.hub_pins, verify)
        .map_err(|error| CodedError::new(error.code(), error.to_string()))?;
    let quic = ClientQuic::new(&tls, Role::Edge, config.engine.congestion_controller)
        .map_err(|error| CodedError::new(error.code(), error.to_string()))?;
    let keys = Keys {
        proof: ProofKeys::derive(&config.secret),
        tls,
        quic,
    };
    let settings = Settings {
        ends: ENDS,
        host: config.hub_host.as_str().to_owned(),
        port: config.hub_port,
        mode: config.transport_mode,
        id: config.edge_id.clone(),
        instance: InstanceId(remoteingress_os::random::bytes()),
        replaces_instance: config.replace_instance,
        resume_timeout: config.engine.resume_timeout,
        version: crate::version::VERSION,
    };
    Ok(Uplink::new(settings, keys, config.engine.workers, reports))
}
