//! The answer to `getStreams`: the streams and flows that are open now.

use std::net::{IpAddr, SocketAddr};

use remoteingress_proto::token::edge_id::EdgeId;
use serde::{Deserialize, Serialize};

use crate::{
    error::{CodedError, ErrorCode},
    reasons::{Protocol, Transport},
    words::words,
};

/// Streams that one answer to `getStreams` holds if nothing else is asked for.
pub const DEFAULT_STREAMS: usize = 100;
/// Streams that one answer to `getStreams` holds at most.
pub const MAX_STREAMS: usize = 10_000;

words! {
    /// Tier of a stream in the order of sending.
    StreamTier {
        /// The stream has moved little of late, and goes first.
        Data = "data",
        /// The stream moves much for a while already, and leaves others the way.
        Sustained = "sustained",
    }

    /// Party or thing that a stream waits for.
    WaitsFor {
        /// The session has no connection now, or its hub hasn't said Welcome yet.
        Tunnel = "tunnel",
        /// The connection to the target is being made.
        Dial = "dial",
        /// The client doesn't read what waits for it.
        Client = "client",
        /// The target doesn't read what waits for it.
        Target = "target",
        /// The other end of the tunnel gives no credit for more.
        Window = "window",
        /// Bytes wait for their turn in the tunnel's connection, or for memory.
        Link = "link",
    }
}

/// Parameters of `getStreams`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamsParams {
    /// Only the streams of this edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub edge_id: Option<EdgeId>,
    /// Streams that the answer holds at most, from 1 to 10,000.
    ///
    /// Default: `100`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl StreamsParams {
    /// Checks the limit.
    ///
    /// # Errors
    /// `E_BAD_REQUEST` names the field and its range.
    pub fn check(&self) -> Result<(), CodedError> {
        match self.limit {
            Some(limit) if !(1..=MAX_STREAMS).contains(&limit) => {
                let message = format!("limit: must be from 1 to {MAX_STREAMS}");
                Err(CodedError::new(ErrorCode::BadRequest, message))
            }
            _ => Ok(()),
        }
    }
}

/// Result of `getStreams`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamList {
    /// Streams and flows that are open, the oldest first.
    pub streams: Vec<StreamStatus>,
    /// Number of all that are open, also of those beyond the limit.
    pub total: usize,
}

/// A stream or flow that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamStatus {
    /// Id that is the same at edge and hub; null at an edge whose hub doesn't know the stream yet.
    pub id: Option<String>,
    /// Number of the stream, as in `streamOpened`; null for a flow.
    #[serde(rename = "streamId")]
    pub serial: Option<u64>,
    /// Id of the edge that the client came to.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Protocol of the listener's port.
    pub protocol: Protocol,
    /// Address of the client, as `address:port`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub client_address: SocketAddr,
    /// The listener's port.
    pub port: u16,
    /// Address of the edge that the client connected to.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub listener_ip: IpAddr,
    /// Target, as `host:port`; null at an edge.
    pub target: Option<String>,
    /// Transport of the session that carries the stream.
    pub transport: Transport,
    /// Time at which the stream was opened, in milliseconds since 1970.
    ///
    /// Unit: ms
    pub opened_at: u64,
    /// Bytes of payload from the client towards the target.
    pub bytes_in: u64,
    /// Bytes of payload from the target towards the client.
    pub bytes_out: u64,
    /// Tier of the stream in the order of sending; null for a flow, whose datagrams have a queue of their own.
    pub tier: Option<StreamTier>,
    /// Party or thing that the stream waits for; null while nothing holds it up.
    pub waits_for: Option<WaitsFor>,
}
