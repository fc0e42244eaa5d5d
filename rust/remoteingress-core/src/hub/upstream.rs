//! Upstreams, one per listener: each yields the target of a stream or flow (D6, D15). A single target is a pool of one.

use crate::udp_counters::UdpDrop;
use remoteingress_config::target::{TargetPath, is_public};
use remoteingress_config::{AllowedEdge, ClientAddressPolicy, HubConfig, PoolOfPort, PortMap};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::wire::header::StreamHeader;
use std::fmt;

/// All that is known of a stream or flow when its target is picked. First bytes of the stream belong here as soon as
/// targets are picked by them; the target then gets the same bytes, by reference, in its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its source.
    pub header: StreamHeader,
}

/// A host and a port to connect to, or a unix socket. `P` is how it is told of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<P> {
    /// A name or an address, without brackets.
    pub host: String,
    /// The target's own port, which need not be the listener's.
    pub port: u16,
    /// The target is this unix socket instead.
    pub path: Option<TargetPath>,
    /// The PROXY header that it gets.
    pub proxy_protocol: P,
}

impl<P> Target<P> {
    /// As logs and events say it.
    pub fn name(&self) -> String {
        match &self.path {
            Some(path) => path.as_str().to_owned(),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Where a listener leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a, P> {
    /// To this target.
    Target(Target<P>),
    /// To one of a pool. The word is what the port has for the PROXY header.
    Pool(&'a PoolOfPort, P),
}

/// Reason why a stream or flow gets no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTarget {
    /// The listener's port isn't in the edge's configuration.
    UnknownListener,
    /// The edge may not carry clients with such an address.
    ClientRefused,
}

impl NoTarget {
    /// The code with which a stream is refused; its name is the reason.
    pub fn abort_code(self) -> AbortCode {
        match self {
            Self::UnknownListener => AbortCode::UnknownListener,
            Self::ClientRefused => AbortCode::ClientRefused,
        }
    }
}

impl fmt::Display for NoTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownListener => "no target is configured for this listener",
            Self::ClientRefused => "the edge's clientAddressPolicy forbids this client address",
        })
    }
}

impl From<NoTarget> for UdpDrop {
    fn from(none: NoTarget) -> Self {
        match none {
            NoTarget::UnknownListener => Self::UnknownListener,
            NoTarget::ClientRefused => Self::ClientRefused,
        }
    }
}

/// The targets of one edge's listeners for TCP or for UDP.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a, P> {
    /// The hub's own settings, for what the edge's leave open.
    pub config: &'a HubConfig,
    /// The edge as it is configured.
    pub allowed: &'a AllowedEdge,
    /// The edge's ports of the protocol.
    pub ports: &'a PortMap<P>,
}

impl<'a, P: Copy> Upstream<'a, P> {
    /// Where this stream or flow is to go.
    pub fn route(&self, opening: &Opening) -> Result<Route<'a, P>, NoTarget> {
        let Opening { header } = opening;
        if self.allowed.client_address_policy == ClientAddressPolicy::Public
            && !is_public(header.client.ip())
        {
            return Err(NoTarget::ClientRefused);
        }
        let found = self
            .ports
            .target(header.listener_port, header.listener.ip());
        let (range, port) = found.ok_or(NoTarget::UnknownListener)?;
        if let Some(pool) = &range.pool {
            return Ok(Route::Pool(pool, range.proxy_protocol));
        }
        let host = range
            .target_host
            .as_ref()
            .unwrap_or(&self.config.target_host);
        Ok(Route::Target(Target {
            host: host.bare().to_owned(),
            port,
            path: range.target_path.clone(),
            proxy_protocol: range.proxy_protocol,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::{TcpProxyProtocol, parse_hub};
    use remoteingress_proto::wire::header::Protocol;
    use serde_json::{Value, json};
    use std::net::SocketAddr;

    #[test]
    fn a_range_of_ports_goes_to_as_many_ports_of_its_own_target() {
        let config = config(json!({
            "listenPorts": [{
                "port": "8000-8009", "targetHost": "[2001:db8::1]", "targetPort": 9_000,
                "proxyProtocol": "none",
            }],
        }));
        let target = pick(&config, 8_003, "192.0.2.1:1").expect("a target");
        assert_eq!((target.host.as_str(), target.port), ("2001:db8::1", 9_003));
        assert_eq!(target.proxy_protocol, TcpProxyProtocol::None);
        assert_eq!(target.name(), "2001:db8::1:9003");
    }

    #[test]
    fn a_unix_socket_is_named_by_its_path() {
        let config = config(json!({
            "listenPorts": [{ "port": "8000-8009", "targetPath": "/run/app.sock" }],
        }));
        let target = pick(&config, 8_003, "192.0.2.1:1").expect("a target");
        assert_eq!(target.name(), "/run/app.sock");
        assert_eq!(target.proxy_protocol, TcpProxyProtocol::V1);
    }

    #[test]
    fn without_a_target_of_its_own_a_listener_goes_to_the_hubs_target_host() {
        let config = config(json!({ "listenPorts": [443] }));
        let target = pick(&config, 443, "192.0.2.1:1").expect("a target");
        assert_eq!((target.host.as_str(), target.port), ("10.0.0.9", 443));
    }

    #[test]
    fn a_port_on_several_addresses_goes_by_the_one_that_the_client_came_to() {
        let on = |address, target: u16| json!({ "port": 443, "bindAddress": address, "targetPort": target });
        let ports = json!({
            "listenPorts": [on("198.51.100.1", 9_001), on("198.51.100.2", 9_002)],
        });
        let target = pick(&config(ports), 443, "192.0.2.1:1").expect("a target");
        assert_eq!(target.port, 9_001);
        let ports = json!({
            "listenPorts": [on("198.51.100.3", 9_001), on("198.51.100.2", 9_002)],
        });
        let none = pick(&config(ports), 443, "192.0.2.1:1").unwrap_err();
        assert_eq!(none, NoTarget::UnknownListener);
    }

    #[test]
    fn a_port_may_lead_to_a_pool() {
        let port = json!({ "port": "443-444", "pool": "web", "proxyProtocol": "v2" });
        let hub = json!({
            "pools": { "web": {} },
            "edges": [{ "id": "a", "secret": "0123456789abcdef", "listenPorts": [port] }],
        });
        let config = parse_hub(&hub).unwrap();
        let Ok(Route::Pool(pool, header)) = route(&config, 444, "192.0.2.1:1") else {
            panic!("no pool");
        };
        assert_eq!((pool.name.as_str(), header), ("web", TcpProxyProtocol::V2));
    }

    #[test]
    fn a_port_that_isnt_configured_has_no_target() {
        let config = config(json!({ "listenPorts": [443] }));
        let none = pick(&config, 444, "192.0.2.1:1").unwrap_err();
        assert_eq!(none, NoTarget::UnknownListener);
        assert_eq!(none.abort_code().as_str(), "unknownListener");
        assert_eq!(UdpDrop::from(none), UdpDrop::UnknownListener);
    }

    #[test]
    fn a_policy_for_public_clients_refuses_others_whichever_port_they_name() {
        let config = config(json!({ "listenPorts": [443], "clientAddressPolicy": "public" }));
        assert!(pick(&config, 443, "8.8.8.8:1").is_ok());
        for port in [443, 444] {
            let none = pick(&config, port, "127.0.0.1:1").unwrap_err();
            assert_eq!(none, NoTarget::ClientRefused);
            assert_eq!(none.abort_code().as_str(), "clientRefused");
            assert_eq!(UdpDrop::from(none), UdpDrop::ClientRefused);
        }
    }

    fn config(mut edge: Value) -> HubConfig {
        edge["id"] = "a".into();
        edge["secret"] = "0123456789abcdef".into();
        let hub = json!({ "tunnelPort": 0, "targetHost": "10.0.0.9", "edges": [edge] });
        parse_hub(&hub).unwrap()
    }

    fn pick(
        config: &HubConfig,
        listener_port: u16,
        client: &str,
    ) -> Result<Target<TcpProxyProtocol>, NoTarget> {
        match route(config, listener_port, client)? {
            Route::Target(target) => Ok(target),
            Route::Pool(pool, _) => panic!("a pool: {pool:?}"),
        }
    }

    fn route<'a>(
        config: &'a HubConfig,
        listener_port: u16,
        client: &str,
    ) -> Result<Route<'a, TcpProxyProtocol>, NoTarget> {
        let allowed = &config.edges[0];
        let upstream = Upstream {
            config,
            allowed,
            ports: &allowed.tcp,
        };
        upstream.route(&Opening {
            header: StreamHeader {
                protocol: Protocol::Tcp,
                listener_port,
                client: address(client),
                listener: address("198.51.100.1:443"),
            },
        })
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }
}
