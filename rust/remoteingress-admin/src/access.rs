//! Who may ask what: the name by which the server is called, and the token.

use crate::answer::Failure;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use remoteingress_config::error::ErrorCode;
use remoteingress_proto::token::host::Host;
use remoteingress_proto::token::secret::Secret;
use std::net::{IpAddr, SocketAddr};
use std::sync::{PoisonError, RwLock};

/// The rules of one server.
#[derive(Debug)]
pub(crate) struct Access {
    /// Absent at a unix socket.
    address: Option<SocketAddr>,
    allowed_hosts: Vec<Host>,
    token: RwLock<Option<Secret>>,
}

/// How a token was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Bearer,
    /// A browser sends it by itself, also where a foreign page has made it ask: so it is good for reading only.
    Basic,
}

impl Access {
    pub(crate) fn new(
        address: Option<SocketAddr>,
        allowed_hosts: Vec<Host>,
        token: Option<Secret>,
    ) -> Self {
        Self {
            address,
            allowed_hosts,
            token: RwLock::new(token),
        }
    }

    /// Another token from now on.
    pub(crate) fn set_token(&self, token: Secret) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// Says why a request isn't answered.
    pub(crate) fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Failure> {
        self.check_host(uri, headers)?;
        let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if is_read && matches!(uri.path(), "/health" | "/ready") {
            return Ok(());
        }
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
        match (&*token, is_read) {
            (None, true) => Ok(()),
            (Some(_), true) if self.address.is_none() => Ok(()),
            (None, false) => Err(Failure::new(
                StatusCode::FORBIDDEN,
                ErrorCode::Forbidden,
                "this server only answers reads: set admin.token or admin.tokenFile to allow changes",
            )),
            (Some(token), is_read) => match sent(headers) {
                Some((scheme, sent)) if sent == *token && (is_read || scheme == Scheme::Bearer) => {
                    Ok(())
                }
                sent => Err(Failure::new(
                    StatusCode::UNAUTHORIZED,
                    ErrorCode::Unauthorized,
                    unauthorized(sent.map(|(scheme, _)| scheme), is_read),
                )),
            },
        }
    }

    /// A foreign page may have pointed its own name at this server (DNS rebinding).
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(address) = self.address else {
            return Ok(());
        };
        let mut named = headers.get_all(HOST).iter();
        let host = match (uri.authority(), named.next(), named.next()) {
            (Some(authority), _, _) => Some(authority.as_str()),
            (None, Some(host), None) => host.to_str().ok(),
            (None, _, _) => None,
        };
        let name = host.map(without_port);
        if name.is_some_and(|name| self.is_own(name, address.ip())) {
            return Ok(());
        }
        Err(Failure::new(
            StatusCode::FORBIDDEN,
            ErrorCode::Forbidden,
            "the server isn't known by the name in the Host header: add the name to admin.allowedHosts",
        ))
    }

    fn is_own(&self, name: &str, address: IpAddr) -> bool {
        if self
            .allowed_hosts
            .iter()
            .any(|host| host.bare().eq_ignore_ascii_case(name))
        {
            return true;
        }
        match name.parse::<IpAddr>() {
            // No name server can point an address elsewhere.
            Ok(_) => true,
            Err(_) => address.is_loopback() && name.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// What is said to a caller whose token doesn't do. It must not depend on the server's token.
fn unauthorized(sent: Option<Scheme>, is_read: bool) -> &'static str {
    match (sent, is_read) {
        (None, true) => {
            "send the admin token: Authorization: Bearer TOKEN, or as the password of HTTP Basic"
        }
        (None, false) => "a change needs the admin token: Authorization: Bearer TOKEN",
        (Some(Scheme::Basic), false) => {
            "a change takes the admin token only as Authorization: Bearer TOKEN, not as a password of HTTP Basic"
        }
        (Some(Scheme::Bearer), _) | (Some(Scheme::Basic), true) => {
            "the token that was sent isn't this server's; after a change of admin.tokenFile the server reads it at SIGHUP"
        }
    }
}

/// The name in a Host header: `[::1]:80` names `::1`.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(name, _)| name);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// The token that a request has sent.
fn sent(headers: &HeaderMap) -> Option<(Scheme, Secret)> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((Scheme::Bearer, Secret::new(value.trim().to_owned())));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (_, password) = text.split_once(':')?;
    Some((Scheme::Basic, Secret::new(password.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn access(address: Option<&str>, token: Option<&str>) -> Access {
        let token = token.map(|token| Secret::new(token.to_owned()));
        let hosts = vec![Host::new("hub.test").unwrap()];
        Access::new(
            address.map(|address| address.parse().unwrap()),
            hosts,
            token,
        )
    }

    fn status(access: &Access, request: &str, headers: &[(&'static str, &str)]) -> u16 {
        let (method, uri) = request.split_once(' ').unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let checked = access.check(&method.parse().unwrap(), &uri.parse().unwrap(), &map);
        checked.map_or_else(|failure| failure.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_own_names_are_answered() {
        let access = access(Some("127.0.0.1:9090"), None);
        for host in [
            "127.0.0.1:9090",
            "localhost",
            "LOCALHOST:1",
            "[::1]:9090",
            "hub.test",
            "Hub.Test:80",
        ] {
            assert_eq!(
                status(&access, "GET /api/v1/status", &[("host", host)]),
                200,
                "{host}"
            );
        }
        for host in [
            "evil.test",
            "127.0.0.1.evil.test",
            "hub.test.evil.test:9090",
            "",
        ] {
            assert_eq!(
                status(&access, "GET /health", &[("host", host)]),
                403,
                "{host}"
            );
        }
        assert_eq!(status(&access, "GET /health", &[]), 403);
        let twice = [("host", "hub.test"), ("host", "evil.test")];
        assert_eq!(status(&access, "GET /health", &twice), 403);
        let outside = self::access(Some("192.0.2.1:80"), Some(TOKEN));
        assert_eq!(
            status(&outside, "GET /health", &[("host", "localhost")]),
            403
        );
    }

    #[test]
    fn a_token_guards_reads_over_tcp_and_every_write() {
        let basic = format!("Basic {}", STANDARD.encode(format!("me:{TOKEN}")));
        let bearer = format!("Bearer {TOKEN}");
        let (wrong, host) = (format!("Bearer {TOKEN}x"), ("host", "127.0.0.1"));
        let tcp = access(Some("127.0.0.1:1"), Some(TOKEN));
        let read = |more: &[(&'static str, &str)]| {
            let headers = [&[host], more].concat();
            status(&tcp, "GET /api/v1/status", &headers)
        };
        assert_eq!(read(&[]), 401);
        assert_eq!(read(&[("authorization", &wrong)]), 401);
        assert_eq!(read(&[("authorization", &bearer)]), 200);
        assert_eq!(read(&[("authorization", &basic)]), 200);
        assert_eq!(status(&tcp, "GET /ready", &[host]), 200);
        assert_eq!(status(&tcp, "POST /ready", &[host]), 401);
        let write = |access: &Access, value: &str| {
            status(
                access,
                "PUT /api/v1/edges/a",
                &[host, ("authorization", value)],
            )
        };
        assert_eq!(write(&tcp, &bearer), 200);
        assert_eq!(write(&tcp, &basic), 401);

        let socket = access(None, Some(TOKEN));
        assert_eq!(status(&socket, "GET /api/v1/status", &[]), 200);
        assert_eq!(status(&socket, "POST /api/v1/drain", &[]), 401);
        assert_eq!(write(&socket, &bearer), 200);
        assert_eq!(write(&access(None, None), &bearer), 403);
    }

    #[test]
    fn a_wrong_token_is_told_from_none_and_says_nothing_of_the_right_one() {
        let host = ("host", "127.0.0.1");
        let told = |token: &str, method: &Method, authorization: Option<&str>| {
            let mut map = HeaderMap::new();
            for (name, value) in [
                Some(host),
                authorization.map(|value| ("authorization", value)),
            ]
            .into_iter()
            .flatten()
            {
                map.append(name, value.parse().unwrap());
            }
            let access = access(Some("127.0.0.1:1"), Some(token));
            let uri = "/api/v1/status".parse().unwrap();
            let failure = access.check(method, &uri, &map).unwrap_err();
            assert_eq!(failure.status, StatusCode::UNAUTHORIZED);
            failure.error.message
        };
        let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("me:{password}")));
        let other = "another-token-0123";
        for method in [&Method::GET, &Method::PUT] {
            let wrong = told(TOKEN, method, Some("Bearer wrong"));
            assert!(wrong.contains("isn't this server's") && wrong.contains("SIGHUP"));
            assert!(!wrong.contains(TOKEN));
            // Neither one that is almost right, nor another one of the server's, makes a difference.
            let near = format!("Bearer {TOKEN}x");
            assert_eq!(told(TOKEN, method, Some(&near)), wrong);
            assert_eq!(told(other, method, Some("Bearer wrong")), wrong);
            assert_ne!(told(TOKEN, method, None), wrong);
            assert_eq!(
                told(TOKEN, method, Some("Digest x")),
                told(TOKEN, method, None)
            );
        }
        // The right password and a wrong one are told the same by a change, which takes neither.
        let right = told(TOKEN, &Method::PUT, Some(&basic(TOKEN)));
        assert_eq!(told(TOKEN, &Method::PUT, Some(&basic("wrong"))), right);
        assert!(right.contains("Bearer"));
    }
}
