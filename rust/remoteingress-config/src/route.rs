//! The way on which a tunnel is dialled: through a proxy, and from one of the machine's addresses.

use std::{fmt, net::IpAddr, path::PathBuf};

use remoteingress_proto::token::{host::Host, secret::Secret};

use super::tunnel::TransportMode;
use crate::error::CodedError;

/// The way on which the other end is dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialRoute {
    /// Absent: the other end is dialled itself.
    pub proxy: Option<DialProxy>,
    /// The local address of the connection. Absent: the system chooses.
    pub source_address: Option<IpAddr>,
}

/// A proxy that connects to the other end. It is shown as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialProxy {
    /// The protocol that it speaks.
    pub kind: ProxyKind,
    /// Where it is.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// User and password, where it wants them.
    pub login: Option<ProxyLogin>,
}

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT (RFC 9110 section 9.3.6).
    Http,
    /// SOCKS5 (RFC 1928), which looks names up itself.
    Socks5,
}

impl ProxyKind {
    /// The start of its URL.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5 => "socks5",
        }
    }
}

/// User and password for a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyLogin {
    /// The user; no log shows it.
    pub user: Secret,
    /// The password.
    pub password: ProxyPassword,
}

/// Where a proxy's password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyPassword {
    /// Here.
    Given(Secret),
    /// In a file, which is read at every attempt.
    File(PathBuf),
}

/// The longest user or password, in bytes: SOCKS5 has one byte for the length (RFC 1929).
pub const MAX_PROXY_LOGIN: usize = 255;
/// The longest URL of a proxy, in characters: user and password with every byte written as `%xx`, and a name.
const MAX_URL: usize = 2_048;

impl fmt::Display for DialProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl DialRoute {
    /// The rule by which the transport is chosen on this way, where `asked` is that of the configuration.
    pub fn mode(&self, asked: TransportMode) -> TransportMode {
        if self.proxy.is_some() {
            TransportMode::TcpTls
        } else {
            asked
        }
    }

    /// The warning about a mode of which only the half goes this way; `fields` are `transportMode` and that of the proxy.
    pub(super) fn warning(&self, asked: TransportMode, fields: [&str; 2]) -> Option<String> {
        let [mode, proxy] = fields;
        let is_other = self.mode(asked) != asked;
        is_other.then(|| {
            format!("{mode}: QUIC doesn't go through {proxy}, so the tunnel uses tcpTls only")
        })
    }
}

/// The fields of a way as they were written.
pub(super) struct RouteFields {
    pub(super) proxy: Option<Secret>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) source_address: Option<IpAddr>,
}

/// The paths of those fields, and of what must fit them.
pub(super) struct RoutePaths {
    pub(super) proxy: String,
    pub(super) password_file: String,
    pub(super) source_address: String,
    pub(super) transport_mode: String,
}

impl RouteFields {
    /// Checks the fields, for a peer at `host` that is dialled by `mode`.
    pub(super) fn check(
        self,
        paths: &RoutePaths,
        host: &Host,
        mode: TransportMode,
    ) -> Result<DialRoute, CodedError> {
        if let Some(address) = self.source_address
            && (address.is_unspecified() || address.is_multicast())
        {
            let problem =
                "must be an address of this machine; leave it out to let the system choose";
            return Err(CodedError::invalid_config(&paths.source_address, problem));
        }
        let Some(url) = self.proxy else {
            if self.password_file.is_some() {
                let problem = format!("is for a proxy; give {} too", paths.proxy);
                return Err(CodedError::invalid_config(&paths.password_file, problem));
            }
            return Ok(DialRoute {
                proxy: None,
                source_address: self.source_address,
            });
        };
        let refused = |problem| CodedError::invalid_config(&paths.proxy, problem);
        let url = parse(url.expose()).map_err(refused)?;
        if mode == TransportMode::Quic {
            let problem = format!(
                "QUIC doesn't go through a proxy: leave out {}, or take \"tcpTls\" or \"quicWithFallback\"",
                paths.proxy
            );
            return Err(CodedError::invalid_config(&paths.transport_mode, problem));
        }
        if host.bare().contains('%') {
            let problem =
                "can't be used to reach an address of one link: only this machine is on that link";
            return Err(refused(problem));
        }
        let login = url.login(self.password_file, paths)?;
        Ok(DialRoute {
            proxy: Some(DialProxy {
                kind: url.kind,
                host: url.host,
                port: url.port,
                login,
            }),
            source_address: self.source_address,
        })
    }
}

/// The URL of a proxy in its parts.
struct ProxyUrl {
    kind: ProxyKind,
    host: Host,
    port: u16,
    user: Option<Secret>,
    password: Option<Secret>,
}

impl ProxyUrl {
    fn login(
        &self,
        file: Option<PathBuf>,
        paths: &RoutePaths,
    ) -> Result<Option<ProxyLogin>, CodedError> {
        let refused = |problem: &str| {
            let path = &paths.password_file;
            Err(CodedError::invalid_config(path, problem))
        };
        let password = match (file, &self.password) {
            (Some(_), _) if self.user.is_none() => {
                return refused("needs a user: write the proxy as http://user@host:port");
            }
            (Some(_), Some(_)) => return refused("must not be given where the URL has a password"),
            (Some(file), None) if file.as_os_str().is_empty() => {
                return refused("must not be empty");
            }
            (Some(file), None) => ProxyPassword::File(file),
            (None, Some(password)) => ProxyPassword::Given(password.clone()),
            (None, None) => ProxyPassword::Given(Secret::new(String::new())),
        };
        Ok(self.user.clone().map(|user| ProxyLogin { user, password }))
    }
}

/// Reads the URL of a proxy. An error quotes none of it, since it may hold a password.
fn parse(url: &str) -> Result<ProxyUrl, &'static str> {
    const SHAPE: &str = "must be http://host:port or socks5://host:port, with user:password@ in front of the host where the proxy wants a login";
    if url.len() > MAX_URL {
        return Err("must have at most 2,048 characters");
    }
    let (scheme, rest) = url.split_once("://").ok_or(SHAPE)?;
    let kind = match scheme.to_ascii_lowercase().as_str() {
        "http" => ProxyKind::Http,
        // Some tools call it so where the proxy looks names up, which is always so here.
        "socks5" | "socks5h" => ProxyKind::Socks5,
        "https" => {
            return Err(
                "must begin with http:// or socks5://; the proxy is spoken to in the clear, and the tunnel inside is encrypted",
            );
        }
        _ => return Err(SHAPE),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(
            "must end with the port; in user and password write / as %2F, ? as %3F and # as %23",
        );
    }
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let (host, port) = host_and_port(place).ok_or(SHAPE)?;
    let (user, password) = match login {
        Some(login) => {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            (Some(plain(user)?), password.map(plain).transpose()?)
        }
        None => (None, None),
    };
    if let Some(user) = &user {
        if user.is_empty() {
            return Err("must have a user in front of @");
        }
        if kind == ProxyKind::Http && user.expose().contains(':') {
            return Err("must have a user without a colon: HTTP can't tell where it ends");
        }
    }
    Ok(ProxyUrl {
        kind,
        host,
        port,
        user,
        password,
    })
}

/// The text behind `%xx`.
fn plain(text: &str) -> Result<Secret, &'static str> {
    const ENCODING: &str = "must have % in user and password only as the start of %xx, the code of a character in UTF-8; write % itself as %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (high, low) = (digit().ok_or(ENCODING)?, digit().ok_or(ENCODING)?);
        bytes.push(high << 4 | low);
    }
    let text = Secret::new(String::from_utf8(bytes).map_err(|_| ENCODING)?);
    check_login(text.expose())?;
    Ok(text)
}

/// Checks a user or a password. An error quotes nothing of it.
pub fn check_login(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_PROXY_LOGIN {
        return Err("must have at most 255 bytes each as user and password");
    }
    if text.contains(char::is_control) {
        return Err("must have no control characters in user and password");
    }
    Ok(())
}

/// Reads `host:port`, with an IPv6 address in brackets.
pub(super) fn host_and_port(text: &str) -> Option<(Host, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    // Without brackets the last part of an IPv6 address would be taken for the port.
    let host = Host::new(host)
        .ok()
        .filter(|host| !host.as_str().contains(':') || host.as_str().starts_with('['))?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0 && !text.contains('+'))?;
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths() -> RoutePaths {
        RoutePaths {
            proxy: "hubProxy".to_owned(),
            password_file: "hubProxyPasswordFile".to_owned(),
            source_address: "sourceAddress".to_owned(),
            transport_mode: "transportMode".to_owned(),
        }
    }

    fn checked(
        url: &str,
        file: Option<&str>,
        mode: TransportMode,
    ) -> Result<DialRoute, CodedError> {
        let fields = RouteFields {
            proxy: Some(Secret::new(url.to_owned())),
            password_file: file.map(PathBuf::from),
            source_address: None,
        };
        fields.check(&paths(), &hub(), mode)
    }

    fn hub() -> Host {
        Host::new("hub.test").unwrap()
    }

    fn proxy(url: &str) -> DialProxy {
        let route = checked(url, None, TransportMode::TcpTls).unwrap();
        route.proxy.unwrap()
    }

    #[test]
    fn urls_are_read() {
        use ProxyKind::{Http, Socks5};
        for (url, kind, shown, login) in [
            ("http://proxy.test:3128", Http, "proxy.test:3128", None),
            ("HTTP://proxy.test:80/", Http, "proxy.test:80", None),
            ("socks5://192.0.2.1:1080", Socks5, "192.0.2.1:1080", None),
            ("socks5h://[::1]:1080", Socks5, "[::1]:1080", None),
            ("http://u@h.test:1", Http, "h.test:1", Some(("u", ""))),
            (
                "http://u:p:w@h.test:1",
                Http,
                "h.test:1",
                Some(("u", "p:w")),
            ),
            (
                "http://u:a@b@h.test:1",
                Http,
                "h.test:1",
                Some(("u", "a@b")),
            ),
            (
                "socks5://a%3Ab:%2f%40%25%C3%A4@h.test:1",
                Socks5,
                "h.test:1",
                Some(("a:b", "/@%ä")),
            ),
        ] {
            let proxy = proxy(url);
            assert_eq!((proxy.kind, proxy.to_string().as_str()), (kind, shown));
            let found = proxy.login.as_ref().map(|login| {
                let ProxyPassword::Given(password) = &login.password else {
                    panic!("{url}")
                };
                (login.user.expose(), password.expose())
            });
            assert_eq!(found, login, "{url}");
        }
    }

    #[test]
    fn a_fault_is_named_and_nothing_is_quoted() {
        let long = format!("http://canary:{}@h.test:1", "p".repeat(256));
        let longer = format!("http://canary:{}@h.test:1", "p".repeat(2_048));
        for (url, expected) in [
            ("canary", "must be http://host:port"),
            ("canary.test:3128", "must be http://host:port"),
            ("socks4://canary.test:1", "must be http://host:port"),
            ("https://canary.test:1", "must begin with http://"),
            ("http://canary.test", "must be http://host:port"),
            ("http://canary.test:0", "must be http://host:port"),
            ("http://canary.test:+1", "must be http://host:port"),
            ("http://canary.test:65536", "must be http://host:port"),
            ("http://::1:80", "must be http://host:port"),
            ("http://u:canary/x@h.test:1", "must end with the port"),
            ("http://h.test:1/canary", "must end with the port"),
            ("http://u:canary%zz@h.test:1", "must have % in"),
            ("http://u:canary%f@h.test:1", "must have % in"),
            ("http://u:canary%ff@h.test:1", "must have % in"),
            ("http://u:canary%0a@h.test:1", "must have no control"),
            ("http://:canary@h.test:1", "must have a user"),
            ("http://a%3ab:canary@h.test:1", "must have a user without"),
            (&long, "must have at most 255 bytes"),
            (&longer, "must have at most 2,048"),
        ] {
            let error = checked(url, None, TransportMode::TcpTls).unwrap_err();
            let expected = format!("hubProxy: {expected}");
            assert!(error.message.starts_with(&expected), "{url}: {error}");
            assert!(!error.message.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_password_comes_from_the_url_or_from_a_file() {
        let with_file = |url, file| checked(url, Some(file), TransportMode::TcpTls);
        let route = with_file("http://u@h.test:1", "/run/password").unwrap();
        let login = route.proxy.unwrap().login.unwrap();
        assert_eq!(login.password, ProxyPassword::File("/run/password".into()));
        for (url, file, expected) in [
            ("http://h.test:1", "/f", "needs a user"),
            ("http://u:p@h.test:1", "/f", "must not be given where"),
            ("http://u@h.test:1", "", "must not be empty"),
        ] {
            let error = with_file(url, file).unwrap_err();
            let expected = format!("hubProxyPasswordFile: {expected}");
            assert!(error.message.starts_with(&expected), "{error}");
        }
        let alone = RouteFields {
            proxy: None,
            password_file: Some("/f".into()),
            source_address: None,
        };
        let error = alone.check(&paths(), &hub(), TransportMode::TcpTls);
        assert!(error.unwrap_err().message.contains("give hubProxy too"));
    }

    #[test]
    fn quic_alone_goes_through_no_proxy_and_a_fallback_says_so() {
        let url = "socks5://h.test:1";
        let error = checked(url, None, TransportMode::Quic).unwrap_err();
        assert!(error.message.starts_with("transportMode: QUIC"), "{error}");
        let asked = TransportMode::QuicWithFallback;
        let route = checked(url, None, asked).unwrap();
        assert_eq!(route.mode(asked), TransportMode::TcpTls);
        let fields = ["transportMode", "hubProxy"];
        assert!(route.warning(asked, fields).is_some());
        assert_eq!(route.warning(TransportMode::TcpTls, fields), None);
        assert_eq!(DialRoute::default().mode(asked), asked);
    }

    #[test]
    fn what_only_this_machine_can_reach_goes_through_no_proxy() {
        let fields = |proxy: Option<&str>, source: Option<&str>| RouteFields {
            proxy: proxy.map(|url| Secret::new(url.to_owned())),
            password_file: None,
            source_address: source.map(|address| address.parse().unwrap()),
        };
        let host = Host::new("fe80::1%eth0").unwrap();
        let check = |fields: RouteFields| fields.check(&paths(), &host, TransportMode::TcpTls);
        let error = check(fields(Some("http://h.test:1"), None)).unwrap_err();
        assert!(error.message.starts_with("hubProxy: can't"), "{error}");
        for address in ["0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
            let error = check(fields(None, Some(address))).unwrap_err();
            assert!(error.message.starts_with("sourceAddress: "), "{error}");
        }
        let route = check(fields(None, Some("192.0.2.1"))).unwrap();
        assert_eq!(route.source_address, Some([192, 0, 2, 1].into()));
    }

    #[test]
    fn a_login_shows_nowhere() {
        let text = format!("{:?}", proxy("http://canary:canary@h.test:1"));
        assert!(!text.contains("canary"), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(url in ".{0,64}") {
            let _ = parse(&url);
            let _ = parse(&format!("http://{url}"));
        }

        #[test]
        fn an_encoded_login_is_read_back(user in "[^:\\p{Cc}]{1,32}", password in "[^\\p{Cc}]{0,32}") {
            let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let url = format!("http://{}:{}@h.test:1", encode(&user), encode(&password));
            let parsed = parse(&url).unwrap();
            let (found_user, found_password) = (parsed.user.unwrap(), parsed.password.unwrap());
            prop_assert_eq!(found_user.expose(), user);
            prop_assert_eq!(found_password.expose(), password);
        }
    }
}
