//! One listener: accepts, admits, and gives each client to a worker that can carry it (D1, D13).

use super::state::{Client, Command, EdgeState};
use super::worker::EdgeWorker;
use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_os::exhaustion::Exhaustion;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

/// Accepts until told to stop; then serves what waits in the accept queue and closes.
pub(crate) async fn serve_listener(
    worker: Rc<EdgeWorker>,
    port: u16,
    listener: TcpListener,
    stop: Rc<Notify>,
) {
    // Without an address of its own, each client's socket knows where it was connected to.
    let bound = listener
        .local_addr()
        .ok()
        .filter(|address| !address.ip().is_unspecified());
    let mut exhaustion = Exhaustion::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.notified() => break,
        };
        match accepted {
            Ok((socket, client)) => {
                exhaustion.accepted();
                admit(&worker, port, socket, client, bound);
            }
            Err(error) => {
                let Some(pause) = exhaustion.failed(Instant::now(), &error) else {
                    continue;
                };
                worker.state.refusals.count(EdgeRefusalReason::Descriptors);
                if pause.is_news {
                    tracing::warn!(port, %error, "no more clients can be accepted for now");
                }
                sleep(pause.length).await;
            }
        }
    }
    while let Some((socket, client)) = accept_waiting(&listener).await {
        admit(&worker, port, socket, client, bound);
    }
}

async fn accept_waiting(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    poll_fn(|cx| match listener.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn admit(
    worker: &Rc<EdgeWorker>,
    port: u16,
    socket: TcpStream,
    client: SocketAddr,
    bound: Option<SocketAddr>,
) {
    let Some(ticket) = worker.state.admit(client.ip(), port) else {
        return;
    };
    let Some(listener) = bound.or_else(|| socket.local_addr().ok()) else {
        return;
    };
    let Ok(socket) = socket.into_std() else {
        return;
    };
    let client = Client {
        socket,
        ticket,
        client,
        listener,
    };
    if let Err(client) = place(worker, client) {
        tokio::task::spawn_local(hold(worker.clone(), client));
    }
}

/// Gives a client to this worker, or to the least loaded one if that has fewer streams or this no session: the
/// workers' sessions share what there is by halves, so streams are equal only if their numbers are.
/// Gives the client back if no session is live.
fn place(worker: &Rc<EdgeWorker>, mut client: Client) -> Result<(), Client> {
    let state = &worker.state;
    let Some((least, streams)) = state.least_loaded() else {
        return Err(client);
    };
    let own = state.gauges.get(worker.ordinal);
    if own.is_some_and(|own| own.is_live() && own.streams() <= streams) {
        client.ticket.place(Some(worker.ordinal));
        worker.carry(client);
        return Ok(());
    }
    let Some(other) = state.worker(least) else {
        return Err(client);
    };
    client.ticket.place(Some(least));
    if other.send(Command::Client(client)).is_err() {
        state.refusals.count(EdgeRefusalReason::Overloaded);
    }
    Ok(())
}

/// Clients that arrive while no session is live wait for one, outside of any session.
pub(crate) async fn hold(worker: Rc<EdgeWorker>, client: Client) {
    let state = worker.state.clone();
    let _held = Held::count(&state);
    let limits = &state.config.limits;
    let is_full = !limits
        .max_held_clients
        .admits(state.held.load(Ordering::Relaxed) - 1);
    let Some(timeout) = limits.hold_timeout.filter(|_| !is_full) else {
        return refuse(&state, client);
    };
    let deadline = Instant::now() + timeout;
    let mut live = state.live.subscribe();
    let mut waiting = client;
    waiting.ticket.place(None);
    loop {
        match place(&worker, waiting) {
            Ok(()) => return,
            Err(client) => waiting = client,
        }
        if !matches!(timeout_at(deadline, live.changed()).await, Ok(Ok(()))) {
            return refuse(&state, waiting);
        }
    }
}

/// Resets a client.
fn refuse(state: &EdgeState, client: Client) {
    state.refusals.count(EdgeRefusalReason::NoSession);
    drop(client);
}

struct Held<'a>(&'a EdgeState);

impl<'a> Held<'a> {
    fn count(state: &'a EdgeState) -> Self {
        state.held.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}
