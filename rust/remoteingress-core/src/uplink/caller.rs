//! Hubs that call an edge: which one may have a session of it.

use crate::entrance::{Conflict, Decision};
use remoteingress_proto::handshake::{Call, HubEpoch, InstanceId, RefuseCode, SessionId};
use std::net::SocketAddr;

/// A hub that has called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its run.
    pub epoch: HubEpoch,
    /// Its address.
    pub address: SocketAddr,
}

/// Decides on a hub whose proof held. `callers` are, by worker, the hubs whose sessions take new streams, or still have
/// some while this end drains; a place is the worker that answers the call.
pub fn decide(call: &Call, callers: &[Option<Caller>], is_draining: bool) -> Decision<usize> {
    let worker = usize::from(call.session_ordinal);
    let own = callers.get(worker).copied().flatten();
    let is_resume = own.is_some_and(|own| own.epoch == call.hub_epoch) && !call.is_trial;
    if is_draining && !is_resume {
        return Decision::Refuse(RefuseCode::Draining);
    }
    if worker >= callers.len() {
        return Decision::Refuse(RefuseCode::TooManySessions);
    }
    let others = callers.iter().enumerate().filter_map(|(worker, caller)| {
        let caller = caller.filter(|caller| caller.epoch != call.hub_epoch)?;
        Some((worker, caller))
    });
    let others: Vec<(usize, Caller)> = others.collect();
    let Some((_, first)) = others.first() else {
        return Decision::Admit(worker);
    };
    // A run of a hub is the instance here, and a worker has one session that takes streams.
    let instance = InstanceId(first.epoch.0);
    let sessions = others
        .iter()
        .filter(|(_, caller)| caller.epoch == first.epoch);
    let sessions = sessions.map(|(worker, caller)| (*worker, SessionId(caller.epoch.0)));
    Decision::Conflict(Conflict {
        other: first.address,
        instance,
        sessions: sessions.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_proto::handshake::PROTOCOL_VERSION;

    const ONE: HubEpoch = HubEpoch([1; 16]);
    const TWO: HubEpoch = HubEpoch([2; 16]);

    fn decided(ordinal: u16, callers: &[Option<HubEpoch>], is_draining: bool) -> Decision<usize> {
        let call = Call {
            protocol_version: PROTOCOL_VERSION,
            hub_epoch: ONE,
            session_ordinal: ordinal,
            is_trial: false,
        };
        let caller = |epoch| Caller {
            epoch,
            address: SocketAddr::from(([192, 0, 2, 1], 8443)),
        };
        let callers: Vec<_> = callers.iter().map(|epoch| epoch.map(caller)).collect();
        decide(&call, &callers, is_draining)
    }

    #[test]
    fn a_hub_gets_the_worker_that_it_wants_beside_its_own_sessions_and_in_their_place() {
        for callers in [[None, None], [Some(ONE), None], [Some(ONE), Some(ONE)]] {
            assert!(matches!(decided(1, &callers, false), Decision::Admit(1)));
        }
    }

    #[test]
    fn another_hub_comes_in_only_if_the_first_doesnt_answer() {
        let decision = decided(0, &[None, Some(TWO), Some(ONE), Some(TWO)], false);
        let Decision::Conflict(conflict) = decision else {
            panic!("{decision:?}")
        };
        assert_eq!(conflict.instance, InstanceId(TWO.0));
        let workers: Vec<usize> = conflict
            .sessions
            .iter()
            .map(|(worker, _)| *worker)
            .collect();
        assert_eq!(workers, [1, 3]);
    }

    #[test]
    fn an_edge_that_drains_and_one_with_fewer_workers_refuse() {
        let refused = |decision: Decision<usize>, code| {
            assert!(
                matches!(decision, Decision::Refuse(refused) if refused == code),
                "{decision:?}"
            );
        };
        refused(
            decided(2, &[None, None], false),
            RefuseCode::TooManySessions,
        );
        for callers in [[None, None], [Some(TWO), None], [None, Some(ONE)]] {
            refused(decided(0, &callers, true), RefuseCode::Draining);
        }
        refused(decided(2, &[Some(ONE)], true), RefuseCode::Draining);
    }

    #[test]
    fn an_edge_that_drains_goes_on_with_the_streams_of_its_hub() {
        let callers = [Some(ONE), Some(TWO)];
        let decision = decided(0, &callers[..1], true);
        assert!(matches!(decision, Decision::Admit(0)), "{decision:?}");
        // Another hub's session is another matter, as it is before.
        let decision = decided(0, &callers, true);
        assert!(matches!(decision, Decision::Conflict(_)), "{decision:?}");
    }
}
