//! The other end of the tunnel, where this one dials it.

use crate::version::VERSION;
use remoteingress_config::doctor::{Check, CheckName};
use remoteingress_config::error::CodedError;
use remoteingress_config::{
    AllowedEdge, DialRoute, EdgeConfig, EngineSettings, HubAccess, HubConfig, TransportMode,
};
use remoteingress_core::doctor::peer as judge;
use remoteingress_core::doctor::peer::Peer;
use remoteingress_core::uplink::failure::Failure;
use remoteingress_os::dial::addresses;
use remoteingress_proto::handshake::{ProofKeys, Transport};
use remoteingress_proto::mux::Role;
use remoteingress_proto::token::host::Host;
use remoteingress_proto::token::pin::Pin;
use remoteingress_tunnel::transport::quic::config::ClientQuic;
use remoteingress_tunnel::transport::tls::{ClientTls, TlsError};
use remoteingress_tunnel::uplink::examine::{Examined, over_quic, over_tcp};
use remoteingress_tunnel::uplink::reach::Reach;
use std::net::IpAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PROOF_TIMEOUT: Duration = Duration::from_secs(3);
/// Edges that are dialled; a hub may have thousands.
const MAX_EDGES: usize = 100;

/// Servers whose names are looked up.
const MAX_STUN_SERVERS: usize = 16;

/// A peer as it is configured.
struct Dialled<'a> {
    word: &'static str,
    host: &'a Host,
    port: u16,
    route: &'a DialRoute,
    asked: TransportMode,
    pins: &'a [Pin],
    verify_hostname: Option<&'a Host>,
    role: Role,
}

/// The hub of an edge that dials, and the other names that an edge needs.
pub(super) async fn hub(config: &EdgeConfig) -> Vec<Check> {
    let HubAccess::Dial {
        host,
        port,
        pins,
        verify_hostname,
        route,
    } = &config.access
    else {
        return stun(config).await;
    };
    let dialled = Dialled {
        word: "hub",
        host,
        port: *port,
        route,
        asked: config.transport_mode,
        pins,
        verify_hostname: verify_hostname.as_ref(),
        role: Role::Edge,
    };
    let (hub, stun) = tokio::join!(look(&dialled, &config.engine, Some(config)), stun(config));
    [hub, stun].concat()
}

async fn prove(config: &EdgeConfig, examined: Examined) -> Check {
    let keys = ProofKeys::derive(&config.secret);
    let deadline = Instant::now() + PROOF_TIMEOUT;
    match examined
        .prove(&config.edge_id, keys, VERSION, deadline)
        .await
    {
        Ok(answer) => judge::proof(answer.as_ref().copied()),
        Err(failure) => Check::warning(
            CheckName::Proof,
            format!("{}: the secret wasn't checked", failure.error),
            "try again; the hub's log says why it ended the connection",
        ),
    }
}

/// Names of servers that tell the public address; the tunnel can do without.
async fn stun(config: &EdgeConfig) -> Vec<Check> {
    let mut running = JoinSet::new();
    for server in config.stun_servers.iter().take(MAX_STUN_SERVERS).cloned() {
        let resolved = async move { resolve(&server.host, server.port, None, false).await };
        running.spawn_local(resolved);
    }
    running.join_all().await.into_iter().flatten().collect()
}

/// The edges that a hub dials.
pub(super) async fn edges(config: &HubConfig) -> Vec<Check> {
    let dialled = config.edges.iter().filter(|edge| edge.dial.is_some());
    let (count, mut running) = (dialled.clone().count(), JoinSet::new());
    for (index, edge) in dialled.take(MAX_EDGES).enumerate() {
        let (edge, engine) = (edge.clone(), config.engine.clone());
        running.spawn_local(async move { (index, look_at_edge(&edge, &engine).await) });
    }
    let mut found = running.join_all().await;
    found.sort_by_key(|(index, _)| *index);
    let mut checks: Vec<Check> = found.into_iter().flat_map(|(_, checks)| checks).collect();
    if count > MAX_EDGES {
        let seen = format!(
            "{} more edges that the hub dials weren't tried",
            count - MAX_EDGES
        );
        checks.push(Check::ok(CheckName::Tcp, seen));
    }
    checks
}

async fn look_at_edge(edge: &AllowedEdge, engine: &EngineSettings) -> Vec<Check> {
    let Some(dial) = &edge.dial else {
        return Vec::new();
    };
    let pins: Vec<Pin> = dial.pin.into_iter().collect();
    let dialled = Dialled {
        word: "edge",
        host: &dial.host,
        port: dial.port,
        route: &dial.route,
        asked: dial.transport_mode,
        pins: &pins,
        verify_hostname: None,
        role: Role::Hub,
    };
    let mut checks = look(&dialled, engine, None).await;
    for check in &mut checks {
        check.seen = format!("{} (edge {})", check.seen, edge.id);
    }
    checks
}

/// Resolves its name, and reaches it over both transports at the same time. `own` is an edge that proves its secret.
async fn look(
    dialled: &Dialled<'_>,
    engine: &EngineSettings,
    own: Option<&EdgeConfig>,
) -> Vec<Check> {
    let Dialled {
        host, port, route, ..
    } = *dialled;
    let mut checks = Vec::new();
    // A proxy resolves the name of the peer itself.
    let (first, first_port) = match &route.proxy {
        Some(proxy) => (&proxy.host, proxy.port),
        None => (host, port),
    };
    checks.extend(resolve(first, first_port, route.source_address, true).await);
    if checks.iter().any(|check| check.advice.is_some()) {
        return checks;
    }
    let reach = match reach_of(dialled, engine) {
        Ok(reach) => reach,
        Err(error) => {
            let seen = format!("{}: {error}", error.code().as_str());
            let advice = "correct verifyHostname, or install the system's root certificates";
            checks.push(Check::failure(CheckName::Pin, seen, advice));
            return checks;
        }
    };
    let place = format!("{host}:{port}");
    let peer = Peer {
        word: dialled.word,
        place: &place,
        mode: route.mode(dialled.asked),
        has_pins: !dialled.pins.is_empty(),
        has_name: dialled.verify_hostname.is_some(),
    };
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let tcp = async {
        let connected = over_tcp(&reach, deadline).await;
        let examined = connected.map_err(|failure| told(failure, peer))?;
        let (pin, round_trip, path) = (examined.pin, examined.round_trip, examined.path);
        let mut more = Vec::new();
        more.extend(round_trip.map(judge::round_trip));
        more.extend(path.map(|path| judge::path_mtu(path.packet, path.segment)));
        if let Some(own) = own {
            more.push(prove(own, examined).await);
        }
        Ok((pin, more))
    };
    let quic = async {
        if route.proxy.is_some() {
            return None;
        }
        let connected = over_quic(&reach, deadline).await;
        Some(connected.map_err(|failure| told(failure, peer)))
    };
    let (tcp, quic) = tokio::join!(tcp, quic);
    checks.push(judge::reach(
        peer,
        Transport::TcpTls,
        tcp.as_ref().map(|_| ()),
    ));
    if let Some(quic) = &quic {
        checks.push(judge::reach(
            peer,
            Transport::Quic,
            quic.as_ref().map(|_| ()),
        ));
    }
    let over_tcp = judge::pin(peer, tcp.as_ref().map(|(pin, _)| *pin));
    let over_quic = || judge::pin(peer, quic.as_ref()?.as_ref().copied());
    checks.extend(over_tcp.or_else(over_quic));
    checks.extend(tcp.into_iter().flat_map(|(_, more)| more));
    checks
}

/// The failure in the words of this end.
fn told(failure: Failure, peer: Peer<'_>) -> CodedError {
    if peer.word == "edge" {
        failure.towards_edge().error
    } else {
        failure.error
    }
}

/// Nothing where the host is an address.
pub(super) async fn resolve(
    host: &Host,
    port: u16,
    source: Option<IpAddr>,
    is_needed: bool,
) -> Option<Check> {
    if host.address().is_some() && source.is_none() {
        return None;
    }
    let found = addresses(host.as_str(), port, source, Instant::now() + LOOKUP_TIMEOUT).await;
    let found = found.map(|found| found.len());
    let found = found.map_err(|error| error.to_string());
    Some(judge::name(host.as_str(), found, is_needed))
}

fn reach_of(dialled: &Dialled<'_>, engine: &EngineSettings) -> Result<Reach, TlsError> {
    let verify = dialled.verify_hostname.map(Host::bare);
    let tls = ClientTls::new(dialled.host.as_str(), dialled.pins, verify)?;
    let (controller, keepalive) = (engine.congestion_controller, engine.keepalive);
    let quic = ClientQuic::new(&tls, dialled.role, controller, keepalive)?;
    Ok(Reach {
        peer: dialled.word,
        host: dialled.host.clone(),
        port: dialled.port,
        route: dialled.route.clone(),
        tls,
        quic,
    })
}
