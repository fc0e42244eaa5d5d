//! From a stream's header to a connected target: which one, how to dial it, what it is told first (D6, D11, D15).

use bytes::Bytes;
use remoteingress_config::target::is_public;
use remoteingress_config::{ClientAddressPolicy, EdgeEntry, HubConfig, PortMap, TcpProxyProtocol};
use remoteingress_os::dial::race;
use remoteingress_os::resolve::{ResolveError, TargetResolver};
use remoteingress_os::socket_options::tune_stream;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::wire::header::StreamHeader;
use remoteingress_proxy_protocol::{Protocol, Tlv, encode_v1, encode_v2};
use std::io::ErrorKind;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Where one stream or flow goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target<P> {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) proxy_protocol: P,
}

impl<P> Target<P> {
    /// As logs and events say it.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Why a stream gets no target.
#[derive(Debug, Error)]
pub(crate) enum TargetError {
    #[error("no target is configured for this listener")]
    UnknownListener,
    #[error("the edge's clientAddressPolicy forbids this client address")]
    ClientRefused,
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{0} refused the connection")]
    Refused(String),
    #[error("failed to connect to {0}: {1}")]
    Unreachable(String, String),
}

impl TargetError {
    pub(crate) fn abort_code(&self) -> AbortCode {
        match self {
            Self::UnknownListener => AbortCode::UnknownListener,
            Self::ClientRefused => AbortCode::ClientRefused,
            Self::Refused(_) => AbortCode::TargetRefused,
            Self::Resolve(_) | Self::Unreachable(..) => AbortCode::TargetUnreachable,
        }
    }
}

/// The target of a listener. Pools come in here: they pick one and are told how the dial went.
pub(crate) fn pick<P: Copy>(
    config: &HubConfig,
    entry: &EdgeEntry,
    ports: &PortMap<P>,
    header: &StreamHeader,
) -> Result<Target<P>, TargetError> {
    if entry.client_address_policy == ClientAddressPolicy::Public && !is_public(header.client.ip())
    {
        return Err(TargetError::ClientRefused);
    }
    let found = ports.target(header.listener_port);
    let (range, port) = found.ok_or(TargetError::UnknownListener)?;
    let host = range.target_host.as_ref().unwrap_or(&config.target_host);
    Ok(Target {
        host: host.bare().to_owned(),
        port,
        proxy_protocol: range.proxy_protocol,
    })
}

/// Connects within the hub's connect timeout.
pub(crate) async fn dial(
    config: &HubConfig,
    resolver: &TargetResolver,
    target: &Target<TcpProxyProtocol>,
) -> Result<TcpStream, TargetError> {
    let deadline = Instant::now() + config.connect_timeout;
    let name = target.name();
    let late = || TargetError::Unreachable(name.clone(), "took too long".to_owned());
    let resolved = resolver.resolve(&target.host, target.port, Instant::now());
    let addresses = tokio::time::timeout_at(deadline, resolved)
        .await
        .map_err(|_| late())??;
    let connected = race(&addresses, deadline, tune_stream).await;
    connected.map_err(|tried| {
        let refused = tried
            .iter()
            .any(|one| one.error.kind() == ErrorKind::ConnectionRefused);
        match tried.into_iter().next_back() {
            _ if refused => TargetError::Refused(name.clone()),
            Some(last) => TargetError::Unreachable(name.clone(), last.error.to_string()),
            None => late(),
        }
    })
}

/// What the target is told before the first byte; empty with `none`.
pub(crate) fn proxy_header(
    target: &Target<TcpProxyProtocol>,
    entry: &EdgeEntry,
    header: &StreamHeader,
) -> Bytes {
    let mut out = Vec::new();
    match target.proxy_protocol {
        TcpProxyProtocol::None => {}
        TcpProxyProtocol::V1 => encode_v1(header.client, header.listener, &mut out),
        TcpProxyProtocol::V2 => return v2_header(Protocol::Stream, entry, header),
    }
    out.into()
}

/// A header of version 2 for a stream or a flow.
pub(crate) fn v2_header(protocol: Protocol, entry: &EdgeEntry, header: &StreamHeader) -> Bytes {
    let mut out = Vec::new();
    let id = remoteingress_os::random::bytes::<16>();
    let tlvs = [Tlv::unique_id(&id), Tlv::edge_id(entry.id.as_str())];
    let (client, listener) = (header.client, header.listener);
    if let Err(error) = encode_v2(client, listener, protocol, &tlvs, &mut out) {
        // Edge ids are shorter than what fits; without TLVs it always fits.
        tracing::error!(%error, "failed to write the PROXY header's TLVs");
        let _ = encode_v2(client, listener, protocol, &[], &mut out);
    }
    out.into()
}
