//! The thread that accepts TCP connections at the tunnel port, off the workers (D1).

use remoteingress_tunnel::entrance::acceptor::{Acceptor, Admitted};
use remoteingress_tunnel::entrance::tcp_tls::listen;
use remoteingress_tunnel::transport::tcp_tls::Detached;
use remoteingress_tunnel::transport::tls::ServerTls;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Runs until it is told to stop, or nobody is left to tell it. `send` takes a connection to its worker.
pub(crate) async fn run<A: Acceptor>(
    acceptor: Arc<A>,
    tls: ServerTls,
    listeners: Vec<TcpListener>,
    send: impl Fn(&A, Admitted<A::Place, Detached, A::Peer>) + 'static,
    mut stop: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let state = acceptor.clone();
    let deliver = Rc::new(move |incoming: Admitted<A::Place, _, A::Peer>| {
        send(&state, incoming.detach()?);
        Ok(())
    });
    let mut tasks = listen(acceptor, tls, listeners, deliver);
    let stopped = stop.recv().await;
    tasks.shutdown().await;
    if let Some(stopped) = stopped {
        // The caller may have stopped waiting.
        let _ = stopped.send(());
    }
}
