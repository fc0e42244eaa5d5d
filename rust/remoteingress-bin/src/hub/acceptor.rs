//! The thread that accepts TCP connections of edges, off the workers (D1).

use super::state::{Command, HubState, Incoming};
use remoteingress_tunnel::entrance::tcp_tls::listen;
use remoteingress_tunnel::transport::tls::ServerTls;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Runs until it is told to stop, or nobody is left to tell it.
pub(crate) async fn run(
    state: Arc<HubState>,
    tls: ServerTls,
    listeners: Vec<TcpListener>,
    mut stop: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let workers = state.clone();
    let deliver = Rc::new(move |incoming: Incoming| {
        if let Some(worker) = workers.worker(incoming.place.worker) {
            // A worker that has ended drops it.
            let _ = worker.send(Command::Connection(Box::new(incoming.detach()?)));
        }
        Ok(())
    });
    let mut tasks = listen(state, tls, listeners, deliver);
    let stopped = stop.recv().await;
    tasks.shutdown().await;
    if let Some(stopped) = stopped {
        // The caller may have stopped waiting.
        let _ = stopped.send(());
    }
}
