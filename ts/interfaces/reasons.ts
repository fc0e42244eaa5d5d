// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.

/** Code of an error that the binary reports: the answer to a call, or why a tunnel is down. */
export type TBinaryErrorCode =
  /**
   * A field of the configuration or of a request is unknown, missing, of the wrong type or out of range, or a
   * configuration file can't be read or isn't JSON.
   */
  | 'E_INVALID_CONFIG'
  /** The connection token can't be decoded, or one of its fields makes no sense. */
  | 'E_INVALID_TOKEN'
  /** A token was asked for, and the hub has no allowed edge with that id. */
  | 'E_UNKNOWN_EDGE'
  /** Another socket has the port. */
  | 'E_ADDRESS_IN_USE'
  /** The system doesn't let this process open the port. */
  | 'E_PERMISSION_DENIED'
  /**
   * The port can't be opened for another reason, as a link-local `bindAddress` or one of a family that the machine
   * lacks. Also: the other end can't be dialled from `sourceAddress`, because the machine doesn't have it or it is of
   * the other family.
   */
  | 'E_BIND_FAILED'
  /**
   * The edge's listeners have all the descriptors that they may have: the others of the process's limit are for clients
   * (`limits.maxConnections`) and sessions.
   */
  | 'E_DESCRIPTOR_LIMIT'
  /** The hub assigned a port that the edge's `allowedPorts` doesn't contain. */
  | 'E_PORT_NOT_ALLOWED'
  /**
   * `stateDir` or the key in it can't be used: it can't be read or written, belongs to another user, can be written by
   * others than root, the hub's user and the hub's groups, or holds no valid key.
   */
  | 'E_STATE_DIR'
  /**
   * At an edge: the TLS handshake failed. The other end isn't a hub, its certificate doesn't fit `verifyHostname`, or
   * something in between accepts connections and closes them, such as a forwarder whose hub is down. At a hub: no key
   * or certificate could be made.
   */
  | 'E_TLS'
  /**
   * The proxy of `hubProxy` or `dial.proxy` can't be reached: its name has no address, nobody answers there, or it says
   * nothing for 7 s.
   */
  | 'E_PROXY_UNREACHABLE'
  /**
   * The proxy doesn't connect to the other end. The message has its answer: the status line of HTTP, or the reply of
   * SOCKS5 in words.
   */
  | 'E_PROXY_REFUSED'
  /** The proxy wants a user and a password, or doesn't accept those that are given. */
  | 'E_PROXY_AUTH_FAILED'
  /**
   * At a hub that dials: the edge's name has no address, nobody answers there, the edge is about to stop, or something
   * answers that isn't an edge.
   */
  | 'E_EDGE_UNREACHABLE'
  /** At a hub that dials: the edge's key isn't the one that `dial.pin` names. */
  | 'E_EDGE_PIN_MISMATCH'
  /**
   * The hub's name has no address, nobody answers there, the hub is about to stop, or a connection that worked is gone.
   */
  | 'E_HUB_UNREACHABLE'
  /** The machine that answers doesn't have the key that the token's pin names. */
  | 'E_HUB_PIN_MISMATCH'
  /**
   * The hub doesn't accept the edge's id and secret; or the other end couldn't prove that it knows the secret, and so
   * isn't this edge's hub. At a hub that dials: the edge doesn't accept the hub's secret, or another edge answers.
   */
  | 'E_AUTH_FAILED'
  /**
   * Another edge with this id is connected, or has taken over from this one. At a hub that dials also: another hub is
   * connected to the edge.
   */
  | 'E_INSTANCE_CONFLICT'
  /**
   * Hub and edge speak versions or features that don't fit, or the other end sent bytes that the protocol doesn't
   * allow.
   */
  | 'E_PROTOCOL'
  /**
   * The hub is overloaded, has not been told its allowed edges yet, has blocked this edge's id at its address after
   * wrong proofs (`maxAuthFailuresPerIp`), or allows this edge fewer sessions (`maxSessionsPerEdge`) than it has
   * workers. At a hub that dials: the edge has blocked the hub's address after wrong proofs, or wants fewer sessions
   * now.
   */
  | 'E_OVERLOADED'
  /**
   * The call needs a running hub or edge, and none runs: it was never started, is being stopped, or the start that the
   * call waited for has failed. Over the management interface also: a hub's method was called on an edge.
   */
  | 'E_NOT_RUNNING'
  /** `start` was called twice. */
  | 'E_ALREADY_RUNNING'
  /**
   * A line on stdin is no request, or a set of allowed edges is too large. From the TypeScript package: a configuration
   * without its `edges`, one edge, or a list of ids takes more than 1 MiB as JSON.
   */
  | 'E_BAD_REQUEST'
  /**
   * A part or a commit names a set of allowed edges that isn't open: it was committed, another one was begun after it,
   * one of its parts was refused, or it waited for its next part for more than 30 s.
   */
  | 'E_EDGE_SET_CLOSED'
  /** A request has the id of an earlier one. */
  | 'E_DUPLICATE_ID'
  /** A request names a method that doesn't exist. */
  | 'E_UNKNOWN_METHOD'
  /** The admin server wants its token, and the request had none or another one. */
  | 'E_UNAUTHORIZED'
  /**
   * The admin server doesn't answer such a request: it was called by a name that isn't its own, or the request changes
   * something and no token is configured.
   */
  | 'E_FORBIDDEN'
  /** There is no pool, target or registration of this name, or nothing at this path of the admin server. */
  | 'E_NOT_FOUND'
  /** Something failed that shouldn't: a thread couldn't start, or a library broke its contract. */
  | 'E_INTERNAL';

/** Code of the error of a port that failed. */
export type TPortErrorCode =
  /** Another socket has the port. */
  | 'E_ADDRESS_IN_USE'
  /** The system doesn't let this process open the port. */
  | 'E_PERMISSION_DENIED'
  /** The edge's `allowedPorts` doesn't contain the port. */
  | 'E_PORT_NOT_ALLOWED'
  /** The port can't be opened for another reason; the message says which. */
  | 'E_BIND_FAILED'
  /** The edge's listeners have all the descriptors that they may have; the message says which limit would do. */
  | 'E_DESCRIPTOR_LIMIT';

/** State of a port at the edge. */
export type TPortState =
  /** The port is open. */
  | 'bound'
  /** The port couldn't be opened, and is tried again after 1 s to 30 s. */
  | 'failed'
  /** The port was removed, accepts nothing new and lets its streams run on. UDP ports close at once instead. */
  | 'draining';

/** Protocol of a listener port. */
export type TProtocol =
  /** Each connection of a client is a stream. */
  | 'tcp'
  /** Each address of a client is a flow of datagrams. */
  | 'udp';

/** Kind of connection that carries a tunnel. */
export type TTransport =
  /** TLS over TCP. */
  | 'tcpTls'
  /** QUIC over UDP. */
  | 'quic';

/** End of a tunnel that dials. */
export type TDialledBy =
  /** The edge dials the hub. */
  | 'edge'
  /** The hub dials the edge. */
  | 'hub';

/** Reason why a stream ended. */
export type TStreamCloseReason =
  /** Both directions ended properly. */
  | 'finished'
  /** The client's or the target's socket was reset. */
  | 'reset'
  /** The target refused the connection. */
  | 'targetRefused'
  /**
   * The target didn't answer within `connectTimeoutSecs`, or its name has no address or one that `allowSpecialTargets`
   * forbids.
   */
  | 'targetUnreachable'
  /** A limit or the memory budget was reached. */
  | 'overloaded'
  /** The hub has no target for this port, for instance because its configuration has just changed. */
  | 'unknownListener'
  /** `clientAddressPolicy` forbids the client's address. */
  | 'clientRefused'
  /** The stream was silent for `idleTimeoutSecs` or `halfClosedTimeoutSecs`. */
  | 'idleTimeout'
  /** The tunnel wasn't back within `resumeTimeoutSecs`. */
  | 'tunnelLost'
  /** The session took no new streams. */
  | 'refused'
  /** The stream was cut after a drain, or its edge was removed or had its secret changed. */
  | 'ended';

/** Reason why a hub refused an edge, in `edgeRejected`. */
export type TTunnelRefusalReason =
  /** The edge's id is unknown or its secret is wrong. */
  | 'authFailed'
  /** Another edge with this id is connected, and gave a sign of life. */
  | 'instanceConflict'
  /** The edge speaks another version of the protocol. */
  | 'unsupportedVersion'
  /** The edge requires a feature that the hub lacks. */
  | 'unsupportedFeature'
  /** The edge sent bytes that make no sense in the handshake. */
  | 'protocol'
  /** The hub was about to stop. */
  | 'draining'
  /** The edge asked for more sessions than `maxSessionsPerEdge`. */
  | 'tooManySessions';

/** Reason why a hub refused a connection, an edge or a stream, in its `rejected`. */
export type THubRefusalReason =
  /** `maxPreAuth` connections hadn't proven a secret yet. */
  | 'maxPreAuth'
  /** As many connections of this client network as may (`maxPreAuthPerIp`) hadn't proven a secret yet. */
  | 'maxPreAuthPerIp'
  /** Connections came faster from this client network than `handshakesPerIpPerSec` allows. */
  | 'handshakesPerIpPerSec'
  /** An edge id is blocked for a while at this client network, after `maxAuthFailuresPerIp` wrong proofs. */
  | 'maxAuthFailuresPerIp'
  /**
   * The process ran out of descriptors, or the kernel out of memory. Accepting pauses for 100 ms to 1 s, and clients
   * wait in the kernel's queue meanwhile.
   */
  | 'descriptors'
  /** A connection didn't prove a secret within `handshakeTimeoutSecs`. */
  | 'handshakeTimeout'
  /** Something that isn't an edge connected to the tunnel port, or an edge that refused the hub's key. */
  | 'handshakeFailed'
  /**
   * An edge came before `updateAllowedEdges` was called for the first time. It is asked to come back after half a
   * second.
   */
  | 'notReady'
  /** An edge's id is unknown or its secret is wrong. */
  | 'authFailed'
  /** Another edge with this id is connected, and gave a sign of life. */
  | 'instanceConflict'
  /** An edge with another version of the protocol. */
  | 'unsupportedVersion'
  /** An edge that requires a feature which this hub lacks. */
  | 'unsupportedFeature'
  /** A peer sent bytes that make no sense in the handshake, or an edge broke the protocol later. */
  | 'protocol'
  /** An edge came while the hub was about to stop. */
  | 'draining'
  /** An edge asked for more sessions than `maxSessionsPerEdge`. */
  | 'tooManySessions'
  /** A stream came while `maxStreams` were open. */
  | 'maxStreams'
  /**
   * A stream came while its edge had `maxStreamsPerEdge` open. The hub tells this limit to the edge, which refuses
   * further clients itself.
   */
  | 'maxStreamsPerEdge'
  /** A stream came while `maxPendingDialsPerEdge` connections to targets were being made for its edge. */
  | 'maxPendingDialsPerEdge'
  /** The memory budget was used up. */
  | 'overloaded'
  /** An edge opened a stream whose header makes no sense. */
  | 'badHeader'
  /** A stream came for a port that has no target, for instance because the configuration has just changed. */
  | 'unknownListener'
  /** `clientAddressPolicy` forbids the address of a stream's client. */
  | 'clientRefused'
  /** The target of a stream refused the connection. */
  | 'targetRefused'
  /**
   * The target of a stream didn't answer within `connectTimeoutSecs`, or its name has no address or one that
   * `allowSpecialTargets` forbids.
   */
  | 'targetUnreachable'
  /** A stream came for a pool without a target. */
  | 'poolEmpty'
  /**
   * All targets of a pool had as many streams as their `hardLimit` lets them have, and no place in its queue came in
   * time.
   */
  | 'poolFull'
  /** No target of a pool takes streams: `ctl pools` tells why. */
  | 'noHealthyTarget'
  /** As many targets as a stream may try (`retries`) refused it, failed or were silent. */
  | 'retriesExhausted'
  /** A target refused a stream, failed or was silent, and its pool had retried as much as it may. */
  | 'retryBudget'
  /** A caller of the admin server, or all of them, had as many connections as may be. */
  | 'adminConnections';

/** Evidence that a target is down, in `targetDown`. */
export type TTargetDownReason =
  /** Streams or flows to it failed, several in a row. */
  | 'streams'
  /** Its checks failed, several in a row. */
  | 'checks';

/** Reason why an edge refused a client, or a caller at its tunnel port (`listenTunnel`), in its `rejected`. */
export type TEdgeRefusalReason =
  /** The edge had `maxConnections` clients. */
  | 'maxConnections'
  /** The port had `maxConnectionsPerListener` clients. */
  | 'maxConnectionsPerListener'
  /** The client network had as many clients as it may (`maxConnectionsPerIp`). */
  | 'maxConnectionsPerIp'
  /** Clients came faster from this client network than `newConnectionsPerIpPerSec` allows. */
  | 'newConnectionsPerIpPerSec'
  /** The hub's limit of streams per edge was reached. */
  | 'maxStreamsPerEdge'
  /** The hub wasn't back within `holdTimeoutSecs`, or `maxHeldClients` waited already. */
  | 'noSession'
  /** The memory budget was used up, or one of the edge's workers took no more clients. */
  | 'overloaded'
  /**
   * The process ran out of descriptors, or the kernel out of memory. Accepting pauses for 100 ms to 1 s, and clients
   * wait in the kernel's queue meanwhile.
   */
  | 'descriptors'
  /** `maxPreAuth` callers hadn't proven the secret yet. */
  | 'maxPreAuth'
  /** `maxPreAuthPerIp` callers of this client network hadn't proven the secret yet. */
  | 'maxPreAuthPerIp'
  /** Callers came faster from this client network than `handshakesPerIpPerSec` allows. */
  | 'handshakesPerIpPerSec'
  /** The client network is blocked for a while, after `maxAuthFailuresPerIp` wrong proofs. */
  | 'maxAuthFailuresPerIp'
  /** A caller didn't prove the secret within `handshakeTimeoutSecs`. */
  | 'handshakeTimeout'
  /** Something that isn't a hub connected to the tunnel port, or a hub that refused the edge's key. */
  | 'handshakeFailed'
  /** A caller's secret is wrong. */
  | 'authFailed'
  /** Another hub is connected, and gave a sign of life. */
  | 'instanceConflict'
  /** A hub with another version of the protocol. */
  | 'unsupportedVersion'
  /** A caller sent bytes that make no sense in the handshake. */
  | 'protocol'
  /** A hub called while the edge was about to stop. */
  | 'draining'
  /** A hub asked for more sessions than the edge has workers. */
  | 'tooManySessions'
  /** A caller of the admin server, or all of them, had as many connections as may be. */
  | 'adminConnections';

/** Reason why a datagram went no further, in `udp.dropped`. */
export type TUdpDropReason =
  /** No session to the hub was live. */
  | 'noSession'
  /** The session had no connection. */
  | 'connectionLost'
  /** The tunnel was slower than the datagrams came, and newer ones took the place of this one. */
  | 'queueFull'
  /** The datagram had waited for 500 ms. */
  | 'late'
  /** Too many datagrams reached a worker without a session, and 256 waited already for a worker with one. */
  | 'handoverFull'
  /** The limit of flows per port, and no flow could make room. */
  | 'maxUdpFlowsPerListener'
  /** The limit of flows per client network, and no flow could make room. */
  | 'maxUdpFlowsPerIp'
  /** The limit of flows per edge, and no flow could make room. */
  | 'maxUdpFlowsPerEdge'
  /** No descriptor was left for another flow, and no flow could make room. */
  | 'descriptors'
  /**
   * The flows of all edges had three quarters of the machine's ephemeral ports (`net.ipv4.ip_local_port_range`), or
   * other programs had the rest, and no flow could make room.
   */
  | 'ephemeralPorts'
  /** The flow had ended meanwhile. */
  | 'unknownFlow'
  /** The answer was too large for a client that is unproven. */
  | 'unvalidatedReplyFactor'
  /** The hub has no target for this port. */
  | 'unknownListener'
  /** `clientAddressPolicy` forbids the client's address. */
  | 'clientRefused'
  /** The flow's pool has no target. */
  | 'poolEmpty'
  /** All targets of the flow's pool had as many streams as their `hardLimit` lets them have. */
  | 'poolFull'
  /** No target of the flow's pool takes streams. */
  | 'noHealthyTarget'
  /** The target's name or address failed. */
  | 'targetUnreachable'
  /** Nobody listened at the target. */
  | 'targetRefused'
  /** Too many datagrams waited for the target's name, or their flow ended meanwhile. */
  | 'resolving'
  /** The socket of the client or target took nothing more. */
  | 'socketFull'
  /** The system refused to send the datagram. */
  | 'sendFailed'
  /** With its header the datagram would be larger than a datagram may be. */
  | 'tooLarge'
  /** A part of a large datagram didn't come within 2 s. */
  | 'fragmentLate'
  /** Parts of a large datagram didn't fit together. */
  | 'fragmentInvalid'
  /** Too many incomplete datagrams waited for their parts. */
  | 'fragmentOverflow'
  /** The peer sent a tunnel datagram that makes no sense. */
  | 'malformed';

/** Reason why a stream or flow got its target and no other, in `picks`. */
export type TPickReason =
  /** The client had it already, by the pool's `affinity`. */
  | 'binding'
  /** `"geo"` found it in the nearest tier (docs/pools.md). */
  | 'tier0'
  /** `"geo"` found it in the second tier. */
  | 'tier1'
  /** `"geo"` found it in the third tier. */
  | 'tier2'
  /** `"geo"` found it in the fourth tier. */
  | 'tier3'
  /** Another strategy chose it. */
  | 'strategy'
  /** No target took streams: of those that were ejected it is the one whose time is up first. */
  | 'lastResort'
  /** Another one refused the stream, failed or was silent before. */
  | 'retry';
