//! A hub and an edge with a tunnel between them, through a relay where a test wants to disturb it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::dial_proxy::{Doing, TestProxy};
use super::path::Path;
use super::ports::free_port;
use super::process::Process;
use super::proxy_header::Proxy;
use super::relay::Relay;
use super::transport::{Transport, hub_dials};
use super::udp_oracle::UdpProxy;
use super::udp_relay::UdpRelay;
use super::{SOON, new_directory, new_secret, until};

/// A change of the path before the edge dials.
type Disturb = Box<dyn FnOnce(&Path)>;

/// Describes a tunnel before it is started.
pub(crate) struct TunnelBuilder {
    transport: Transport,
    hub: Value,
    edge: Value,
    listen_ports: Vec<Value>,
    listen_ports_udp: Vec<Value>,
    is_relayed: bool,
    disturb: Option<Disturb>,
    is_pinned: bool,
    is_called: bool,
    has_default_limits: bool,
    /// As in `dial`.
    route: Value,
    has_proxy: bool,
    environment: Vec<(&'static str, &'static str)>,
}

/// A running tunnel.
pub(crate) struct Tunnel {
    pub(crate) hub: Process,
    pub(crate) edge: Process,
    path: Option<Path>,
    proxy: Option<TestProxy>,
    tunnel_port: u16,
    hub_config: Value,
    edge_config: Value,
    entry: Value,
}

impl TunnelBuilder {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            hub: json!({
                "tunnelPort": 0, "bindAddress": "127.0.0.1", "workers": 2,
                "limits": {
                    "maxPreAuthPerIp": 0, "handshakesPerIpPerSec": 0, "handshakesPerIpBurst": 0,
                    "maxAuthFailuresPerIp": 0,
                },
            }),
            edge: json!({
                "bindAddress": "127.0.0.1", "workers": 2, "stunServers": [],
                "limits": {
                    "maxConnectionsPerIp": 0, "newConnectionsPerIpPerSec": 0, "newConnectionsPerIpBurst": 0,
                    "maxUdpFlowsPerIp": 0,
                },
            }),
            listen_ports: Vec::new(),
            listen_ports_udp: Vec::new(),
            is_relayed: false,
            disturb: None,
            is_pinned: false,
            is_called: hub_dials(),
            has_default_limits: false,
            route: json!({}),
            has_proxy: false,
            environment: Vec::new(),
        }
    }

    /// Fields to add to the hub's configuration or to change in it.
    pub(crate) fn hub(mut self, fields: Value) -> Self {
        merge(&mut self.hub, fields);
        self
    }

    /// Fields to add to the edge's configuration or to change in it.
    pub(crate) fn edge(mut self, fields: Value) -> Self {
        merge(&mut self.edge, fields);
        self
    }

    /// The same for the end that is dialled, whose tunnel port strangers can reach.
    pub(crate) fn dialled(self, fields: Value) -> Self {
        if self.is_called {
            self.edge(fields)
        } else {
            self.hub(fields)
        }
    }

    /// The product's own limits, in place of those that let a test do what it likes.
    pub(crate) fn default_limits(mut self) -> Self {
        for end in [&mut self.hub, &mut self.edge] {
            end["limits"] = json!({});
        }
        self.has_default_limits = true;
        self
    }

    /// Puts relays for TCP and UDP between edge and hub.
    pub(crate) fn relayed(mut self) -> Self {
        self.is_relayed = true;
        self
    }

    /// The same, disturbed before the edge dials.
    pub(crate) fn relayed_with(mut self, disturb: impl FnOnce(&Path) + 'static) -> Self {
        self.disturb = Some(Box::new(disturb));
        self.relayed()
    }

    /// The hub keeps its key, and the edge checks its pin.
    pub(crate) fn pinned(mut self) -> Self {
        self.is_pinned = true;
        let directory = new_directory("state");
        self.hub(json!({"stateDir": directory.join("hub")}))
    }

    /// The hub dials the edge.
    pub(crate) fn called(mut self) -> Self {
        self.is_called = true;
        self
    }

    /// The way that the end takes which dials: fields of `dial`.
    pub(crate) fn route(mut self, fields: Value) -> Self {
        merge(&mut self.route, fields);
        self
    }

    /// Puts a proxy of the test's own between the ends.
    pub(crate) fn through_test_proxy(mut self) -> Self {
        self.has_proxy = true;
        self
    }

    /// Starts that proxy in front of `peer`.
    async fn start_proxy(&mut self, peer: SocketAddr) -> Option<TestProxy> {
        if !self.has_proxy {
            return None;
        }
        let proxy = TestProxy::start(Doing::Connect(peer)).await;
        self.route["proxy"] = json!(format!("http://{}", proxy.address));
        Some(proxy)
    }

    /// Both ends log all that they can.
    pub(crate) fn traced(mut self) -> Self {
        self.environment.push(("RUST_LOG", "trace"));
        self
    }

    /// A listener on a free port in front of `target`; gives the address clients connect to.
    pub(crate) fn forward(&mut self, proxy: Proxy, target: SocketAddr) -> SocketAddr {
        let port = free_port();
        self.listen_ports.push(json!({
            "port": port, "targetHost": target.ip(), "targetPort": target.port(), "proxyProtocol": proxy.word(),
        }));
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// A UDP listener on a free port in front of `target`; gives the address clients send to.
    pub(crate) fn forward_udp(&mut self, proxy: UdpProxy, target: SocketAddr) -> SocketAddr {
        let port = free_port();
        self.listen_udp(json!({
            "port": port, "targetHost": target.ip(), "targetPort": target.port(), "proxyProtocol": proxy.word(),
        }));
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Any specification of a UDP port.
    pub(crate) fn listen_udp(&mut self, specification: Value) {
        self.listen_ports_udp.push(specification);
    }

    /// Any port specification.
    pub(crate) fn listen(&mut self, specification: Value) {
        self.listen_ports.push(specification);
    }

    /// Starts both ends and waits until the tunnel is up and every port was answered for.
    pub(crate) async fn start(mut self) -> Tunnel {
        if self.is_called {
            return self.start_called().await;
        }
        let hub = Process::management_with("hub", &self.environment).await;
        let started = hub.call("startHub", self.hub.clone()).await;
        let tunnel_port = u16::try_from(started["tunnelPort"].as_u64().unwrap()).unwrap();
        let mut hub_config = self.hub.clone();
        // A hub that is started again is expected where it was.
        hub_config["tunnelPort"] = json!(tunnel_port);
        let secret = new_secret();
        let mut entry = json!({
            "id": EDGE_ID, "secret": secret, "listenPorts": self.listen_ports, "stunIntervalSecs": 0,
        });
        if !self.listen_ports_udp.is_empty() {
            entry["listenPortsUdp"] = json!(self.listen_ports_udp);
        }
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        let hub_address = SocketAddr::from(([127, 0, 0, 1], tunnel_port));
        let path = if self.is_relayed {
            Some(Path::start(self.transport, hub_address).await)
        } else {
            None
        };
        if let Some((path, disturb)) = path.as_ref().zip(self.disturb.take()) {
            disturb(path);
        }
        let dialled = path.as_ref().map_or(hub_address, Path::address);
        let proxy = self.start_proxy(dialled).await;
        let mut edge_config = self.edge;
        let access = if self.is_pinned {
            let wanted =
                json!({"edgeId": EDGE_ID, "hubHost": "127.0.0.1", "hubPort": dialled.port()});
            hub.call("createConnectionToken", wanted).await
        } else {
            json!({"hubHost": "127.0.0.1", "hubPort": dialled.port(), "edgeId": EDGE_ID, "secret": secret})
        };
        merge(&mut edge_config, access);
        merge(
            &mut edge_config,
            json!({"transportMode": self.transport.word()}),
        );
        merge(&mut edge_config, edge_route(&self.route));
        let edge = Process::management_with("edge", &self.environment).await;
        edge.call("startEdge", edge_config.clone()).await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
        hub.wait_event("portsApplied", SOON, |_| true).await;
        Tunnel {
            hub,
            edge,
            path,
            proxy,
            tunnel_port,
            hub_config,
            edge_config,
            entry,
        }
    }

    /// The same where the hub dials.
    async fn start_called(mut self) -> Tunnel {
        let tunnel_port = free_port();
        let edge_address = SocketAddr::from(([127, 0, 0, 1], tunnel_port));
        let path = if self.is_relayed {
            Some(Path::start(self.transport, edge_address).await)
        } else {
            None
        };
        if let Some((path, disturb)) = path.as_ref().zip(self.disturb.take()) {
            disturb(path);
        }
        let dialled = path.as_ref().map_or(edge_address, Path::address);
        let secret = new_secret();
        let proxy = self.start_proxy(dialled).await;
        let mut edge_config = self.edge;
        let access = json!({
            "listenTunnel": {"port": tunnel_port, "bindAddress": "127.0.0.1"}, "edgeId": EDGE_ID, "secret": secret,
        });
        merge(&mut edge_config, access);
        if !self.has_default_limits {
            let limits = edge_config["limits"].as_object_mut().unwrap();
            for name in ENTRANCE_LIMITS {
                limits.entry(name).or_insert(json!(0));
            }
        }
        let edge = Process::management_with("edge", &self.environment).await;
        edge.call("startEdge", edge_config.clone()).await;
        let mut entry = json!({
            "id": EDGE_ID, "secret": secret, "listenPorts": self.listen_ports, "stunIntervalSecs": 0,
            "dial": {
                "host": dialled.ip(), "port": dialled.port(), "transportMode": self.transport.word(),
            },
        });
        merge(&mut entry["dial"], self.route);
        if !self.listen_ports_udp.is_empty() {
            entry["listenPortsUdp"] = json!(self.listen_ports_udp);
        }
        let hub = Process::management_with("hub", &self.environment).await;
        hub.call("startHub", self.hub.clone()).await;
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
        hub.wait_event("portsApplied", SOON, |_| true).await;
        Tunnel {
            hub,
            edge,
            path,
            proxy,
            tunnel_port,
            hub_config: self.hub,
            edge_config,
            entry,
        }
    }
}

impl Tunnel {
    /// The relays between edge and hub.
    pub(crate) fn path(&self) -> &Path {
        self.path.as_ref().expect("built with relayed()")
    }

    /// The relay for TCP.
    pub(crate) fn relay(&self) -> &Relay {
        &self.path().tcp
    }

    /// The relay for UDP.
    pub(crate) fn udp_relay(&self) -> &UdpRelay {
        &self.path().udp
    }

    /// The proxy between the ends.
    pub(crate) fn proxy(&self) -> &TestProxy {
        self.proxy
            .as_ref()
            .expect("built with through_test_proxy()")
    }

    /// The end that is dialled.
    pub(crate) fn dialled(&self) -> &Process {
        if self.edge_config.get("listenTunnel").is_some() {
            &self.edge
        } else {
            &self.hub
        }
    }

    /// Where the end that is dialled listens.
    pub(crate) fn tunnel_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tunnel_port))
    }

    /// With the port that it got.
    pub(crate) fn hub_config(&self) -> Value {
        self.hub_config.clone()
    }

    pub(crate) fn edge_config(&self) -> Value {
        self.edge_config.clone()
    }

    /// The hub's entry of this edge.
    pub(crate) fn entry(&self) -> Value {
        self.entry.clone()
    }

    /// Applies a changed entry.
    pub(crate) async fn update(&self, entry: &Value) -> Value {
        let edges = json!({"edges": [entry]});
        self.hub.call("updateAllowedEdges", edges).await
    }

    /// Starts the hub again, after it was killed, on the same port with the same edges.
    pub(crate) async fn start_hub_again(&mut self) {
        self.hub = Process::management("hub again").await;
        self.hub.call("startHub", self.hub_config.clone()).await;
        let edges = json!({"edges": [self.entry]});
        self.hub.call("updateAllowedEdges", edges).await;
    }

    /// Starts a second hub with the same configuration beside the first, which is given back.
    pub(crate) async fn start_second_hub(&mut self) -> Process {
        let second = Process::management("second hub").await;
        second.call("startHub", self.hub_config.clone()).await;
        let edges = json!({"edges": [self.entry]});
        second.call("updateAllowedEdges", edges).await;
        std::mem::replace(&mut self.hub, second)
    }

    /// Changes the configuration with which the edge is started again.
    pub(crate) fn change_edge(&mut self, fields: Value) {
        merge(&mut self.edge_config, fields);
    }

    /// Starts the edge again, after it was killed.
    pub(crate) async fn start_edge_again(&mut self) {
        self.edge = Process::management("edge again").await;
        self.edge.call("startEdge", self.edge_config.clone()).await;
    }

    /// Starts another edge in the place of the one that leaves it, which is given back.
    pub(crate) async fn succeed_edge(&mut self) -> Process {
        let successor = Process::management("successor").await;
        until(SOON, "a free tunnel port", async || {
            let config = self.edge_config.clone();
            successor.request("startEdge", config).await.ok()
        })
        .await;
        std::mem::replace(&mut self.edge, successor)
    }

    /// Waits until neither end has a stream.
    pub(crate) async fn wait_idle(&self, limit: Duration) {
        let what = "status without active streams";
        self.edge
            .wait_status(limit, what, |status| status["activeStreams"] == 0)
            .await;
        let idle = |status: &Value| {
            let edges = status["connectedEdges"].as_array().unwrap();
            edges.iter().all(|edge| edge["activeStreams"] == 0)
        };
        self.hub.wait_status(limit, what, idle).await;
    }

    /// Waits until as many sessions are live as there are workers.
    pub(crate) async fn wait_sessions(&self) {
        let wanted = self.edge_config["workers"].clone();
        let what = "status with all sessions";
        self.edge
            .wait_status(SOON, what, |status| status["sessions"] == wanted)
            .await;
    }
}

/// Fields of an edge that mean the same as these of `dial`.
pub(crate) fn edge_route(dial: &Value) -> Value {
    let name = |field: &str| match field {
        "host" => "hubHost".to_owned(),
        "port" => "hubPort".to_owned(),
        "proxy" => "hubProxy".to_owned(),
        "proxyPasswordFile" => "hubProxyPasswordFile".to_owned(),
        other => other.to_owned(),
    };
    let fields = dial.as_object().unwrap().iter();
    fields
        .map(|(field, value)| (name(field), value.clone()))
        .collect()
}

/// Puts `fields` into `base`, object by object.
pub(crate) fn merge(base: &mut Value, fields: Value) {
    match (base, fields) {
        (Value::Object(base), Value::Object(fields)) => {
            for (name, field) in fields {
                merge(base.entry(name).or_insert(Value::Null), field);
            }
        }
        (base, fields) => *base = fields,
    }
}

/// Limits of the end that is dialled, which tests do without.
const ENTRANCE_LIMITS: [&str; 4] = [
    "maxPreAuthPerIp",
    "handshakesPerIpPerSec",
    "handshakesPerIpBurst",
    "maxAuthFailuresPerIp",
];

/// The edge of every tunnel here.
pub(crate) const EDGE_ID: &str = "edge-test-01";
