// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.
import type { IAccessLogConfig, IAdminConfig, IMemoryBudget, IQueuedBytes, ISessionsByTransport, IStreamsByTransport, TCongestionController, TLogFormat, TTransportMode } from './engine.js';
import type { IPortStatus, IUdpStatus, TPortRange } from './ports.js';
import type { TDialledBy, TEdgeRefusalReason, TTransport } from './reasons.js';

/**
 * Configuration of an edge: the token that its hub has made, or the token's fields, and settings that all have a
 * default. Times are whole seconds, and an unknown field is refused with `E_INVALID_CONFIG`.
 *
 * @example
 * await edge.start({ token, transportMode: 'quicWithFallback', allowedPorts: { tcp: [80, 443] } });
 */
export type IEdgeConfig = (IEdgeByToken | IEdgeByParts | IEdgeByListener) & IEdgeSettings;

/** Names the hub by a connection token. */
export interface IEdgeByToken {
  /**
   * Connection token of this edge, as `createConnectionToken` or `remoteingress-bin token` give it. White space around
   * it is ignored. Range: at most 2,048 characters.
   */
  token: string;
}

/** Names the hub by the fields of a connection token. */
export interface IEdgeByParts {
  /**
   * Host of the hub. A name is looked up at every attempt to connect. Range: name or IP address; a link-local one with
   * its zone, as `fe80::1%eth0`.
   */
  hubHost: string;
  /** Port on which this edge reaches the hub. Default: 8443. */
  hubPort?: number | undefined;
  /** Id under which the hub knows this edge. Range: as `id` of the allowed edge. */
  edgeId: string;
  /** Secret that this edge shares with the hub. Range: not empty. */
  secret: string;
  /**
   * base64url SHA-256 hashes of public keys, one of which must be the hub's. Without pins and without `verifyHostname`
   * the hub's key isn't checked, only its proof. Default: none. Range: 1 to 4 pins of 43 characters.
   */
  hubPins?: string[] | undefined;
}

/** Listens for a hub that dials. */
export interface IEdgeByListener {
  /** Id under which the hub knows this edge. Range: as `id` of the allowed edge. */
  edgeId: string;
  /** Secret that this edge shares with the hub. Range: not empty. */
  secret: string;
  /**
   * Listens for the hub instead of dialling it, where the hub's entry of this edge has `dial`. The token of such an
   * edge holds it. Range: `{ port, bindAddress? }`.
   */
  listenTunnel: IListenTunnel;
}

/** Settings of an edge. Times are whole seconds. */
export interface IEdgeSettings {
  /**
   * Directory that keeps the private key (`edge-key.pem`) which this edge shows a hub that dials. It is made, with its
   * parents, where it is missing. Without it the key is made of the secret and changes with that, or, where the secret
   * has fewer than 43 characters, with each start. It isn't used by an edge that dials. Default: none. Range: path, not
   * empty.
   */
  stateDir?: string | undefined;
  /**
   * Name that the hub's certificate must bear, with a chain to a root of the system, for certificates of a public CA.
   * It may be given with a token; with pins both must hold. Default: none. Range: name or IP address.
   */
  verifyHostname?: string | undefined;
  /**
   * Proxy through which the hub is dialled: HTTP CONNECT or SOCKS5, see Through a proxy (docs/operations.md). In user
   * and password special characters are written as `%xx`. It carries `"tcpTls"` only. Default: none. Range: `http://`
   * or `socks5://`, then `user:password@` if need be, then `host:port`.
   */
  hubProxy?: string | undefined;
  /**
   * File with the password of the user that `hubProxy` names, in place of one in the URL. It is read at every attempt
   * to connect; a line end after the password is ignored. Default: none. Range: path, not empty.
   */
  hubProxyPasswordFile?: string | undefined;
  /**
   * Address of this machine from which the hub, or its proxy, is dialled. Default: the system's choice. Range: IP
   * address.
   */
  sourceAddress?: string | undefined;
  /**
   * Transport of the tunnel, see Transports (docs/operations.md). An edge that listens takes those that its hub dials.
   * Default: `"tcpTls"`.
   */
  transportMode?: TTransportMode | undefined;
  /**
   * With `"quicWithFallback"`, the pause after a fallback before QUIC is tried again. It doubles after each attempt
   * that fails, up to 10 min. Unit: s. Default: 60.
   */
  quicProbeIntervalSecs?: number | undefined;
  /**
   * With `"quicWithFallback"`, the time for which QUIC must hold before new streams use it again. Unit: s. Default: 30.
   */
  quicStableSecs?: number | undefined;
  /**
   * Address on which listeners listen whose port specification names none. It needn't be there yet
   * (docs/operations.md). Default: 0.0.0.0, and :: where IPv6 exists. Range: IP address.
   */
  bindAddress?: string | undefined;
  /**
   * Only ports that this edge opens, whatever the hub asks. A protocol that is left out of a given object has none;
   * entries may overlap. Default: every port. Range: `{ tcp?, udp? }`, lists of ports and ranges.
   */
  allowedPorts?: IAllowedPorts | undefined;
  /**
   * Threads that carry streams; each has a session to the hub, as far as the hub's `maxSessionsPerEdge` allows.
   * Default: number of CPUs.
   */
  workers?: number | undefined;
  /**
   * Upper bound of all stream buffers of the process, see Memory (docs/operations.md). Unit: MiB. Default: 200, or a
   * quarter of the machine's or the cgroup's memory where that is less.
   */
  memoryBudgetMiB?: number | undefined;
  /**
   * Time for which streams wait for a lost tunnel connection to come back; the shorter value of hub and edge counts. 0
   * lets them end with the connection. Unit: s. Default: 30.
   */
  resumeTimeoutSecs?: number | undefined;
  /**
   * Longest time without a question whether the other end is alive, on a session that has carried nothing for a minute;
   * others ask every 3 s. Over QUIC it is 25 s at most. See Idle tunnels (docs/operations.md). Unit: s. Default: 45.
   */
  keepaliveSecs?: number | undefined;
  /**
   * Time that a stopping edge gives running streams to finish before it resets them. 0 resets them at once. Unit: s.
   * Default: 30.
   */
  drainTimeoutSecs?: number | undefined;
  /** Ends a stream that had no byte in either direction for this long, up to 1 s late. Unit: s. Default: 0 = off. */
  idleTimeoutSecs?: number | undefined;
  /**
   * Ends a stream of which one direction has ended and the other had no byte for this long, up to 1 s late. Unit: s.
   * Default: 0 = off.
   */
  halfClosedTimeoutSecs?: number | undefined;
  /**
   * Resets a stream whose client has acknowledged nothing for this long while bytes wait for that, since its link has
   * died. It is looked for eight times in this time and at most once a second, so it is found up to 15 s late by
   * default. One that reads nothing but still answers isn't touched. Unit: s. Default: 120; 0 = off.
   */
  ackTimeoutSecs?: number | undefined;
  /**
   * Ends a UDP flow that had no datagram in either direction for this long, where the hub says nothing else: one of
   * version 0.2 or later always does. Unit: s. Default: 60.
   */
  udpIdleTimeoutSecs?: number | undefined;
  /**
   * Congestion control of QUIC for what this end sends; TCP has the system's. `"bbr"` goes by rate and round trip
   * instead of loss, but is experimental. Default: `"cubic"`.
   */
  congestionController?: TCongestionController | undefined;
  /**
   * Takes over from another running edge with this id, where that one would otherwise win and this one be refused.
   * Default: `false`.
   */
  replaceInstance?: boolean | undefined;
  /**
   * Servers that are asked for the edge's public address, all at once. `[]` turns the lookup off. Default:
   * `["stun.cloudflare.com:3478"]`. Range: `host:port`, IPv6 in brackets.
   */
  stunServers?: string[] | undefined;
  /** Bounds of what clients may cost this edge. */
  limits?: IEdgeLimits | undefined;
  /**
   * How lines of the log look: `"text"` for people, `"json"` for programs. Default: `"text"` where stderr is a
   * terminal, else `"json"`.
   */
  logFormat?: TLogFormat | undefined;
  /** Server of health, metrics, status and changes over HTTP, see docs/admin.md. Default: none. */
  admin?: IAdminConfig | undefined;
  /** A line for each stream and flow that has ended, see docs/operations.md. Default: none. */
  accessLog?: IAccessLogConfig | undefined;
}

/** Where an edge listens for its hub. */
export interface IListenTunnel {
  /** Port on which the hub reaches this edge, TCP and UDP alike. */
  port: number;
  /**
   * Address of the edge's machine on which that port listens. It needn't be there yet (docs/operations.md). Default:
   * 0.0.0.0, and :: where IPv6 exists. Range: IP address.
   */
  bindAddress?: string | undefined;
}

/** Ports that an edge may open, as numbers or ranges. A protocol that is left out has none. */
export interface IAllowedPorts {
  /** TCP ports. An absent list allows none. */
  tcp?: TPortRange[] | undefined;
  /** UDP ports. An absent list allows none. */
  udp?: TPortRange[] | undefined;
}

/** Limits of an edge: what clients may cost it. 0 means no limit, unless the field says otherwise. */
export interface IEdgeLimits {
  /** TCP clients at a time. Default: 65,536, or 40 % of the descriptor limit where that is less. */
  maxConnections?: number | undefined;
  /** TCP clients of one port at a time. Default: 12,288. */
  maxConnectionsPerListener?: number | undefined;
  /**
   * TCP clients of one client network at a time, see Shares (docs/operations.md). 0 is no limit. Default: as many as
   * are still free.
   */
  maxConnectionsPerIp?: number | undefined;
  /**
   * New TCP clients per second of one client network. A load test from one machine meets this limit first. Unit:
   * clients/s. Default: 1,000.
   */
  newConnectionsPerIpPerSec?: number | undefined;
  /**
   * New TCP clients of one client network that may come at once before `newConnectionsPerIpPerSec` counts. 0 counts as
   * 1. Default: 2,000.
   */
  newConnectionsPerIpBurst?: number | undefined;
  /** Clients that may wait at a time while no session to the hub is live. Default: 1,024. */
  maxHeldClients?: number | undefined;
  /**
   * Time for which such a client waits before it is refused. With 0 clients don't wait and are refused at once. Unit:
   * s. Default: 5.
   */
  holdTimeoutSecs?: number | undefined;
  /**
   * UDP flows of one port at a time. When they are used up, the oldest flow that the target hasn't answered makes room.
   * Default: 65,536.
   */
  maxUdpFlowsPerListener?: number | undefined;
  /**
   * UDP flows of one client network at a time, see Shares (docs/operations.md); 0 is no limit. When they are used up,
   * the oldest of its flows that the target hasn't answered makes room. Default: as many as are still free of 16,384.
   */
  maxUdpFlowsPerIp?: number | undefined;
  /**
   * Networks whose addresses the limits `…PerIp` of this object don't count, for instance that of a CDN or a load
   * balancer in front of the edge. The limits for all together hold for them, too. Default: `[]`. Range: addresses or
   * `address/bits`.
   */
  exempt?: string[] | undefined;
  /**
   * Bytes of answers that a UDP client gets per byte that it has sent, until it sends again after an answer; a forged
   * source address doesn't send again. QUIC's own value for this is 3. Unit: bytes per byte. Default: 0 = off.
   */
  unvalidatedReplyFactor?: number | undefined;
  /** Connections at the tunnel port (`listenTunnel`) that haven't proven the secret yet. Default: 512. */
  maxPreAuth?: number | undefined;
  /**
   * The same from one client network, see Shares (docs/operations.md). 0 is no limit. Default: as many as are still
   * free.
   */
  maxPreAuthPerIp?: number | undefined;
  /**
   * New connections per second at the tunnel port from one client network, TCP and QUIC together. Unit: connections/s.
   * Default: 1,000.
   */
  handshakesPerIpPerSec?: number | undefined;
  /**
   * New connections at the tunnel port from one client network that may come at once before `handshakesPerIpPerSec`
   * counts. 0 counts as 1. Default: 2,000.
   */
  handshakesPerIpBurst?: number | undefined;
  /** Time from accepting a connection at the tunnel port to its proof. 0 counts as 60. Unit: s. Default: 10. */
  handshakeTimeoutSecs?: number | undefined;
  /**
   * Wrong proofs at the tunnel port from one client network within 60 s after which it is blocked for 60 s, doubled
   * each time up to 15 min. Connections that exist aren't touched. Default: 5.
   */
  maxAuthFailuresPerIp?: number | undefined;
}

/** Status of an edge. */
export interface IEdgeStatus {
  /** True while the edge answers. */
  running: boolean;
  /** Its own id, by which the hub allows it. */
  edgeId: string;
  /** Hub that this edge dials, as `host:port` of its configuration; null where the hub dials. */
  hubAddress: string | null;
  /** True once the edge is about to stop: its ports are closed, and it ends with the streams that it has. */
  draining: boolean;
  /** True while a session to the hub takes new streams. */
  connected: boolean;
  /** Transport of new streams; null while there is no session. */
  transport: TTransport | null;
  /**
   * Reason why `"quicWithFallback"` last changed the transport, for example `"no packet came over QUIC for 8 s"`; null
   * before it has. With a proxy it says why QUIC isn't used at all.
   */
  transportReason: string | null;
  /** End that dials. */
  dialledBy: TDialledBy;
  /** Proxy through which this edge dials its hub, as `host:port` without its login; null where there is none. */
  proxy: string | null;
  /**
   * Public address of this edge as STUN told it, null where it isn't known. It is a hint, and nothing is authorized by
   * it.
   */
  publicIp: string | null;
  /** Sessions with a connection, also those that only let their streams finish. */
  sessions: number;
  /** Sessions with a connection, by the transport of it: `{ tcpTls, quic }`. */
  sessionsByTransport: ISessionsByTransport;
  /** Streams that are open now. */
  activeStreams: number;
  /**
   * Streams that are open now, by transport: `{ tcpTls, quic }`. After a change of transport old streams finish on the
   * old one.
   */
  activeStreamsByTransport: IStreamsByTransport;
  /** Streams since the start. */
  totalStreams: number;
  /** Payload of streams from clients towards targets, since the start. */
  bytesIn: number;
  /** Payload of streams from targets towards clients, since the start. */
  bytesOut: number;
  /** Round trip between edge and hub; null until it has been measured. Unit: ms. */
  rttMs: number | null;
  /**
   * Bytes that wait here to be sent into the tunnel: `{ control, datagrams, data, sustained }`. What has been sent and
   * isn't acknowledged yet isn't among them.
   */
  queuedBytes: IQueuedBytes;
  /** TCP ports that are bound now. */
  listenPorts: number[];
  /** UDP ports that are bound now. */
  listenPortsUdp: number[];
  /** All ports that the hub assigned, with their states. */
  ports: IPortStatus[];
  /** Counts of UDP of this edge. */
  udp: IUdpStatus;
  /**
   * Attempts to resume a session after its connection was lost. A session without streams isn't resumed but begun anew,
   * which doesn't count here.
   */
  reconnects: number;
  /** Attempts to resume that succeeded. */
  resumed: number;
  /** Clients that wait for the hub right now. */
  heldClients: number;
  /**
   * Clients that the edge itself refused, see Reasons in `rejected`. Streams that the hub refused are counted at the
   * hub. A reason that hasn't occurred is absent.
   */
  rejected: Partial<Record<TEdgeRefusalReason, number>>;
  /** Memory that streams and their buffers have of the budget: `{ usedBytes, limitBytes }`. */
  memoryBudget: IMemoryBudget;
  /** Events that were lost because they weren't read in time. */
  eventsDropped: number;
  /** Lines of the access log that were lost because its disk was full or too slow. */
  accessLogLost: number;
}
