//! Who asks to come in, and what the registry says to that.

use super::counters::EdgeCounters;
use crate::entrance::{Conflict, Decision};
use remoteingress_config::EdgeEntry;
use remoteingress_proto::handshake::{InstanceId, ProofKeys, RefuseCode, SessionId};
use remoteingress_proto::token::edge_id::EdgeId;
use std::net::SocketAddr;
use std::sync::Arc;

/// May this authenticated connection come in?
#[derive(Debug)]
pub enum Admission {
    /// To this worker, which has the session that is to be resumed, or shall make a new one.
    Yes {
        worker: usize,
        entry: Arc<EdgeEntry>,
        counters: Arc<EdgeCounters>,
    },
    No(RefuseCode),
    /// Another instance of this edge is connected: does it answer?
    Conflict {
        other: SocketAddr,
        instance: InstanceId,
        sessions: Vec<(usize, SessionId)>,
    },
}

/// The place that an admitted connection gets at the hub.
#[derive(Debug)]
pub struct Place {
    /// The worker that has the session to be resumed, or makes a new one.
    pub worker: usize,
    /// The edge as it is configured.
    pub entry: Arc<EdgeEntry>,
    /// The counters of all of the edge's sessions.
    pub counters: Arc<EdgeCounters>,
}

impl From<Admission> for Decision<Place> {
    fn from(admission: Admission) -> Self {
        match admission {
            Admission::Yes {
                worker,
                entry,
                counters,
            } => Self::Admit(Place {
                worker,
                entry,
                counters,
            }),
            Admission::No(code) => Self::Refuse(code),
            Admission::Conflict {
                other,
                instance,
                sessions,
            } => Self::Conflict(Conflict {
                other,
                instance,
                sessions,
            }),
        }
    }
}

/// Who asks to come in.
#[derive(Debug)]
pub struct Applicant<'a> {
    pub edge: &'a EdgeId,
    pub keys: &'a ProofKeys,
    pub instance: InstanceId,
    pub ordinal: u16,
    pub resume: Option<SessionId>,
    pub replaces_instance: bool,
}
