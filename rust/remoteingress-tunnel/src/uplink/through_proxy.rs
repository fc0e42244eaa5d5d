//! A TCP connection to the peer that a proxy makes; its decisions are in `remoteingress-core` `uplink/proxy`.

use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::{DialProxy, MAX_PROXY_LOGIN, ProxyLogin, ProxyPassword, check_login};
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::proxy::{Destination, Fault, Login, Opening, Progress};
use remoteingress_os::dial::dial;
use remoteingress_os::secret_file;
use remoteingress_proto::token::secret::Secret;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

/// The part of an attempt's time that is left for TLS with the peer.
const TLS_TIME: Duration = Duration::from_secs(1);
/// Bytes that are read at once.
const CHUNK: usize = 1_024;

/// Has `proxy` connect to `peer`, in time for TLS to follow until `deadline`.
pub(super) async fn connect(
    proxy: &DialProxy,
    peer: Destination,
    source: Option<IpAddr>,
    deadline: Instant,
) -> Result<TcpStream, Failure> {
    let begin = Instant::now();
    let deadline = begin.max(deadline.checked_sub(TLS_TIME).unwrap_or(begin));
    let silent = || {
        let secs = deadline.duration_since(begin).as_secs_f64().round();
        let message = format!(
            "the proxy {proxy} hasn't answered within {secs} s; check that it is a proxy, and that it may connect to {peer}"
        );
        Failure::new(ErrorCode::ProxyUnreachable, message)
    };
    let login = match &proxy.login {
        Some(login) => Some(read_login(login, proxy).await?),
        None => None,
    };
    let dialled = dial(proxy.host.as_str(), proxy.port, source, deadline).await;
    let mut tcp = dialled.map_err(|error| {
        let of_peer = error.code();
        let is_unreachable = of_peer == ErrorCode::HubUnreachable;
        let code = if is_unreachable {
            ErrorCode::ProxyUnreachable
        } else {
            of_peer
        };
        Failure::new(code, format!("the proxy {proxy}: {error}"))
    })?;
    let exchange = open(&mut tcp, proxy, &peer, login);
    match timeout_at(deadline, exchange).await {
        Ok(opened) => opened.map(|()| tcp),
        Err(_) => Err(silent()),
    }
}

async fn open(
    tcp: &mut TcpStream,
    proxy: &DialProxy,
    peer: &Destination,
    login: Option<Login>,
) -> Result<(), Failure> {
    let fault = |fault: Fault| fault.failure(proxy, peer);
    // Whatever breaks the connection, the proxy has taken it and then said nothing.
    let closed = |_: io::Error| fault(Fault::Closed);
    let (mut opening, first) = Opening::begin(proxy.kind, peer.clone(), login);
    tcp.write_all(&first).await.map_err(closed)?;
    let mut chunk = [0; CHUNK];
    loop {
        let most = opening.room().min(CHUNK);
        let room = chunk.get_mut(..most).unwrap_or_default();
        let count = tcp.read(room).await.map_err(closed)?;
        let read = room.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Err(fault(Fault::Closed));
        }
        match opening.handle(read).map_err(fault)? {
            Progress::NeedMore => {}
            Progress::Send(bytes) => tcp.write_all(&bytes).await.map_err(closed)?,
            Progress::Open => return Ok(()),
        }
    }
}

/// User and password as they are now: the file may have changed.
async fn read_login(login: &ProxyLogin, proxy: &DialProxy) -> Result<Login, CodedError> {
    let password = match &login.password {
        ProxyPassword::Given(password) => password.clone(),
        ProxyPassword::File(path) => {
            let path = path.clone();
            let read = spawn_blocking(move || read_password(&path)).await;
            let read = read.unwrap_or_else(|_| Err("nobody has read it".to_owned()));
            read.map_err(|problem| failed(proxy, login, &problem))?
        }
    };
    Ok(Login {
        user: login.user.clone(),
        password,
    })
}

fn failed(proxy: &DialProxy, login: &ProxyLogin, problem: &str) -> CodedError {
    let path = match &login.password {
        ProxyPassword::File(path) => path.clone(),
        ProxyPassword::Given(_) => PathBuf::new(),
    };
    let message = format!(
        "the password's file of the proxy {proxy}, {}: {problem}",
        path.display()
    );
    CodedError::new(ErrorCode::InvalidConfig, message)
}

/// The first line of a file that has no other.
fn read_password(path: &Path) -> Result<Secret, String> {
    let password = secret_file::read(path, MAX_PROXY_LOGIN)?;
    check_login(password.expose()).map_err(ToOwned::to_owned)?;
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_of_a_file() {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("remoteingress-password-{}", std::process::id()));
        let read = |text: &[u8]| {
            std::fs::write(&path, text).expect("a temporary file");
            read_password(&path).map(|password| password.expose().to_owned())
        };
        let longest = "p".repeat(MAX_PROXY_LOGIN);
        for (text, expected) in [
            ("pass word\r\n", "pass word"),
            ("päss\n", "päss"),
            ("", ""),
            (&format!("{longest}\r\n"), longest.as_str()),
        ] {
            assert_eq!(read(text.as_bytes()).as_deref(), Ok(expected));
        }
        for (text, expected) in [
            (b"canary\ncanary\n".to_vec(), "no control characters"),
            (b"canary\xff".to_vec(), "UTF-8"),
            (vec![b'p'; MAX_PROXY_LOGIN + 1], "at most 255"),
            (vec![b'p'; 1 << 20], "at most 255"),
        ] {
            let problem = read(&text).expect_err("no password");
            assert!(problem.contains(expected), "{problem}");
            assert!(!problem.contains("canary"), "{problem}");
        }
        std::fs::remove_file(&path).expect("the temporary file");
        assert!(read_password(&path).is_err());
    }
}
