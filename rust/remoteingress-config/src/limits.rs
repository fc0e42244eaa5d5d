//! Upper bounds against overload and abuse, all of them fields of one object `limits`; 0 turns one off.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// How many of something there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Limit(u32);

impl Limit {
    /// No limit.
    pub const OFF: Self = Self(0);

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

    /// Whether one more may come when there are `current` already.
    pub fn admits(self, current: usize) -> bool {
        self.get()
            .is_none_or(|limit| u64::from(limit) > current as u64)
    }
}

/// What peers may cost a hub. "Before authentication" covers TCP accept to proof.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HubLimits {
    /// Connections before authentication. At 64 KiB each they hold at most 32 MiB.
    pub max_pre_auth: Limit,
    /// The same for one IPv4 address or IPv6 /64: an eighth of all, room for an edge with one session per worker.
    pub max_pre_auth_per_ip: Limit,
    /// Per second and address: a flood of handshakes from one place leaves the CPU to the tunnels.
    pub handshakes_per_ip_per_sec: Limit,
    /// An edge opens one connection per worker at once; several may share an address.
    pub handshakes_per_ip_burst: Limit,
    /// From accept to proof, absolute, never re-armed.
    #[serde(rename = "handshakeTimeoutSecs", deserialize_with = "seconds_or_off")]
    pub handshake_timeout: Option<Duration>,
    /// In [`AUTH_FAILURE_WINDOW`].
    pub max_auth_failures_per_ip: Limit,
    /// Over all edges.
    pub max_streams: Limit,
    /// A quarter of all: one edge can't starve the others.
    pub max_streams_per_edge: Limit,
    /// Targets being dialled for one edge: a black hole holds each for the connect timeout.
    pub max_pending_dials_per_edge: Limit,
    /// UDP flows of one edge, each with a socket: as many as its streams.
    pub max_udp_flows_per_edge: Limit,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            max_pre_auth: Limit::new(512),
            max_pre_auth_per_ip: Limit::new(64),
            handshakes_per_ip_per_sec: Limit::new(20),
            handshakes_per_ip_burst: Limit::new(64),
            handshake_timeout: Some(Duration::from_secs(10)),
            max_auth_failures_per_ip: Limit::new(5),
            max_streams: Limit::new(65_536),
            max_streams_per_edge: Limit::new(16_384),
            max_pending_dials_per_edge: Limit::new(1_024),
            max_udp_flows_per_edge: Limit::new(16_384),
        }
    }
}

/// What clients may cost an edge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeLimits {
    /// Absent: as many as the process has descriptors for, see [`EdgeLimits::max_connections`].
    #[serde(rename = "maxConnections")]
    pub configured_max_connections: Option<Limit>,
    pub max_connections_per_listener: Limit,
    /// For one IPv4 address or IPv6 /64: a large office behind one address still fits.
    pub max_connections_per_ip: Limit,
    pub new_connections_per_ip_per_sec: Limit,
    /// Two seconds' worth: a browser opens many at once.
    pub new_connections_per_ip_burst: Limit,
    /// Clients that wait while no session to the hub is live.
    pub max_held_clients: Limit,
    #[serde(rename = "holdTimeoutSecs", deserialize_with = "seconds_or_off")]
    pub hold_timeout: Option<Duration>,
    /// At less than 1 KiB each, 64 MiB for a listener that is flooded.
    pub max_udp_flows_per_listener: Limit,
    /// For one IPv4 address or IPv6 /64, as with connections.
    pub max_udp_flows_per_ip: Limit,
    /// Bytes of answers per byte from a client that hasn't sent again since it got one (RFC 9000 section 8 has 3). Off:
    /// many protocols answer a small question with a large answer.
    pub unvalidated_reply_factor: Limit,
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
            configured_max_connections: None,
            max_connections_per_listener: Limit::new(8_192),
            max_connections_per_ip: Limit::new(256),
            new_connections_per_ip_per_sec: Limit::new(100),
            new_connections_per_ip_burst: Limit::new(200),
            max_held_clients: Limit::new(1_024),
            hold_timeout: Some(Duration::from_secs(5)),
            max_udp_flows_per_listener: Limit::new(65_536),
            max_udp_flows_per_ip: Limit::new(256),
            unvalidated_reply_factor: Limit::new(0),
        }
    }
}

/// The time over which `maxAuthFailuresPerIp` counts.
pub const AUTH_FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// As many streams as a hub takes over all.
const MAX_CONNECTIONS: u32 = 65_536;

fn seconds_or_off<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    u32::deserialize(deserializer).map(nonzero_seconds)
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
