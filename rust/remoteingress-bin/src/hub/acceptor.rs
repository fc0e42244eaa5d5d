//! Accepts the TCP connections of edges off the workers: TLS and proof with a deadline, then to the worker that shall
//! have it (D1, D4).

use super::entrance::{self, Admitted};
use super::state::{Command, HubState};
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_os::exhaustion::Exhaustion;
use remoteingress_os::socket_options::{reset_on_close, tune_tunnel};
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::error::ConnectionError;
use remoteingress_tunnel::transport::tcp_tls::TcpTls;
use remoteingress_tunnel::transport::tls::{self, ServerTls};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout_at};

struct Acceptor {
    state: Arc<HubState>,
    tls: ServerTls,
}

/// Runs until it is told to stop, or nobody is left to tell it.
pub(crate) async fn run(
    state: Arc<HubState>,
    tls: ServerTls,
    listeners: Vec<TcpListener>,
    mut stop: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let acceptor = Rc::new(Acceptor { state, tls });
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                tasks.spawn_local(acceptor.clone().listen(listener));
            }
            Err(error) => tracing::error!(%error, "failed to watch the tunnel port"),
        }
    }
    let stopped = stop.recv().await;
    tasks.shutdown().await;
    if let Some(stopped) = stopped {
        // Whoever asked may not wait any more.
        let _ = stopped.send(());
    }
}

impl Acceptor {
    async fn listen(self: Rc<Self>, listener: tokio::net::TcpListener) {
        let mut exhaustion = Exhaustion::new();
        loop {
            let (tcp, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    let Some(pause) = exhaustion.failed(Instant::now(), &error) else {
                        continue;
                    };
                    self.state.refusals.count(HubRefusalReason::Descriptors);
                    if pause.is_news {
                        tracing::warn!(%error, "no more tunnel connections can be accepted for now");
                    }
                    sleep(pause.length).await;
                    continue;
                }
            };
            exhaustion.accepted();
            let admitted = self
                .state
                .guard()
                .admit(Instant::now().into_std(), address.ip());
            if let Err(refusal) = admitted {
                self.state.refusals.count(refusal);
                // Fails only on a socket that is gone.
                let _ = reset_on_close(&tcp);
                continue;
            }
            let acceptor = self.clone();
            spawn_local(async move {
                acceptor.welcome(tcp, address).await;
                acceptor.state.guard().release(address.ip());
            });
        }
    }

    async fn welcome(&self, tcp: tokio::net::TcpStream, address: SocketAddr) {
        let deadline = entrance::deadline(&self.state);
        let handshake = timeout_at(deadline, self.handshake(tcp, address, deadline));
        entrance::count_failure(&self.state, address, handshake.await);
    }

    async fn handshake(
        &self,
        mut tcp: tokio::net::TcpStream,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<(), ConnectionError> {
        tune_tunnel(&tcp)?;
        let mut tls = tls::accept(&mut tcp, &self.tls, deadline).await?;
        let ekm = tls.take_exported_key().ok_or(ConnectionError::Closed)?;
        let connection = Connection::TcpTls(Box::new(TcpTls::new(tcp, tls)));
        let admitted = entrance::let_in(&self.state, connection, &ekm, address).await?;
        if let Some(Admitted { incoming, worker }) = admitted
            && let Some(worker) = self.state.worker(worker)
        {
            // A worker that has ended drops it.
            let _ = worker.send(Command::Connection(Box::new(incoming.detach()?)));
        }
        Ok(())
    }
}
