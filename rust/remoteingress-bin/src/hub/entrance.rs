//! The hub as the entrance of its tunnel port sees it: the registry decides who comes in, the guard who may try (D4, D7).

use super::state::{Command, HubState};
use remoteingress_config::events::{EdgeRejected, Event};
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_core::entrance::guard::{Block, Guard};
use remoteingress_core::entrance::reason::Reason;
use remoteingress_core::entrance::{Decision, RefusedPeer};
use remoteingress_core::hub::registry::{Applicant, Place};
use remoteingress_os::worker::Gauge;
use remoteingress_proto::handshake::{
    AuthenticatedEdge, Candidates, HandshakeError, HubHandshake, HubProgress, InstanceId,
    SessionId, Transport,
};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::FeatureOffer;
use remoteingress_tunnel::entrance::acceptor::{Acceptor, Proved};
use std::net::IpAddr;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

impl Acceptor for HubState {
    type Place = Place;
    type Peer = AuthenticatedEdge;

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard()
    }

    fn count_refusal(&self, reason: Reason, peer: Option<IpAddr>) {
        match (reason, peer) {
            (Reason::Doctor, peer) => self.doctors.count_from((), peer),
            (_, Some(peer)) => self.refusals.count_from(reason, peer),
            (_, None) => self.refusals.count(reason),
        }
    }

    fn report_block(&self, block: &Block) {
        let Block {
            network,
            failures,
            untold,
            ..
        } = block;
        let (reason, secs) = (
            HubRefusalReason::MaxAuthFailuresPerIp.as_str(),
            block.length.as_secs(),
        );
        match &block.edge {
            Some(edge) => {
                tracing::warn!(reason, %network, %edge, failures, secs, untold, "an edge id is blocked at this address for `secs` seconds, after too many wrong proofs within a minute; give the edge there a token with the right secret, or stop it; other edges there aren't touched (limits.maxAuthFailuresPerIp, limits.exempt)");
            }
            None => {
                tracing::warn!(reason, %network, failures, secs, untold, "edges that haven't proved themselves from this address are blocked there for `secs` seconds: wrong proofs came for too many edge ids; stop what sends them (limits.maxAuthFailuresPerIp, limits.exempt)");
            }
        }
    }

    fn handshake_timeout(&self) -> Option<Duration> {
        self.config().limits.handshake_timeout
    }

    fn knows_edges(&self) -> bool {
        self.registry().is_told
    }

    fn authenticate(
        &self,
        received: &[u8],
        ekm: &[u8; 32],
        transport: Transport,
        is_blocked: impl Fn(&EdgeId) -> bool,
    ) -> Result<Proved<AuthenticatedEdge>, HandshakeError> {
        let lookup = |edge: &EdgeId| {
            let is_blocked = is_blocked(edge);
            let candidates = self.registry().candidates(edge);
            if is_blocked {
                Candidates::unknown()
            } else {
                candidates
            }
        };
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
        let decision = self.registry().admit(&applicant, &loads).into();
        if matches!(decision, Decision::Admit(_)) {
            self.rejections().admitted(&hello.edge_id);
        }
        decision
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
        if !self.rejections().is_news(Instant::now(), &refused) {
            return;
        }
        self.events.emit(&Event::EdgeRejected(EdgeRejected {
            edge_id: refused.edge,
            remote_address: refused.address,
            reason: refused.reason,
            other_address: refused.other,
        }));
    }
}
