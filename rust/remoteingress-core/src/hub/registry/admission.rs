//! Applicants for a place at the hub, and the registry's answer to them.

use super::counters::EdgeCounters;
use crate::entrance::{Conflict, Decision};
use remoteingress_config::AllowedEdge;
use remoteingress_proto::handshake::{InstanceId, ProofKeys, RefuseCode, SessionId};
use remoteingress_proto::token::edge_id::EdgeId;
use std::net::SocketAddr;
use std::sync::Arc;

/// May this authenticated connection come in?
#[derive(Debug)]
pub enum Admission {
    /// Yes: to this worker, which has the session that is to be resumed, or makes a new one.
    Yes {
        /// The worker.
        worker: usize,
        /// The edge as it is configured.
        allowed: Arc<AllowedEdge>,
        /// The counters of all of the edge's sessions.
        counters: Arc<EdgeCounters>,
    },
    /// It may not, and is told why.
    No(RefuseCode),
    /// Another instance of this edge is connected: does it answer?
    Conflict {
        /// Address of that instance.
        other: SocketAddr,
        /// Its run of the edge.
        instance: InstanceId,
        /// Its sessions that don't only finish their streams, each with the worker that has it.
        sessions: Vec<(usize, SessionId)>,
    },
}

/// The place that an admitted connection gets at the hub.
#[derive(Debug)]
pub struct Place {
    /// The worker that has the session to be resumed, or makes a new one.
    pub worker: usize,
    /// The edge as it is configured.
    pub allowed: Arc<AllowedEdge>,
    /// The counters of all of the edge's sessions.
    pub counters: Arc<EdgeCounters>,
}

impl From<Admission> for Decision<Place> {
    fn from(admission: Admission) -> Self {
        match admission {
            Admission::Yes {
                worker,
                allowed,
                counters,
            } => Self::Admit(Place {
                worker,
                allowed,
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

/// An edge that asks to come in.
#[derive(Debug)]
pub struct Applicant<'a> {
    /// The edge that it has proved to be.
    pub edge: &'a EdgeId,
    /// Those of the secret that it has proved.
    pub keys: &'a ProofKeys,
    /// Its run of the edge.
    pub instance: InstanceId,
    /// Number of the session that it wants among the edge's, counted from 0.
    pub ordinal: u16,
    /// The session that it wants to resume.
    pub resume: Option<SessionId>,
    /// It takes the place of any other instance.
    pub replaces_instance: bool,
}
