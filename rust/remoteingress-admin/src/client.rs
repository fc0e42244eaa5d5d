//! The other end of an admin server: asks one, at its unix socket or its address.

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{HeaderValue, Method, Request, Response, Uri};
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use remoteingress_proto::token::secret::Secret;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Time for the connection and the head of an answer; the server has 30 s for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// Time without a byte on a stream of events, which carries a comment every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// Bytes of an answer, and of one line of a stream.
const MAX_ANSWER: usize = 256 * 1_024 * 1_024;
/// Bytes of one line of a stream of events.
const MAX_LINE: usize = 16 * 1_024 * 1_024;

/// Where an admin server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its unix socket.
    Unix(PathBuf),
    /// Its host and port.
    Tcp(String),
}

impl Place {
    /// Reads a path with a `/`, `http://host:port` or `host:port`.
    ///
    /// # Errors
    /// It is none of these, as a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "must be the path of a unix socket with a / in it, or http://host:port";
        let authority = match text.split_once("://") {
            Some(("http", rest)) => rest.trim_end_matches('/'),
            Some(("https", _)) => {
                return Err(
                    "must begin with http://: the admin server has no TLS; ask it through ssh, or at its socket",
                );
            }
            Some(_) => return Err(SHAPE),
            None if text.contains('/') => return Ok(Self::Unix(text.into())),
            None => text,
        };
        let parsed: Uri = authority.parse().map_err(|_| SHAPE)?;
        match parsed.authority() {
            Some(parsed) if parsed.port_u16().is_some() && !parsed.as_str().contains('@') => {
                Ok(Self::Tcp(authority.to_owned()))
            }
            _ => Err(SHAPE),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(authority) => write!(f, "http://{authority}"),
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status of HTTP.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// Somebody who asks an admin server.
#[derive(Debug)]
pub struct Client {
    /// Where it is.
    pub place: Place,
    /// Sent with each request.
    pub token: Option<Secret>,
}

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

impl Client {
    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// The server can't be reached, or doesn't speak HTTP.
    pub async fn ask(&self, method: Method, path: &str, body: Option<String>) -> io::Result<Reply> {
        let answered = async {
            let (head, body) = self.send(method, path, body).await?.into_parts();
            let body = to_bytes(body, MAX_ANSWER).await.map_err(io::Error::other)?;
            Ok(Reply {
                status: head.status.as_u16(),
                body: body.into(),
            })
        };
        timeout(ANSWER_TIMEOUT, answered).await?
    }

    /// Asks for server-sent events, and gives the data of each to `each` until the server ends them or `each` says false. An
    /// answer that isn't 200 is given back.
    ///
    /// # Errors
    /// The server can't be reached, or falls silent.
    pub async fn follow(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> bool,
    ) -> io::Result<Option<Reply>> {
        let sent = timeout(ANSWER_TIMEOUT, self.send(Method::GET, path, None));
        let (head, body) = sent.await??.into_parts();
        if head.status.as_u16() != 200 {
            let body = to_bytes(body, MAX_ANSWER).await.map_err(io::Error::other)?;
            return Ok(Some(Reply {
                status: head.status.as_u16(),
                body: body.into(),
            }));
        }
        let mut parts = body.into_data_stream();
        let mut line = Vec::new();
        while let Some(part) = timeout(SILENCE, parts.next()).await? {
            // The process of the server has ended, and with it the connection.
            let Ok(part) = part else { return Ok(None) };
            for byte in part {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > MAX_LINE {
                        return Err(io::Error::other("a line of the answer is too long"));
                    }
                    continue;
                }
                let text = String::from_utf8_lossy(&line);
                if let Some(data) = text.strip_prefix("data: ")
                    && !each(data)
                {
                    return Ok(None);
                }
                line.clear();
            }
        }
        Ok(None)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> io::Result<Response<Body>> {
        let (stream, host): (Pin<Box<dyn Io>>, &str) = match &self.place {
            Place::Unix(path) => (Box::pin(UnixStream::connect(path).await?), "localhost"),
            Place::Tcp(authority) => (Box::pin(TcpStream::connect(authority).await?), authority),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host);
        if let Some(token) = &self.token {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
                    io::Error::other("the token has characters that no header may have")
                })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(body)
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(io::Error::other)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        Ok(response.map(Body::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_or_an_address_with_its_port() {
        let tcp = |text: &str| Ok(Place::Tcp(text.to_owned()));
        assert_eq!(
            Place::parse("/run/hub.sock"),
            Ok(Place::Unix("/run/hub.sock".into()))
        );
        assert_eq!(
            Place::parse("./hub.sock"),
            Ok(Place::Unix("./hub.sock".into()))
        );
        assert_eq!(
            Place::parse("http://127.0.0.1:9090/"),
            tcp("127.0.0.1:9090")
        );
        assert_eq!(Place::parse("hub.test:1"), tcp("hub.test:1"));
        assert_eq!(Place::parse("http://[::1]:9090"), tcp("[::1]:9090"));
        for wrong in [
            "",
            "hub",
            "http://hub",
            "https://hub:1",
            "ftp://h:1",
            "http://u:p@h:1",
            "http://h:1/x",
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
