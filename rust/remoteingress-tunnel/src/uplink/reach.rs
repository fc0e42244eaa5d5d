//! A peer that is dialled: where it is, how its key is known, and the race of both transports to it.

use super::quic_dialler::{QuicDialer, QuicPeer};
use super::through_proxy;
use crate::transport::connection::Connection;
use crate::transport::quic::config::ClientQuic;
use crate::transport::tcp_tls::TcpTls;
use crate::transport::tls::{self, ClientTls, ExportedKey};
use remoteingress_config::DialRoute;
use remoteingress_config::error::ErrorCode;
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::proxy::Destination;
use remoteingress_core::uplink::race::falls_back;
use remoteingress_os::dial::dial;
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::token::host::Host;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// A peer that is dialled.
pub struct Reach {
    /// The word for it in what an operator reads.
    pub peer: &'static str,
    /// Its name or address.
    pub host: Host,
    /// Its port, for TCP and for UDP.
    pub port: u16,
    /// The way there.
    pub route: DialRoute,
    /// Checks its key over TCP.
    pub tls: ClientTls,
    /// Checks its key over QUIC.
    pub quic: ClientQuic,
}

crate::opaque::opaque_debug!(Reach);

/// A connection whose TLS handshake is over, and the value that only its two ends know.
pub(crate) type Reached = (Connection, ExportedKey);

impl Reach {
    /// A connection over this transport; over QUIC it wants the peer's worker that `choice` names.
    pub(crate) async fn connect(
        &self,
        transport: Transport,
        quic: &QuicDialer,
        choice: u8,
        deadline: Instant,
    ) -> Result<Reached, Failure> {
        let peer = self.peer;
        let (connection, ekm) = match transport {
            Transport::TcpTls => {
                let (mut tcp, address) = self.connect_tcp(deadline).await?;
                let connected = tls::connect(&mut tcp, &self.tls, deadline).await;
                let mut tls = connected.map_err(|error| {
                    Failure::new(error.code(), format!("TLS with the {peer}: {error}"))
                })?;
                let ekm = tls.take_exported_key();
                let connection = TcpTls::new(tcp, address, tls);
                (Connection::TcpTls(Box::new(connection)), ekm)
            }
            Transport::Quic => {
                let peer = QuicPeer {
                    quic: &self.quic,
                    host: self.host.as_str(),
                    port: self.port,
                    source: self.route.source_address,
                };
                let connection = quic.dial(peer, choice, deadline).await?;
                let ekm = connection.exported_key();
                (Connection::Quic(Box::new(connection)), ekm)
            }
        };
        let ekm = ekm.ok_or_else(|| {
            let message = "the TLS connection gave no exporter value";
            Failure::new(ErrorCode::Internal, message)
        })?;
        Ok((connection, ekm))
    }

    /// A connection over TCP alone, through the proxy if there is one, and the address at its other end.
    pub(super) async fn connect_tcp(
        &self,
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let tcp = self.dial_tcp(deadline).await?;
        let address = tcp.peer_addr().map_err(|error| {
            let message = format!(
                "the connection to the {} was lost at once: {error}",
                self.peer
            );
            Failure::new(ErrorCode::HubUnreachable, message)
        })?;
        Ok((tcp, address))
    }

    async fn dial_tcp(&self, deadline: Instant) -> Result<TcpStream, Failure> {
        let source = self.route.source_address;
        if let Some(proxy) = &self.route.proxy {
            let peer = Destination {
                host: self.host.clone(),
                port: self.port,
            };
            return through_proxy::connect(proxy, peer, source, deadline).await;
        }
        dial(self.host.as_str(), self.port, source, deadline)
            .await
            .map_err(|error| Failure::new(error.code(), error.to_string()))
    }

    /// The result of an attempt, unless that takes longer than `limit`.
    pub(crate) async fn in_time<T>(
        &self,
        limit: Duration,
        attempt: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        timeout(limit, attempt).await.unwrap_or_else(|_| {
            let (host, port, secs) = (&self.host, self.port, limit.as_secs());
            let by = match &self.route.proxy {
                Some(proxy) => format!(" through the proxy {proxy}"),
                None => String::new(),
            };
            let message = format!("{host}:{port} didn't finish the handshake within {secs} s{by}");
            Err(Failure::new(ErrorCode::HubUnreachable, message))
        })
    }
}

/// The winner of a race.
pub(crate) enum Raced<T, C> {
    /// QUIC has got through.
    Quic(T),
    /// QUIC hasn't, for the reason given: there is this connection over TLS instead.
    Tls(C, Failure),
}

/// QUIC first; TLS is dialled later, and used if QUIC doesn't get through in time (D13).
pub(crate) async fn race<T, C, F: Future<Output = Result<C, Failure>>>(
    quic: impl Future<Output = Result<T, Failure>>,
    tls_delay: Duration,
    dial_tls: impl Fn() -> F,
) -> Result<Raced<T, C>, Failure> {
    let mut tls = None;
    let failure = {
        let mut quic = pin!(quic);
        // Nobody may wait for what an attempt that isn't polled any more holds, so it ends with this block.
        let mut dialled = pin!(async {
            sleep(tls_delay).await;
            dial_tls().await
        });
        loop {
            tokio::select! {
                biased;
                attempt = &mut quic => match attempt {
                    Err(failure) if falls_back(&failure) => break failure,
                    Err(failure) => return Err(failure),
                    Ok(attempt) => return Ok(Raced::Quic(attempt)),
                },
                result = &mut dialled, if tls.is_none() => tls = Some(result),
            }
        }
    };
    let connection = match tls {
        Some(result) => result?,
        None => dial_tls().await?,
    };
    Ok(Raced::Tls(connection, failure))
}
