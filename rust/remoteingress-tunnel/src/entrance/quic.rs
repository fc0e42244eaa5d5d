//! Accepts QUIC connections on the worker whose socket they reach; there they stay (D1).

use super::acceptor::{Acceptor, CountedIn, Deliver};
use super::passage::Passage;
use crate::transport::connection::Connection;
use crate::transport::error::ConnectionError;
use crate::transport::quic::config::ServerQuic;
use crate::transport::quic::connection::QuicConnection;
use crate::transport::quic::endpoint::{Admission, Arrivals, QuicEndpoint, Slot};
use crate::transport::quic::steering::WorkerIds;
use remoteingress_core::entrance::reason::Reason;
use remoteingress_os::udp::ReceiveBatch;
use remoteingress_proto::mux::Role;
use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// A worker's sockets of the tunnel port and how to use them.
#[derive(Debug)]
pub struct QuicSockets {
    /// One per address of the tunnel port; none for a worker that no packet is steered to.
    pub sockets: Vec<UdpSocket>,
    /// Settings with which QUIC is spoken on them.
    pub quic: ServerQuic,
    /// The worker's mark in connection ids, by which packets are steered to it.
    pub ids: WorkerIds,
}

/// The share of each worker in the tunnel port's sockets: the first of each group for the first worker, and so on.
pub fn share(groups: Vec<Vec<UdpSocket>>, workers: usize, quic: &ServerQuic) -> Vec<QuicSockets> {
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
pub fn listen<A: Acceptor>(
    acceptor: &Arc<A>,
    quic: QuicSockets,
    deliver: &Deliver<A>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let batch = Rc::new(RefCell::new(ReceiveBatch::new()));
    for socket in quic.sockets {
        match QuicEndpoint::server(socket, &quic.quic, quic.ids) {
            Ok(endpoint) => {
                let handshakes = Rc::new(Handshakes {
                    role: quic.quic.role,
                    acceptor: acceptor.clone(),
                    deliver: deliver.clone(),
                    tasks: RefCell::default(),
                });
                tasks.spawn_local(endpoint.run(batch.clone(), Some(handshakes)));
            }
            Err(error) => tracing::error!(%error, "failed to watch the tunnel port for QUIC"),
        }
    }
    tasks
}

/// The connections of one endpoint that are on their way in.
struct Handshakes<A: Acceptor> {
    /// This end's role.
    role: Role,
    acceptor: Arc<A>,
    deliver: Deliver<A>,
    /// They hold the socket, and end with the endpoint's task.
    tasks: RefCell<JoinSet<()>>,
}

impl<A: Acceptor> Arrivals for Handshakes<A> {
    fn admit(&self, address: SocketAddr, is_validated: bool) -> Admission {
        let now = Instant::now().into_std();
        let mut guard = self.acceptor.guard();
        if !is_validated && guard.wants_proof_of_address(address.ip()) {
            return Admission::Retry;
        }
        match guard.admit(now, address.ip()) {
            Ok(()) => Admission::Accept,
            Err(refusal) => {
                self.acceptor
                    .count_refusal(refusal.into(), Some(address.ip()));
                Admission::Refuse
            }
        }
    }

    fn failed(&self, address: SocketAddr) {
        self.acceptor.guard().release(address.ip());
        self.acceptor
            .count_refusal(Reason::HandshakeFailed, Some(address.ip()));
    }

    fn accepted(&self, endpoint: &Rc<QuicEndpoint>, slot: Rc<Slot>, address: SocketAddr) {
        let connection = QuicConnection::accepted(endpoint.clone(), slot, self.role);
        let (acceptor, deliver) = (self.acceptor.clone(), self.deliver.clone());
        let counted = CountedIn::new(acceptor.clone(), address.ip());
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(async move {
            let mut passage = Passage::new(&*acceptor, address);
            let deadline = passage.deadline();
            let handshake = handshake(&mut passage, connection, &deliver);
            let passed = timeout_at(deadline, handshake).await;
            passage.finish(passed);
            drop(counted);
        });
    }
}

async fn handshake<A: Acceptor>(
    passage: &mut Passage<'_, A>,
    mut connection: QuicConnection,
    deliver: &Deliver<A>,
) -> Result<(), ConnectionError> {
    connection.handshake().await?;
    let ekm = connection.exported_key().ok_or(ConnectionError::Closed)?;
    let connection = Connection::Quic(Box::new(connection));
    if let Some(admitted) = passage.enter(connection, &ekm).await? {
        deliver(admitted)?;
    }
    Ok(())
}
