//! The routes of the admin server, and what their queries hold. Its router is built from this list, and docs/admin.md's
//! table and docs/openapi.json are generated from the comments here. The first sentence of each says what it does.

use serde::Deserialize;

use crate::words::words;

words! {
    /// What the admin server does for a caller, by its `operationId`.
    Operation {
        /// Shows the [status page](#status-page).
        ///
        /// Of: both
        GetPage = "getPage",
        /// Gives a file that the status page loads.
        ///
        /// Of: both
        GetPageFile = "getPageFile",
        /// Answers 200 while the process lives.
        ///
        /// Of: both
        GetHealth = "getHealth",
        /// Answers 200 while traffic can flow, else 503. An edge needs a session that takes streams and an open port; a
        /// hub needs to have been told its edges, if only that there are none, and not to drain.
        ///
        /// Of: both
        GetReady = "getReady",
        /// Tells the [metrics](operations.md#metrics) for Prometheus. They come as OpenMetrics to a caller whose `Accept`
        /// names `application/openmetrics-text`, else in the classic text format.
        ///
        /// Of: both
        GetMetrics = "getMetrics",
        /// Tells what runs, and its [status](status.md). `hub` or `edge` is null.
        ///
        /// Of: both
        GetStatus = "getStatus",
        /// Tells the [configuration](configuration.md) in force, with its defaults and the edges that are allowed now.
        /// A field whose default depends on the machine, such as `memoryBudgetMiB`, is null or absent until it is set; the
        /// [status](status.md) has the memory budget. Secrets of a hub's edges are left out.
        /// `hub` or `edge` is null. Each secret that is given is `"[redacted]"`.
        ///
        /// Of: both
        GetConfig = "getConfig",
        /// Lists the [streams](#streams) and flows that are open, the oldest first. `limit` is 1 to 10,000, else 100; `total` counts
        /// those beyond it, too.
        ///
        /// Of: both
        GetStreams = "getStreams",
        /// Lists the latest [events](events.md) from number `since` on, the oldest first. Ask with `next` for those that
        /// come after. `lost` counts those since then that aren't kept any more: 1,000 events of 4 MiB together are, and
        /// one of more than 64 KiB has null as `data`. `streamOpened` and `streamClosed` aren't among them. Numbers begin
        /// anew with each process, so compare `startedAt` of the status.
        ///
        /// Of: both
        GetEvents = "getEvents",
        /// Sends events as they happen, or from `since` on, as server-sent events. Each is `event: event` with its number
        /// as id, and with what `/api/v1/events` has of it as data. With `status` there is also `event: status` with the
        /// answer of `/api/v1/status`, at once and then each second in which it has changed. A reader that doesn't read
        /// for 30 s, or misses events, is dropped.
        ///
        /// Of: both
        StreamEvents = "streamEvents",
        /// Lists the allowed edges without their secrets, and their state. `origin` tells who has said how an edge is to
        /// be: `file`, `rest` or `program`; `connected` is a [connected edge](status.md#connected-edge) or null, `unreachable` an
        /// [unreachable edge](status.md#unreachable-edge) or null.
        ///
        /// Of: hub
        GetEdges = "getEdges",
        /// Shows one of the allowed edges.
        ///
        /// Of: hub
        GetEdge = "getEdge",
        /// Adds or replaces an [allowed edge](configuration.md#allowed-edge), as `upsertEdges` does. `id` may be left out.
        /// Without `secret` an edge keeps its secrets, and a new one gets one. Beside a configuration file, exactly the
        /// file's entry makes the file count again.
        ///
        /// Of: hub
        PutEdge = "putEdge",
        /// Removes an edge, as `removeEdges` does. Its secret goes with it: a later `PUT` without `secret` makes a new one,
        /// and old tokens stay worthless.
        ///
        /// Of: hub
        DeleteEdge = "deleteEdge",
        /// Makes a connection token. The body is `{ hubHost, hubPort? }`, or empty for an edge that the hub dials.
        ///
        /// Of: hub
        CreateToken = "createToken",
        /// Tests the tunnel to an edge and the edge's targets within 10 s, see [Self-test](operations.md#self-test).
        ///
        /// Of: hub
        TestEdge = "testEdge",
        /// Lists the [pools](pools.md) and the [state](status.md#pool) of their targets.
        ///
        /// Of: hub
        GetPools = "getPools",
        /// Shows one pool: how it is configured, and its [state](status.md#pool). Of a pool that only routing.db has,
        /// `isConfigured` is false and `config` is what counts for it.
        ///
        /// Of: hub
        GetPool = "getPool",
        /// Adds or replaces a [pool](pools.md). The body is the pool as it is written in `pools`. A target that stays keeps
        /// its health, its counts and its clients. See [how long it is kept](#changes-of-pools).
        ///
        /// Of: hub
        PutPool = "putPool",
        /// Removes a pool from the configuration. It is refused while a port names the pool.
        ///
        /// Of: hub
        DeletePool = "deletePool",
        /// Sets a target's state: `active`, `drain` (it takes no new clients) or `dead` (it takes none; `cut=true`
        /// ends what it has). The target may be of any source.
        ///
        /// Of: hub
        SetTargetState = "setTargetState",
        /// Tells which target a client would get, and of each one why or why not. It changes nothing.
        ///
        /// Of: hub
        ExplainPool = "explainPool",
        /// Tells which target a client has by affinity. All clients of an IPv6 /64 are one.
        ///
        /// Of: hub
        GetBinding = "getBinding",
        /// Makes a client choose anew with its next stream or flow. Those that are open go on.
        ///
        /// Of: hub
        DeleteBinding = "deleteBinding",
        /// Tells the country and the region of an address, as `"geo"` sees it.
        ///
        /// Of: hub
        GetGeo = "getGeo",
        /// A target registers itself, as at edgeProxy: it is one of the pool that `app` names for 60 s after each sign of
        /// life.
        ///
        /// Of: hub
        Register = "register",
        /// A target that has registered gives a sign of life.
        ///
        /// Of: hub
        Heartbeat = "heartbeat",
        /// A target that has registered leaves. Its streams run on.
        ///
        /// Of: hub
        Deregister = "deregister",
        /// Lists the targets that have registered.
        ///
        /// Of: hub
        GetBackends = "getBackends",
        /// Shows one of them.
        ///
        /// Of: hub
        GetBackend = "getBackend",
        /// Begins to drain as SIGTERM does. Nothing new is let in, and the process ends when its streams have, or after
        /// `drainTimeoutSecs`. The server answers until then, and [status](status.md), `ctl` and the page say `draining`.
        /// Two signals after it cut the streams; one changes nothing.
        ///
        /// Of: both
        Drain = "drain",
        /// Describes all of these as [OpenAPI](#openapi) 3.1.
        ///
        /// Of: both
        GetOpenapi = "getOpenapi",
    }
}

/// Method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Adds or replaces.
    Put,
    /// Does.
    Post,
    /// Removes.
    Delete,
}

impl Verb {
    /// As in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

impl Operation {
    /// The method, and the path with its parameters in braces.
    pub const fn route(self) -> (Verb, &'static str) {
        match self {
            Self::GetPage => (Verb::Get, "/"),
            Self::GetPageFile => (Verb::Get, "/page/{name}"),
            Self::GetHealth => (Verb::Get, "/health"),
            Self::GetReady => (Verb::Get, "/ready"),
            Self::GetMetrics => (Verb::Get, "/metrics"),
            Self::GetStatus => (Verb::Get, "/api/v1/status"),
            Self::GetConfig => (Verb::Get, "/api/v1/config"),
            Self::GetStreams => (Verb::Get, "/api/v1/streams"),
            Self::GetEvents => (Verb::Get, "/api/v1/events"),
            Self::StreamEvents => (Verb::Get, "/api/v1/events/stream"),
            Self::GetEdges => (Verb::Get, "/api/v1/edges"),
            Self::GetEdge => (Verb::Get, "/api/v1/edges/{id}"),
            Self::PutEdge => (Verb::Put, "/api/v1/edges/{id}"),
            Self::DeleteEdge => (Verb::Delete, "/api/v1/edges/{id}"),
            Self::CreateToken => (Verb::Post, "/api/v1/edges/{id}/token"),
            Self::TestEdge => (Verb::Post, "/api/v1/edges/{id}/test"),
            Self::GetPools => (Verb::Get, "/api/v1/pools"),
            Self::GetPool => (Verb::Get, "/api/v1/pools/{pool}"),
            Self::PutPool => (Verb::Put, "/api/v1/pools/{pool}"),
            Self::DeletePool => (Verb::Delete, "/api/v1/pools/{pool}"),
            Self::SetTargetState => (Verb::Post, "/api/v1/pools/{pool}/targets/{target}/{state}"),
            Self::ExplainPool => (Verb::Get, "/api/v1/pools/{pool}/explain"),
            Self::GetBinding => (Verb::Get, "/api/v1/pools/{pool}/bindings/{client}"),
            Self::DeleteBinding => (Verb::Delete, "/api/v1/pools/{pool}/bindings/{client}"),
            Self::GetGeo => (Verb::Get, "/api/v1/geo/{ip}"),
            Self::Register => (Verb::Post, "/api/v1/register"),
            Self::Heartbeat => (Verb::Post, "/api/v1/heartbeat/{backend}"),
            Self::Deregister => (Verb::Delete, "/api/v1/backends/{backend}"),
            Self::GetBackends => (Verb::Get, "/api/v1/backends"),
            Self::GetBackend => (Verb::Get, "/api/v1/backends/{backend}"),
            Self::Drain => (Verb::Post, "/api/v1/drain"),
            Self::GetOpenapi => (Verb::Get, "/api/v1/openapi.json"),
        }
    }
}

/// Which streams are asked for.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StreamsQuery {
    /// Only the streams of this edge.
    pub edge: Option<String>,
    /// Streams that the answer holds at most.
    ///
    /// Default: 100 · Range: 1 to 10,000
    pub limit: Option<usize>,
}

/// Which events are asked for.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Number of the first event that is wanted.
    #[serde(default)]
    pub since: u64,
}

/// What a reader of server-sent events wants.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FeedQuery {
    /// Any value, also an empty one: the status is wanted, too.
    pub status: Option<String>,
    /// Number of the first event that is wanted.
    ///
    /// Default: the next one
    pub since: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_operations_have_the_same_route() {
        let routes = Operation::ALL.iter().map(|operation| {
            let (verb, path) = operation.route();
            (verb.as_str(), path)
        });
        let different: BTreeSet<_> = routes.collect();
        assert_eq!(different.len(), Operation::ALL.len());
    }
}
