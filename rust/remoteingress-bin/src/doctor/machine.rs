//! This machine: files, keys, clock, limits, and the tunnel port.

use super::patient::{Config, ReadFile};
use crate::tunnel_port::TunnelPort;
use remoteingress_config::doctor::{Check, CheckName};
use remoteingress_config::{
    AdminToken, DialRoute, EdgeConfig, EngineSettings, HubAccess, HubConfig, ProxyPassword,
    TlsSource,
};
use remoteingress_core::doctor::machine as judge;
use remoteingress_core::doctor::machine::Holder;
use remoteingress_core::doctor::peer::is_wrong_key;
use remoteingress_os::process_options::{
    effective_group_ids, effective_user_id, first_free_port, may_open_low_ports, may_write,
    raise_descriptor_limit,
};
use remoteingress_os::udp::{Fragments, SOCKET_BUFFER, UdpSocket, any_socket};
use remoteingress_proto::mux::Role;
use remoteingress_proto::token::host::Host;
use remoteingress_proto::token::pin::Pin;
use remoteingress_tunnel::transport::identity::{
    EDGE_KEY_FILE, HUB_KEY_FILE, Identity, IdentityError,
};
use remoteingress_tunnel::transport::quic::config::ClientQuic;
use remoteingress_tunnel::transport::tls::{ClientTls, TlsError};
use remoteingress_tunnel::uplink::examine::over_tcp;
use remoteingress_tunnel::uplink::reach::Reach;
use std::fs::Metadata;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Whoever holds the tunnel port answers within this time, or isn't of this program.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(2);

/// Files with secrets that the configuration names. The key in `stateDir` has a check of its own.
pub(super) fn named_files(config: &Config) -> Vec<ReadFile> {
    let (admin, routes): (_, Vec<&DialRoute>) = match config {
        Config::Hub(config) => {
            let dials = config.edges.iter().filter_map(|edge| edge.dial.as_ref());
            (&config.admin, dials.map(|dial| &dial.route).collect())
        }
        Config::Edge(config) => match &config.access {
            HubAccess::Dial { route, .. } => (&config.admin, vec![route]),
            HubAccess::Listen { .. } => (&config.admin, Vec::new()),
        },
    };
    let token = admin.as_ref().and_then(|admin| match &admin.token {
        Some(AdminToken::File(path)) => Some(path.clone()),
        Some(AdminToken::Given(_)) | None => None,
    });
    let passwords = routes.into_iter().filter_map(|route| {
        match &route.proxy.as_ref()?.login.as_ref()?.password {
            ProxyPassword::File(path) => Some(path.clone()),
            ProxyPassword::Given(_) => None,
        }
    });
    let mut paths: Vec<PathBuf> = token.into_iter().chain(passwords).collect();
    paths.sort();
    paths.dedup();
    let file = |path| ReadFile {
        path,
        holds_secret: true,
    };
    paths.into_iter().map(file).collect()
}

/// The modes of the files that hold secrets.
pub(super) fn files(files: &[ReadFile]) -> Vec<Check> {
    let secret = files.iter().filter(|file| file.holds_secret);
    let check = |file: &ReadFile| {
        let path = file.path.display().to_string();
        match std::fs::metadata(&file.path) {
            Ok(found) => judge::file_mode(&path, found.mode(), is_of_own_group(&found)),
            Err(error) => Check::failure(
                CheckName::FileMode,
                format!("{path}: {error}"),
                "create the file, or correct its path",
            ),
        }
    };
    secret.map(check).collect()
}

/// Clock, limits and keys.
pub(super) fn machine(config: &Config, files: &[ReadFile]) -> Vec<Check> {
    let mut checks = vec![clock(config, files)];
    checks.push(match raise_descriptor_limit() {
        Ok(limit) => match config {
            Config::Hub(config) => judge::hub_descriptors(limit, &config.limits),
            Config::Edge(config) => judge::edge_descriptors(limit, &config.limits),
        },
        Err(error) => Check::failure(
            CheckName::Descriptors,
            format!("the soft limit can't be raised to the hard one: {error}"),
            "lower the hard limit to at most fs.nr_open, or raise that",
        ),
    });
    checks.push(buffers());
    if let Config::Edge(config) = config {
        let (first, is_capable) = (first_free_port(), may_open_low_ports());
        checks.push(judge::low_ports(first, is_capable, &config.allowed_ports));
    }
    checks.extend(key_file(config));
    checks
}

fn clock(config: &Config, files: &[ReadFile]) -> Check {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = |file: &ReadFile| {
        let time = std::fs::metadata(&file.path).ok()?.modified().ok()?;
        Some((file.path.display().to_string(), seconds(time).as_secs()))
    };
    let youngest = files.iter().filter_map(changed);
    let youngest = youngest.max_by_key(|(_, changed)| *changed);
    let by_date = match config {
        Config::Edge(config) => match &config.access {
            HubAccess::Dial {
                verify_hostname, ..
            } => verify_hostname.is_some(),
            HubAccess::Listen { .. } => false,
        },
        Config::Hub(_) => false,
    };
    let youngest = youngest.as_ref();
    let youngest = youngest.map(|(path, changed)| (path.as_str(), *changed));
    judge::clock(seconds(SystemTime::now()).as_secs(), youngest, by_date)
}

fn buffers() -> Check {
    let granted = any_socket(false)
        .and_then(|socket| UdpSocket::new(socket, Fragments::Forbidden))
        .and_then(|socket| socket.with_large_buffers().buffers());
    match granted {
        Ok((receive, send)) => judge::socket_buffers(SOCKET_BUFFER, receive, send),
        Err(error) => Check::failure(
            CheckName::SocketBuffers,
            format!("no UDP socket can be made: {error}"),
            "let this process make UDP sockets over IPv4",
        ),
    }
}

fn key_file(config: &Config) -> Option<Check> {
    let name = CheckName::KeyFile;
    match config {
        Config::Hub(config) => match (&config.tls, &config.state_dir) {
            (Some(tls), _) => Some(match own_identity(&tls.source) {
                Ok(_) => {
                    let seen = "certificate and key in tls fit each other";
                    match &tls.source {
                        TlsSource::Files { key, .. } => readable(key, seen),
                        TlsSource::Pem { .. } => Check::ok(name, seen),
                    }
                }
                Err(error) => unusable(&error),
            }),
            (None, Some(directory)) => Some(kept_key(directory, HUB_KEY_FILE)),
            (None, None) => Some(Check::warning(
                name,
                "the hub's key lives in memory: it is another one after each start, and tokens carry no pin",
                "set stateDir",
            )),
        },
        Config::Edge(config) => match &config.access {
            HubAccess::Listen {
                state_dir: Some(directory),
                ..
            } => Some(kept_key(directory, EDGE_KEY_FILE)),
            HubAccess::Listen { .. } | HubAccess::Dial { .. } => None,
        },
    }
}

/// A file of root's that the group of a service may read, as its configuration is: seen by the service, or by root.
fn is_of_own_group(found: &Metadata) -> bool {
    let groups = effective_group_ids().unwrap_or_default();
    match effective_user_id() {
        0 => found.gid() != 0,
        own => found.uid() != own && groups.contains(&found.gid()),
    }
}

/// The mode of a key of the user's own.
fn readable(key: &Path, seen: &str) -> Check {
    let path = key.display().to_string();
    let found = std::fs::metadata(key).ok();
    let mode = found.as_ref().map_or(0, MetadataExt::mode);
    let is_of_own_group = found.as_ref().is_some_and(is_of_own_group);
    let Check {
        state,
        advice,
        seen: of_mode,
        ..
    } = judge::file_mode(&path, mode, is_of_own_group);
    Check {
        name: CheckName::KeyFile,
        state,
        seen: format!("{seen}; {of_mode}"),
        advice,
    }
}

/// A key that this program makes itself.
fn kept_key(directory: &Path, file: &str) -> Check {
    let name = CheckName::KeyFile;
    let path = directory.join(file).display().to_string();
    match Identity::load(directory, file) {
        Ok(Some((identity, readers))) => {
            let seen = format!("{path} holds a key; its pin is {}", identity.pin);
            match readers {
                None => Check::ok(name, seen),
                Some(readers) => Check::warning(
                    name,
                    format!("{seen}, and it can be read by {readers}"),
                    format!(
                        "let only its owner read it, unless that is meant so: chmod 600 {path}"
                    ),
                ),
            }
        }
        Ok(None) => {
            let existing = directory.ancestors().find(|folder| folder.exists());
            // That of a relative path without a folder is empty.
            let existing = existing.unwrap_or_else(|| Path::new("."));
            if may_write(existing) {
                return Check::ok(name, format!("there is no {path} yet; the start makes it"));
            }
            Check::failure(
                name,
                format!(
                    "there is no {path} yet, and this user may not write to {}",
                    existing.display()
                ),
                "make stateDir, and give it to the user that runs this program",
            )
        }
        Err(error) => unusable(&error),
    }
}

fn unusable(error: &IdentityError) -> Check {
    Check::failure(
        CheckName::KeyFile,
        format!("{}: {error}", error.code().as_str()),
        "correct the owner or the mode that the message names, or the file",
    )
}

fn own_identity(source: &TlsSource) -> Result<Identity, IdentityError> {
    match source {
        TlsSource::Pem { cert, key } => Identity::from_pem(cert, key.expose()),
        TlsSource::Files { cert, key } => Identity::from_files(cert, key),
    }
}

/// The tunnel port of a hub, if it has one.
pub(super) async fn hub_port(config: &HubConfig) -> Vec<Check> {
    if !config.listens {
        return Vec::new();
    }
    let key = match (&config.tls, &config.state_dir) {
        (Some(tls), _) => own_identity(&tls.source).ok().map(|identity| identity.pin),
        (None, Some(directory)) => kept_pin(directory, HUB_KEY_FILE),
        (None, None) => None,
    };
    let port = config.tunnel_port;
    vec![tunnel_port(config.bind_address, port, key, &config.engine, "hub").await]
}

/// The tunnel port of an edge, if its hub dials.
pub(super) async fn edge_port(config: &EdgeConfig) -> Vec<Check> {
    let HubAccess::Listen {
        port,
        bind_address,
        state_dir,
    } = &config.access
    else {
        return Vec::new();
    };
    let key = match state_dir {
        Some(directory) => kept_pin(directory, EDGE_KEY_FILE),
        None if config.secret.withstands_guessing() => {
            let made = Identity::of_secret(config.secret.expose().as_bytes());
            made.ok().map(|identity| identity.pin)
        }
        None => None,
    };
    vec![tunnel_port(*bind_address, *port, key, &config.engine, "edge").await]
}

fn kept_pin(directory: &Path, file: &str) -> Option<Pin> {
    let (identity, _) = Identity::load(directory, file).ok()??;
    Some(identity.pin)
}

async fn tunnel_port(
    address: Option<IpAddr>,
    port: u16,
    key: Option<Pin>,
    engine: &EngineSettings,
    own: &str,
) -> Check {
    // Bound only for this moment.
    let bound = TunnelPort::bind(address, port, 1, "port").map(drop);
    let holder = match &bound {
        Ok(()) => Holder::Unknown,
        Err(_) => holder(address, port, key, engine).await,
    };
    judge::tunnel_port(port, bound.as_ref().copied(), holder, own)
}

/// Calls whoever listens there.
async fn holder(
    address: Option<IpAddr>,
    port: u16,
    key: Option<Pin>,
    engine: &EngineSettings,
) -> Holder {
    let address = match address {
        Some(IpAddr::V6(address)) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        Some(address) if !address.is_unspecified() => address,
        Some(_) | None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let pins: Vec<Pin> = key.into_iter().collect();
    let Ok(reach) = reach_of(address, port, &pins, engine) else {
        return Holder::Unknown;
    };
    match over_tcp(&reach, Instant::now() + HOLDER_TIMEOUT).await {
        Ok(_) if pins.is_empty() => Holder::MaybeOwn,
        Ok(_) => Holder::Own,
        Err(failure) if is_wrong_key(&failure.error) => Holder::Other,
        Err(_) => Holder::Unknown,
    }
}

fn reach_of(
    address: IpAddr,
    port: u16,
    pins: &[Pin],
    engine: &EngineSettings,
) -> Result<Reach, TlsError> {
    let host = address.to_string();
    let tls = ClientTls::new(&host, pins, None)?;
    let quic = ClientQuic::new(
        &tls,
        Role::Edge,
        engine.congestion_controller,
        engine.keepalive,
    )?;
    let host = Host::new(&host).map_err(|_| TlsError::InvalidName(host))?;
    Ok(Reach {
        peer: "holder of the port",
        host,
        port,
        route: DialRoute {
            proxy: None,
            source_address: None,
        },
        tls,
        quic,
    })
}
