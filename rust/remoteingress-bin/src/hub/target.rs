//! From a picked target to a connected one: how to dial it, and what it is told first (D11).

use bytes::Bytes;
use remoteingress_config::{AllowedEdge, HubConfig, TcpProxyProtocol};
use remoteingress_core::hub::upstream::{Opening, Target};
use remoteingress_os::dial::race;
use remoteingress_os::resolve::{ResolveError, TargetResolver};
use remoteingress_os::socket_options::tune_stream;
use remoteingress_os::unix;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::wire::header::StreamHeader;
use remoteingress_proxy_protocol::{Protocol, Tlv, encode_v1, encode_v2};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Reason why a target wasn't reached.
#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{0} refused the connection")]
    Refused(String),
    #[error("failed to connect to {0}: {1}")]
    Unreachable(String, String),
    /// This machine or process lacks something, and the target is as good as before.
    #[error("failed to connect to {0}: {1}")]
    Own(String, String),
}

impl DialError {
    /// The code with which the stream ends; its name is the reason.
    pub(super) fn abort_code(&self) -> AbortCode {
        match self {
            Self::Refused(_) => AbortCode::TargetRefused,
            Self::Resolve(_) | Self::Unreachable(..) | Self::Own(..) => {
                AbortCode::TargetUnreachable
            }
        }
    }

    /// True if it says nothing of the target.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own(..))
    }

    fn new(name: String, error: &io::Error) -> Self {
        let is_own = matches!(
            error.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL)
        );
        let kind = error.kind();
        if kind == ErrorKind::ConnectionRefused {
            Self::Refused(name)
        } else if kind == ErrorKind::TimedOut {
            Self::late(name)
        } else if is_own {
            Self::Own(name, error.to_string())
        } else {
            Self::Unreachable(name, error.to_string())
        }
    }

    fn late(name: String) -> Self {
        Self::Unreachable(name, "took too long".to_owned())
    }
}

/// A stream whose target is picked and has yet to be connected.
pub(super) struct Picked {
    pub(super) opening: Opening,
    pub(super) target: Target<TcpProxyProtocol>,
    /// The edge as it was configured when the target was picked.
    pub(super) allowed: Arc<AllowedEdge>,
}

impl Picked {
    /// Connects within the hub's connect timeout.
    pub(super) async fn dial(
        &self,
        config: &HubConfig,
        resolver: &TargetResolver,
    ) -> Result<TcpStream, DialError> {
        let deadline = Instant::now() + config.connect_timeout;
        dial(&self.target, deadline, resolver).await
    }

    /// All that the target gets before the stream's next byte: its PROXY header, empty with `none`.
    pub(super) fn prefix(&self, id: impl FnOnce() -> Option<String>) -> Bytes {
        prefix(
            self.target.proxy_protocol,
            &self.allowed,
            &self.opening.header,
            id,
        )
    }
}

/// All that a target gets before a stream's next byte.
pub(super) fn prefix(
    proxy_protocol: TcpProxyProtocol,
    allowed: &AllowedEdge,
    header: &StreamHeader,
    id: impl FnOnce() -> Option<String>,
) -> Bytes {
    let mut out = Vec::new();
    match proxy_protocol {
        TcpProxyProtocol::None => {}
        TcpProxyProtocol::V1 => encode_v1(header.client, header.listener, &mut out),
        TcpProxyProtocol::V2 => return v2_header(Protocol::Stream, allowed, header, id()),
    }
    out.into()
}

/// Connects to a target, its name looked up, by the deadline.
pub(super) async fn dial(
    target: &Target<TcpProxyProtocol>,
    deadline: Instant,
    resolver: &TargetResolver,
) -> Result<TcpStream, DialError> {
    let name = || target.name();
    if let Some(path) = &target.path {
        let connected = unix::connect(path.as_str(), deadline).await;
        return connected.map_err(|error| DialError::new(name(), &error));
    }
    let resolved = resolver.resolve(&target.host, target.port, Instant::now());
    let addresses = tokio::time::timeout_at(deadline, resolved)
        .await
        .map_err(|_| DialError::late(name()))??;
    let connected = race(&addresses, None, deadline, tune_stream).await;
    connected.map_err(|tried| {
        let refused = tried
            .iter()
            .any(|one| one.error.kind() == ErrorKind::ConnectionRefused);
        match tried.into_iter().next_back() {
            _ if refused => DialError::Refused(name()),
            Some(last) => DialError::new(name(), &last.error),
            None => DialError::late(name()),
        }
    })
}

/// A header of version 2 for a stream or a flow, with its id.
pub(super) fn v2_header(
    protocol: Protocol,
    allowed: &AllowedEdge,
    header: &StreamHeader,
    id: Option<String>,
) -> Bytes {
    let mut out = Vec::new();
    // A session of a hub has its id from the start.
    let id = id.unwrap_or_default();
    let tlvs = [
        Tlv::unique_id(id.as_bytes()),
        Tlv::edge_id(allowed.id.as_str()),
    ];
    let (client, listener) = (header.client, header.listener);
    if let Err(error) = encode_v2(client, listener, protocol, &tlvs, &mut out) {
        // Edge ids are shorter than what fits; without TLVs it always fits.
        tracing::error!(%error, "failed to write the PROXY header's TLVs");
        let _ = encode_v2(client, listener, protocol, &[], &mut out);
    }
    out.into()
}
