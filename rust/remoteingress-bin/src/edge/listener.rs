//! One listener for TCP: accepts clients, and lets in those that the limits allow.

use super::clients::{Client, Clients};
use super::streams::Streams;
use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_core::edge::place::Place;
use remoteingress_os::dual::unmapped;
use remoteingress_os::exhaustion::Exhaustion;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Accepts until told to stop; then serves what waits in the accept queue and closes.
pub(super) async fn serve_listener(
    clients: Arc<Clients>,
    streams: Rc<Streams>,
    place: Place,
    listener: TcpListener,
    stop: Rc<Notify>,
) {
    // Without an address of its own, each client's socket knows where it was connected to.
    let bound = listener
        .local_addr()
        .ok()
        .filter(|address| !address.ip().is_unspecified());
    let let_in = |(socket, address): (TcpStream, SocketAddr)| {
        let address = unmapped(address);
        if let Some(client) = admit(&clients, place, socket, address, bound) {
            streams.accept(client);
        }
    };
    let mut exhaustion = Exhaustion::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.notified() => break,
        };
        match accepted {
            Ok(accepted) => {
                exhaustion.accepted();
                let_in(accepted);
            }
            Err(error) => {
                let Some(pause) = exhaustion.failed(Instant::now(), &error) else {
                    continue;
                };
                clients.refusals.count(EdgeRefusalReason::Descriptors);
                if pause.is_news {
                    tracing::warn!(port = place.port, %error, "no more clients can be accepted for now");
                }
                sleep(pause.length).await;
            }
        }
    }
    while let Some(accepted) = accept_waiting(&listener).await {
        let_in(accepted);
    }
}

async fn accept_waiting(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    poll_fn(|cx| match listener.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// A client that is let in; one whose socket is dropped instead is reset.
fn admit(
    clients: &Arc<Clients>,
    place: Place,
    socket: TcpStream,
    client: SocketAddr,
    bound: Option<SocketAddr>,
) -> Option<Client> {
    let ticket = clients.admit(client.ip(), place)?;
    let listener = bound.or_else(|| socket.local_addr().ok().map(unmapped))?;
    Some(Client {
        socket: socket.into_std().ok()?,
        ticket,
        client,
        listener,
        arrival: clients.time(),
    })
}
