//! Reaches the peer over QUIC from this worker: all addresses of its name are raced, the first handshake wins.

use crate::transport::error::ConnectionError;
use crate::transport::quic::config::ClientQuic;
use crate::transport::quic::connection::QuicConnection;
use crate::transport::quic::endpoint::QuicEndpoint;
use crate::transport::tls::TlsError;
use quinn_proto::{ConnectionError as QuicError, TransportErrorCode};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_os::dial::{STAGGER, addresses, interleave};
use remoteingress_os::udp::{ReceiveBatch, any_address, any_socket};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use tokio::task::{AbortHandle, JoinSet, spawn_local};
use tokio::time::{Instant, sleep_until};

/// TLS alert of a certificate that the application refuses (RFC 8446 section 6.2): only for a pin.
const ACCESS_DENIED: u8 = 49;
/// TLS alert of a peer that doesn't speak our protocol (RFC 7301 section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A worker's endpoints for connections that it dials, made when they are first needed.
pub struct QuicDialer {
    /// The word for the peer in what an operator reads.
    peer: &'static str,
    /// By the address that they dial from; an unspecified one is any of its family.
    endpoints: RefCell<HashMap<IpAddr, Running>>,
    batch: Rc<RefCell<ReceiveBatch>>,
}

crate::opaque::opaque_debug!(QuicDialer);

/// A peer to be dialled.
#[derive(Clone, Copy)]
pub(crate) struct QuicPeer<'a> {
    /// Checks its key.
    pub(crate) quic: &'a ClientQuic,
    /// Its name or address.
    pub(crate) host: &'a str,
    /// Its port.
    pub(crate) port: u16,
    /// The address to dial from; none: the system's choice.
    pub(crate) source: Option<IpAddr>,
}

/// An endpoint and its task, which ends with it.
struct Running {
    endpoint: Rc<QuicEndpoint>,
    task: AbortHandle,
    /// The address that was dialled last, and this machine's address on the way there.
    route: Cell<Option<(SocketAddr, IpAddr)>>,
}

impl Running {
    /// Goes on from a new socket if the way to the peer begins at another address now: packets from the old one would be
    /// lost, or their answers.
    fn follow_route(&self, peer: &str) {
        let Some((remote, before)) = self.route.get() else {
            return;
        };
        // Without a way to the peer there is nothing to follow yet.
        let Some(now) = local_address(remote).filter(|now| *now != before) else {
            return;
        };
        match self.endpoint.rebind() {
            Ok(()) => {
                tracing::info!(%before, %now, "the route to the {peer} has changed");
                self.route.set(Some((remote, now)));
            }
            Err(error) => tracing::warn!(%error, "failed to follow a change of the route"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl QuicDialer {
    /// None yet.
    pub fn new(peer: &'static str) -> Self {
        Self {
            peer,
            endpoints: RefCell::default(),
            batch: Rc::new(RefCell::new(ReceiveBatch::new())),
        }
    }

    /// Connects to the peer, and there to the worker that `choice` names. The name is resolved anew each time, since it may have moved.
    pub(crate) async fn dial(
        &self,
        peer: QuicPeer<'_>,
        choice: u8,
        deadline: Instant,
    ) -> Result<QuicConnection, CodedError> {
        let QuicPeer {
            host, port, source, ..
        } = peer;
        let unreachable = |message: String| CodedError::new(ErrorCode::HubUnreachable, message);
        let addresses = addresses(host, port, source, deadline)
            .await
            .map_err(|error| CodedError::new(error.code(), error.to_string()))?;
        let mut waiting = interleave(&addresses).into_iter();
        let mut running = JoinSet::new();
        let mut failure = unreachable(format!("failed to connect to {host}: it has no address"));
        let mut next_start = Instant::now();
        let mut is_all = false;
        while !(is_all && running.is_empty()) {
            tokio::select! {
                biased;
                Some(Ok((address, result))) = running.join_next() => match result {
                    Ok(connection) => return Ok(connection),
                    Err(error) => {
                        failure = self.describe(address, &error);
                        next_start = Instant::now();
                    }
                },
                () = sleep_until(next_start), if !is_all => match waiting.next() {
                    Some(address) => {
                        next_start = Instant::now() + STAGGER;
                        match self.connect(peer, address, choice) {
                            Ok(mut connection) => {
                                running.spawn_local(async move {
                                    let result = connection.handshake().await;
                                    (address, result.map(|()| connection))
                                });
                            }
                            Err(error) => {
                                failure = self.describe(address, &error.into());
                                next_start = Instant::now();
                            }
                        }
                    }
                    None => is_all = true,
                },
                () = sleep_until(deadline) => {
                    return Err(unreachable(format!("no answer from {host} over QUIC (UDP port {port})")));
                }
            }
        }
        Err(failure)
    }

    /// Lets connections survive a change of this machine's address. Called every second or so.
    pub fn follow_routes(&self) {
        for running in self.endpoints.borrow().values() {
            running.follow_route(self.peer);
        }
    }

    /// Leaves the UDP ports `wanted` to others; connections live on.
    pub(super) fn vacate(&self, wanted: &[u16]) {
        for running in self.endpoints.borrow().values() {
            match running.endpoint.vacate(wanted) {
                Ok(Some(port)) => tracing::info!(port, "QUIC leaves a port that the hub asks for"),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "QUIC found no other port"),
            }
        }
    }

    fn connect(
        &self,
        peer: QuicPeer<'_>,
        address: SocketAddr,
        choice: u8,
    ) -> io::Result<QuicConnection> {
        let own = peer
            .source
            .unwrap_or_else(|| any_address(address.is_ipv6()));
        let mut endpoints = self.endpoints.borrow_mut();
        if !endpoints.contains_key(&own) {
            // Those of addresses from which nobody is dialled any more.
            endpoints.retain(|own, running| own.is_unspecified() || !running.endpoint.is_idle());
        }
        let running = match endpoints.entry(own) {
            Entry::Occupied(running) => running.into_mut(),
            Entry::Vacant(place) => {
                let endpoint = QuicEndpoint::client(own)?;
                let task =
                    spawn_local(endpoint.clone().run(self.batch.clone(), None)).abort_handle();
                place.insert(Running {
                    endpoint,
                    task,
                    route: Cell::new(None),
                })
            }
        };
        if peer.source.is_none() {
            let route = local_address(address).map(|local| (address, local));
            running.route.set(route);
        }
        QuicConnection::connect(&running.endpoint, peer.quic, address, choice)
    }

    /// Reason why an address didn't work, with the code that the same failure has over TLS.
    fn describe(&self, address: SocketAddr, error: &ConnectionError) -> CodedError {
        let alert = if let ConnectionError::Quic(QuicError::TransportError(error)) = error {
            Some(error.code)
        } else if let ConnectionError::Quic(QuicError::ConnectionClosed(close)) = error {
            Some(close.error_code)
        } else {
            None
        };
        if alert == Some(TransportErrorCode::crypto(ACCESS_DENIED)) {
            let message = format!("QUIC with the {}: {}", self.peer, TlsError::PinMismatch);
            CodedError::new(ErrorCode::HubPinMismatch, message)
        } else if alert == Some(TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL)) {
            let message = format!("{address} doesn't speak remoteingress/1 (ALPN)");
            CodedError::new(ErrorCode::Tls, message)
        } else {
            let message = format!("failed to connect to {address} over QUIC: {error}");
            CodedError::new(ErrorCode::HubUnreachable, message)
        }
    }
}

/// The address that this machine would send from. A connected UDP socket sends nothing by itself.
fn local_address(remote: SocketAddr) -> Option<IpAddr> {
    let socket = any_socket(remote.is_ipv6()).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
