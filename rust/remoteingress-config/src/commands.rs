//! The methods of the management interface, their parameters and results. docs/ipc.md's table and TypeScript's types
//! are generated from the comments here; the parameters of `startHub` and `startEdge` are the configuration.

use remoteingress_proto::token::{edge_id::EdgeId, pin::Pin};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{error::CodedError, words::words};

/// Version of the management interface: of the lines on stdin and stdout. It counts up when a program that was written
/// for the version before would misread a line; a new field, event or method alone doesn't.
pub const IPC_VERSION: u16 = 1;

words! {
    /// Method of a request.
    Method {
        /// Does nothing but answer.
        Ping = "ping",
        /// Starts a hub in this process.
        StartHub = "startHub",
        /// Replaces the hub's whole set of allowed edges.
        UpdateAllowedEdges = "updateAllowedEdges",
        /// Opens a set of allowed edges that comes in parts, for one that is too long for a line. It takes the place of
        /// a set that is still open.
        BeginAllowedEdges = "beginAllowedEdges",
        /// Adds edges to the open set. A part that is refused drops the set.
        AddAllowedEdges = "addAllowedEdges",
        /// Makes the open set the hub's whole set of allowed edges, at one moment; with `keepOthers` it adds or replaces
        /// the edges of the set and leaves the others.
        CommitAllowedEdges = "commitAllowedEdges",
        /// Adds or replaces these edges and leaves the others.
        UpsertEdges = "upsertEdges",
        /// Removes these edges and leaves the others. An id that no edge has is no error.
        RemoveEdges = "removeEdges",
        /// Replaces the hub's whole set of pools. A pool that is the same isn't touched, and a target that stays keeps its
        /// health, its counts and its clients.
        UpdatePools = "updatePools",
        /// Sets whether a target takes streams, takes no new clients, or takes none. The state lasts until another one is
        /// set, over every change of the pool.
        SetTargetState = "setTargetState",
        /// Tells which target of a pool a client would get, and of each one why or why not. It changes nothing.
        ExplainPool = "explainPool",
        /// Makes the connection token of an edge.
        CreateConnectionToken = "createConnectionToken",
        /// Starts an edge in this process. The answer comes at once; `tunnelConnected` tells when the hub is reached.
        StartEdge = "startEdge",
        /// Tells the [status](status.md) of the hub or edge.
        GetStatus = "getStatus",
        /// Lists the streams and flows that are open, the oldest first.
        GetStreams = "getStreams",
        /// Tells the [metrics](operations.md#metrics) of the hub or edge as OpenMetrics text. Streams are timed from the
        /// first call on, unless an admin server runs.
        GetMetrics = "getMetrics",
        /// [Tests](operations.md#self-test) the tunnel to an edge and the edge's targets. The answer comes within 10 s, and
        /// after those to later requests.
        SelfTest = "selfTest",
        /// Sets which of the frequent events are sent; `[]` turns both off.
        Subscribe = "subscribe",
        /// Ends the hub or edge. The answer comes after the drain, and then the process exits with 0; a second `stop`
        /// is answered at once.
        Stop = "stop",
    }

    /// Event that is sent only to those who subscribe to it.
    Subscribable {
        /// A stream was opened.
        StreamOpened = "streamOpened",
        /// A stream has ended.
        StreamClosed = "streamClosed",
    }
}

/// The line that answers a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// Id of the request.
    pub id: String,
    /// True if there is a `result`, false if there is an `error`.
    pub success: bool,
    /// Result of the method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Error of the method, as `E_CODE: message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Answer {
    /// The answer to the request `id`.
    pub fn new(id: &str, result: Result<Value, CodedError>) -> Self {
        let (result, error) = match result {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            id: id.to_owned(),
            success: error.is_none(),
            result,
            error,
        }
    }
}

/// An empty object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Nothing {}

/// Result of `startHub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubStarted {
    /// Port that was bound, also when 0 was asked for.
    pub tunnel_port: u16,
    /// base64url SHA-256 of the hub's public key; null where tokens carry none.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub hub_pin: Option<Pin>,
}

/// Result of `beginAllowedEdges`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EdgeSetBegun {
    /// Number of the set, which its parts and its commit name.
    pub set: u32,
}

/// Parameters of `commitAllowedEdges`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeSetCommit {
    /// Number of the set.
    pub set: u32,
    /// Leaves edges allowed that the set doesn't have.
    ///
    /// Default: `false`
    #[serde(default)]
    pub keep_others: bool,
}

/// Parameters of `removeEdges`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgesRemoval {
    /// Ids of the edges that are allowed no more.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub edge_ids: Vec<EdgeId>,
}

/// Result of `removeEdges`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgesRemoved {
    /// Edges that aren't allowed any more: they are cut within a second.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub removed: Vec<EdgeId>,
    /// Ids that no edge had.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub unknown: Vec<EdgeId>,
}

/// Parameters of `createConnectionToken`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenParams {
    /// Id of an allowed edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// Name or IP address by which edges reach the hub, without scheme, port or path. An edge that the hub dials needs
    /// none; every other does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub_host: Option<String>,
    /// Port by which edges reach the hub, from 1 to 65535.
    ///
    /// Default: the hub's `tunnelPort`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub_port: Option<u16>,
}

/// Result of `createConnectionToken`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenCreated {
    /// Connection token. It contains the edge's secret.
    pub token: String,
}

/// Result of `getMetrics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metrics {
    /// The metrics, as `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    pub text: String,
}

/// Parameters of `subscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    /// The whole set that is wanted.
    pub events: Vec<Subscribable>,
}
