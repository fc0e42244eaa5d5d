//! Configuration of QUIC at both ends: limits before and after the proof, timers, congestion control, MTU.

use super::probing::ProbingConfig;
use super::steering::WorkerIds;
use crate::transport::tls::{ClientTls, ServerTls, TlsError};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use quinn_proto::congestion::{BbrConfig, CubicConfig};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{CryptoError, HmacKey};
use quinn_proto::{
    ClientConfig, ConnectionId, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, VarInt,
};
use remoteingress_config::CongestionController;
use remoteingress_proto::mux::Role;
use sha2::Sha256;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Bytes that a peer may send on all streams together before it has proved the secret: with those read to find the
/// Hello it stays below 64 KiB (threats A2.2).
const UNPROVED_WINDOW: u32 = 48 * 1_024;
/// The same afterwards. Bytes in order are passed on at once and bounded by our own windows (D9): this bounds those
/// that wait for a lost packet, and with that the rate at 100 ms of round trip to 1.3 Gbit/s.
pub(super) const PROVED_WINDOW: u32 = 16 * 1_024 * 1_024;
/// One stream's part of it: the largest credit (4 MiB, D9) and the headers of its frames.
const STREAM_WINDOW: u32 = 5 * 1_024 * 1_024;
/// At most, and above what the session lets be on its way (32 MiB and newcomers, D3), so that QUIC never refuses a write. It
/// begins small and follows the send limit up.
pub(super) const SEND_WINDOW: u64 = 40 * 1_024 * 1_024;
/// Streams that a peer may open before it has proved the secret (threats A2.2).
const UNPROVED_STREAMS: u32 = 64;
/// Streams that an edge may open from then on; doubled whenever half of them are open.
pub(super) const PROVED_STREAMS: u32 = 1_024;
/// Datagrams that may wait to be read, in bytes: they are read in the turn in which they come.
const DATAGRAM_RECEIVE_BUFFER: usize = 1_024 * 1_024;
/// Bytes of datagrams that QUIC has taken and not sent: later ones wait in our own queue, which drops what is late (D10).
pub(super) const DATAGRAM_SEND_BUFFER: usize = 64 * 1_024;
/// At most: it keeps the mapping of a NAT alive, of which the shortest that are seen for UDP last 30 s (RFC 4787 section
/// 4.3 asks for 120 s), and the connection, whose idle timeout is as long.
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(25);
/// Silence after which a connection and its streams are given up (D3, D13).
const IDLE_TIMEOUT_MS: u32 = 30_000;
/// The largest packet that is tried: an Ethernet frame of 1,500 bytes with IPv6 and UDP headers.
const LARGEST_PACKET: u16 = 1_452;
/// After packets of the size found are lost in a row, 1,200 bytes are sent for this long before larger ones are tried.
const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(60);
/// Time for which a Retry token is good (threats A2.5).
const RETRY_LIFETIME: Duration = Duration::from_secs(15);
/// Handshakes that may wait for a decision, and packets that wait with them (threats A2.2).
const MAX_INCOMING: usize = 1_024;
const INCOMING_BUFFER: u64 = 64 * 1_024;
const INCOMING_BUFFER_TOTAL: u64 = 16 * 1_024 * 1_024;

fn transport(
    role: Role,
    streams: u32,
    controller: CongestionController,
    keepalive: Duration,
) -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(LARGEST_PACKET)
        .black_hole_cooldown(BLACK_HOLE_COOLDOWN);
    config
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(UNPROVED_WINDOW.into())
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .keep_alive_interval(Some(role.asks_after(keepalive.min(LONGEST_KEEP_ALIVE))))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .mtu_discovery_config(Some(mtu));
    match controller {
        CongestionController::Cubic => {
            config.congestion_controller_factory(probing::<CubicConfig>());
        }
        CongestionController::Bbr => {
            config.congestion_controller_factory(probing::<BbrConfig>());
        }
    }
    config
}

fn probing<F: Default>() -> Arc<ProbingConfig<F>> {
    Arc::new(ProbingConfig(Arc::new(F::default())))
}

/// The side of the end that dials.
#[derive(Clone, Debug)]
pub struct ClientQuic {
    config: ClientConfig,
    pub(super) server_name: String,
    pub(super) has_pins: bool,
    pub(super) role: Role,
}

impl ClientQuic {
    /// The same identity check as over TLS, for an end with this role.
    pub fn new(
        tls: &ClientTls,
        role: Role,
        controller: CongestionController,
        keepalive: Duration,
    ) -> Result<Self, TlsError> {
        // An edge opens streams, and may do so right after its Hello; hubs open none.
        let streams = match role {
            Role::Edge => 0,
            Role::Hub => UNPROVED_STREAMS,
        };
        let crypto = QuicClientConfig::try_from(tls.quic_config())
            .map_err(|error| TlsError::Config(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config
            .transport_config(Arc::new(transport(role, streams, controller, keepalive)))
            .token_store(Arc::new(quinn_proto::NoneTokenStore));
        Ok(Self {
            config,
            server_name: tls.server_name(),
            has_pins: tls.has_pins(),
            role,
        })
    }

    /// For one connection, whose first packets say by their connection id which of the peer's workers they want: any
    /// number of consecutive `choice`s are spread evenly over any number of workers.
    pub(super) fn for_worker(&self, choice: u8) -> ClientConfig {
        let mut config = self.config.clone();
        config.initial_dst_cid_provider(Arc::new(move || {
            // As long as RFC 9000 section 7.2 wants at least, and random but for one byte.
            let mut bytes: [u8; 16] = remoteingress_os::random::bytes();
            if let Some(first) = bytes.first_mut() {
                *first = choice;
            }
            ConnectionId::new(&bytes)
        }));
        config
    }
}

/// The side of the end that is dialled, the same for all its workers.
#[derive(Clone)]
pub struct ServerQuic {
    pub(super) config: Arc<ServerConfig>,
    pub(crate) role: Role,
    reset_key: Arc<dyn HmacKey>,
}

impl ServerQuic {
    /// The settings of an end with this role for QUIC. Stateless resets are keyed by `lasting`, which only this end and
    /// its peers know and which the end still has when it is started again. An error if `tls` can't serve QUIC.
    pub fn new(
        tls: &ServerTls,
        lasting: &[u8],
        role: Role,
        controller: CongestionController,
        keepalive: Duration,
    ) -> Result<Self, TlsError> {
        let crypto = QuicServerConfig::try_from(tls.quic_config())
            .map_err(|error| TlsError::Config(error.to_string()))?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        let transport = transport(role, UNPROVED_STREAMS, controller, keepalive);
        config
            .transport_config(Arc::new(transport))
            .migration(true)
            .retry_token_lifetime(RETRY_LIFETIME)
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
        Ok(Self {
            config: Arc::new(config),
            role,
            reset_key: Arc::new(ResetKey::derive(lasting)),
        })
    }

    /// The settings of one worker's endpoint.
    pub(super) fn endpoint_config(&self, ids: WorkerIds) -> EndpointConfig {
        let mut config = EndpointConfig::new(self.reset_key.clone());
        config.cid_generator(move || Box::new(ids));
        config
    }
}

impl std::fmt::Debug for ServerQuic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerQuic").finish_non_exhaustive()
    }
}

/// The endpoints of an end that dials have no peer that could outlive them.
pub(super) fn client_endpoint_config() -> EndpointConfig {
    let key: Zeroizing<[u8; 32]> = Zeroizing::new(remoteingress_os::random::bytes());
    EndpointConfig::new(Arc::new(ResetKey(key)))
}

/// Proves to a peer whose connection this end doesn't know that it was this end's (RFC 9000 section 10.3): derived from
/// what lasts, so that peers hear at once of an end that was restarted.
struct ResetKey(Zeroizing<[u8; 32]>);

impl ResetKey {
    fn derive(lasting: &[u8]) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        // 32 bytes are far below the most that HKDF gives.
        let _ = Hkdf::<Sha256>::new(Some(b"remoteingress v1"), lasting)
            .expand(b"quic stateless reset", key.as_mut());
        Self(key)
    }

    fn mac(&self, data: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_ref()).ok()?;
        mac.update(data);
        Some(mac)
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        if let Some(mac) = self.mac(data) {
            let signature = mac.finalize().into_bytes();
            for (out, byte) in signature_out.iter_mut().zip(signature) {
                *out = byte;
            }
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mac = self.mac(data).ok_or(CryptoError)?;
        mac.verify_slice(signature).map_err(|_| CryptoError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_key_lasts_as_long_as_the_hubs_key() {
        let sign = |key: &[u8]| {
            let mut out = [0; 32];
            ResetKey::derive(key).sign(b"id", &mut out);
            out
        };
        assert_eq!(sign(b"one"), sign(b"one"));
        assert_ne!(sign(b"one"), sign(b"two"));
        let key = ResetKey::derive(b"one");
        assert!(key.verify(b"id", &sign(b"one")).is_ok());
        assert!(key.verify(b"id", &sign(b"two")).is_err());
    }
}
