//! Listens, and serves connections within bounds.

use crate::access::Access;
use crate::answer::Failure;
use crate::api;
use crate::console::Console;
use crate::places::{Caller, Place, Places};
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
use remoteingress_os::bind::bind_code;
use remoteingress_os::exhaustion::{Exhaustion, Pause};
use remoteingress_os::secret_file;
use remoteingress_os::unix_listener::OwnListener;
use remoteingress_proto::token::secret::Secret;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;

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
/// Bytes of a token in a file.
const MAX_TOKEN: usize = 4_096;

/// An admin server that runs until it is dropped.
#[derive(Debug)]
pub struct Admin {
    access: Arc<Access>,
    config: AdminConfig,
    task: tokio::task::AbortHandle,
    refusals: Arc<Refusals>,
}

/// Where connections that were refused are counted, by the address of the caller if it has one.
#[derive(Default)]
struct Refusals(OnceLock<Box<dyn Fn(Option<IpAddr>) + Send + Sync>>);

impl fmt::Debug for Refusals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Refusals").finish_non_exhaustive()
    }
}

/// A socket of either family, and a connection of it.
enum Listener {
    Unix(OwnListener),
    Tcp(TcpListener),
}

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

impl Listener {
    async fn accept(&self) -> io::Result<(Pin<Box<dyn Io>>, Caller)> {
        Ok(match self {
            Self::Unix(own) => (Box::pin(own.listener.accept().await?.0), Caller::Socket),
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let caller = Caller::of(peer, stream.local_addr().ok());
                (Box::pin(stream), caller)
            }
        })
    }
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
        let (listener, address) = bind(&config.listen)?;
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
        let refusals: Arc<Refusals> = Arc::default();
        let task = tokio::spawn(serve(listener, routes, refusals.clone())).abort_handle();
        let listen = address.map_or_else(|| config.listen.clone(), AdminListen::Tcp);
        tracing::info!(%listen, "admin server is up");
        Ok(Self {
            access,
            config,
            task,
            refusals,
        })
    }

    /// Counts connections that are refused from now on. Only the first call does something.
    pub fn count_refusals(&self, count: impl Fn(Option<IpAddr>) + Send + Sync + 'static) {
        // Set already, then.
        let _ = self.refusals.0.set(Box::new(count));
    }

    /// Reads the file of the token again. One that is of no use is logged, and the old token stays.
    pub fn reload_token(&self) {
        let Some(token @ AdminToken::File(_)) = &self.config.token else {
            return;
        };
        match read_token(token) {
            Ok(token) => {
                self.access.set_token(token);
                tracing::info!("the admin token was read again: callers must send this one");
            }
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

/// Binds the place; says its address, whose port the system may have chosen, unless it is a unix socket.
fn bind(listen: &AdminListen) -> Result<(Listener, Option<SocketAddr>), CodedError> {
    let bound = match listen {
        AdminListen::Unix(path) => {
            OwnListener::bind(path).map(|listener| (Listener::Unix(listener), None))
        }
        AdminListen::Tcp(address) => std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((
                Listener::Tcp(TcpListener::from_std(listener)?),
                Some(address),
            ))
        }),
    };
    bound.map_err(|error| {
        let advice = advice(listen, &error);
        let message = format!("admin.listen: failed to listen at {listen}: {error}; {advice}");
        CodedError::new(bind_code(&error), message)
    })
}

/// What helps where the place can't be bound.
fn advice(listen: &AdminListen, error: &io::Error) -> &'static str {
    match (listen, error.kind()) {
        (AdminListen::Unix(_), ErrorKind::NotFound) => {
            "make its directory, for this process's user to write to, or choose another place"
        }
        (AdminListen::Unix(_), ErrorKind::PermissionDenied) => {
            "let this process's user write to its directory, or choose another place"
        }
        (AdminListen::Tcp(_), ErrorKind::AddrNotAvailable) => {
            "choose an address that this machine has"
        }
        (AdminListen::Tcp(_), ErrorKind::PermissionDenied) => {
            "choose a port above 1023, or let this process open lower ones"
        }
        _ => "choose another place, or stop what listens there",
    }
}

fn read_token(token: &AdminToken) -> Result<Secret, CodedError> {
    let path = match token {
        AdminToken::Given(token) => return Ok(token.clone()),
        AdminToken::File(path) => path,
    };
    let problem = |problem: String| CodedError::invalid_config("admin.tokenFile", problem);
    let token = secret_file::read(path, MAX_TOKEN)
        .map_err(|error| problem(format!("{}: {error}", path.display())))?;
    if token.expose().len() > MAX_TOKEN {
        return Err(problem(format!("has more than {MAX_TOKEN} bytes")));
    }
    check_admin_token(&token).map_err(|error| problem(format!("its content {error}")))?;
    Ok(token)
}

/// Accepts until it is aborted; its connections end with it.
async fn serve(listener: Listener, routes: Router, refusals: Arc<Refusals>) {
    let places: Arc<Places> = Arc::default();
    let mut connections = JoinSet::new();
    let mut exhaustion = Exhaustion::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, caller) = match listener.accept().await {
            Ok(accepted) => accepted,
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
        exhaustion.accepted();
        // It is closed at once: in the kernel's queue it would keep out those who have a place.
        let Some(place) = places.take(caller) else {
            if let Some(count) = refusals.0.get() {
                count(caller.address());
            }
            continue;
        };
        connections.spawn(connection(stream, place, routes.clone()));
    }
}

async fn connection(stream: Pin<Box<dyn Io>>, _place: Place, routes: Router) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cant_be_bound_is_advised_by_its_cause() {
        let socket = AdminListen::Unix("/run/a/a.sock".into());
        let address = AdminListen::Tcp(SocketAddr::from(([192, 0, 2, 1], 80)));
        for (listen, kind, says) in [
            (&socket, ErrorKind::NotFound, "make its directory"),
            (
                &socket,
                ErrorKind::PermissionDenied,
                "write to its directory",
            ),
            (&socket, ErrorKind::AddrInUse, "stop what listens there"),
            (&address, ErrorKind::AddrInUse, "stop what listens there"),
            (&address, ErrorKind::AddrNotAvailable, "this machine has"),
            (&address, ErrorKind::PermissionDenied, "above 1023"),
        ] {
            let told = advice(listen, &kind.into());
            assert!(told.contains(says), "{told}");
        }
    }
}
