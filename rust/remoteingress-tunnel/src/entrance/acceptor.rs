//! The end that was dialled, as its entrance sees it, and the connections that it has admitted.

use super::line::Line;
use crate::transport::connection::Connection;
use crate::transport::tcp_tls::Detached;
use remoteingress_core::entrance::guard::{Block, Guard};
use remoteingress_core::entrance::reason::Reason;
use remoteingress_core::entrance::{Decision, RefusedPeer};
use remoteingress_proto::handshake::{
    AuthenticatedEdge, HandshakeError, InstanceId, SessionId, Transport,
};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::FeatureOffer;
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

    /// A peer that has proved the secret.
    type Peer: 'static;

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

    /// Looks at all that a peer has sent so far on a connection with this exporter value (`ekm`): once it has proved the
    /// secret, who it is and how many bytes that took. The proof of a peer whose id `is_blocked` is a wrong one, with the
    /// same work, so that only the answer tells.
    fn authenticate(
        &self,
        received: &[u8],
        ekm: &[u8; 32],
        transport: Transport,
        is_blocked: impl Fn(&EdgeId) -> bool,
    ) -> Result<Proved<Self::Peer>, HandshakeError>;

    /// The edge whose secret a peer has proved, and the features that the peer offers.
    fn identify<'a>(&'a self, peer: &'a Self::Peer) -> (&'a EdgeId, FeatureOffer);

    /// Decides on a peer whose proof held.
    fn decide(&self, peer: &Self::Peer) -> Decision<Self::Place>;

    /// Cuts all sessions of an instance of an edge.
    fn evict(&self, edge: &EdgeId, instance: InstanceId);

    /// Asks a session of a worker for a sign of life. `answered` is dropped if the session is gone.
    fn ping(&self, worker: usize, session: SessionId, answered: oneshot::Sender<()>);

    /// Tells the operator of a peer that was refused.
    fn report(&self, refused: RefusedPeer);
}

/// A peer that has proved the secret, and how many bytes that took; absent while not all of it is there.
pub type Proved<E> = Option<(Box<E>, usize)>;

/// Takes over a connection that was admitted. An error counts as a failed handshake.
pub type Deliver<A> = Rc<
    dyn Fn(Admitted<<A as Acceptor>::Place, Connection, <A as Acceptor>::Peer>) -> io::Result<()>,
>;

/// A connection that was admitted: on its worker, or [`Detached`] on its way there.
pub struct Admitted<P, C = Connection, E = AuthenticatedEdge> {
    /// The connection, with everything that the handshake didn't use.
    pub connection: C,
    /// The peer that waits for an answer.
    pub peer: Box<E>,
    /// Address of the peer.
    pub address: SocketAddr,
    /// All that the acceptor gives it.
    pub place: P,
    /// Where this end has dialled: hears of the connection's fate.
    pub line: Option<Line>,
}

impl<P, C, E> fmt::Debug for Admitted<P, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl<P, C, E> Admitted<P, C, E> {
    fn replace<D>(self, change: impl FnOnce(C) -> io::Result<D>) -> io::Result<Admitted<P, D, E>> {
        Ok(Admitted {
            connection: change(self.connection)?,
            peer: self.peer,
            address: self.address,
            place: self.place,
            line: self.line,
        })
    }
}

impl<P, E> Admitted<P, Connection, E> {
    /// Takes it off this thread's runtime. Only TCP connections can move.
    pub fn detach(self) -> io::Result<Admitted<P, Detached, E>> {
        self.replace(|connection| match connection {
            Connection::TcpTls(connection) => connection.detach(),
            Connection::Quic(_) => Err(io::ErrorKind::Unsupported.into()),
        })
    }
}

impl<P, E> Admitted<P, Detached, E> {
    /// Puts it on this thread's runtime.
    pub fn attach(self) -> io::Result<Admitted<P, Connection, E>> {
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
