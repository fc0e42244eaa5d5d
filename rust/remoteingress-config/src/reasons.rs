//! The fixed words of status and events: reasons, states, transports. docs/ and TypeScript's unions are generated from
//! the comments here.

use remoteingress_proto::{
    control,
    flow::{Refusal, ReplyRefusal},
    handshake::{self, RefuseCode},
    mux::stream::AbortCode,
    wire::header as wire,
};

use crate::words::words;

words! {
    /// Kind of connection that carries a tunnel.
    Transport {
        /// TLS over TCP.
        TcpTls = "tcpTls",
        /// QUIC over UDP.
        Quic = "quic",
    }

    /// End of a tunnel that dials.
    DialledBy {
        /// The edge dials the hub.
        Edge = "edge",
        /// The hub dials the edge.
        Hub = "hub",
    }

    /// Protocol of a listener port.
    Protocol {
        /// Each connection of a client is a stream.
        Tcp = "tcp",
        /// Each address of a client is a flow of datagrams.
        Udp = "udp",
    }

    /// State of a port at the edge.
    PortState {
        /// The port is open.
        Bound = "bound",
        /// The port couldn't be opened, and is tried again after 1 s to 30 s.
        Failed = "failed",
        /// The port was removed, accepts nothing new and lets its streams run on. UDP ports close at once instead.
        Draining = "draining",
    }

    /// Code of the error of a port that failed.
    PortErrorCode {
        /// Another socket has the port.
        AddressInUse = "E_ADDRESS_IN_USE",
        /// The system doesn't let this process open the port.
        PermissionDenied = "E_PERMISSION_DENIED",
        /// The edge's `allowedPorts` doesn't contain the port.
        PortNotAllowed = "E_PORT_NOT_ALLOWED",
        /// The port can't be opened for another reason; the message says which.
        BindFailed = "E_BIND_FAILED",
        /// The edge's listeners have all the descriptors that they may have; the message says which limit would do.
        DescriptorLimit = "E_DESCRIPTOR_LIMIT",
    }

    /// Capability of the binary, as `ready` lists it.
    Feature {
        /// Tunnels over TLS.
        TcpTls = "tcpTls",
        /// Tunnels over QUIC.
        Quic = "quic",
        /// UDP ports.
        Udp = "udp",
    }

    /// Reason why a stream ended.
    StreamCloseReason {
        /// Both directions ended properly.
        Finished = "finished",
        /// The client's or the target's socket was reset.
        Reset = "reset",
        /// The target refused the connection.
        TargetRefused = "targetRefused",
        /// The target didn't answer within `connectTimeoutSecs`, or its name has no address or one that
        /// `allowSpecialTargets` forbids.
        TargetUnreachable = "targetUnreachable",
        /// A limit or the memory budget was reached.
        Overloaded = "overloaded",
        /// The hub has no target for this port, for instance because its configuration has just changed.
        UnknownListener = "unknownListener",
        /// `clientAddressPolicy` forbids the client's address.
        ClientRefused = "clientRefused",
        /// The stream was silent for `idleTimeoutSecs` or `halfClosedTimeoutSecs`.
        IdleTimeout = "idleTimeout",
        /// The tunnel wasn't back within `resumeTimeoutSecs`.
        TunnelLost = "tunnelLost",
        /// The session took no new streams.
        Refused = "refused",
        /// The stream was cut after a drain, or its edge was removed or had its secret changed.
        Ended = "ended",
    }

    /// Reason why a hub refused an edge, in `edgeRejected`.
    TunnelRefusalReason {
        /// The edge's id is unknown or its secret is wrong.
        AuthFailed = "authFailed",
        /// Another edge with this id is connected, and gave a sign of life.
        InstanceConflict = "instanceConflict",
        /// The edge speaks another version of the protocol.
        UnsupportedVersion = "unsupportedVersion",
        /// The edge requires a feature that the hub lacks.
        UnsupportedFeature = "unsupportedFeature",
        /// The edge sent bytes that make no sense in the handshake.
        Protocol = "protocol",
        /// The hub was about to stop.
        Draining = "draining",
        /// The edge asked for more sessions than `maxSessionsPerEdge`.
        TooManySessions = "tooManySessions",
    }

    /// Reason why a hub refused a connection, an edge or a stream, in its `rejected`.
    HubRefusalReason {
        /// `maxPreAuth` connections hadn't proven a secret yet.
        MaxPreAuth = "maxPreAuth",
        /// As many connections of this client network as may (`maxPreAuthPerIp`) hadn't proven a secret yet.
        MaxPreAuthPerIp = "maxPreAuthPerIp",
        /// Connections came faster from this client network than `handshakesPerIpPerSec` allows.
        HandshakesPerIpPerSec = "handshakesPerIpPerSec",
        /// An edge id is blocked for a while at this client network, after `maxAuthFailuresPerIp` wrong proofs.
        MaxAuthFailuresPerIp = "maxAuthFailuresPerIp",
        /// The process ran out of descriptors, or the kernel out of memory. Accepting pauses for 100 ms to 1 s, and
        /// clients wait in the kernel's queue meanwhile.
        Descriptors = "descriptors",
        /// A connection didn't prove a secret within `handshakeTimeoutSecs`.
        HandshakeTimeout = "handshakeTimeout",
        /// Something that isn't an edge connected to the tunnel port, or an edge that refused the hub's key.
        HandshakeFailed = "handshakeFailed",
        /// An edge came before `updateAllowedEdges` was called for the first time. It is asked to come back after half
        /// a second.
        NotReady = "notReady",
        /// An edge's id is unknown or its secret is wrong.
        AuthFailed = "authFailed",
        /// Another edge with this id is connected, and gave a sign of life.
        InstanceConflict = "instanceConflict",
        /// An edge with another version of the protocol.
        UnsupportedVersion = "unsupportedVersion",
        /// An edge that requires a feature which this hub lacks.
        UnsupportedFeature = "unsupportedFeature",
        /// A peer sent bytes that make no sense in the handshake, or an edge broke the protocol later.
        Protocol = "protocol",
        /// An edge came while the hub was about to stop.
        Draining = "draining",
        /// An edge asked for more sessions than `maxSessionsPerEdge`.
        TooManySessions = "tooManySessions",
        /// A stream came while `maxStreams` were open.
        MaxStreams = "maxStreams",
        /// A stream came while its edge had `maxStreamsPerEdge` open. The hub tells this limit to the edge, which
        /// refuses further clients itself.
        MaxStreamsPerEdge = "maxStreamsPerEdge",
        /// A stream came while `maxPendingDialsPerEdge` connections to targets were being made for its edge.
        MaxPendingDialsPerEdge = "maxPendingDialsPerEdge",
        /// The memory budget was used up.
        Overloaded = "overloaded",
        /// An edge opened a stream whose header makes no sense.
        BadHeader = "badHeader",
        /// A stream came for a port that has no target, for instance because the configuration has just changed.
        UnknownListener = "unknownListener",
        /// `clientAddressPolicy` forbids the address of a stream's client.
        ClientRefused = "clientRefused",
        /// The target of a stream refused the connection.
        TargetRefused = "targetRefused",
        /// The target of a stream didn't answer within `connectTimeoutSecs`, or its name has no address or one that
        /// `allowSpecialTargets` forbids.
        TargetUnreachable = "targetUnreachable",
        /// A stream came for a pool without a target.
        PoolEmpty = "poolEmpty",
        /// All targets of a pool had as many streams as their `hardLimit` lets them have, and no place in its queue came in
        /// time.
        PoolFull = "poolFull",
        /// No target of a pool takes streams: `ctl pools` tells why.
        NoHealthyTarget = "noHealthyTarget",
        /// As many targets as a stream may try (`retries`) refused it, failed or were silent.
        RetriesExhausted = "retriesExhausted",
        /// A target refused a stream, failed or was silent, and its pool had retried as much as it may.
        RetryBudget = "retryBudget",
        /// A caller of the admin server, or all of them, had as many connections as may be.
        AdminConnections = "adminConnections",
    }

    /// Evidence that a target is down, in `targetDown`.
    TargetDownReason {
        /// Streams or flows to it failed, several in a row.
        Streams = "streams",
        /// Its checks failed, several in a row.
        Checks = "checks",
    }

    /// Reason why an edge refused a client, or a caller at its tunnel port (`listenTunnel`), in its `rejected`.
    EdgeRefusalReason {
        /// The edge had `maxConnections` clients.
        MaxConnections = "maxConnections",
        /// The port had `maxConnectionsPerListener` clients.
        MaxConnectionsPerListener = "maxConnectionsPerListener",
        /// The client network had as many clients as it may (`maxConnectionsPerIp`).
        MaxConnectionsPerIp = "maxConnectionsPerIp",
        /// Clients came faster from this client network than `newConnectionsPerIpPerSec` allows.
        NewConnectionsPerIpPerSec = "newConnectionsPerIpPerSec",
        /// The hub's limit of streams per edge was reached.
        MaxStreamsPerEdge = "maxStreamsPerEdge",
        /// The hub wasn't back within `holdTimeoutSecs`, or `maxHeldClients` waited already.
        NoSession = "noSession",
        /// The memory budget was used up, or one of the edge's workers took no more clients.
        Overloaded = "overloaded",
        /// The process ran out of descriptors, or the kernel out of memory. Accepting pauses for 100 ms to 1 s, and
        /// clients wait in the kernel's queue meanwhile.
        Descriptors = "descriptors",
        /// `maxPreAuth` callers hadn't proven the secret yet.
        MaxPreAuth = "maxPreAuth",
        /// `maxPreAuthPerIp` callers of this client network hadn't proven the secret yet.
        MaxPreAuthPerIp = "maxPreAuthPerIp",
        /// Callers came faster from this client network than `handshakesPerIpPerSec` allows.
        HandshakesPerIpPerSec = "handshakesPerIpPerSec",
        /// The client network is blocked for a while, after `maxAuthFailuresPerIp` wrong proofs.
        MaxAuthFailuresPerIp = "maxAuthFailuresPerIp",
        /// A caller didn't prove the secret within `handshakeTimeoutSecs`.
        HandshakeTimeout = "handshakeTimeout",
        /// Something that isn't a hub connected to the tunnel port, or a hub that refused the edge's key.
        HandshakeFailed = "handshakeFailed",
        /// A caller's secret is wrong.
        AuthFailed = "authFailed",
        /// Another hub is connected, and gave a sign of life.
        InstanceConflict = "instanceConflict",
        /// A hub with another version of the protocol.
        UnsupportedVersion = "unsupportedVersion",
        /// A caller sent bytes that make no sense in the handshake.
        Protocol = "protocol",
        /// A hub called while the edge was about to stop.
        Draining = "draining",
        /// A hub asked for more sessions than the edge has workers.
        TooManySessions = "tooManySessions",
        /// A caller of the admin server, or all of them, had as many connections as may be.
        AdminConnections = "adminConnections",
    }

    /// Reason why a datagram went no further, in `udp.dropped`.
    UdpDropReason {
        /// No session to the hub was live.
        ///
        /// At: edge
        NoSession = "noSession",
        /// The session had no connection.
        ///
        /// At: both
        Detached = "connectionLost",
        /// The tunnel was slower than the datagrams came, and newer ones took the place of this one.
        ///
        /// At: both
        QueueFull = "queueFull",
        /// The datagram had waited for 500 ms.
        ///
        /// At: both
        Late = "late",
        /// Too many datagrams reached a worker without a session, and 256 waited already for a worker with one.
        ///
        /// At: edge
        HandoverFull = "handoverFull",
        /// The limit of flows per port, and no flow could make room.
        ///
        /// At: edge
        MaxFlowsPerListener = "maxUdpFlowsPerListener",
        /// The limit of flows per client network, and no flow could make room.
        ///
        /// At: edge
        MaxFlowsPerIp = "maxUdpFlowsPerIp",
        /// The limit of flows per edge, and no flow could make room.
        ///
        /// At: hub
        MaxFlowsPerEdge = "maxUdpFlowsPerEdge",
        /// No descriptor was left for another flow, and no flow could make room.
        ///
        /// At: hub
        Descriptors = "descriptors",
        /// The flows of all edges had three quarters of the machine's ephemeral ports (`net.ipv4.ip_local_port_range`),
        /// or other programs had the rest, and no flow could make room.
        ///
        /// At: hub
        EphemeralPorts = "ephemeralPorts",
        /// The flow had ended meanwhile.
        ///
        /// At: both
        UnknownFlow = "unknownFlow",
        /// The answer was too large for a client that is unproven.
        ///
        /// At: edge
        Unvalidated = "unvalidatedReplyFactor",
        /// The hub has no target for this port.
        ///
        /// At: hub
        UnknownListener = "unknownListener",
        /// `clientAddressPolicy` forbids the client's address.
        ///
        /// At: hub
        ClientRefused = "clientRefused",
        /// The flow's pool has no target.
        ///
        /// At: hub
        PoolEmpty = "poolEmpty",
        /// All targets of the flow's pool had as many streams as their `hardLimit` lets them have.
        ///
        /// At: hub
        PoolFull = "poolFull",
        /// No target of the flow's pool takes streams.
        ///
        /// At: hub
        NoHealthyTarget = "noHealthyTarget",
        /// The target's name or address failed.
        ///
        /// At: hub
        TargetUnreachable = "targetUnreachable",
        /// Nobody listened at the target.
        ///
        /// At: hub
        TargetRefused = "targetRefused",
        /// Too many datagrams waited for the target's name, or their flow ended meanwhile.
        ///
        /// At: hub
        Resolving = "resolving",
        /// The socket of the client or target took nothing more.
        ///
        /// At: both
        SocketFull = "socketFull",
        /// The system refused to send the datagram.
        ///
        /// At: both
        SendFailed = "sendFailed",
        /// With its header the datagram would be larger than a datagram may be.
        ///
        /// At: both
        TooLarge = "tooLarge",
        /// A part of a large datagram didn't come within 2 s.
        ///
        /// At: both
        FragmentLate = "fragmentLate",
        /// Parts of a large datagram didn't fit together.
        ///
        /// At: both
        FragmentInvalid = "fragmentInvalid",
        /// Too many incomplete datagrams waited for their parts.
        ///
        /// At: both
        FragmentOverflow = "fragmentOverflow",
        /// The peer sent a tunnel datagram that makes no sense.
        ///
        /// At: both
        Malformed = "malformed",
    }
}

impl From<handshake::Transport> for Transport {
    fn from(transport: handshake::Transport) -> Self {
        match transport {
            handshake::Transport::TcpTls => Self::TcpTls,
            handshake::Transport::Quic => Self::Quic,
        }
    }
}

impl From<wire::Protocol> for Protocol {
    fn from(protocol: wire::Protocol) -> Self {
        match protocol {
            wire::Protocol::Tcp => Self::Tcp,
            wire::Protocol::Udp => Self::Udp,
        }
    }
}

impl From<&control::PortStatus> for PortState {
    fn from(status: &control::PortStatus) -> Self {
        match status {
            control::PortStatus::Bound => Self::Bound,
            control::PortStatus::Failed { .. } => Self::Failed,
            control::PortStatus::Draining => Self::Draining,
        }
    }
}

impl From<control::PortFailure> for PortErrorCode {
    fn from(failure: control::PortFailure) -> Self {
        match failure {
            control::PortFailure::AddressInUse => Self::AddressInUse,
            control::PortFailure::PermissionDenied => Self::PermissionDenied,
            control::PortFailure::NotAllowed => Self::PortNotAllowed,
            control::PortFailure::BindFailed => Self::BindFailed,
            control::PortFailure::DescriptorLimit => Self::DescriptorLimit,
        }
    }
}

impl From<AbortCode> for StreamCloseReason {
    fn from(code: AbortCode) -> Self {
        match code {
            AbortCode::Reset => Self::Reset,
            AbortCode::TargetRefused => Self::TargetRefused,
            AbortCode::TargetUnreachable => Self::TargetUnreachable,
            AbortCode::Overloaded => Self::Overloaded,
            AbortCode::Refused => Self::Refused,
            AbortCode::UnknownListener => Self::UnknownListener,
            AbortCode::Ended => Self::Ended,
            AbortCode::IdleTimeout => Self::IdleTimeout,
            AbortCode::ClientRefused => Self::ClientRefused,
            AbortCode::TunnelLost => Self::TunnelLost,
        }
    }
}

impl TunnelRefusalReason {
    /// The reason of a refusal in the handshake. None: only the edge is told, and no event.
    pub const fn of(code: RefuseCode) -> Option<Self> {
        Some(match code {
            RefuseCode::AuthFailed => Self::AuthFailed,
            RefuseCode::InstanceConflict => Self::InstanceConflict,
            RefuseCode::UnsupportedVersion => Self::UnsupportedVersion,
            RefuseCode::UnsupportedFeature => Self::UnsupportedFeature,
            RefuseCode::Overloaded => return None,
            RefuseCode::Draining => Self::Draining,
            RefuseCode::TooManySessions => Self::TooManySessions,
        })
    }
}

impl From<TunnelRefusalReason> for HubRefusalReason {
    fn from(reason: TunnelRefusalReason) -> Self {
        match reason {
            TunnelRefusalReason::AuthFailed => Self::AuthFailed,
            TunnelRefusalReason::InstanceConflict => Self::InstanceConflict,
            TunnelRefusalReason::UnsupportedVersion => Self::UnsupportedVersion,
            TunnelRefusalReason::UnsupportedFeature => Self::UnsupportedFeature,
            TunnelRefusalReason::Protocol => Self::Protocol,
            TunnelRefusalReason::Draining => Self::Draining,
            TunnelRefusalReason::TooManySessions => Self::TooManySessions,
        }
    }
}

impl From<AbortCode> for HubRefusalReason {
    fn from(code: AbortCode) -> Self {
        match code {
            AbortCode::UnknownListener => Self::UnknownListener,
            AbortCode::ClientRefused => Self::ClientRefused,
            AbortCode::TargetRefused => Self::TargetRefused,
            AbortCode::TargetUnreachable => Self::TargetUnreachable,
            AbortCode::Reset
            | AbortCode::Overloaded
            | AbortCode::Refused
            | AbortCode::Ended
            | AbortCode::IdleTimeout
            | AbortCode::TunnelLost => Self::Overloaded,
        }
    }
}

impl From<Refusal> for UdpDropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::PerListener => Self::MaxFlowsPerListener,
            Refusal::PerClient => Self::MaxFlowsPerIp,
            Refusal::IdsExhausted => Self::NoSession,
        }
    }
}

impl From<ReplyRefusal> for UdpDropReason {
    fn from(refusal: ReplyRefusal) -> Self {
        match refusal {
            ReplyRefusal::UnknownFlow => Self::UnknownFlow,
            ReplyRefusal::Unvalidated => Self::Unvalidated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn words_of_the_wire_are_those_of_the_interface() {
        for code in [
            AbortCode::Reset,
            AbortCode::TargetRefused,
            AbortCode::TargetUnreachable,
            AbortCode::Overloaded,
            AbortCode::Refused,
            AbortCode::UnknownListener,
            AbortCode::Ended,
            AbortCode::IdleTimeout,
            AbortCode::ClientRefused,
            AbortCode::TunnelLost,
        ] {
            assert_eq!(StreamCloseReason::from(code).as_str(), code.as_str());
        }
        for code in [
            AbortCode::UnknownListener,
            AbortCode::ClientRefused,
            AbortCode::TargetRefused,
            AbortCode::TargetUnreachable,
        ] {
            assert_eq!(HubRefusalReason::from(code).as_str(), code.as_str());
        }
        for code in [
            RefuseCode::AuthFailed,
            RefuseCode::InstanceConflict,
            RefuseCode::UnsupportedVersion,
            RefuseCode::UnsupportedFeature,
            RefuseCode::Overloaded,
            RefuseCode::Draining,
            RefuseCode::TooManySessions,
        ] {
            let told = TunnelRefusalReason::of(code).map(TunnelRefusalReason::as_str);
            assert!(told.is_none_or(|told| told == code.as_str()));
        }
        for failure in [
            control::PortFailure::AddressInUse,
            control::PortFailure::PermissionDenied,
            control::PortFailure::NotAllowed,
            control::PortFailure::BindFailed,
            control::PortFailure::DescriptorLimit,
        ] {
            let code = ErrorCode::from_text(PortErrorCode::from(failure).as_str());
            assert_eq!(code, ErrorCode::from_text(failure.as_str()));
            assert!(code.is_some());
        }
        for transport in [handshake::Transport::TcpTls, handshake::Transport::Quic] {
            assert_eq!(Transport::from(transport).as_str(), transport.as_str());
        }
        for protocol in [wire::Protocol::Tcp, wire::Protocol::Udp] {
            assert_eq!(Protocol::from(protocol).as_str(), protocol.as_str());
        }
    }

    #[test]
    fn words_are_read_back() {
        for reason in UdpDropReason::ALL {
            assert_eq!(UdpDropReason::from_text(reason.as_str()), Some(*reason));
            assert_eq!(serde_json::json!(reason), reason.as_str());
        }
        assert_eq!(UdpDropReason::from_text("banana"), None);
    }
}
