//! The end that was dialled, as its entrance sees it, and the connections that it has admitted.

use crate::transport::connection::Connection;
use crate::transport::tcp_tls::Detached;
use remoteingress_core::entrance::guard::{Block, Guard};
use remoteingress_core::entrance::reason::Reason;
use remoteingress_core::entrance::{Decision, RefusedPeer};
use remoteingress_proto::handshake::{AuthenticatedEdge, Candidates, InstanceId, SessionId};
use remoteingress_proto::token::edge_id::EdgeId;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use tokio::sync::oneshot;

/// The end that was dialled.
pub trait Acceptor: 'static {
    /// All that an admitted connection gets there besides its worker.
    type Place: 'static;

    /// Limits on peers that have proved nothing.
    fn guard(&self) -> MutexGuard<'_, Guard>;

    /// Counts somebody who isn't let in, with the address where there is one.
    fn count_refusal(&self, reason: Reason, peer: Option<IpAddr>);

    /// Tells the operator of a block that has begun.
    fn report_block(&self, block: &Block);

    /// From accept to decision; absent where the limit is off.
    fn handshake_timeout(&self) -> Option<Duration>;

    /// True as soon as it was told which edges may come, even if none may.
    fn knows_edges(&self) -> bool;

    /// The proofs that an edge may give.
    fn candidates(&self, edge: &EdgeId) -> Candidates;

    /// Decides on an edge whose proof held.
    fn decide(&self, edge: &AuthenticatedEdge) -> Decision<Self::Place>;

    /// Cuts all sessions of an instance of an edge.
    fn evict(&self, edge: &EdgeId, instance: InstanceId);

    /// Asks a session of a worker for a sign of life. `answered` is dropped if the session is gone.
    fn ping(&self, worker: usize, session: SessionId, answered: oneshot::Sender<()>);

    /// Tells the operator of a peer that was refused.
    fn report(&self, refused: RefusedPeer);
}

/// Takes over a connection that was admitted. An error counts as a failed handshake.
pub type Deliver<P> = Rc<dyn Fn(Admitted<P>) -> io::Result<()>>;

/// A connection that was admitted: on its worker, or [`Detached`] on its way there.
pub struct Admitted<P, C = Connection> {
    /// The connection, with everything that the handshake didn't use.
    pub connection: C,
    /// The edge that waits for its Welcome.
    pub edge: Box<AuthenticatedEdge>,
    /// Address of the edge.
    pub address: SocketAddr,
    /// All that the acceptor gives it.
    pub place: P,
}

impl<P, C> fmt::Debug for Admitted<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl<P, C> Admitted<P, C> {
    fn replace<D>(self, change: impl FnOnce(C) -> io::Result<D>) -> io::Result<Admitted<P, D>> {
        Ok(Admitted {
            connection: change(self.connection)?,
            edge: self.edge,
            address: self.address,
            place: self.place,
        })
    }
}

impl<P> Admitted<P> {
    /// Takes it off this thread's runtime. Only TCP connections can move.
    pub fn detach(self) -> io::Result<Admitted<P, Detached>> {
        self.replace(|connection| match connection {
            Connection::TcpTls(connection) => connection.detach(),
            Connection::Quic(_) => Err(io::ErrorKind::Unsupported.into()),
        })
    }
}

impl<P> Admitted<P, Detached> {
    /// Puts it on this thread's runtime.
    pub fn attach(self) -> io::Result<Admitted<P>> {
        self.replace(|detached| Ok(Connection::TcpTls(Box::new(detached.attach()?))))
    }
}

/// A peer that the guard has counted in; dropping this counts it out.
pub(super) struct CountedIn<A: Acceptor> {
    acceptor: Arc<A>,
    peer: IpAddr,
}

impl<A: Acceptor> CountedIn<A> {
    pub(super) fn new(acceptor: Arc<A>, peer: IpAddr) -> Self {
        Self { acceptor, peer }
    }
}

impl<A: Acceptor> Drop for CountedIn<A> {
    fn drop(&mut self) {
        self.acceptor.guard().release(self.peer);
    }
}
