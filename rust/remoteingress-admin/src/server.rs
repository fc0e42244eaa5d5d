//! Listens, and serves connections within bounds.

use crate::access::Access;
use crate::answer::Failure;
use crate::api;
use crate::console::Console;
use crate::served::{Served, Statuses};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::{AdminConfig, AdminListen, AdminToken, check_admin_token};
use remoteingress_observe::events::Events;
use remoteingress_os::exhaustion::{Exhaustion, Pause};
use remoteingress_os::unix_listener::OwnListener;
use remoteingress_proto::token::secret::Secret;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;

/// Connections at a time: a few people, their probes and a scraper.
const MAX_CONNECTIONS: usize = 128;
/// Time for the head of a request, and for the pause before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a request from its head to the head of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for which an answer may find no room in the socket: its reader has stopped reading.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's body.
const MAX_BODY: usize = 1_024 * 1_024;
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1_024;
/// Bytes that the file of a token may have.
const MAX_TOKEN_FILE: u64 = 4_096;

/// An admin server that runs until it is dropped.
#[derive(Debug)]
pub struct Admin {
    access: Arc<Access>,
    config: AdminConfig,
    listening: Listening,
    task: tokio::task::AbortHandle,
}

/// Where an admin server listens in fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listening {
    /// A unix socket.
    Unix(std::path::PathBuf),
    /// An address, whose port the system may have chosen.
    Tcp(SocketAddr),
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

enum Listener {
    Unix(OwnListener),
    Tcp(TcpListener),
}

impl Admin {
    /// Binds the address and begins to serve, with a task on the current runtime.
    ///
    /// # Errors
    /// The token can't be read, or the address can't be bound.
    pub fn start(
        config: AdminConfig,
        console: Console,
        events: Events,
    ) -> Result<Self, CodedError> {
        let token = config.token.as_ref().map(read_token).transpose()?;
        let (listener, listening) = bind(&config.listen)?;
        let address = match &listening {
            Listening::Tcp(address) => Some(*address),
            Listening::Unix(_) => None,
        };
        let access = Arc::new(Access::new(address, config.allowed_hosts.clone(), token));
        // From now on they are kept.
        events.history();
        let served = Served {
            statuses: Statuses::new(console.clone()),
            console,
            events,
        };
        let routes = api::routes(served)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(from_fn_with_state(access.clone(), admit))
            .layer(map_response(api::guarded));
        let task = tokio::spawn(serve(listener, routes)).abort_handle();
        tracing::info!(listen = %listening, "admin server is up");
        Ok(Self {
            access,
            config,
            listening,
            task,
        })
    }

    /// Where it listens.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Reads the file of the token again. One that is of no use is logged, and the old token stays.
    pub fn reload_token(&self) {
        let Some(token @ AdminToken::File(_)) = &self.config.token else {
            return;
        };
        match read_token(token) {
            Ok(token) => self.access.set_token(token),
            Err(error) => {
                tracing::error!(%error, "failed to read the admin token again; the old one stays")
            }
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bind(listen: &AdminListen) -> Result<(Listener, Listening), CodedError> {
    let failed = |error: std::io::Error, what: &dyn fmt::Display| {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the system's kinds are open"
        )]
        let code = match error.kind() {
            std::io::ErrorKind::AddrInUse => ErrorCode::AddressInUse,
            std::io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
            _ => ErrorCode::BindFailed,
        };
        let message = format!(
            "admin.listen: failed to listen at {what}: {error}; choose another place, or stop what listens there"
        );
        CodedError::new(code, message)
    };
    match listen {
        AdminListen::Unix(path) => {
            let listener =
                OwnListener::bind(path).map_err(|error| failed(error, &path.display()))?;
            Ok((Listener::Unix(listener), Listening::Unix(path.clone())))
        }
        AdminListen::Tcp(address) => {
            let bound = std::net::TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                Ok((TcpListener::from_std(listener)?, address))
            });
            let (listener, address) = bound.map_err(|error| failed(error, address))?;
            Ok((Listener::Tcp(listener), Listening::Tcp(address)))
        }
    }
}

fn read_token(token: &AdminToken) -> Result<Secret, CodedError> {
    let path = match token {
        AdminToken::Given(token) => return Ok(token.clone()),
        AdminToken::File(path) => path,
    };
    let problem = |problem: String| CodedError::invalid_config("admin.tokenFile", problem);
    let token = read_file(path)
        .map_err(|error| problem(format!("failed to read {}: {error}", path.display())))?;
    check_admin_token(&token).map_err(|error| problem(format!("its content {error}")))?;
    Ok(token)
}

fn read_file(path: &Path) -> std::io::Result<Secret> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_TOKEN_FILE)
        .read_to_string(&mut text)?;
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    Ok(Secret::new(text))
}

/// Accepts until it is aborted; its connections end with it.
async fn serve(listener: Listener, routes: Router) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut exhaustion = Exhaustion::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Those that wait for a place wait in the kernel's queue.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let accepted = match &listener {
            Listener::Unix(own) => own
                .listener
                .accept()
                .await
                .map(|(stream, _)| Stream::Unix(stream)),
            Listener::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Stream::Tcp(stream)),
        };
        if accepted.is_ok() {
            exhaustion.accepted();
        }
        let routes = routes.clone();
        match accepted {
            Ok(Stream::Unix(stream)) => connections.spawn(async move {
                connection(stream, routes).await;
                drop(place);
            }),
            Ok(Stream::Tcp(stream)) => connections.spawn(async move {
                connection(stream, routes).await;
                drop(place);
            }),
            Err(error) => {
                if let Some(Pause { length, is_news }) = exhaustion.failed(Instant::now(), &error) {
                    if is_news {
                        tracing::warn!(%error, "the admin server failed to accept a connection");
                    }
                    sleep(length).await;
                }
                continue;
            }
        };
    }
}

enum Stream {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

async fn connection(stream: impl AsyncRead + AsyncWrite, routes: Router) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(READ_TIMEOUT));
    let stream = Box::pin(stream);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection of the admin server ended early");
    }
}

/// Lets a request in, and gives it its deadline.
async fn admit(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    if let Err(failure) = access.check(request.method(), request.uri(), request.headers()) {
        let asks = failure.status == StatusCode::UNAUTHORIZED;
        let mut response = failure.into_response();
        if asks {
            let challenge = axum::http::HeaderValue::from_static(
                "Basic realm=\"remoteingress\", charset=\"UTF-8\"",
            );
            response
                .headers_mut()
                .insert(axum::http::header::WWW_AUTHENTICATE, challenge);
        }
        return response;
    }
    match timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = "the request wasn't complete or answered within 30 s";
            Failure::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::BadRequest, message)
                .into_response()
        }
    }
}
