//! The access log of an engine: which streams are written, and what of them.

use crate::logging;
use remoteingress_config::AccessLogConfig;
use remoteingress_config::access_log::{AccessEntry, End, EndedBy};
use remoteingress_config::error::CodedError;
use remoteingress_config::reasons::{Protocol, StreamCloseReason};
use remoteingress_core::stream::{Cause, Outcome};
use remoteingress_observe::access_log::{AccessLog, Place, is_sampled};
use remoteingress_proto::flow::FlowEnd;
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_tunnel::stream::facts::Facts;
use remoteingress_tunnel::stream::splice::Pipe;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes of most lines, at most.
const LINE: usize = 512;
/// Lines that wait when the process ends have this long to be written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The access log of an engine that has one.
pub(crate) struct Access {
    log: AccessLog,
    sample: f64,
    end: End,
}

/// A start that fails leaves no writer behind.
impl Drop for Access {
    fn drop(&mut self) {
        self.log.end();
    }
}

/// The times of a stream that is to be written, until it is.
pub(crate) struct Timing {
    /// The client's arrival, or the edge's word of it.
    pub(crate) since: Instant,
    pub(crate) accept: Option<Duration>,
    pub(crate) held: Option<Duration>,
    pub(crate) tunnel: Cell<Option<Duration>>,
    pub(crate) dial: Cell<Option<Duration>>,
    pub(crate) first_byte: Rc<Cell<Option<Duration>>>,
}

impl Timing {
    /// Begins at this time.
    pub(crate) fn new(since: Instant) -> Self {
        Self {
            since,
            accept: None,
            held: None,
            tunnel: Cell::new(None),
            dial: Cell::new(None),
            first_byte: Rc::default(),
        }
    }
}

/// A flow that has ended.
pub(crate) struct EndedFlow<'a> {
    pub(crate) id: Option<String>,
    pub(crate) facts: &'a Facts,
    pub(crate) moved: (u64, u64),
    pub(crate) reason: StreamCloseReason,
    pub(crate) begun_at: Instant,
    pub(crate) ended_at: Instant,
    pub(crate) first_byte: Option<Duration>,
}

impl Access {
    /// Opens the log, if one is configured.
    pub(crate) fn start(
        config: Option<&AccessLogConfig>,
        end: End,
    ) -> Result<Option<Self>, CodedError> {
        let Some(config) = config else {
            return Ok(None);
        };
        let place = config.file.clone().map_or(Place::Stderr, Place::File);
        let log = AccessLog::start(place).map_err(|error| {
            let file = config.file.as_ref().map_or_else(|| "stderr".into(), |file| file.to_string_lossy());
            let problem = format!(
                "failed to open the access log {file}: {error}; name a file in a directory that exists and that this process may write to, or stderr"
            );
            CodedError::invalid_config("accessLog.path", problem)
        })?;
        let sample = config.sample;
        Ok(Some(Self { log, sample, end }))
    }

    /// Writes a stream whose pipe has ended.
    pub(crate) fn stream(
        &self,
        edge: &EdgeId,
        transport: Transport,
        id: Option<String>,
        (pipe, outcome): (&Pipe, Outcome),
        timing: &Timing,
    ) {
        let Some(facts) = pipe
            .facts()
            .filter(|_| self.is_wanted(id.as_deref(), pipe.serial()))
        else {
            return;
        };
        let (from_socket, to_socket) = pipe.moved();
        let (bytes_in, bytes_out) = match self.end {
            End::Edge => (from_socket, to_socket),
            End::Hub => (to_socket, from_socket),
        };
        self.add(&AccessEntry {
            stream_id: Some(pipe.serial()),
            bytes_in,
            bytes_out,
            reason: outcome.into(),
            ended_by: ended_by(self.end, pipe.cause(), outcome),
            accept_ms: timing.accept.map(millis),
            held_ms: timing.held.map(millis),
            tunnel_ms: timing.tunnel.get().map(millis),
            dial_ms: timing.dial.get().map(millis),
            first_byte_ms: timing.first_byte.get().map(millis),
            total_ms: millis(timing.since.elapsed()),
            ..self.entry(id, edge, transport, (Protocol::Tcp, facts))
        });
    }

    /// Writes a flow.
    pub(crate) fn flow(&self, edge: &EdgeId, transport: Transport, flow: EndedFlow<'_>) {
        if !self.is_wanted(flow.id.as_deref(), u64::from(flow.facts.client().port())) {
            return;
        }
        let ended_by = match (flow.reason, self.end) {
            (StreamCloseReason::TunnelLost, _) => EndedBy::Tunnel,
            (StreamCloseReason::TargetUnreachable | StreamCloseReason::TargetRefused, _) => {
                EndedBy::Target
            }
            (_, End::Edge) => EndedBy::Edge,
            (_, End::Hub) => EndedBy::Hub,
        };
        let total = flow.ended_at.saturating_duration_since(flow.begun_at);
        self.add(&AccessEntry {
            time: logging::time(flow.ended_at.elapsed()),
            bytes_in: flow.moved.0,
            bytes_out: flow.moved.1,
            reason: flow.reason,
            ended_by,
            first_byte_ms: flow.first_byte.map(millis),
            total_ms: millis(total),
            ..self.entry(flow.id, edge, transport, (Protocol::Udp, flow.facts))
        });
    }

    /// By the id, or where there is none by a number of the stream.
    fn is_wanted(&self, id: Option<&str>, number: u64) -> bool {
        match id {
            Some(id) => is_sampled(id, self.sample),
            None => is_sampled(&number.to_string(), self.sample),
        }
    }

    fn entry(
        &self,
        id: Option<String>,
        edge: &EdgeId,
        transport: Transport,
        (protocol, facts): (Protocol, &Facts),
    ) -> AccessEntry {
        AccessEntry {
            time: logging::time(Duration::ZERO),
            end: self.end,
            id,
            stream_id: None,
            edge_id: edge.clone(),
            protocol,
            client: facts.client(),
            listener: facts.listener(),
            target: facts.target().map(str::to_owned),
            transport: transport.into(),
            bytes_in: 0,
            bytes_out: 0,
            reason: StreamCloseReason::Finished,
            ended_by: EndedBy::Client,
            accept_ms: None,
            held_ms: None,
            tunnel_ms: None,
            dial_ms: None,
            first_byte_ms: None,
            total_ms: 0.0,
        }
    }

    fn add(&self, entry: &AccessEntry) {
        let mut line = Vec::with_capacity(LINE);
        match serde_json::to_writer(&mut line, entry) {
            Ok(()) => self.log.add(line),
            Err(error) => tracing::error!(%error, "failed to write a line of the access log"),
        }
    }

    /// Counts flows of which nothing is known any more.
    pub(crate) fn count_lost(&self, lines: u64) {
        self.log.count_lost(lines);
    }

    /// Lines that were lost since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.log.lost()
    }

    /// Opens the file anew.
    pub(crate) fn reopen(&self) {
        self.log.reopen();
    }

    /// Gives lines that wait a moment.
    pub(crate) fn close(&self) {
        if !self.log.close(Instant::now() + CLOSE_TIMEOUT) {
            tracing::warn!("the last lines of the access log weren't written in time");
        }
    }
}

/// The end of a flow in the words of streams.
pub(crate) fn reason_of(end: FlowEnd) -> StreamCloseReason {
    match end {
        FlowEnd::Idle => StreamCloseReason::IdleTimeout,
        FlowEnd::Displaced => StreamCloseReason::Overloaded,
        FlowEnd::Closed => StreamCloseReason::Ended,
        FlowEnd::SessionLost => StreamCloseReason::TunnelLost,
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// The party that ended a stream, as this end knows it.
fn ended_by(end: End, cause: Cause, outcome: Outcome) -> EndedBy {
    let (here, at_socket, other, at_other_socket) = match end {
        End::Edge => (
            EndedBy::Edge,
            EndedBy::Client,
            EndedBy::Hub,
            EndedBy::Target,
        ),
        End::Hub => (
            EndedBy::Hub,
            EndedBy::Target,
            EndedBy::Edge,
            EndedBy::Client,
        ),
    };
    match (outcome, cause) {
        (Outcome::Aborted(AbortCode::TunnelLost), _) => EndedBy::Tunnel,
        (Outcome::Aborted(AbortCode::TargetRefused | AbortCode::TargetUnreachable), _) => {
            EndedBy::Target
        }
        (Outcome::Aborted(AbortCode::Reset), Cause::PeerAbort) | (_, Cause::Peer) => {
            at_other_socket
        }
        (_, Cause::PeerAbort) => other,
        (Outcome::SocketReset, _) | (_, Cause::Socket | Cause::Nothing) => at_socket,
        (_, Cause::Here) => here,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_party_that_ended_a_stream_is_told_from_either_end() {
        let reset = Outcome::Aborted(AbortCode::Reset);
        let idle = Outcome::Aborted(AbortCode::IdleTimeout);
        let refused = Outcome::Aborted(AbortCode::TargetRefused);
        let lost = Outcome::Aborted(AbortCode::TunnelLost);
        for (outcome, cause, at_edge, at_hub) in [
            (
                Outcome::Finished,
                Cause::Socket,
                EndedBy::Client,
                EndedBy::Target,
            ),
            (
                Outcome::Finished,
                Cause::Peer,
                EndedBy::Target,
                EndedBy::Client,
            ),
            (
                Outcome::SocketReset,
                Cause::Socket,
                EndedBy::Client,
                EndedBy::Target,
            ),
            (reset, Cause::PeerAbort, EndedBy::Target, EndedBy::Client),
            (idle, Cause::PeerAbort, EndedBy::Hub, EndedBy::Edge),
            (idle, Cause::Here, EndedBy::Edge, EndedBy::Hub),
            (refused, Cause::PeerAbort, EndedBy::Target, EndedBy::Target),
            (refused, Cause::Here, EndedBy::Target, EndedBy::Target),
            (lost, Cause::Here, EndedBy::Tunnel, EndedBy::Tunnel),
        ] {
            assert_eq!(
                ended_by(End::Edge, cause, outcome),
                at_edge,
                "{outcome:?} {cause:?}"
            );
            assert_eq!(
                ended_by(End::Hub, cause, outcome),
                at_hub,
                "{outcome:?} {cause:?}"
            );
        }
    }
}
