//! Accepts the QUIC connections of edges on the worker whose socket they reach; there they stay (D1).

use super::entrance::{self, Admitted};
use super::state::HubState;
use super::worker::HubWorker;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_os::udp::ReceiveBatch;
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::error::ConnectionError;
use remoteingress_tunnel::transport::quic::config::ServerQuic;
use remoteingress_tunnel::transport::quic::connection::QuicConnection;
use remoteingress_tunnel::transport::quic::endpoint::{Acceptor, Admission, QuicEndpoint, Slot};
use remoteingress_tunnel::transport::quic::steering::WorkerIds;
use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// A worker's sockets of the tunnel port and how to use them.
#[derive(Debug)]
pub(crate) struct QuicSockets {
    pub(crate) sockets: Vec<UdpSocket>,
    pub(crate) quic: ServerQuic,
    pub(crate) ids: WorkerIds,
}

/// What each of so many workers gets of the tunnel port's sockets.
pub(crate) fn share(
    groups: Vec<Vec<UdpSocket>>,
    workers: usize,
    quic: &ServerQuic,
) -> Vec<QuicSockets> {
    let steered = groups.first().map_or(1, Vec::len);
    let empty = |worker| QuicSockets {
        sockets: Vec::new(),
        quic: quic.clone(),
        ids: WorkerIds {
            worker,
            workers: steered.max(1),
        },
    };
    let mut shares: Vec<QuicSockets> = (0..workers).map(empty).collect();
    for group in groups {
        for (share, socket) in shares.iter_mut().zip(group) {
            share.sockets.push(socket);
        }
    }
    shares
}

/// Serves the worker's sockets until the tasks are dropped.
pub(crate) fn listen(worker: &Rc<HubWorker>, quic: QuicSockets) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let batch = Rc::new(RefCell::new(ReceiveBatch::new()));
    for socket in quic.sockets {
        match QuicEndpoint::server(socket, &quic.quic, quic.ids) {
            Ok(endpoint) => {
                let acceptor = Rc::new(Door {
                    worker: Rc::downgrade(worker),
                    handshakes: RefCell::default(),
                });
                tasks.spawn_local(endpoint.run(batch.clone(), Some(acceptor)));
            }
            Err(error) => tracing::error!(%error, "failed to watch the tunnel port for QUIC"),
        }
    }
    tasks
}

/// The worker lets connections in; it outlives the endpoints.
struct Door {
    worker: Weak<HubWorker>,
    /// They hold the socket, and end with the endpoint's task.
    handshakes: RefCell<JoinSet<()>>,
}

/// A peer that was counted in before its proof; dropping it counts it out.
struct Counted {
    state: Arc<HubState>,
    address: SocketAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.state.guard().release(self.address.ip());
    }
}

impl Acceptor for Door {
    fn admit(&self, address: SocketAddr, is_validated: bool) -> Admission {
        let Some(worker) = self.worker.upgrade() else {
            return Admission::Refuse;
        };
        let (state, now) = (&worker.state, Instant::now().into_std());
        let mut guard = state.guard();
        if !is_validated && guard.wants_proof_of_address(address.ip()) {
            return Admission::Retry;
        }
        match guard.admit(now, address.ip()) {
            Ok(()) => Admission::Accept,
            Err(refusal) => {
                state.refusals.count(refusal);
                Admission::Refuse
            }
        }
    }

    fn failed(&self, address: SocketAddr) {
        if let Some(worker) = self.worker.upgrade() {
            worker.state.guard().release(address.ip());
            worker
                .state
                .refusals
                .count(HubRefusalReason::HandshakeFailed);
        }
    }

    fn accepted(&self, endpoint: &Rc<QuicEndpoint>, slot: Rc<Slot>, address: SocketAddr) {
        let connection = QuicConnection::accepted(endpoint.clone(), slot);
        let Some(worker) = self.worker.upgrade() else {
            return;
        };
        let counted = Counted {
            state: worker.state.clone(),
            address,
        };
        let mut handshakes = self.handshakes.borrow_mut();
        while handshakes.try_join_next().is_some() {}
        handshakes.spawn_local(async move {
            let _counted = counted;
            let deadline = entrance::deadline(&worker.state);
            let handshake = timeout_at(deadline, handshake(&worker, connection, address));
            entrance::count_failure(&worker.state, address, handshake.await);
        });
    }
}

async fn handshake(
    worker: &Rc<HubWorker>,
    mut connection: QuicConnection,
    address: SocketAddr,
) -> Result<(), ConnectionError> {
    connection.handshake().await?;
    let ekm = connection.exported_key().ok_or(ConnectionError::Closed)?;
    let connection = Connection::Quic(Box::new(connection));
    let admitted = entrance::let_in(&worker.state, connection, &ekm, address).await?;
    if let Some(Admitted { incoming, .. }) = admitted {
        worker.connection(incoming);
    }
    Ok(())
}
