//! Places that a start takes or opens: the admin server's, and the access log's.

use super::patient::Config;
use remoteingress_config::doctor::{Check, CheckName};
use remoteingress_config::{AdminListen, HubConfig};
use remoteingress_os::process_options::{may_append, may_write};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Whether a start would find them free and fit.
pub(super) fn places(config: &Config) -> Vec<Check> {
    let (admin, access_log, runs) = match config {
        Config::Hub(config) => (&config.admin, &config.access_log, runs(config)),
        Config::Edge(config) => (&config.admin, &config.access_log, None),
    };
    let admin = admin
        .as_ref()
        .map(|admin| admin_listen(&admin.listen, runs));
    let file = access_log.as_ref().and_then(|log| log.file.as_deref());
    admin.into_iter().chain(file.map(access_log_file)).collect()
}

/// True if the hub seems to run already: somebody has its tunnel port. Nothing tells that of others.
fn runs(config: &HubConfig) -> Option<bool> {
    let address = config
        .bind_address
        .unwrap_or_else(|| Ipv4Addr::UNSPECIFIED.into());
    let has_port = config.listens && config.tunnel_port != 0;
    has_port.then(|| TcpListener::bind((address, config.tunnel_port)).is_err())
}

fn admin_listen(listen: &AdminListen, runs: Option<bool>) -> Check {
    let name = CheckName::AdminListen;
    let taken = match listen {
        AdminListen::Tcp(address) => is_taken(*address),
        AdminListen::Unix(path) => is_live(path),
    };
    match (taken, runs) {
        (Ok(false), _) => Check::ok(name, format!("{listen} is free")),
        (Ok(true), Some(true)) => Check::ok(name, format!("{listen} is taken: the hub runs")),
        (Ok(true), Some(false)) => Check::failure(
            name,
            format!("another program has {listen}"),
            "stop it, or choose another place for admin.listen",
        ),
        (Ok(true), None) => Check::warning(
            name,
            format!("{listen} is taken: by this one if it runs already, else by another program"),
            "if it doesn't run yet, stop the other, or choose another place for admin.listen",
        ),
        (Err(error), _) => Check::failure(
            name,
            format!("{listen} can't be opened: {error}"),
            "make its directory, or choose another place for admin.listen",
        ),
    }
}

fn is_taken(address: SocketAddr) -> io::Result<bool> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(true),
        Err(error) => Err(error),
    }
}

/// True if somebody listens at this socket. One that nobody listens at any more is no obstacle.
fn is_live(path: &Path) -> io::Result<bool> {
    match path.metadata() {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(ErrorKind::AlreadyExists, "it is no socket"))
        }
        Ok(_) => Ok(UnixStream::connect(path).is_ok()),
        Err(_) => writable_parent(path).map(|()| false),
    }
}

fn access_log_file(path: &Path) -> Check {
    let (name, shown) = (CheckName::AccessLog, path.display());
    let fits = match path.metadata() {
        Ok(found) if found.is_dir() => {
            Err(io::Error::new(ErrorKind::IsADirectory, "it is a directory"))
        }
        Ok(_) if may_append(path) => Ok(()),
        Ok(_) => Err(ErrorKind::PermissionDenied.into()),
        Err(_) => writable_parent(path),
    };
    match fits {
        Ok(()) => Check::ok(name, format!("{shown} can be written")),
        Err(error) => Check::failure(
            name,
            format!("{shown} can't be written: {error}"),
            "make its directory, let this user write there, or choose another accessLog.path",
        ),
    }
}

/// An error if no file can be made there.
fn writable_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    parent.metadata()?;
    if may_write(parent) {
        Ok(())
    } else {
        Err(ErrorKind::PermissionDenied.into())
    }
}
