//! The configuration of the admin server, which hub and edge have alike.

use std::{fmt, net::SocketAddr, path::PathBuf};

use remoteingress_proto::token::{host::Host, secret::Secret};
use serde::Deserialize;

use crate::error::CodedError;

/// Where the admin server is, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens.
    pub listen: AdminListen,
    /// What callers must know. Absent: whoever reaches the server may read, and nobody may write.
    pub token: Option<AdminToken>,
    /// Names, besides that of the address itself, under which the server may be called.
    pub allowed_hosts: Vec<Host>,
}

/// Where an admin server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// A unix socket, for the process's own user.
    Unix(PathBuf),
    /// An address; port 0 is any free port.
    Tcp(SocketAddr),
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// Where the token of an admin server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminToken {
    /// Here.
    Given(Secret),
    /// In a file, which is read at the start and at SIGHUP.
    File(PathBuf),
}

/// A server of health, metrics, status and changes over HTTP, see [admin.md](admin.md).
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "AdminConfig"))]
pub(super) struct AdminFields {
    /// Unix socket (a path with a `/`) that only this process's user may use, or an address with its port. With port 0
    /// the system chooses one, which the log tells.
    ///
    /// Range: path of at most 107 bytes, or `address:port`
    listen: String,
    /// Token that callers must send. Every write needs it; reads need it over TCP once it is set. It is required where
    /// `listen` is neither a unix socket nor a loopback address.
    ///
    /// Unit: bytes · Default: none · Range: at least 16 bytes of visible ASCII characters
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<crate::schema::SecretText>")
    )]
    token: Option<Secret>,
    /// The same in a file, which is read again at SIGHUP; a line end after the token is ignored.
    ///
    /// Default: none · Range: path, not empty
    token_file: Option<PathBuf>,
    /// Names by which browsers and programs may call the server, besides its own address and `localhost`. Another name
    /// is refused, because a foreign page could have pointed it here (DNS rebinding).
    ///
    /// Default: `[]` · Range: at most 16 names or IP addresses, without a port
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    allowed_hosts: Vec<Host>,
}

impl AdminFields {
    pub(super) fn check(self) -> Result<AdminConfig, CodedError> {
        let refused = |field: &str, problem: &str| {
            CodedError::invalid_config(format_args!("admin.{field}"), problem)
        };
        let listen = listen(&self.listen).map_err(|problem| refused("listen", problem))?;
        let token = match (self.token, self.token_file) {
            (Some(_), Some(_)) => {
                return Err(refused(
                    "tokenFile",
                    "is instead of token; give one of them",
                ));
            }
            (Some(token), None) => {
                check_admin_token(&token).map_err(|problem| refused("token", problem))?;
                Some(AdminToken::Given(token))
            }
            (None, Some(path)) if path.as_os_str().is_empty() => {
                return Err(refused("tokenFile", "must not be empty"));
            }
            (None, Some(path)) => Some(AdminToken::File(path)),
            (None, None) => None,
        };
        let is_open = matches!(listen, AdminListen::Tcp(address) if !address.ip().is_loopback());
        if is_open && token.is_none() {
            let problem = "is missing; give it or tokenFile, because others than this machine can reach admin.listen";
            return Err(refused("token", problem));
        }
        if self.allowed_hosts.len() > MAX_HOSTS {
            return Err(refused("allowedHosts", "has more than 16 names"));
        }
        Ok(AdminConfig {
            listen,
            token,
            allowed_hosts: self.allowed_hosts,
        })
    }
}

/// Reads the `admin` of a configuration alone, for those who ask the server that another process runs.
pub fn parse_admin(admin: &serde_json::Value) -> Result<AdminConfig, CodedError> {
    crate::decode::<AdminFields>(admin)?.check()
}

/// Reads `listen`, or says what is wrong with it.
fn listen(text: &str) -> Result<AdminListen, &'static str> {
    if text.contains('/') {
        return if text.len() <= MAX_PATH {
            Ok(AdminListen::Unix(text.into()))
        } else {
            Err("must have at most 107 bytes: the system takes no longer path of a socket")
        };
    }
    text.parse().map(AdminListen::Tcp).map_err(|_| {
        "must be a path with a / in it, or an IP address with its port, for instance \"127.0.0.1:9090\""
    })
}

/// Says what is wrong with an admin server's token, if anything is.
pub fn check_admin_token(token: &Secret) -> Result<(), &'static str> {
    let bytes = token.expose().as_bytes();
    if bytes.len() < MIN_TOKEN {
        return Err("must have at least 16 bytes; \"remoteingress-bin secret\" makes a good one");
    }
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err("must have visible ASCII characters only: it is sent in a header");
    }
    Ok(())
}

/// As for secrets of edges; guesses are answered as fast as they come.
const MIN_TOKEN: usize = 16;
/// `sun_path` without its last zero.
const MAX_PATH: usize = 107;
/// A server has few names.
const MAX_HOSTS: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{parse_edge, parse_hub};

    fn parse(admin: Value) -> Result<AdminConfig, String> {
        let hub = parse_hub(&json!({ "admin": admin })).map_err(|error| error.message)?;
        hub.admin.ok_or_else(|| "none".to_owned())
    }

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn a_socket_or_loopback_needs_no_token_and_every_other_address_does() {
        for listen in ["/run/hub.sock", "./hub.sock", "127.0.0.1:0", "[::1]:9090"] {
            assert_eq!(parse(json!({ "listen": listen })).unwrap().token, None);
        }
        for listen in [
            "0.0.0.0:9090",
            "[::]:9090",
            "192.0.2.1:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            let error = parse(json!({ "listen": listen })).unwrap_err();
            assert!(error.starts_with("admin.token: is missing"), "{error}");
            let admin = parse(json!({ "listen": listen, "token": TOKEN })).unwrap();
            assert_eq!(
                admin.token,
                Some(AdminToken::Given(Secret::new(TOKEN.into())))
            );
            assert!(parse(json!({ "listen": listen, "tokenFile": "t" })).is_ok());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_path() {
        let problem = |fields: Value| parse(fields).unwrap_err();
        let socket = "/run/hub.sock";
        assert!(problem(json!({})).starts_with("admin.listen: is missing"));
        assert!(problem(json!({"listen": "9090"})).starts_with("admin.listen: must be a path"));
        assert!(problem(json!({"listen": "/".repeat(108)})).starts_with("admin.listen: must have"));
        let short = json!({"listen": socket, "token": "short"});
        assert!(problem(short).starts_with("admin.token: must have at least 16 bytes"));
        let spaced = json!({"listen": socket, "token": format!("{TOKEN} x")});
        assert!(problem(spaced).starts_with("admin.token: must have visible"));
        let both = json!({"listen": socket, "token": TOKEN, "tokenFile": "t"});
        assert!(problem(both).starts_with("admin.tokenFile: is instead"));
        let other = json!({"listen": socket, "port": 1});
        assert!(problem(other).starts_with("admin.port: is not a known field"));
    }

    #[test]
    fn an_edge_has_one_too() {
        let edge = parse_edge(&json!({
            "hubHost": "a.test", "edgeId": "e", "secret": TOKEN,
            "admin": {"listen": "127.0.0.1:1", "token": "canary-0123456789", "allowedHosts": ["edge.test"]},
        }))
        .unwrap();
        assert!(!format!("{edge:?}").contains("canary"));
        assert_eq!(edge.admin.unwrap().allowed_hosts[0].as_str(), "edge.test");
    }
}
