// The fixed words of the binary as types: error codes, reasons, states. Nothing else stands here, one line of
// documentation each, because these lists repeat what the Rust sources say (test/reasons.test.ts compares them).

/** Code of an error that the binary reports: the answer to a call, a port that failed, a tunnel that is down. */
export type TBinaryErrorCode =
  /** The request was not a request of docs/ipc.md, or too large. */
  | 'E_BAD_REQUEST'
  /** A request used the id of an earlier one. */
  | 'E_DUPLICATE_ID'
  /** The binary doesn't know the method. */
  | 'E_UNKNOWN_METHOD'
  /** The hub or edge isn't started, or is stopping: call `start` first. */
  | 'E_NOT_RUNNING'
  /** The hub or edge is started already: call `stop` first. */
  | 'E_ALREADY_RUNNING'
  /** A field of the configuration is wrong: the message begins with its path. */
  | 'E_INVALID_CONFIG'
  /** The connection token can't be read: copy it whole, or make a new one. */
  | 'E_INVALID_TOKEN'
  /** The hub has no edge with this id: add it with `updateAllowedEdges` first. */
  | 'E_UNKNOWN_EDGE'
  /** The port can't be opened; the message says why. */
  | 'E_BIND_FAILED'
  /** Something else listens on this port. */
  | 'E_ADDRESS_IN_USE'
  /** The system doesn't allow this port: ports below 1024 need root or `CAP_NET_BIND_SERVICE`. */
  | 'E_PERMISSION_DENIED'
  /** The edge's `allowedPorts` don't contain this port. */
  | 'E_PORT_NOT_ALLOWED'
  /** The hub's `stateDir` can't be used, or is open to other users. */
  | 'E_STATE_DIR'
  /** The answer wasn't a hub's, or its certificate doesn't fit `verifyHostname`. */
  | 'E_TLS'
  /** The hub didn't answer, or answers no more. */
  | 'E_HUB_UNREACHABLE'
  /** The hub has another key than the token says: make a new token, unless the hub's key is the old one. */
  | 'E_HUB_PIN_MISMATCH'
  /** The hub doesn't know this edge id and secret, or doesn't know the secret itself. */
  | 'E_AUTH_FAILED'
  /** Another edge with this id is connected, or has taken over. */
  | 'E_INSTANCE_CONFLICT'
  /** Hub and edge have versions that don't fit: update the older one. */
  | 'E_PROTOCOL'
  /** The hub is overloaded, or allows this edge fewer sessions. */
  | 'E_OVERLOADED'
  /** A bug of this package: please report it with the log. */
  | 'E_INTERNAL';

/** Code of the error of a port that failed. */
export type TPortErrorCode =
  /** Something else listens on this port. */
  | 'E_ADDRESS_IN_USE'
  /** The system doesn't allow this port: ports below 1024 need root or `CAP_NET_BIND_SERVICE`. */
  | 'E_PERMISSION_DENIED'
  /** The edge's `allowedPorts` don't contain this port. */
  | 'E_PORT_NOT_ALLOWED'
  /** The port can't be opened; the message says why. */
  | 'E_BIND_FAILED';

/** State of a port at the edge. */
export type TPortState =
  /** The port is open. */
  | 'bound'
  /** The port couldn't be opened; it is tried again after 1 s to 30 s. */
  | 'failed'
  /** The port accepts nothing new, and its streams run on. UDP ports close at once instead. */
  | 'draining';

/** Protocol of a listener port. */
export type TProtocol =
  /** Each connection of a client is a stream. */
  | 'tcp'
  /** Each address of a client is a flow of datagrams. */
  | 'udp';

/** Transport of a tunnel. */
export type TTransport =
  /** TLS over TCP. */
  | 'tcpTls'
  /** QUIC over UDP. */
  | 'quic';

/** Why a stream ended. */
export type TStreamCloseReason =
  /** Both directions ended properly. */
  | 'finished'
  /** The client's or the target's socket was reset. */
  | 'reset'
  /** The target refused the connection. */
  | 'targetRefused'
  /** The target didn't answer in time, has no address, or a forbidden one. */
  | 'targetUnreachable'
  /** A limit or the memory budget is reached. */
  | 'overloaded'
  /** The session took no new streams. */
  | 'refused'
  /** The hub has no target for this port, for instance since its configuration just changed. */
  | 'unknownListener'
  /** The stream was cut after a drain, or its edge was removed, or the edge's secret changed. */
  | 'ended'
  /** Nothing moved for `idleTimeoutSecs` or `halfClosedTimeoutSecs`. */
  | 'idleTimeout'
  /** The edge's `clientAddressPolicy` forbids the client. */
  | 'clientRefused'
  /** The tunnel wasn't back within `resumeTimeoutSecs`. */
  | 'tunnelLost';

/** Why the hub refused the tunnel of an edge. */
export type TTunnelRefusalReason =
  /** The edge's id is unknown or its secret is wrong. */
  | 'authFailed'
  /** Another edge with this id is connected. */
  | 'instanceConflict'
  /** The edge speaks another version of the protocol. */
  | 'unsupportedVersion'
  /** The edge lacks a feature that the hub needs, or needs one that the hub lacks. */
  | 'unsupportedFeature'
  /** The edge broke the protocol. */
  | 'protocol'
  /** The hub is about to stop. */
  | 'draining'
  /** The edge has `maxSessionsPerEdge` sessions already. */
  | 'tooManySessions';

/** Why the hub refused a connection, a tunnel or a stream, as `rejected` of its status counts it. */
export type THubRefusalReason =
  /** `maxPreAuth` connections hadn't proven a secret yet. */
  | 'maxPreAuth'
  /** `maxPreAuthPerIp` connections from this address hadn't proven a secret yet. */
  | 'maxPreAuthPerIp'
  /** Handshakes came faster from this address than `handshakesPerIpPerSec` allows. */
  | 'handshakesPerIpPerSec'
  /** The address is blocked for a while, after `maxAuthFailuresPerIp` failed proofs. */
  | 'maxAuthFailuresPerIp'
  /** The process ran out of descriptors, or the kernel of memory. */
  | 'descriptors'
  /** The handshake took longer than `handshakeTimeoutSecs`. */
  | 'handshakeTimeout'
  /** Something connected that isn't an edge, or an edge refused the hub's key. */
  | 'handshakeFailed'
  /** An edge came before the hub was told its edges; it asks again after half a second. */
  | 'notReady'
  /** The edge's id is unknown or its secret is wrong. */
  | 'authFailed'
  /** Another edge with this id is connected. */
  | 'instanceConflict'
  /** The edge speaks another version of the protocol. */
  | 'unsupportedVersion'
  /** The edge lacks a feature that the hub needs, or needs one that the hub lacks. */
  | 'unsupportedFeature'
  /** The edge broke the protocol. */
  | 'protocol'
  /** The hub was about to stop. */
  | 'draining'
  /** The edge had `maxSessionsPerEdge` sessions already. */
  | 'tooManySessions'
  /** A stream beyond `maxStreams`. */
  | 'maxStreams'
  /** A stream beyond `maxStreamsPerEdge`. */
  | 'maxStreamsPerEdge'
  /** A stream while `maxPendingDialsPerEdge` connections to targets were still being made. */
  | 'maxPendingDialsPerEdge'
  /** A stream that the memory budget has no room for. */
  | 'overloaded'
  /** A stream whose header makes no sense. */
  | 'badHeader'
  /** A stream of a port that has no target. */
  | 'unknownListener'
  /** A stream of a client that `clientAddressPolicy` forbids. */
  | 'clientRefused'
  /** A stream whose target refused the connection. */
  | 'targetRefused'
  /** A stream whose target didn't answer in time, has no address, or a forbidden one. */
  | 'targetUnreachable';

/** Why the edge itself refused a client, as `rejected` of its status counts it. */
export type TEdgeRefusalReason =
  /** The edge had `maxConnections` clients. */
  | 'maxConnections'
  /** The port had `maxConnectionsPerListener` clients. */
  | 'maxConnectionsPerListener'
  /** The address had `maxConnectionsPerIp` connections. */
  | 'maxConnectionsPerIp'
  /** Connections came faster from this address than `newConnectionsPerIpPerSec` allows. */
  | 'newConnectionsPerIpPerSec'
  /** The hub's `maxStreamsPerEdge` is reached. */
  | 'maxStreamsPerEdge'
  /** The hub wasn't back within `holdTimeoutSecs`, or `maxHeldClients` waited already. */
  | 'noSession'
  /** The memory budget has no room for another stream. */
  | 'overloaded'
  /** The process ran out of descriptors, or the kernel of memory. */
  | 'descriptors';

/** Why a datagram went no further. */
export type TUdpDropReason =
  /** The tunnel was down. */
  | 'noSession'
  /** At the edge: too many datagrams came to a worker without a session. */
  | 'handoverFull'
  /** The port has `maxUdpFlowsPerListener` flows, and none may make room. */
  | 'maxUdpFlowsPerListener'
  /** The address has `maxUdpFlowsPerIp` flows, and none may make room. */
  | 'maxUdpFlowsPerIp'
  /** The edge has `maxUdpFlowsPerEdge` flows, and none may make room. */
  | 'maxUdpFlowsPerEdge'
  /** The flow has ended meanwhile. */
  | 'unknownFlow'
  /** At the edge: the answer is larger than `unvalidatedReplyFactor` allows for this client. */
  | 'unvalidatedReplyFactor'
  /** The datagram is larger with its header than a datagram may be. */
  | 'tooLarge'
  /** The peer sent nonsense. */
  | 'malformed'
  /** The tunnel was slower than what came: newer datagrams took the place of this one. */
  | 'queueFull'
  /** The datagram waited for 500 ms in the tunnel. */
  | 'late'
  /** The session had lost its connection. */
  | 'connectionLost'
  /** A part of a large datagram didn't come in time. */
  | 'fragmentLate'
  /** A part of a large datagram made no sense. */
  | 'fragmentInvalid'
  /** Too many large datagrams were incomplete at once. */
  | 'fragmentOverflow'
  /** The socket towards the client or the target took nothing more. */
  | 'socketFull'
  /** The system refused to send the datagram. */
  | 'sendFailed'
  /** At the hub: no target for this port. */
  | 'unknownListener'
  /** At the hub: the edge's `clientAddressPolicy` forbids the client. */
  | 'clientRefused'
  /** At the hub: the target has no address, or a forbidden one, or can't be reached. */
  | 'targetUnreachable'
  /** At the hub: nobody listens at the target. */
  | 'targetRefused'
  /** At the hub: too many datagrams wait for the target's name. */
  | 'resolving'
  /** The process has no descriptor for another flow. */
  | 'descriptors';
