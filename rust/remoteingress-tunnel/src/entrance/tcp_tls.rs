//! Accepts TCP connections off the workers: TLS and proof with a deadline, then to the worker that gets them (D1, D4).

use super::acceptor::{Acceptor, CountedIn, Deliver};
use super::passage::Passage;
use crate::transport::connection::Connection;
use crate::transport::error::ConnectionError;
use crate::transport::tcp_tls::TcpTls;
use crate::transport::tls::{self, ServerTls};
use remoteingress_core::entrance::reason::Reason;
use remoteingress_os::exhaustion::Exhaustion;
use remoteingress_os::socket_options::{reset_on_close, tune_tunnel};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

struct Listener<A: Acceptor> {
    acceptor: Arc<A>,
    tls: ServerTls,
    deliver: Deliver<A>,
}

/// Accepts on these listeners until the tasks are dropped.
pub fn listen<A: Acceptor>(
    acceptor: Arc<A>,
    tls: ServerTls,
    listeners: Vec<TcpListener>,
    deliver: Deliver<A>,
) -> JoinSet<()> {
    let all = Rc::new(Listener {
        acceptor,
        tls,
        deliver,
    });
    let mut tasks = JoinSet::new();
    for listener in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                tasks.spawn_local(all.clone().accept(listener));
            }
            Err(error) => tracing::error!(%error, "failed to watch the tunnel port"),
        }
    }
    tasks
}

impl<A: Acceptor> Listener<A> {
    async fn accept(self: Rc<Self>, listener: tokio::net::TcpListener) {
        let mut exhaustion = Exhaustion::new();
        loop {
            match listener.accept().await {
                Ok((tcp, peer)) => {
                    exhaustion.accepted();
                    self.admit(tcp, peer);
                }
                Err(error) => {
                    let Some(pause) = exhaustion.failed(Instant::now(), &error) else {
                        continue;
                    };
                    self.acceptor.count_refusal(Reason::Descriptors, None);
                    if pause.is_news {
                        tracing::warn!(%error, "no more tunnel connections can be accepted for now");
                    }
                    sleep(pause.length).await;
                }
            }
        }
    }

    /// Resets a connection that the guard refuses; no byte of it has been read.
    fn admit(self: &Rc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let now = Instant::now().into_std();
        let admitted = self.acceptor.guard().admit(now, peer.ip());
        if let Err(refusal) = admitted {
            self.acceptor.count_refusal(refusal.into(), Some(peer.ip()));
            // Fails only on a socket that is gone.
            let _ = reset_on_close(&tcp);
            return;
        }
        let (this, counted) = (
            self.clone(),
            CountedIn::new(self.acceptor.clone(), peer.ip()),
        );
        spawn_local(async move {
            this.bring_in(tcp, peer).await;
            drop(counted);
        });
    }

    async fn bring_in(&self, tcp: TcpStream, peer: SocketAddr) {
        let mut passage = Passage::new(&*self.acceptor, peer);
        let deadline = passage.deadline();
        let passed = timeout_at(
            deadline,
            self.handshake(&mut passage, (tcp, peer), deadline),
        )
        .await;
        passage.finish(passed);
    }

    async fn handshake(
        &self,
        passage: &mut Passage<'_, A>,
        (mut tcp, peer): (TcpStream, SocketAddr),
        deadline: Instant,
    ) -> Result<(), ConnectionError> {
        tune_tunnel(&tcp)?;
        let mut tls = tls::accept(&mut tcp, &self.tls, deadline).await?;
        let ekm = tls.take_exported_key().ok_or(ConnectionError::Closed)?;
        let connection = Connection::TcpTls(Box::new(TcpTls::new(tcp, peer, tls)));
        if let Some(admitted) = passage.enter(connection, &ekm).await? {
            (self.deliver)(admitted)?;
        }
        Ok(())
    }
}
