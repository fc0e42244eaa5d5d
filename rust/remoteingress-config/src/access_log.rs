//! The access log: its configuration, and what a line says.

use std::{net::SocketAddr, path::PathBuf};

use remoteingress_proto::token::edge_id::EdgeId;
use serde::{Deserialize, Serialize};

use crate::{
    error::CodedError,
    reasons::{Protocol, StreamCloseReason, Transport},
    words::words,
};

words! {
    /// Party that ended a stream or flow.
    EndedBy {
        /// The client: it closed or reset first.
        Client = "client",
        /// The target: it closed or reset first, or couldn't be reached.
        Target = "target",
        /// The edge: its limit, its timeout or its drain.
        Edge = "edge",
        /// The hub: its limit, its timeout or its drain.
        Hub = "hub",
        /// The tunnel wasn't back in time.
        Tunnel = "tunnel",
    }

    /// End of the tunnel.
    End {
        /// The public one.
        Edge = "edge",
        /// The private one.
        Hub = "hub",
    }
}

/// Where finished streams are written to, and how many of them.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogConfig {
    /// The file. Absent: standard error.
    pub file: Option<PathBuf>,
    /// Share of streams that are written.
    pub sample: f64,
}

/// A line of JSON for each stream and flow that has ended, see [operations.md](operations.md#access-log).
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "AccessLogConfig"))]
pub(super) struct AccessLogFields {
    /// File that the lines are added to, or `stderr`. It is opened anew at SIGHUP. It is a regular file or a character
    /// device like `/dev/null`; anything else, such as a FIFO, is refused.
    ///
    /// Range: path, not empty
    path: PathBuf,
    /// Share of streams that are written. Whether one is follows from its id: edge and hub write the same ones.
    ///
    /// Default: `1` · Range: more than 0, at most 1
    #[serde(default)]
    sample: Option<f64>,
}

impl AccessLogFields {
    pub(super) fn check(self) -> Result<AccessLogConfig, CodedError> {
        let refused = |field: &str, problem: &str| {
            CodedError::invalid_config(format_args!("accessLog.{field}"), problem)
        };
        if self.path.as_os_str().is_empty() {
            return Err(refused("path", "must not be empty"));
        }
        let sample = self.sample.unwrap_or(1.0);
        if !(sample > 0.0 && sample <= 1.0) {
            return Err(refused("sample", "must be more than 0 and at most 1"));
        }
        Ok(AccessLogConfig {
            file: Some(self.path).filter(|path| path.as_os_str() != "stderr"),
            sample,
        })
    }
}

/// A line of the access log: a stream or flow that has ended. Times are null where this end doesn't know them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessEntry {
    /// Time of the end, as RFC 3339 in UTC.
    pub time: String,
    /// End of the tunnel that writes.
    pub end: End,
    /// Id that is the same at edge and hub; null where the stream had ended before the hub knew of it.
    pub id: Option<String>,
    /// Number of the stream, as in `streamOpened`; null for a flow.
    pub stream_id: Option<u64>,
    /// Id of the edge that the client came to.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Protocol of the listener's port.
    pub protocol: Protocol,
    /// Address of the client, as `address:port`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub client: SocketAddr,
    /// Address of the edge that the client came to, as `address:port`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub listener: SocketAddr,
    /// Target, as `host:port`; null at an edge.
    pub target: Option<String>,
    /// Transport of the session.
    pub transport: Transport,
    /// Bytes of payload from the client towards the target.
    pub bytes_in: u64,
    /// Bytes of payload from the target towards the client.
    pub bytes_out: u64,
    /// Reason why it ended.
    pub reason: StreamCloseReason,
    /// Party that ended it.
    pub ended_by: EndedBy,
    /// At an edge: time from the accept until the stream was opened, without what follows.
    ///
    /// Unit: ms
    pub accept_ms: Option<f64>,
    /// At an edge: time that the client waited for a session.
    ///
    /// Unit: ms
    pub held_ms: Option<f64>,
    /// At an edge: time from the opening until its message was on its way to a hub that had said Welcome.
    ///
    /// Unit: ms
    pub tunnel_ms: Option<f64>,
    /// At a hub: time from the opening until the target was connected, names resolved.
    ///
    /// Unit: ms
    pub dial_ms: Option<f64>,
    /// Time from the client's arrival, or at a hub from the edge's word of it, until the target's first byte.
    ///
    /// Unit: ms
    pub first_byte_ms: Option<f64>,
    /// Time from the client's arrival, or at a hub from the edge's word of it, until the end.
    ///
    /// Unit: ms
    pub total_ms: f64,
}
