//! Looks at a peer without beginning a session: its key, the way to it, and if it knows the secret.

use super::quic_dialler::QuicDialer;
use super::reach::Reach;
use crate::FEATURES;
use crate::transport::error::ConnectionError;
use crate::transport::tcp_tls::TcpTls;
use crate::transport::tls::{self, ExportedKey};
use remoteingress_config::error::ErrorCode;
use remoteingress_core::uplink::failure::Failure;
use remoteingress_os::random;
use remoteingress_os::socket_options::{PathSize, path_mss, path_rtt};
use remoteingress_proto::handshake::{
    EdgeHandshake, EdgeProgress, HandshakeError, Hello, InstanceId, MAX_MESSAGE, PROTOCOL_VERSION,
    ProofKeys, Transport,
};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::token::pin::Pin;
use remoteingress_proto::wire::features::Features;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A peer that was reached over TLS on TCP.
pub struct Examined {
    /// The pin of the key that it shows.
    pub pin: Option<Pin>,
    /// The time of a segment to the first hop of TCP, which is a proxy if there is one, and back.
    pub round_trip: Option<Duration>,
    /// The sizes that fit that way.
    pub path: Option<PathSize>,
    connection: TcpTls,
    ekm: ExportedKey,
}

crate::opaque::opaque_debug!(Examined);

/// Connects over TLS on TCP.
///
/// # Errors
/// The peer isn't reached until `deadline`, or its key is another one.
pub async fn over_tcp(reach: &Reach, deadline: Instant) -> Result<Examined, Failure> {
    let (mut tcp, peer) = reach.connect_tcp(deadline).await?;
    let connected = tls::connect(&mut tcp, &reach.tls, deadline).await;
    let mut tls = connected.map_err(|error| {
        Failure::new(
            error.code(),
            format!("TLS with the {}: {error}", reach.peer),
        )
    })?;
    let no_key = || Failure::new(ErrorCode::Internal, "TLS gave no exporter value");
    let ekm = tls.take_exported_key().ok_or_else(no_key)?;
    Ok(Examined {
        pin: tls.peer_pin(),
        round_trip: path_rtt(&tcp).ok(),
        path: path_mss(&tcp).ok(),
        connection: TcpTls::new(tcp, peer, tls),
        ekm,
    })
}

/// Connects over QUIC, and gives the pin of the key that the peer shows.
///
/// # Errors
/// The peer isn't reached until `deadline`, or its key is another one.
pub async fn over_quic(reach: &Reach, deadline: Instant) -> Result<Option<Pin>, Failure> {
    let dialler = QuicDialer::new(reach.peer);
    let connected = reach.connect(Transport::Quic, &dialler, 0, deadline).await;
    let (connection, _) = connected?;
    let pin = connection.peer_pin();
    connection.close().await;
    Ok(pin)
}

impl Examined {
    /// Asks a hub if it accepts this edge's secret, without a session: the Hello requires a feature that no hub has, so
    /// that the hub refuses it with `unsupportedFeature` if the proof was right.
    ///
    /// # Errors
    /// The hub doesn't answer until `deadline`. What it answers is in the inner result.
    pub async fn prove(
        mut self,
        edge: &EdgeId,
        keys: ProofKeys,
        version: &str,
        deadline: Instant,
    ) -> Result<Result<(), HandshakeError>, Failure> {
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            edge_id: edge.clone(),
            instance: InstanceId(random::bytes()),
            session_ordinal: 0,
            required: Features::NEVER,
            optional: FEATURES,
            resume: None,
            initial_credit: 0,
            replaces_instance: false,
            resume_timeout_secs: Some(0),
            sessions_wanted: None,
            version: version.to_owned(),
        };
        let started = EdgeHandshake::new(&hello, keys, &self.ekm, Transport::TcpTls);
        let (handshake, message) = match started {
            Ok(started) => started,
            Err(error) => return Ok(Err(error)),
        };
        let exchange = async {
            self.connection.send(&message).await?;
            let parse = |received: &[u8]| match handshake.handle(received) {
                Ok(EdgeProgress::NeedMore) => Ok(None),
                Ok(EdgeProgress::Welcomed { consumed, .. }) => Ok(Some((Ok(()), consumed))),
                Err(error) => Ok(Some((Err(error), received.len()))),
            };
            self.connection
                .receive::<_, ConnectionError>(MAX_MESSAGE, parse)
                .await
        };
        let failed = |problem: String| Failure::new(ErrorCode::HubUnreachable, problem);
        match timeout_at(deadline, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failed(format!("the hub ended the handshake: {error}"))),
            Err(_) => Err(failed("the hub doesn't answer Hello".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_version_has_the_feature_by_which_a_proof_is_tried() {
        assert!(FEATURES.intersection(Features::NEVER).is_empty());
    }
}
