//! What the edge's threads share. None of it is touched per byte.

use super::gate::Gate;
use super::udp::StrayDatagram;
use remoteingress_config::error::CodedError;
use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_config::{EdgeConfig, TransportMode};
use remoteingress_core::edge::admission::Admission;
use remoteingress_core::refusals::Refusals;
use remoteingress_core::udp_counters::UdpCounters;
use remoteingress_core::uplink::transport_choice::Choice;
use remoteingress_observe::events::Events;
use remoteingress_os::worker::Gauge;
use remoteingress_proto::control::ControlMessage;
use remoteingress_proto::flow::FlowQuota;
use remoteingress_proto::handshake::{InstanceId, ProofKeys, Transport};
use remoteingress_proto::mux::budget::BudgetPool;
use remoteingress_tunnel::transport::quic::config::ClientQuic;
use remoteingress_tunnel::transport::tls::ClientTls;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};

/// One edge of this process.
pub(crate) struct EdgeState {
    pub(crate) config: EdgeConfig,
    pub(crate) instance: InstanceId,
    pub(crate) keys: ProofKeys,
    pub(crate) tls: ClientTls,
    pub(crate) quic: ClientQuic,
    /// What new sessions are made over.
    pub(crate) choice: watch::Sender<Choice>,
    pub(crate) budget: Arc<BudgetPool>,
    pub(crate) events: Events,
    pub(crate) refusals: Refusals<EdgeRefusalReason>,
    pub(crate) gauges: Vec<Gauge>,
    pub(crate) workers: std::sync::OnceLock<Vec<mpsc::UnboundedSender<Command>>>,
    /// How many workers have a session that takes streams.
    pub(crate) live: watch::Sender<usize>,
    pub(crate) held: AtomicUsize,
    /// Streams that the hub allows this edge; 0 = any number.
    pub(crate) max_streams: AtomicUsize,
    pub(crate) reconnects: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) draining: AtomicBool,
    pub(crate) gate: Gate,
    pub(crate) udp: UdpCounters,
    pub(crate) udp_quota: Arc<FlowQuota>,
    /// By worker: where others give it the datagrams of their clients while they have no session.
    pub(crate) strays: Vec<std::sync::OnceLock<mpsc::Sender<StrayDatagram>>>,
    admission: Mutex<Admission>,
    pub(crate) reports: mpsc::Sender<Report>,
}

impl EdgeState {
    pub(crate) fn new(
        config: EdgeConfig,
        instance: InstanceId,
        tls: ClientTls,
        quic: ClientQuic,
        events: Events,
        descriptors: u64,
        reports: mpsc::Sender<Report>,
    ) -> Arc<Self> {
        Arc::new(Self {
            instance,
            keys: ProofKeys::derive(&config.secret),
            tls,
            quic,
            choice: watch::Sender::new(Choice::first(config.transport_mode)),
            budget: config.engine.budget_pool(),
            events,
            refusals: Refusals::default(),
            gauges: Gauge::of_workers(config.engine.workers),
            workers: std::sync::OnceLock::new(),
            live: watch::Sender::new(0),
            held: AtomicUsize::new(0),
            max_streams: AtomicUsize::new(0),
            reconnects: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            gate: Gate::new(),
            udp: UdpCounters::default(),
            udp_quota: Arc::new(FlowQuota::new(
                config.limits.max_udp_flows_per_listener.count(),
                config.limits.max_udp_flows_per_ip.count(),
            )),
            strays: vec![std::sync::OnceLock::new(); config.engine.workers],
            admission: Mutex::new(Admission::new(config.limits.clone(), descriptors)),
            reports,
            config,
        })
    }

    pub(crate) fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a client in.
    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr, port: u16) -> Option<Ticket> {
        match self.admission().admit(Instant::now(), client, port) {
            Ok(()) => Some(Ticket {
                state: self.clone(),
                client,
                port,
                worker: None,
            }),
            Err(refusal) => {
                self.refusals.count(refusal);
                None
            }
        }
    }

    /// What new sessions are made over now.
    pub(crate) fn transport(&self) -> Transport {
        self.choice.borrow().transport
    }

    /// QUIC doesn't get through: with `quicWithFallback` new streams go over tcpTls.
    pub(crate) fn fall_back(&self, reason: &str) {
        let has_changed = self.config.transport_mode == TransportMode::QuicWithFallback
            && self.choice.send_if_modified(|choice| {
                let changes = choice.transport == Transport::Quic;
                if changes {
                    *choice = Choice::fallback(reason.to_owned());
                }
                changes
            });
        if has_changed {
            tracing::warn!(
                reason,
                "QUIC doesn't get through: new streams go over tcpTls"
            );
        }
    }

    pub(crate) fn worker(&self, ordinal: usize) -> Option<&mpsc::UnboundedSender<Command>> {
        self.workers.get()?.get(ordinal)
    }

    /// Whether the hub allows the stream that was counted last. Its own count decides; this one saves the way there.
    pub(crate) fn may_open(&self) -> bool {
        let most = self.max_streams.load(Ordering::Relaxed);
        most == 0 || self.gauges.iter().map(Gauge::streams).sum::<usize>() <= most
    }

    /// The worker whose session carries control messages: the lowest live one.
    pub(crate) fn lowest_live(&self) -> Option<usize> {
        self.gauges.iter().position(Gauge::is_live)
    }

    /// The live worker with the fewest streams.
    pub(crate) fn least_loaded(&self) -> Option<(usize, usize)> {
        let live = self
            .gauges
            .iter()
            .enumerate()
            .filter(|(_, gauge)| gauge.is_live());
        live.map(|(ordinal, gauge)| (ordinal, gauge.streams()))
            .min_by_key(|(_, streams)| *streams)
    }

    /// A worker's session takes streams now, or doesn't any more.
    pub(crate) fn set_live(&self, ordinal: usize, live: bool) {
        let Some(gauge) = self.gauges.get(ordinal) else {
            return;
        };
        if gauge.live.swap(live, Ordering::Relaxed) != live {
            self.live.send_modify(|count| {
                *count = if live {
                    *count + 1
                } else {
                    count.saturating_sub(1)
                };
            });
        }
    }
}

/// A client that was counted in, and for the worker that it was given to; dropping it counts it out.
pub(crate) struct Ticket {
    state: Arc<EdgeState>,
    client: IpAddr,
    pub(crate) port: u16,
    worker: Option<u16>,
}

impl Ticket {
    /// Counts it for this worker, and no other, before that knows of it: of a burst each gets its share.
    pub(crate) fn place(&mut self, worker: Option<usize>) {
        let worker = worker.and_then(|ordinal| u16::try_from(ordinal).ok());
        if let Some(gauge) = self.gauge() {
            gauge.streams.fetch_sub(1, Ordering::Relaxed);
        }
        self.worker = worker;
        if let Some(gauge) = self.gauge() {
            gauge.streams.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn gauge(&self) -> Option<&Gauge> {
        self.state.gauges.get(usize::from(self.worker?))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.place(None);
        self.state.admission().release(self.client, self.port);
    }
}

/// An accepted client on its way to a worker.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    pub(crate) ticket: Ticket,
    pub(crate) client: SocketAddr,
    /// The address that it connected to.
    pub(crate) listener: SocketAddr,
}

/// A bound listener.
pub(crate) enum ListenerSocket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// To a worker.
pub(crate) enum Command {
    /// Keep a session to the hub from now on.
    Connect,
    AddListener {
        id: remoteingress_core::edge::port_table::ListenerId,
        port: u16,
        listener: ListenerSocket,
    },
    RemoveListener {
        id: remoteingress_core::edge::port_table::ListenerId,
    },
    Client(Client),
    /// Frames of one control message for the hub.
    Control(Vec<Vec<u8>>),
    Status(oneshot::Sender<WorkerStatus>),
    /// Close the listeners, and say when the clients that waited there have been accepted.
    Drain(oneshot::Sender<()>),
    /// Find out whether the hub still knows the sessions.
    Ping,
    /// Open nothing more, and tell the hub so.
    Leave,
    /// Reset what still runs.
    EndStreams,
    /// Say goodbye to the hub and end.
    Stop(oneshot::Sender<()>),
}

/// From a worker or task to the control thread.
pub(crate) enum Report {
    SessionUp {
        hub: SocketAddr,
        transport: Transport,
        resumed: bool,
        max_sessions: u16,
    },
    SessionDown {
        error: CodedError,
    },
    Control {
        ordinal: usize,
        message: ControlMessage,
    },
    PublicAddress(IpAddr),
}

/// A worker's part of the status.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerStatus {
    pub(crate) sessions: usize,
    pub(crate) active_streams: usize,
    pub(crate) total_streams: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) rtt_ms: Option<f64>,
    /// What carries new streams.
    pub(crate) transport: Option<Transport>,
    pub(crate) streams_over_tcp_tls: usize,
    pub(crate) streams_over_quic: usize,
    pub(crate) active_flows: usize,
}
