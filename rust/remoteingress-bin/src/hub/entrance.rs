//! The hub as the entrance of its tunnel port sees it: the registry decides who comes in, the guard who may try (D4, D7).

use super::state::{Command, HubState};
use remoteingress_config::events::{EdgeRejected, Event};
use remoteingress_core::entrance::guard::Guard;
use remoteingress_core::entrance::reason::Reason;
use remoteingress_core::entrance::{Decision, RefusedPeer};
use remoteingress_core::hub::registry::{Applicant, Place};
use remoteingress_os::worker::Gauge;
use remoteingress_proto::handshake::{
    AuthenticatedEdge, HandshakeError, HubHandshake, HubProgress, InstanceId, SessionId, Transport,
};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::FeatureOffer;
use remoteingress_tunnel::entrance::acceptor::{Acceptor, Proved};
use std::sync::MutexGuard;
use std::time::Duration;
use tokio::sync::oneshot;

impl Acceptor for HubState {
    type Place = Place;
    type Peer = AuthenticatedEdge;

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard()
    }

    fn count_refusal(&self, reason: Reason) {
        self.refusals.count(reason);
    }

    fn handshake_timeout(&self) -> Option<Duration> {
        self.config.limits.handshake_timeout
    }

    fn knows_edges(&self) -> bool {
        self.registry().is_told
    }

    fn authenticate(
        &self,
        received: &[u8],
        ekm: &[u8; 32],
        transport: Transport,
    ) -> Result<Proved<AuthenticatedEdge>, HandshakeError> {
        let lookup = |edge: &EdgeId| self.registry().candidates(edge);
        let handshake = HubHandshake::new(ekm, transport);
        Ok(match handshake.handle(received, lookup)? {
            HubProgress::NeedMore => None,
            HubProgress::Authenticated { edge, consumed } => Some((edge, consumed)),
        })
    }

    fn identify<'a>(&'a self, edge: &'a AuthenticatedEdge) -> (&'a EdgeId, FeatureOffer) {
        (&edge.hello.edge_id, edge.hello.offer())
    }

    fn decide(&self, edge: &AuthenticatedEdge) -> Decision<Place> {
        let hello = &edge.hello;
        let applicant = Applicant {
            edge: &hello.edge_id,
            keys: &edge.keys,
            instance: hello.instance,
            ordinal: hello.session_ordinal,
            resume: hello.resume.as_ref().map(|resume| resume.session),
            replaces_instance: hello.replaces_instance,
        };
        let loads: Vec<usize> = self.gauges.iter().map(Gauge::streams).collect();
        self.registry().admit(&applicant, &loads).into()
    }

    fn evict(&self, edge: &EdgeId, instance: InstanceId) {
        self.change(|registry| ((), registry.evict(edge, instance)));
    }

    fn ping(&self, worker: usize, session: SessionId, answered: oneshot::Sender<()>) {
        if let Some(worker) = self.worker(worker) {
            // A worker that has ended drops it, which says that the session is gone.
            let _ = worker.send(Command::Ping { session, answered });
        }
    }

    fn report(&self, refused: RefusedPeer) {
        self.events.emit(&Event::EdgeRejected(EdgeRejected {
            edge_id: refused.edge,
            remote_address: refused.address,
            reason: refused.reason,
            other_address: refused.other,
        }));
    }
}
