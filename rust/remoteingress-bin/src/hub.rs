//! The hub engine: accepts edges, tells them their ports, and carries their streams to targets.

mod calling;
pub(crate) mod certificate;
mod context;
pub(crate) mod control;
mod edge_keys;
pub(crate) mod enrolment;
mod entrance;
mod flows;
mod pools;
mod repeating;
mod running_tests;
pub(crate) mod self_test;
mod session;
mod state;
mod streams;
mod target;
mod test_stream;
mod warnings;
mod worker;

use crate::access::Access;
use crate::logging;
use crate::tunnel_port::TunnelPort;
use certificate::{Certificate, identity};
use control::HubControl;
use pools::kept::KeptState;
use pools::sources::SourceWatch;
use remoteingress_config::HubConfig;
use remoteingress_config::access_log::End;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_core::hub::flow_sockets::FlowSockets;
use remoteingress_core::hub::registry::Registry;
use remoteingress_observe::events::Events;
use remoteingress_os::process_options::{ephemeral_ports, raise_descriptor_limit};
use remoteingress_os::worker::{Worker, ask_all, drain, stop_all, tell_all};
use remoteingress_proto::handshake::HubEpoch;
use remoteingress_proto::mux::Role;
use remoteingress_tunnel::entrance::quic::{QuicSockets, share};
use remoteingress_tunnel::transport::quic::config::ServerQuic;
use remoteingress_tunnel::transport::tls::ServerTls;
use state::{Command, HubState};
use std::pin::pin;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// A running hub.
pub(crate) struct Hub {
    control: HubControl,
    workers: Vec<Worker<Command>>,
    /// It looks at the files that targets and countries come from.
    sources: SourceWatch,
    /// Of a hub that listens.
    acceptor: Option<Worker<oneshot::Sender<()>>>,
}

impl Hub {
    /// Binds the tunnel port, starts workers and admits edges.
    pub(crate) fn start(mut config: HubConfig, events: Events) -> Result<Self, CodedError> {
        logging::prefer(config.log_format);
        control::warn_of(&config.edges, config.listens);
        let internal = |error: std::io::Error| {
            CodedError::new(ErrorCode::Internal, format!("failed to start: {error}"))
        };
        let access = Access::start(config.access_log.as_ref(), End::Hub)?;
        let descriptors = raise_descriptor_limit().map_err(internal)?;
        let (identity, pin) = identity(&config)?;
        let certificate = Certificate::new(&config, &identity, pin)?;
        let tls = ServerTls::showing(certificate.shown())
            .map_err(|error| CodedError::new(ErrorCode::Tls, format!("TLS: {error}")))?;
        let controller = config.engine.congestion_controller;
        let quic = ServerQuic::new(
            &tls,
            identity.key.secret_der(),
            Role::Hub,
            controller,
            config.engine.keepalive,
        )
        .map_err(|error| CodedError::new(ErrorCode::Tls, format!("QUIC: {error}")))?;
        let workers = config.engine.workers;
        let fields = "tunnelPort or bindAddress";
        let port = if config.listens {
            TunnelPort::bind(config.bind_address, config.tunnel_port, workers, fields)?
        } else {
            TunnelPort::default()
        };
        let tunnel_port = port.number().map_err(internal)?;
        let TunnelPort { listeners, groups } = port;
        let edges = std::mem::take(&mut config.edges);
        let max_streams = config.limits.max_streams_per_edge.get().unwrap_or(0);
        let epoch = HubEpoch(remoteingress_os::random::bytes());
        let mut registry = Registry::new(epoch, config.max_sessions_per_edge, max_streams);
        registry.udp_idle = Some(config.engine.udp_idle_timeout);
        let flow_sockets = FlowSockets::new(descriptors, ephemeral_ports(), workers);
        let mut kept = KeptState::open(&config, false);
        let state = HubState::new(
            config,
            epoch,
            registry,
            events,
            flow_sockets,
            access,
            kept.as_mut().ok().and_then(Option::as_mut),
        );
        if state.access.is_some() {
            state.times.turn_on();
        }
        if !edges.is_empty() {
            state.registry().update(edges);
        }
        let sources = SourceWatch::start(state.clone(), kept).map_err(internal)?;
        let start = |(ordinal, sockets): (usize, QuicSockets)| {
            let state = state.clone();
            Worker::start(&format!("hub-{ordinal}"), move |commands| {
                worker::run(state, ordinal, sockets, commands)
            })
        };
        let count = state.gauges.len();
        let workers = share(groups, count, &quic)
            .into_iter()
            .enumerate()
            .map(start)
            .collect::<Result<Vec<_>, _>>()
            .map_err(internal)?;
        let senders = workers
            .iter()
            .map(|worker| worker.commands.clone())
            .collect();
        // Set once, here.
        let _ = state.workers.set(senders);
        let accept = || {
            let state = state.clone();
            Worker::start("acceptor", move |stop| {
                crate::acceptor::run(state, tls, listeners, HubState::take_in, stop)
            })
        };
        let listens = state.config().listens;
        let acceptor = listens.then(accept).transpose().map_err(internal)?;
        certificate.follow();
        calling::call_all(&state);
        tracing::info!(tunnel_port, workers = count, "hub is up");
        Ok(Self {
            control: HubControl::new(state, tunnel_port, certificate, sources.orders()),
            sources,
            workers,
            acceptor,
        })
    }

    /// What is asked of it, also while it drains.
    pub(crate) fn control(&self) -> &HubControl {
        &self.control
    }

    /// Admits no new streams, waits for the others up to the drain timeout, resets the rest, and ends.
    /// Sessions can be resumed meanwhile, unless `orphaned` resolves: then the tunnel port is a successor's.
    pub(crate) async fn stop(
        self,
        cut: impl Future<Output = ()>,
        orphaned: impl Future<Output = ()>,
    ) {
        let state = self.control.state();
        let mut acceptor: Vec<_> = self.acceptor.into_iter().collect();
        let drain_timeout = state.config().engine.drain_timeout;
        state.registry().draining = true;
        state.tests.end();
        calling::end_all(state);
        self.control.pools().stop();
        tell_all(&self.workers, || Command::Drain);
        let is_idle = || state.streams.load(Ordering::Relaxed) == 0;
        tracing::info!(
            streams = state.streams.load(Ordering::Relaxed),
            drain_timeout_secs = drain_timeout.as_secs(),
            "hub drains"
        );
        let mut drained = pin!(drain(is_idle, drain_timeout, cut));
        let is_orphan = tokio::select! {
            () = &mut drained => false,
            () = orphaned => true,
        };
        if is_orphan {
            stop_all(std::mem::take(&mut acceptor), |done| done).await;
            ask_all(&self.workers, Command::ReleasePort).await;
            drained.await;
        }
        tell_all(&self.workers, || Command::EndStreams);
        stop_all(acceptor, |done| done).await;
        stop_all(self.workers, Command::Stop).await;
        self.sources.stop();
        if let Some(access) = &state.access {
            access.close();
        }
        tracing::info!("hub has stopped");
    }
}
