//! Where the admin server is, and its token: from arguments, a configuration file or the environment.

use super::failed::Failed;
use clap::Args;
use remoteingress_admin::client::{Client, Place};
use remoteingress_config::{AdminConfig, AdminListen, AdminToken, check_admin_token, parse_admin};
use remoteingress_os::secret_file;
use remoteingress_proto::token::secret::Secret;
use serde_json::Value;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Says where the server is if no argument does.
const VARIABLE: &str = "REMOTEINGRESS_ADMIN";
/// The longest token, in bytes, as the server has it.
const MAX_TOKEN: usize = 4_096;
/// The largest configuration file, in bytes.
const MAX_FILE: u64 = 64 * 1_024 * 1_024;

#[derive(Args)]
pub(super) struct PlaceArgs {
    /// The admin server: the path of its unix socket, or http://host:port; without --admin and --config it is taken from
    /// the environment variable REMOTEINGRESS_ADMIN
    #[arg(long, global = true, value_name = "SOCKET|URL")]
    admin: Option<String>,
    /// The configuration file of the hub or edge, in whose "admin" the server and its token are
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// A file with the admin token; - is stdin
    #[arg(long, global = true)]
    token_file: Option<PathBuf>,
}

impl PlaceArgs {
    /// Whoever asks the server that is meant.
    pub(super) fn client(self) -> Result<Client, Failed> {
        let config = self.config.as_deref().map(admin_of).transpose()?;
        let place = match (self.admin, &config) {
            (Some(place), _) => parse(&place, "--admin")?,
            (None, Some(config)) => dialled(&config.listen)?,
            (None, None) => match std::env::var(VARIABLE) {
                Ok(place) => parse(&place, VARIABLE)?,
                Err(_) => {
                    return Err(Failed::usage(format!(
                        "where is the admin server? Name it with --admin, the configuration with --config, or set {VARIABLE}"
                    )));
                }
            },
        };
        let token = match (self.token_file, config.and_then(|config| config.token)) {
            (Some(path), _) => Some(read_token(&path, "--token-file")?),
            (None, Some(AdminToken::Given(token))) => Some(token),
            (None, Some(AdminToken::File(path))) => Some(read_token(&path, "admin.tokenFile")?),
            (None, None) => None,
        };
        Ok(Client { place, token })
    }
}

fn parse(text: &str, from: &str) -> Result<Place, Failed> {
    Place::parse(text).map_err(|problem| Failed::usage(format!("{from}: {problem}")))
}

/// How the server that listens there is reached from its own machine.
fn dialled(listen: &AdminListen) -> Result<Place, Failed> {
    let address = match listen {
        AdminListen::Unix(path) => return Ok(Place::Unix(path.clone())),
        AdminListen::Tcp(address) => *address,
    };
    if address.port() == 0 {
        return Err(Failed::usage(
            "--config: admin.listen has port 0, so the system has chosen one: take it from the log, and name it with --admin",
        ));
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    Ok(Place::Tcp(SocketAddr::new(ip, address.port()).to_string()))
}

/// The `admin` of a configuration file, whose other fields are of no interest.
fn admin_of(path: &Path) -> Result<AdminConfig, Failed> {
    let failed =
        |problem: String| Failed::usage(format!("--config: {}: {problem}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|error| failed(format!("failed to read it: {error}")))?;
    let file: Value = serde_json::from_str(&text).map_err(|error| {
        failed(format!(
            "line {}, column {}: is not JSON",
            error.line(),
            error.column()
        ))
    })?;
    match file.get("admin") {
        Some(admin) => parse_admin(admin).map_err(|error| failed(error.message)),
        None => Err(failed(
            "has no admin: this hub or edge has no admin server".to_owned(),
        )),
    }
}

fn read_token(path: &Path, from: &str) -> Result<Secret, Failed> {
    let failed = |problem: &str| Failed::usage(format!("{from}: {}: {problem}", path.display()));
    let source = if path == Path::new("-") {
        Path::new("/dev/stdin")
    } else {
        path
    };
    let token = secret_file::read(source, MAX_TOKEN).map_err(|problem| failed(&problem))?;
    check_admin_token(&token).map_err(|problem| failed(&format!("its content {problem}")))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(listen: &str) -> Option<Place> {
        let admin = serde_json::json!({"listen": listen, "token": "0123456789abcdef"});
        dialled(&parse_admin(&admin).unwrap().listen).ok()
    }

    #[test]
    fn a_server_is_reached_where_it_listens() {
        let tcp = |text: &str| Some(Place::Tcp(text.to_owned()));
        assert_eq!(
            place("/run/a.sock"),
            Some(Place::Unix("/run/a.sock".into()))
        );
        assert_eq!(place("127.0.0.1:1"), tcp("127.0.0.1:1"));
        assert_eq!(place("0.0.0.0:9090"), tcp("127.0.0.1:9090"));
        assert_eq!(place("[::]:9090"), tcp("[::1]:9090"));
        assert_eq!(place("127.0.0.1:0"), None);
    }
}
