//! The state that the hub's threads share. None of it is touched per byte.

use super::edge_keys::EdgeKeys;
use remoteingress_config::events::{EdgeConnected, EdgeDisconnected, Event, PortsApplied};
use remoteingress_config::port_status::PortStatus;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_config::{AllowedEdge, HubConfig};
use remoteingress_core::entrance::guard::Guard;
use remoteingress_core::hub::registry::{Action, Place, Registry};
use remoteingress_core::refusals::Refusals;
use remoteingress_observe::events::Events;
use remoteingress_os::worker::Gauge;
use remoteingress_proto::control::ControlMessage;
use remoteingress_proto::handshake::{HubEpoch, SessionId, Transport};
use remoteingress_proto::mux::budget::BudgetPool;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_tunnel::calling::Callee;
use remoteingress_tunnel::entrance::acceptor::Admitted;
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::tcp_tls::Detached;
use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// One hub of this process.
pub(crate) struct HubState {
    pub(crate) config: HubConfig,
    /// This run of the hub.
    pub(crate) epoch: HubEpoch,
    pub(crate) budget: Arc<BudgetPool>,
    pub(crate) events: Events,
    pub(crate) refusals: Refusals<HubRefusalReason>,
    pub(crate) gauges: Vec<Gauge>,
    pub(crate) workers: OnceLock<Vec<mpsc::UnboundedSender<Command>>>,
    /// Streams of all edges.
    pub(crate) streams: AtomicUsize,
    /// Sockets of UDP flows, of all edges.
    pub(crate) flow_sockets: AtomicUsize,
    pub(crate) max_flow_sockets: usize,
    /// Edges that this hub dials.
    pub(crate) callees: Mutex<HashMap<EdgeId, Arc<Callee>>>,
    /// The keys that they have shown.
    pub(crate) edge_keys: EdgeKeys,
    registry: Mutex<Registry>,
    guard: Mutex<Guard>,
}

impl HubState {
    pub(crate) fn new(
        config: HubConfig,
        epoch: HubEpoch,
        registry: Registry,
        events: Events,
        descriptors: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            budget: config.engine.budget_pool(),
            epoch,
            events,
            refusals: Refusals::default(),
            gauges: Gauge::of_workers(config.engine.workers),
            workers: OnceLock::new(),
            streams: AtomicUsize::new(0),
            flow_sockets: AtomicUsize::new(0),
            // Half of them: sessions and streams never lack one for the sake of datagrams.
            max_flow_sockets: usize::try_from(descriptors / 2).unwrap_or(usize::MAX),
            callees: Mutex::default(),
            edge_keys: EdgeKeys::load(config.state_dir.as_ref()),
            registry: Mutex::new(registry),
            guard: Mutex::new(Guard::new((&config.limits).into(), Instant::now())),
            config,
        })
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits on peers that have proved nothing.
    pub(crate) fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn worker(&self, ordinal: usize) -> Option<&mpsc::UnboundedSender<Command>> {
        self.workers.get()?.get(ordinal)
    }

    /// Takes a connection that was admitted to its worker.
    pub(crate) fn take_in(&self, incoming: Incoming<Detached>) {
        if let Some(worker) = self.worker(incoming.place.worker) {
            // A worker that has ended drops it.
            let _ = worker.send(Command::Connection(Box::new(incoming)));
        }
    }

    /// Changes the registry and carries out what follows, before the next change: events and
    /// commands come in the order of the changes.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Registry) -> (T, Vec<Action>)) -> T {
        let mut registry = self.registry();
        let (result, actions) = change(&mut registry);
        self.act(actions);
        result
    }

    fn act(&self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::SendConfig {
                    worker,
                    session,
                    config,
                } => match ControlMessage::Config(config).encode() {
                    Ok(frames) => self.command(worker, Command::Control { session, frames }),
                    Err(error) => tracing::error!(%error, "failed to encode a configuration"),
                },
                Action::ChangeAllowedEdge {
                    worker,
                    session,
                    entry,
                } => {
                    self.command(worker, Command::ChangeAllowedEdge { session, entry });
                }
                Action::Cut {
                    worker,
                    session,
                    replaced,
                } => self.command(worker, Command::Cut { session, replaced }),
                Action::Connected {
                    edge,
                    address,
                    transport,
                    version,
                    dialled_by,
                } => {
                    self.events.emit(&Event::EdgeConnected(EdgeConnected {
                        edge_id: edge,
                        remote_address: address,
                        transport: transport.into(),
                        version,
                        dialled_by,
                    }));
                }
                Action::Disconnected {
                    edge,
                    address,
                    reason,
                } => {
                    self.events.emit(&Event::EdgeDisconnected(EdgeDisconnected {
                        edge_id: edge,
                        remote_address: address,
                        reason,
                    }));
                }
                Action::UdpLeftOut { edge } => {
                    tracing::warn!(%edge, "the edge's version can't carry UDP: its UDP ports were left out; update the edge");
                }
                Action::ConfigRefused {
                    edge,
                    generation,
                    refusal,
                } => {
                    tracing::error!(%edge, generation, reason = refusal.code.as_str(), error = %refusal.message, "the edge refused its configuration");
                }
                Action::PortsApplied {
                    edge,
                    generation,
                    ports,
                } => {
                    self.events.emit(&Event::PortsApplied(PortsApplied {
                        edge_id: edge,
                        generation,
                        ports: ports.iter().map(PortStatus::from).collect(),
                    }));
                }
            }
        }
    }

    fn command(&self, worker: usize, command: Command) {
        if self
            .worker(worker)
            .is_some_and(|worker| worker.send(command).is_err())
        {
            tracing::error!(worker, "a worker takes no commands");
        }
    }
}

/// An edge's connection that was admitted: on its worker, or [`Detached`] on its way there.
pub(crate) type Incoming<C = Connection> = Admitted<Place, C>;

/// To a worker.
pub(crate) enum Command {
    Connection(Box<Incoming<Detached>>),
    /// Call an edge for one of its sessions, and again whenever that has no connection.
    Call {
        callee: Arc<Callee>,
        ordinal: u16,
        delay: Duration,
    },
    ChangeAllowedEdge {
        session: SessionId,
        entry: Arc<AllowedEdge>,
    },
    Control {
        session: SessionId,
        frames: Vec<Vec<u8>>,
    },
    Cut {
        session: SessionId,
        replaced: bool,
    },
    /// Ask the session's peer for a sign of life.
    Ping {
        session: SessionId,
        answered: oneshot::Sender<()>,
    },
    Status(oneshot::Sender<Vec<SessionStatus>>),
    /// Ask edges to open nothing more here.
    Drain,
    EndStreams,
    /// Give the tunnel port up: connections that need its socket end.
    ReleasePort(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// One session as status counts it.
#[derive(Clone, Debug)]
pub(crate) struct SessionStatus {
    pub(crate) edge: EdgeId,
    pub(crate) active_streams: usize,
    pub(crate) total_streams: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) rtt_ms: Option<f64>,
    pub(crate) transport: Transport,
}
