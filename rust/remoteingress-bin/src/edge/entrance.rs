//! The edge as the entrance of its tunnel port sees it, where its hub dials (D4).

use super::command::Command;
use super::state::EdgeState;
use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_core::entrance::guard::{Block, Guard};
use remoteingress_core::entrance::reason::Reason;
use remoteingress_core::entrance::{Decision, RefusedPeer};
use remoteingress_core::uplink::caller::decide;
use remoteingress_proto::handshake::{
    CallHandshake, CallProgress, HandshakeError, HubEpoch, InstanceId, SessionId, Transport,
};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::{FeatureOffer, Features};
use remoteingress_tunnel::entrance::acceptor::{Acceptor, Proved};
use remoteingress_tunnel::uplink::calls::ProvenCall;
use std::net::IpAddr;
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

    fn count_refusal(&self, reason: Reason, peer: Option<IpAddr>) {
        match peer {
            Some(peer) => self.clients.refusals.count_from(reason, peer),
            None => self.clients.refusals.count(reason),
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
            EdgeRefusalReason::MaxAuthFailuresPerIp.as_str(),
            block.length.as_secs(),
        );
        tracing::warn!(reason, %network, failures, secs, untold, "callers at the tunnel port are blocked at this address for `secs` seconds, after too many wrong proofs within a minute; give the hub there this edge's secret, or stop what calls (limits.maxAuthFailuresPerIp, limits.exempt)");
    }

    fn handshake_timeout(&self) -> Option<Duration> {
        self.config().limits.handshake_timeout
    }

    fn knows_edges(&self) -> bool {
        true
    }

    fn authenticate(
        &self,
        received: &[u8],
        ekm: &[u8; 32],
        transport: Transport,
        is_blocked: impl Fn(&EdgeId) -> bool,
    ) -> Result<Proved<ProvenCall>, HandshakeError> {
        let handshake = CallHandshake::new(ekm, transport);
        // Wrong proofs are for this edge, and count against its id at the caller's address.
        let wrong = || HandshakeError::AuthFailed {
            claimed: Some(self.edge_id.clone()),
        };
        match handshake.handle(received, self.hub.uplink.proof()) {
            Ok(CallProgress::NeedMore) => Ok(None),
            Ok(CallProgress::Called { .. }) | Err(HandshakeError::AuthFailed { .. })
                if is_blocked(&self.edge_id) =>
            {
                Err(wrong())
            }
            Ok(CallProgress::Called { call, consumed }) => {
                Ok(Some((Box::new(ProvenCall::new(call, ekm)), consumed)))
            }
            Err(HandshakeError::AuthFailed { .. }) => Err(wrong()),
            Err(error) => Err(error),
        }
    }

    fn identify<'a>(&'a self, _: &'a ProvenCall) -> (&'a EdgeId, FeatureOffer) {
        // A Call says nothing of features: Hello and Welcome agree on them.
        let none = FeatureOffer {
            required: Features::NONE,
            optional: Features::NONE,
        };
        (&self.edge_id, none)
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
                let _ = worker.send(Command::Evict(epoch));
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
        // It is counted, and warned of once a minute with all others.
        let reason = reason.as_str();
        tracing::debug!(%address, reason, ?other, "a caller at the tunnel port was refused");
    }
}
