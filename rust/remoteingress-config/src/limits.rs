//! Upper bounds against overload and abuse, all of them fields of one object `limits`; 0 turns one off.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::exempt::Exempt;

/// Upper bound on the number of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
#[cfg_attr(feature = "schema", schemars(inline))]
pub struct Limit(u32);

impl Limit {
    /// No limit.
    pub const OFF: Self = Self(0);

    /// A limit of `count`; 0 is none.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// `None` is no limit.
    pub fn get(self) -> Option<u32> {
        (self.0 != 0).then_some(self.0)
    }

    /// The same as a count for the pure tables.
    pub fn count(self) -> usize {
        self.get().map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        })
    }

    /// True if one more may come when there are `current` already.
    pub fn admits(self, current: usize) -> bool {
        self.get()
            .is_none_or(|limit| u64::from(limit) > current as u64)
    }
}

/// Limits of a hub: what peers may cost it. 0 means no limit, unless the field says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HubLimits {
    /// Connections at the tunnel port that haven't proven a secret yet.
    ///
    /// Unit: connections · Default: 512
    pub max_pre_auth: Limit,
    /// Connections from one client network that haven't proven a secret yet, see
    /// [Shares](operations.md#shares-of-one-address). 0 is no limit.
    ///
    /// Unit: connections · Default: as many as are still free
    pub max_pre_auth_per_ip: Option<Limit>,
    /// New connections per second from one client network, TCP and QUIC together.
    ///
    /// Unit: connections/s · Default: 1,000
    pub handshakes_per_ip_per_sec: Limit,
    /// New connections from one client network that may come at once before `handshakesPerIpPerSec` counts. 0 counts as
    /// 1.
    ///
    /// Unit: connections · Default: 2,000
    pub handshakes_per_ip_burst: Limit,
    /// Time from accepting a connection to its proof. 0 counts as 60.
    ///
    /// Unit: s · Default: 10
    #[serde(rename = "handshakeTimeoutSecs", with = "seconds_or_off")]
    #[cfg_attr(feature = "schema", schemars(with = "u32"))]
    pub handshake_timeout: Option<Duration>,
    /// Wrong proofs from one client network for one edge id within 60 s after which that id is refused from there for
    /// 60 s, doubled each time up to 15 min. Other ids from there and connections that exist aren't touched, and an id
    /// that has proved itself from there may have twelve times as many, see [Wrong
    /// secrets](operations.md#wrong-secrets).
    ///
    /// Unit: proofs · Default: 5
    pub max_auth_failures_per_ip: Limit,
    /// Networks whose addresses the limits `…PerIp` of this object don't count, for instance that of a load balancer in
    /// front of the hub. The limits for all together hold for them, too.
    ///
    /// Default: `[]` · Range: addresses or `address/bits`
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub exempt: Exempt,
    /// Streams of all edges at a time.
    ///
    /// Unit: streams · Default: 65,536
    pub max_streams: Limit,
    /// Streams of one edge at a time.
    ///
    /// Unit: streams · Default: 16,384
    pub max_streams_per_edge: Limit,
    /// Connections to targets that are being made for one edge at a time.
    ///
    /// Unit: connections · Default: 1,024
    pub max_pending_dials_per_edge: Limit,
    /// UDP flows of one edge at a time, each with a socket. Flows of all edges take at most half of the descriptor
    /// limit, and three quarters of the machine's ephemeral ports.
    ///
    /// Unit: flows · Default: 16,384
    pub max_udp_flows_per_edge: Limit,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            // At 64 KiB each they hold at most 32 MiB.
            max_pre_auth: Limit::new(512),
            max_pre_auth_per_ip: None,
            // Many edges may share an address, and all come at once when the hub has restarted.
            handshakes_per_ip_per_sec: RATE_PER_IP,
            handshakes_per_ip_burst: BURST_PER_IP,
            // Absolute, never re-armed.
            handshake_timeout: Some(Duration::from_secs(10)),
            // In `AUTH_FAILURE_WINDOW`.
            max_auth_failures_per_ip: Limit::new(5),
            exempt: Exempt::default(),
            max_streams: Limit::new(65_536),
            // A quarter of all: one edge can't starve the others.
            max_streams_per_edge: Limit::new(16_384),
            // A black hole holds each for the connect timeout.
            max_pending_dials_per_edge: Limit::new(1_024),
            // As many as its streams.
            max_udp_flows_per_edge: Limit::new(16_384),
        }
    }
}

/// Limits of an edge: what clients may cost it. 0 means no limit, unless the field says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeLimits {
    /// TCP clients at a time.
    ///
    /// Unit: clients · Default: 65,536, or 40 % of the descriptor limit where that is less
    #[serde(rename = "maxConnections")]
    pub configured_max_connections: Option<Limit>,
    /// TCP clients of one port at a time.
    ///
    /// Unit: clients · Default: 12,288
    pub max_connections_per_listener: Limit,
    /// TCP clients of one client network at a time, see [Shares](operations.md#shares-of-one-address). 0 is no limit.
    ///
    /// Unit: clients · Default: as many as are still free
    pub max_connections_per_ip: Option<Limit>,
    /// New TCP clients per second of one client network. A load test from one machine meets this limit first.
    ///
    /// Unit: clients/s · Default: 1,000
    pub new_connections_per_ip_per_sec: Limit,
    /// New TCP clients of one client network that may come at once before `newConnectionsPerIpPerSec` counts. 0 counts
    /// as 1.
    ///
    /// Unit: clients · Default: 2,000
    pub new_connections_per_ip_burst: Limit,
    /// Clients that may wait at a time while no session to the hub is live.
    ///
    /// Unit: clients · Default: 1,024
    pub max_held_clients: Limit,
    /// Time for which such a client waits before it is refused. With 0 clients don't wait and are refused at once.
    ///
    /// Unit: s · Default: 5
    #[serde(rename = "holdTimeoutSecs", with = "seconds_or_off")]
    #[cfg_attr(feature = "schema", schemars(with = "u32"))]
    pub hold_timeout: Option<Duration>,
    /// UDP flows of one port at a time. When they are used up, the oldest flow that the target hasn't answered makes
    /// room.
    ///
    /// Unit: flows · Default: 65,536
    pub max_udp_flows_per_listener: Limit,
    /// UDP flows of one client network at a time, see [Shares](operations.md#shares-of-one-address); 0 is no limit. When
    /// they are used up, the oldest of its flows that the target hasn't answered makes room.
    ///
    /// Unit: flows · Default: as many as are still free of 16,384
    pub max_udp_flows_per_ip: Option<Limit>,
    /// Networks whose addresses the limits `…PerIp` of this object don't count, for instance that of a CDN or a load
    /// balancer in front of the edge. The limits for all together hold for them, too.
    ///
    /// Default: `[]` · Range: addresses or `address/bits`
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub exempt: Exempt,
    /// Bytes of answers that a UDP client gets per byte that it has sent, until it sends again after an answer; a
    /// forged source address doesn't send again. QUIC's own value for this is 3.
    ///
    /// Unit: bytes per byte · Default: 0 = off
    pub unvalidated_reply_factor: Limit,
    /// Connections at the tunnel port (`listenTunnel`) that haven't proven the secret yet.
    ///
    /// Unit: connections · Default: 512
    pub max_pre_auth: Limit,
    /// The same from one client network, see [Shares](operations.md#shares-of-one-address). 0 is no limit.
    ///
    /// Unit: connections · Default: as many as are still free
    pub max_pre_auth_per_ip: Option<Limit>,
    /// New connections per second at the tunnel port from one client network, TCP and QUIC together.
    ///
    /// Unit: connections/s · Default: 1,000
    pub handshakes_per_ip_per_sec: Limit,
    /// New connections at the tunnel port from one client network that may come at once before `handshakesPerIpPerSec`
    /// counts. 0 counts as 1.
    ///
    /// Unit: connections · Default: 2,000
    pub handshakes_per_ip_burst: Limit,
    /// Time from accepting a connection at the tunnel port to its proof. 0 counts as 60.
    ///
    /// Unit: s · Default: 10
    #[serde(rename = "handshakeTimeoutSecs", with = "seconds_or_off")]
    #[cfg_attr(feature = "schema", schemars(with = "u32"))]
    pub handshake_timeout: Option<Duration>,
    /// Wrong proofs at the tunnel port from one client network within 60 s after which it is blocked for 60 s, doubled
    /// each time up to 15 min. Connections that exist aren't touched.
    ///
    /// Unit: proofs · Default: 5
    pub max_auth_failures_per_ip: Limit,
}

impl EdgeLimits {
    /// The limit in force when the process may have `descriptors` of them. The default leaves a fifth of them spare and
    /// counts two per connection, so that sessions, ports and a drain never lack one.
    pub fn max_connections(&self, descriptors: u64) -> Limit {
        self.configured_max_connections.unwrap_or_else(|| {
            let affordable = u32::try_from(descriptors / 5 * 2).unwrap_or(u32::MAX);
            Limit::new(affordable.clamp(1, MAX_CONNECTIONS))
        })
    }
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            // As many as the process has descriptors for, see `EdgeLimits::max_connections`.
            configured_max_connections: None,
            // Three quarters of what a hub takes of an edge: other ports keep the rest.
            max_connections_per_listener: Limit::new(12_288),
            max_connections_per_ip: None,
            new_connections_per_ip_per_sec: RATE_PER_IP,
            new_connections_per_ip_burst: BURST_PER_IP,
            max_held_clients: Limit::new(1_024),
            hold_timeout: Some(Duration::from_secs(5)),
            // At less than 1 KiB each, 64 MiB for a listener that is flooded.
            max_udp_flows_per_listener: Limit::new(65_536),
            max_udp_flows_per_ip: None,
            exempt: Exempt::default(),
            // Off: many protocols answer a small question with a large answer (RFC 9000 section 8 has 3).
            unvalidated_reply_factor: Limit::new(0),
            // As at a hub's tunnel port.
            max_pre_auth: Limit::new(512),
            max_pre_auth_per_ip: None,
            handshakes_per_ip_per_sec: RATE_PER_IP,
            handshakes_per_ip_burst: BURST_PER_IP,
            handshake_timeout: Some(Duration::from_secs(10)),
            max_auth_failures_per_ip: Limit::new(5),
        }
    }
}

/// The time over which `maxAuthFailuresPerIp` counts.
pub const AUTH_FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// An office, a mobile network's NAT or a CDN has one address for many users; a machine alone reaches this soon.
const RATE_PER_IP: Limit = Limit::new(1_000);

/// Two seconds' worth: browsers open many at once.
const BURST_PER_IP: Limit = Limit::new(2_000);

/// UDP flows of which a client network may have as many as are still free: as many as a hub lets an edge have.
pub const SHARED_UDP_FLOWS: usize = 16_384;

/// As many streams as a hub takes over all.
const MAX_CONNECTIONS: u32 = 65_536;

mod seconds_or_off {
    use super::{Deserialize, Deserializer, Duration, Serializer, nonzero_seconds};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        u32::deserialize(deserializer).map(nonzero_seconds)
    }

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.map_or(0, |time| time.as_secs()))
    }
}

/// 0 is "off".
pub(super) fn nonzero_seconds(seconds: u32) -> Option<Duration> {
    (seconds != 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decode;

    #[test]
    fn zero_is_off() {
        assert!(Limit::OFF.admits(usize::MAX));
        assert_eq!(Limit::OFF.get(), None);
        let limits: HubLimits =
            decode(&json!({"maxStreams": 0, "handshakeTimeoutSecs": 0})).unwrap();
        assert_eq!(
            (limits.max_streams, limits.handshake_timeout),
            (Limit::OFF, None)
        );
        assert_eq!(limits.max_pre_auth.get(), Some(512));
    }

    #[test]
    fn a_limit_admits_up_to_itself() {
        assert!(Limit::new(2).admits(1));
        assert!(!Limit::new(2).admits(2));
    }

    #[test]
    fn connections_follow_the_descriptors() {
        let limits = EdgeLimits::default();
        for (descriptors, expected) in [
            (0, 1),
            (1_000, 400),
            (1_024, 408),
            (1 << 20, 65_536),
            (u64::MAX, 65_536),
        ] {
            assert_eq!(limits.max_connections(descriptors).get(), Some(expected));
        }
        let limits: EdgeLimits = decode(&json!({"maxConnections": 0})).unwrap();
        assert_eq!(limits.max_connections(1_000), Limit::OFF);
        let limits: EdgeLimits = decode(&json!({"maxConnections": 100_000})).unwrap();
        assert_eq!(limits.max_connections(1_000).get(), Some(100_000));
    }

    #[test]
    fn a_fault_has_its_path() {
        for (value, expected) in [
            (json!({"maxStream": 1}), "maxStream: is not a known field"),
            (
                json!({"maxStreams": -1}),
                "maxStreams: must be a whole number from 0 to 4294967295, not integer `-1`",
            ),
            (
                json!({"handshakeTimeoutSecs": 0.5}),
                "handshakeTimeoutSecs: must be a whole number",
            ),
        ] {
            let error = decode::<HubLimits>(&value).unwrap_err();
            assert!(error.message.starts_with(expected), "{error}");
        }
    }
}
