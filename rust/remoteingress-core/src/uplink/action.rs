//! The actions that the machines of an uplink ask of the code that does their I/O.

use super::failure::Failure;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_proto::handshake::{SessionId, Transport};
use std::time::{Duration, Instant};

/// One thing to do. A machine's actions are carried out in the order in which it gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Do nothing before this time; then the machine is told that its time has come.
    Wait {
        /// The end of the wait.
        until: Instant,
    },
    /// Do nothing until some worker has a session that takes streams.
    WaitForOthers,
    /// Make one attempt to reach the peer; the machine is told of its end.
    Dial(Dial),
    /// Let others know.
    Tell(News),
    /// Nothing more is tried for this session: its streams are reset.
    GiveUp(GiveUp),
    /// Nothing is left to do in this session, or none is to begin: end the connection in order, if there is one.
    Close,
}

/// The purpose of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// A new session, over the transport that new sessions use when the attempt begins.
    New,
    /// The next connection of a session that has lost its own.
    Resume {
        /// The session's id, as the peer gave it in its Welcome.
        session: SessionId,
        /// The attempts for this session so far, this one included.
        attempt: u32,
    },
    /// A session without streams, to find out whether QUIC works.
    Trial,
}

impl Dial {
    /// The transport to dial, when new sessions use `choice`.
    pub fn transport(self, choice: Transport) -> Transport {
        match self {
            Self::New => choice,
            // A session over QUIC ends with its connection.
            Self::Resume { .. } => Transport::TcpTls,
            Self::Trial => Transport::Quic,
        }
    }

    /// The peer is asked to push another instance out, if the configuration `replaces` others. A trial only finds
    /// something out, and an end that leaves only finishes its streams: it must not push its own successor out.
    pub fn replaces_instance(self, replaces: bool, is_leaving: bool) -> bool {
        replaces && !is_leaving && self != Self::Trial
    }

    /// Frames may follow Hello before the Welcome, as far as the purpose of the attempt goes.
    pub fn may_be_early(self) -> bool {
        !matches!(self, Self::Trial)
    }
}

/// Something that others need to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// This session takes new streams from now on, or takes none.
    Live(bool),
    /// The peer said something of the secret: to the dial gate.
    Verdict(Verdict),
    /// The peer has let this session in, or is heard again after a silence.
    Up {
        /// The session's streams have survived.
        is_resumed: bool,
    },
    /// Sessions over this transport can't be relied on.
    Down {
        /// The reason, for the operator.
        error: CodedError,
        /// The cause, which decides how loudly it is logged.
        cause: Down,
    },
    /// QUIC doesn't get through, for the reason given: new sessions use TLS if the configuration allows that.
    FallBack(String),
    /// An attempt begins to give a session its next connection.
    Reconnecting,
    /// The peer has forgotten a connection, hence been restarted: the other sessions should ask whether it knows theirs.
    PeerRestarted,
}

/// The cause for which a session or an attempt carries nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// The connection is lost.
    Lost,
    /// The peer broke the protocol.
    Violation,
    /// An attempt to reach the peer has failed, or the peer has refused it.
    Attempt,
    /// Another instance has taken this one's place.
    Replaced,
    /// The path has gone silent.
    Silent,
}

/// A peer's word on this end's secret, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer has accepted the secret.
    Accepted,
    /// The peer has refused the secret.
    Refused(Failure),
    /// The peer has refused the attempt for another reason, after it had accepted the secret.
    Proved,
    /// A peer that had accepted the secret is heard again after a silence.
    Heard,
    /// A connection was lost or is silent, perhaps because the peer accepts the secret no longer.
    Lost,
}

impl Verdict {
    /// The peer's word on the secret that a failure is; none if it says nothing of that.
    pub fn of_failure(failure: &Failure) -> Option<Self> {
        if failure.is_auth_failure {
            return Some(Self::Refused(failure.clone()));
        }
        // Another instance is looked for only once the proof has held.
        (failure.error.code == ErrorCode::InstanceConflict).then_some(Self::Proved)
    }
}

/// The reason for which a session is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// Another connection can't go on with it, or it has no stream that would gain by that.
    NotResumable,
    /// The peer doesn't accept the secret.
    Refused,
    /// The time in which it could be resumed is over.
    Expired,
    /// The peer took it up in a way that doesn't fit what was sent.
    Unusable,
}

/// The news that an attempt has failed.
pub(super) fn failed(failure: &Failure) -> Action {
    Action::Tell(News::Down {
        error: failure.error.clone(),
        cause: Down::Attempt,
    })
}

/// A wait of this length from now on.
pub(super) fn wait(now: Instant, delay: Duration) -> Action {
    Action::Wait { until: now + delay }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_leaves_and_a_trial_push_no_instance_out() {
        let (session, attempt) = (SessionId([7; 16]), 1);
        assert!(!Dial::Trial.replaces_instance(true, false));
        for dial in [Dial::New, Dial::Resume { session, attempt }] {
            assert!(dial.replaces_instance(true, false));
            assert!(!dial.replaces_instance(false, false));
            assert!(!dial.replaces_instance(true, true), "{dial:?}");
        }
    }
}
