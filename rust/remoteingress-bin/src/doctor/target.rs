//! The targets of a hub: each is dialled, and one that expects a PROXY header gets one.

mod pools;

pub(crate) use self::pools::{Pools, TargetOfPool};

use super::peer::resolve;
use remoteingress_config::doctor::{Check, CheckName};
use remoteingress_config::{AllowedEdge, HubConfig, PortRange, TcpProxyProtocol};
use remoteingress_core::doctor::target as judge;
use remoteingress_core::doctor::target::Reaction;
use remoteingress_core::hub::upstream::Target;
use remoteingress_os::dial::race;
use remoteingress_os::resolve::TargetResolver;
use remoteingress_os::socket_options::{close_with_fin, tune_stream};
use remoteingress_os::unix;
use remoteingress_proto::token::host::Host;
use remoteingress_proxy_protocol::{Protocol, encode_v1, encode_v2};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Targets that are tried; ranges of ports may have thousands.
const MAX_TARGETS: usize = 100;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A target that doesn't understand a PROXY header usually ends the connection at once.
const REACTION_TIME: Duration = Duration::from_secs(1);
/// Bytes of an answer that are kept, and those after which it has answered enough.
const MAX_ANSWER: usize = 64;

/// A target, and the first edge that has it.
struct Wanted {
    target: Target<TcpProxyProtocol>,
    edge: String,
    /// Pool and id, if it is one of a pool.
    of_pool: Option<String>,
}

/// Tries the first port of each target or range of TCP that these edges have, of a pool each target, and resolves the
/// names of those of UDP.
pub(crate) async fn targets(
    config: &HubConfig,
    edges: &[AllowedEdge],
    pools: &Pools,
) -> Vec<Check> {
    let (wanted, left_out) = wanted(config, edges, pools);
    let resolver = TargetResolver::new(config.allow_special_targets);
    let limit = config.connect_timeout.min(CONNECT_TIMEOUT);
    let mut running = JoinSet::new();
    for (index, wanted) in wanted.into_iter().enumerate() {
        let resolver = resolver.clone();
        running.spawn_local(async move { (index, try_out(&wanted, &resolver, limit).await) });
    }
    let names = udp_names(config, edges, pools);
    let first = running.len();
    for (index, host) in names.into_iter().enumerate() {
        running.spawn_local(async move {
            let check = resolve(&host, 0, None, true).await;
            (first + index, check.into_iter().collect())
        });
    }
    let mut found: Vec<(usize, Vec<Check>)> = running.join_all().await;
    found.sort_by_key(|(index, _)| *index);
    let mut checks: Vec<Check> = found.into_iter().flat_map(|(_, checks)| checks).collect();
    checks.extend(of_pools(config, edges, pools));
    if left_out > 0 {
        let seen = format!("{left_out} more targets weren't tried");
        checks.push(Check::ok(CheckName::Target, seen));
    }
    checks
}

/// What is to be said of the pools that ports name, each once.
fn of_pools(config: &HubConfig, edges: &[AllowedEdge], pools: &Pools) -> Vec<Check> {
    let mut seen = Vec::new();
    let mut checks = Vec::new();
    for edge in edges {
        for pool in edge.tcp.pools().chain(edge.udp.pools()) {
            if seen.len() < MAX_TARGETS && !seen.contains(&&pool.name) {
                seen.push(&pool.name);
                checks.extend(pools.told(config, pool, edge.id.as_str()));
            }
        }
    }
    checks
}

/// The targets to try, each once, and the number of those that are too many.
fn wanted(config: &HubConfig, edges: &[AllowedEdge], pools: &Pools) -> (Vec<Wanted>, usize) {
    let mut all: Vec<Wanted> = Vec::new();
    let mut left_out = 0;
    for edge in edges {
        let ranges = edge.tcp.ranges().iter().chain(edge.tcp.shared());
        for (target, of_pool) in ranges.flat_map(|range| targets_of(config, range, pools)) {
            if all.iter().any(|other| other.target == target) {
                continue;
            }
            if all.len() >= MAX_TARGETS {
                left_out += 1;
                continue;
            }
            all.push(Wanted {
                target,
                edge: edge.id.to_string(),
                of_pool,
            });
        }
    }
    (all, left_out)
}

/// The targets of a range; those of a pool with their names.
fn targets_of(
    config: &HubConfig,
    range: &PortRange<TcpProxyProtocol>,
    pools: &Pools,
) -> Vec<(Target<TcpProxyProtocol>, Option<String>)> {
    let Some(pool) = &range.pool else {
        return vec![(target_of(config, range), None)];
    };
    let target = |target: &TargetOfPool| {
        let of_source = target.proxy_protocol.filter(|_| !pool.says_header);
        let of_pool = format!("{}/{}", pool.name, target.id);
        let target = Target {
            host: target.host.bare().to_owned(),
            port: target.port.unwrap_or(range.first),
            path: None,
            proxy_protocol: of_source.unwrap_or(range.proxy_protocol),
        };
        (target, Some(of_pool))
    };
    pools.of(pool).iter().map(target).collect()
}

fn target_of(config: &HubConfig, range: &PortRange<TcpProxyProtocol>) -> Target<TcpProxyProtocol> {
    let host = range.target_host.as_ref().unwrap_or(&config.target_host);
    Target {
        host: host.bare().to_owned(),
        port: range.target_port,
        path: range.target_path.clone(),
        proxy_protocol: range.proxy_protocol,
    }
}

/// Names of UDP targets. Nothing is sent to those.
fn udp_names(config: &HubConfig, edges: &[AllowedEdge], pools: &Pools) -> Vec<Host> {
    let hosts = |range: &PortRange<_>| -> Vec<Host> {
        match &range.pool {
            Some(pool) => pools.of(pool).iter().map(|one| one.host.clone()).collect(),
            None => vec![
                range
                    .target_host
                    .as_ref()
                    .unwrap_or(&config.target_host)
                    .clone(),
            ],
        }
    };
    let ranges = edges
        .iter()
        .flat_map(|edge| edge.udp.ranges().iter().chain(edge.udp.shared()));
    let mut names: Vec<Host> = Vec::new();
    for host in ranges.flat_map(hosts) {
        if names.len() < MAX_TARGETS && host.address().is_none() && !names.contains(&host) {
            names.push(host);
        }
    }
    names
}

async fn try_out(wanted: &Wanted, resolver: &TargetResolver, limit: Duration) -> Vec<Check> {
    let Wanted {
        target,
        edge,
        of_pool,
    } = wanted;
    let (name, reached) = match of_pool {
        Some(of_pool) => {
            let name = format!("{of_pool} at {}", target.name());
            (name, judge::reached_of_pool as fn(&str, &str, _) -> Check)
        }
        None => (target.name(), judge::reached as _),
    };
    let mut stream = match dial(target, resolver, Instant::now() + limit).await {
        Ok(stream) => stream,
        Err(problem) => return vec![reached(&name, edge, Err(problem))],
    };
    // A connection that was only tried ends in order.
    let _ = close_with_fin(&stream);
    let mut checks = vec![reached(&name, edge, Ok(()))];
    let (version, header) = match target.proxy_protocol {
        TcpProxyProtocol::None => return checks,
        TcpProxyProtocol::V1 => ("v1", header(&stream, TcpProxyProtocol::V1)),
        TcpProxyProtocol::V2 => ("v2", header(&stream, TcpProxyProtocol::V2)),
    };
    let reaction = react(&mut stream, &header).await;
    checks.push(judge::proxy_header(&name, version, &reaction));
    checks
}

async fn dial(
    target: &Target<TcpProxyProtocol>,
    resolver: &TargetResolver,
    deadline: Instant,
) -> Result<TcpStream, String> {
    if let Some(path) = &target.path {
        let connected = unix::connect(path.as_str(), deadline).await;
        return connected.map_err(|error| error.to_string());
    }
    let resolved = resolver.resolve(&target.host, target.port, Instant::now());
    let resolved = timeout_at(deadline, resolved).await;
    let addresses = match resolved {
        Ok(resolved) => resolved.map_err(|error| error.to_string())?,
        Err(_) => return Err("its name wasn't resolved in time".to_owned()),
    };
    let connected = race(&addresses, None, deadline, tune_stream).await;
    connected.map_err(|tried| match tried.last() {
        Some(last) if last.error.kind() == ErrorKind::TimedOut => "it doesn't answer".to_owned(),
        Some(last) => last.error.to_string(),
        None => "it has no address".to_owned(),
    })
}

/// A header that names this program itself as the client.
fn header(stream: &TcpStream, version: TcpProxyProtocol) -> Vec<u8> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (client, listener) = match (stream.local_addr(), stream.peer_addr()) {
        (Ok(client), Ok(listener)) => (client, listener),
        // Unix sockets have no such addresses.
        _ => (nowhere, nowhere),
    };
    let mut out = Vec::new();
    if version == TcpProxyProtocol::V1 {
        encode_v1(client, listener, &mut out);
    } else if let Err(error) = encode_v2(client, listener, Protocol::Stream, &[], &mut out) {
        tracing::error!(%error, "failed to write a PROXY header");
    }
    out
}

async fn react(stream: &mut TcpStream, header: &[u8]) -> Reaction {
    let mut answer = Vec::new();
    if stream.write_all(header).await.is_err() {
        return Reaction::Ended(answer);
    }
    let deadline = Instant::now() + REACTION_TIME;
    let mut chunk = [0; 1_024];
    loop {
        let read = match timeout_at(deadline, stream.read(&mut chunk)).await {
            Err(_) if answer.is_empty() => return Reaction::Kept,
            Err(_) => return Reaction::Answered(answer),
            Ok(Ok(0) | Err(_)) => return Reaction::Ended(answer),
            Ok(Ok(read)) => chunk.get(..read).unwrap_or_default(),
        };
        let room = MAX_ANSWER.saturating_sub(answer.len());
        answer.extend(read.iter().take(room));
    }
}
