//! The edge as the entrance of its tunnel port sees it, where its hub dials (D4).

use super::command::Command;
use super::state::EdgeState;
use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_core::edge::entrance::decide;
use remoteingress_core::entrance::guard::Guard;
use remoteingress_core::entrance::reason::Reason;
use remoteingress_core::entrance::{Decision, RefusedPeer};
use remoteingress_proto::handshake::{
    CallHandshake, CallProgress, HandshakeError, HubEpoch, InstanceId, SessionId, Transport,
};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::{FeatureOffer, Features};
use remoteingress_tunnel::entrance::acceptor::{Acceptor, Proved};
use remoteingress_tunnel::uplink::calls::ProvenCall;
use std::sync::MutexGuard;
use std::time::Duration;
use tokio::sync::oneshot;

impl Acceptor for EdgeState {
    /// The worker that answers.
    type Place = usize;
    type Peer = ProvenCall;

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.strangers.guard()
    }

    fn count_refusal(&self, reason: Reason) {
        let reason = EdgeRefusalReason::from(reason);
        self.clients.refusals.count(reason);
    }

    fn handshake_timeout(&self) -> Option<Duration> {
        self.config.limits.handshake_timeout
    }

    fn knows_edges(&self) -> bool {
        true
    }

    fn authenticate(
        &self,
        received: &[u8],
        ekm: &[u8; 32],
        transport: Transport,
    ) -> Result<Proved<ProvenCall>, HandshakeError> {
        let handshake = CallHandshake::new(ekm, transport);
        Ok(match handshake.handle(received, self.hub.uplink.proof())? {
            CallProgress::NeedMore => None,
            CallProgress::Called { call, consumed } => {
                Some((Box::new(ProvenCall::new(call, ekm)), consumed))
            }
        })
    }

    fn identify<'a>(&'a self, _: &'a ProvenCall) -> (&'a EdgeId, FeatureOffer) {
        // A Call says nothing of features: Hello and Welcome agree on them.
        let none = FeatureOffer {
            required: Features::NONE,
            optional: Features::NONE,
        };
        (&self.config.edge_id, none)
    }

    fn decide(&self, caller: &ProvenCall) -> Decision<usize> {
        let callers = self.hub.uplink.callers();
        decide(&caller.call, &callers, self.is_draining())
    }

    fn evict(&self, _: &EdgeId, instance: InstanceId) {
        let epoch = HubEpoch(instance.0);
        let callers = self.hub.uplink.callers().into_iter().enumerate();
        let stale =
            callers.filter(|(_, caller)| caller.is_some_and(|caller| caller.epoch == epoch));
        for (worker, _) in stale {
            if let Some(worker) = self.worker(worker) {
                // A worker that has ended has no session.
                let _ = worker.send(Command::Retire);
            }
        }
        self.hub.uplink.forget_caller(epoch);
    }

    fn ping(&self, worker: usize, _: SessionId, answered: oneshot::Sender<()>) {
        if let Some(worker) = self.worker(worker) {
            // A worker that has ended drops it, which says that the session is gone.
            let _ = worker.send(Command::Ping(answered));
        }
    }

    fn report(&self, refused: RefusedPeer) {
        let RefusedPeer {
            address,
            reason,
            other,
            ..
        } = refused;
        let word = reason.as_str();
        if self.strangers.is_due(reason) {
            tracing::warn!(%address, reason = word, ?other, "a caller at the tunnel port was refused");
        } else {
            tracing::debug!(%address, reason = word, ?other, "a caller at the tunnel port was refused");
        }
    }
}
