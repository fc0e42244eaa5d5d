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
use std::io::ErrorKind;
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
}

impl DialError {
    /// The code with which the stream ends; its name is the reason.
    pub(super) fn abort_code(&self) -> AbortCode {
        match self {
            Self::Refused(_) => AbortCode::TargetRefused,
            Self::Resolve(_) | Self::Unreachable(..) => AbortCode::TargetUnreachable,
        }
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
        let target = &self.target;
        let deadline = Instant::now() + config.connect_timeout;
        let name = target.name();
        let late = || DialError::Unreachable(name.clone(), "took too long".to_owned());
        if let Some(path) = &target.path {
            let connected = unix::connect(path.as_str(), deadline).await;
            return connected.map_err(|error| {
                if error.kind() == ErrorKind::ConnectionRefused {
                    DialError::Refused(name.clone())
                } else if error.kind() == ErrorKind::TimedOut {
                    late()
                } else {
                    DialError::Unreachable(name.clone(), error.to_string())
                }
            });
        }
        let resolved = resolver.resolve(&target.host, target.port, Instant::now());
        let addresses = tokio::time::timeout_at(deadline, resolved)
            .await
            .map_err(|_| late())??;
        let connected = race(&addresses, None, deadline, tune_stream).await;
        connected.map_err(|tried| {
            let refused = tried
                .iter()
                .any(|one| one.error.kind() == ErrorKind::ConnectionRefused);
            match tried.into_iter().next_back() {
                _ if refused => DialError::Refused(name.clone()),
                Some(last) => DialError::Unreachable(name.clone(), last.error.to_string()),
                None => late(),
            }
        })
    }

    /// All that the target gets before the stream's next byte: its PROXY header, empty with `none`.
    pub(super) fn prefix(&self, id: impl FnOnce() -> Option<String>) -> Bytes {
        let header = &self.opening.header;
        let mut out = Vec::new();
        match self.target.proxy_protocol {
            TcpProxyProtocol::None => {}
            TcpProxyProtocol::V1 => encode_v1(header.client, header.listener, &mut out),
            TcpProxyProtocol::V2 => {
                return v2_header(Protocol::Stream, &self.allowed, header, id());
            }
        }
        out.into()
    }
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
