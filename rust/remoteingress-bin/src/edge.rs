//! The edge engine: starts its control task and workers, and ends them.

mod bind;
mod clients;
mod command;
mod control;
mod entrance;
mod listener;
mod self_test;
mod state;
mod strangers;
mod streams;
mod udp;
mod warnings;
mod worker;

use crate::access::Access;
use crate::listing::list;
use crate::logging;
use crate::reload::log_reload;
use crate::tunnel_port::TunnelPort;
use command::Command;
use control::Control;
use remoteingress_config::access_log::End;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_config::shown::EdgeConfigShown;
use remoteingress_config::status::EdgeStatus;
use remoteingress_config::streams::{StreamList, StreamsParams};
use remoteingress_config::{EdgeConfig, HubAccess, reload_edge};
use remoteingress_core::uplink::failure::Ends;
use remoteingress_core::uplink::transport_choice::Choice;
use remoteingress_observe::events::Events;
use remoteingress_observe::stream_times::StreamTimes;
use remoteingress_os::process_options::raise_descriptor_limit;
use remoteingress_os::worker::{Gauge, Worker, ask_all, drain, stop_all, tell_all};
use remoteingress_proto::handshake::{InstanceId, ProofKeys};
use remoteingress_proto::mux::Role;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_tunnel::entrance::quic::{QuicSockets, share};
use remoteingress_tunnel::transport::identity::{EDGE_KEY_FILE, Identity};
use remoteingress_tunnel::transport::quic::config::{ClientQuic, ServerQuic};
use remoteingress_tunnel::transport::tls::{ClientTls, ServerTls, TlsError};
use remoteingress_tunnel::uplink::reach::Reach;
use remoteingress_tunnel::uplink::report::Report;
use remoteingress_tunnel::uplink::{Settings, Uplink, Way};
use state::EdgeState;
use std::net::{IpAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;
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
    asked: EdgeControl,
    workers: Vec<Worker<Command>>,
    /// Of an edge whose hub dials.
    acceptor: Option<Worker<oneshot::Sender<()>>>,
    control: JoinHandle<()>,
}

/// An edge as those see it who ask and change it. Clones are the same edge.
#[derive(Clone)]
pub(crate) struct EdgeControl {
    state: Arc<EdgeState>,
    questions: mpsc::Sender<oneshot::Sender<EdgeStatus>>,
    started_at: SystemTime,
}

impl EdgeControl {
    /// The edge's status now; none while it ends.
    pub(crate) async fn status(&self) -> Option<EdgeStatus> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(reply).await.ok()?;
        answer.await.ok()
    }

    /// Opens the access log anew, if there is one.
    pub(crate) fn reopen_log(&self) {
        if let Some(access) = &self.state.access {
            access.reopen();
        }
    }

    /// The streams and flows that are open now.
    pub(crate) async fn streams(&self, params: &StreamsParams) -> StreamList {
        list(self.state.workers(), params, Command::Streams).await
    }

    /// Its own id.
    pub(crate) fn id(&self) -> EdgeId {
        self.state.config().edge_id.clone()
    }

    /// Where the time of its streams goes.
    pub(crate) fn times(&self) -> &StreamTimes {
        &self.state.times
    }

    /// Time of its start.
    pub(crate) fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// A client that comes now can be served. Told without asking a worker: whoever asks needs no token.
    pub(crate) fn is_ready(&self) -> bool {
        !self.state.is_draining() && self.state.hub.can_serve()
    }

    /// Counts a connection of the admin server that was refused.
    pub(crate) fn admin_refusals(&self) -> impl Fn(Option<IpAddr>) + Send + Sync + 'static {
        let clients = self.state.clients.clone();
        let reason = EdgeRefusalReason::AdminConnections;
        move |address| clients.refusals.count_from(reason, address)
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> EdgeConfigShown {
        EdgeConfigShown::from(&*self.state.config())
    }

    /// Puts a configuration that was read again in force, as far as it doesn't need a restart.
    pub(crate) fn reload(&self, config: EdgeConfig) {
        let reloaded = reload_edge(&self.state.config(), config);
        logging::prefer(reloaded.config.log_format);
        log_reload(&reloaded);
        self.state.set_config(reloaded.config);
    }
}

impl Edge {
    /// Starts workers and begins to dial the hub.
    pub(crate) fn start(config: EdgeConfig, events: Events) -> Result<Self, CodedError> {
        logging::prefer(config.log_format);
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let internal = |error: std::io::Error| {
            CodedError::new(ErrorCode::Internal, format!("failed to start: {error}"))
        };
        let access = Access::start(config.access_log.as_ref(), End::Edge)?;
        let descriptors = raise_descriptor_limit().map_err(internal)?;
        let (reports, received) = mpsc::channel(MAX_REPORTS);
        let uplink = uplink(&config, reports)?;
        let listening = listening(&config)?;
        let (entrance, quic) = match listening {
            Some(Listening {
                tls,
                listeners,
                quic,
            }) => (Some((tls, listeners)), quic),
            None => (None, Vec::new()),
        };
        let mut quic = quic.into_iter();
        let count = uplink.gauges().len();
        let state = EdgeState::new(config, uplink, events, descriptors, access);
        let start = |ordinal: usize| {
            let (state, quic) = (state.clone(), quic.next());
            Worker::start(&format!("edge-{ordinal}"), move |commands| {
                worker::run(state, ordinal, quic, commands)
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
        let accept = |(tls, listeners)| {
            let state = state.clone();
            Worker::start("acceptor", move |stop| {
                crate::acceptor::run(state, tls, listeners, EdgeState::take_in, stop)
            })
        };
        let acceptor = entrance.map(accept).transpose().map_err(internal)?;
        let (questions, asked) = mpsc::channel(16);
        let control = Control::new(state.clone());
        let control = tokio::task::spawn_local(control.run(received, asked));
        Ok(Self {
            asked: EdgeControl {
                state,
                questions,
                started_at: SystemTime::now(),
            },
            workers,
            acceptor,
            control,
        })
    }

    /// What is asked of it, also while it drains.
    pub(crate) fn control(&self) -> &EdgeControl {
        &self.asked
    }

    /// Accepts no more, waits for streams up to the drain timeout, resets the rest, and ends. Once `orphaned` resolves, the
    /// port on which a hub calls is a successor's.
    pub(crate) async fn stop(
        self,
        cut: impl Future<Output = ()>,
        orphaned: impl Future<Output = ()>,
    ) {
        let state = &self.asked.state;
        let mut acceptor: Vec<_> = self.acceptor.into_iter().collect();
        let drain_timeout = state.config().engine.drain_timeout;
        state.drain();
        ask_all(&self.workers, Command::Drain).await;
        tell_all(&self.workers, || Command::GoAway);
        let gauges = state.hub.uplink.gauges();
        let is_idle =
            || gauges.iter().all(|gauge| gauge.streams() == 0) && state.clients.held() == 0;
        let streams: usize = gauges.iter().map(Gauge::streams).sum();
        tracing::info!(
            streams,
            drain_timeout_secs = drain_timeout.as_secs(),
            "edge drains"
        );
        let mut drained = pin!(drain(is_idle, drain_timeout, cut));
        let is_orphan = tokio::select! {
            () = &mut drained => false,
            () = orphaned => true,
        };
        if is_orphan && !acceptor.is_empty() {
            stop_all(std::mem::take(&mut acceptor), |done| done).await;
            ask_all(&self.workers, Command::ReleasePort).await;
        }
        if is_orphan {
            drained.await;
        }
        tell_all(&self.workers, || Command::EndStreams);
        stop_all(acceptor, |done| done).await;
        stop_all(self.workers, Command::Stop).await;
        self.control.abort();
        // Cancelled just now.
        let _ = self.control.await;
        if let Some(access) = &state.access {
            access.close();
        }
        tracing::info!("edge has stopped");
    }
}

/// The way to the hub that the configuration names.
fn uplink(config: &EdgeConfig, reports: mpsc::Sender<Report>) -> Result<Arc<Uplink>, CodedError> {
    let way = match &config.access {
        HubAccess::Dial {
            host,
            port,
            pins,
            verify_hostname,
            route,
        } => {
            let coded = |error: TlsError| CodedError::new(error.code(), error.to_string());
            let verify = verify_hostname.as_ref().map(|host| host.bare());
            let tls = ClientTls::new(host.as_str(), pins, verify).map_err(coded)?;
            let controller = config.engine.congestion_controller;
            let keepalive = config.engine.keepalive;
            let quic = ClientQuic::new(&tls, Role::Edge, controller, keepalive).map_err(coded)?;
            Way::Dial(Box::new(Reach {
                peer: ENDS.peer,
                host: host.clone(),
                port: *port,
                route: route.clone(),
                tls,
                quic,
            }))
        }
        HubAccess::Listen { port, .. } => Way::Called { port: *port },
    };
    let mode = config.transport_mode;
    let possible = match &config.access {
        HubAccess::Dial { route, .. } => route.mode(mode),
        HubAccess::Listen { .. } => mode,
    };
    let settings = Settings {
        ends: ENDS,
        mode: possible,
        id: config.edge_id.clone(),
        instance: InstanceId(remoteingress_os::random::bytes()),
        replaces_instance: config.replace_instance,
        resume_timeout: config.engine.resume_timeout,
        keepalive: config.engine.keepalive,
        patience: config.limits.hold_timeout.unwrap_or_default(),
        version: crate::version::VERSION,
    };
    let proof = ProofKeys::derive(&config.secret);
    let workers = config.engine.workers;
    let uplink = Uplink::new(settings, way, proof, workers, reports);
    if possible != mode {
        uplink.choice().send_replace(Choice::through_proxy());
    }
    Ok(uplink)
}

/// The tunnel port of an edge whose hub dials.
struct Listening {
    tls: ServerTls,
    listeners: Vec<TcpListener>,
    quic: Vec<QuicSockets>,
}

/// Opens the tunnel port, if the hub dials.
fn listening(config: &EdgeConfig) -> Result<Option<Listening>, CodedError> {
    let HubAccess::Listen {
        port,
        bind_address,
        state_dir,
    } = &config.access
    else {
        return Ok(None);
    };
    let secret = config.secret.expose().as_bytes();
    let has_lasting_secret = config.secret.withstands_guessing();
    let made = match state_dir {
        Some(directory) => Identity::load_or_create(directory, EDGE_KEY_FILE),
        None if has_lasting_secret => Identity::of_secret(secret),
        None => Identity::in_memory(),
    };
    let identity = made.map_err(|error| CodedError::new(error.code(), error.to_string()))?;
    let failed = |error: TlsError| {
        let message = format!("the edge's certificate and key: {error}");
        CodedError::new(ErrorCode::Tls, message)
    };
    let tls = ServerTls::new(&identity).map_err(failed)?;
    let controller = config.engine.congestion_controller;
    // The secret lasts where the key may not; stateless resets give strangers something to check a guess with.
    let lasting = if has_lasting_secret {
        secret
    } else {
        identity.key.secret_der()
    };
    let keepalive = config.engine.keepalive;
    let quic = ServerQuic::new(&tls, lasting, Role::Edge, controller, keepalive).map_err(failed)?;
    let workers = config.engine.workers;
    let fields = "listenTunnel.port or listenTunnel.bindAddress";
    let TunnelPort { listeners, groups } = TunnelPort::bind(*bind_address, *port, workers, fields)?;
    tracing::info!(port, pin = %identity.pin, "listens for the hub");
    Ok(Some(Listening {
        tls,
        listeners,
        quic: share(groups, workers, &quic),
    }))
}
