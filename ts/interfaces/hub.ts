// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.
import type { IAccessLogConfig, IAdminConfig, ICheck, IMemoryBudget, IQueuedBytes, ISessionsByTransport, IStreamsByTransport, TCongestionController, TLogFormat, TTransportMode } from './engine.js';
import type { IGeoConfig, IGeoStatus, IPool, IPoolStatus, IRoutingDbConfig, IRoutingDbStatus } from './pools.js';
import type { IPortStatus, IUdpStatus, TTcpPort, TUdpPort } from './ports.js';
import type { TBinaryErrorCode, TDialledBy, THubRefusalReason, TTransport } from './reasons.js';

/**
 * Configuration of a hub. Every field has a default; times are whole seconds, and an unknown field is refused with
 * `E_INVALID_CONFIG`.
 *
 * @example
 * await hub.start({ tunnelPort: 8443, targetHost: '10.0.0.5', stateDir: './hub-state' });
 */
export interface IHubConfig {
  /**
   * Port on which edges connect, TCP and UDP alike. With 0 the hub takes one that is free for both;
   * `getStatus().tunnelPort` tells it. Default: 8443.
   */
  tunnelPort?: number | undefined;
  /**
   * `false` lets the hub have no tunnel port, where it dials all of its edges; `getStatus().tunnelPort` is 0 then, and
   * `tunnelPort` and `bindAddress` aren't given. An edge without `dial` gives a warning. Default: `true`.
   */
  listen?: boolean | undefined;
  /**
   * Host of every target that names none of its own: a stream for listener port p goes to `targetHost`, port p, unless
   * the port specification says otherwise. Default: `"127.0.0.1"`. Range: name or IP address; a link-local one with its
   * zone, as `fe80::1%eth0`.
   */
  targetHost?: string | undefined;
  /**
   * Address of the hub's machine on which the tunnel port listens. It needn't be there yet (docs/operations.md).
   * Default: 0.0.0.0, and :: where IPv6 exists. Range: IP address.
   */
  bindAddress?: string | undefined;
  /**
   * Directory that keeps the hub's private key (`hub-key.pem`), so that tokens can carry its pin. It is made, with its
   * parents, where it is missing; a relative path counts from the working directory. Without it the key lives in memory
   * and tokens carry no pin. With `tls` it keeps no key. The keys of edges that the hub dials are remembered here too
   * (`edge-keys.json`), changes of edges over REST (docs/admin.md) (`edges.json`), and the state of pools
   * (docs/pools.md) (`hub.db`). Default: none. Range: path, not empty.
   */
  stateDir?: string | undefined;
  /** Your own certificate in place of the self-signed one. Default: none. */
  tls?: IHubTls | undefined;
  /**
   * Edges that may connect; each id may occur once. `updateAllowedEdges` and SIGHUP replace the whole list, but for
   * changes over REST (docs/admin.md) of edges whose entry in the file is the same. Default: `[]`.
   */
  edges?: IAllowedEdge[] | undefined;
  /**
   * Targets behind one name, which ports choose from by `pool`: see docs/pools.md. `updatePools` and SIGHUP replace the
   * whole set; what is known of a target lasts. Default: `{}`. Range: pools (docs/pools.md) by name, at most 1,024 of
   * them with 10,000 targets in all.
   */
  pools?: Record<string, IPool> | undefined;
  /** Region in which the hub is, and the edges without one of their own. Default: none. */
  region?: string | undefined;
  /** Where clients are, for pools with the strategy `"geo"`. */
  geo?: IGeoConfig | undefined;
  /** Targets from edgeProxy's database. Default: none. */
  routingDb?: IRoutingDbConfig | undefined;
  /** Threads that carry streams. With more than 256 of them one worker carries all of QUIC. Default: number of CPUs. */
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
   * Time that a stopping hub gives running streams to finish before it resets them. 0 resets them at once. Unit: s.
   * Default: 30.
   */
  drainTimeoutSecs?: number | undefined;
  /** Deadline of a connection to a target, the lookup of its name included. Unit: s. Default: 5. */
  connectTimeoutSecs?: number | undefined;
  /** Ends a stream that had no byte in either direction for this long, up to 1 s late. Unit: s. Default: 0 = off. */
  idleTimeoutSecs?: number | undefined;
  /**
   * Ends a stream of which one direction has ended and the other had no byte for this long, up to 1 s late. Unit: s.
   * Default: 0 = off.
   */
  halfClosedTimeoutSecs?: number | undefined;
  /**
   * Resets a stream whose target has acknowledged nothing for this long while bytes wait for that, since its link has
   * died. It is looked for eight times in this time and at most once a second, so it is found up to 15 s late by
   * default. One that reads nothing but still answers isn't touched. Unit: s. Default: 120; 0 = off.
   */
  ackTimeoutSecs?: number | undefined;
  /**
   * Congestion control of QUIC for what this end sends; TCP has the system's. `"bbr"` goes by rate and round trip
   * instead of loss and halves the latency on a line that loses packets (measured (bench/RESULTS.md)), but is
   * experimental. Default: `"cubic"`.
   */
  congestionController?: TCongestionController | undefined;
  /**
   * Ends a UDP flow that had no datagram in either direction for this long, at both ends, unless its port specification
   * says otherwise. Unit: s. Default: 60.
   */
  udpIdleTimeoutSecs?: number | undefined;
  /** Sessions that one tunnel may have; an edge opens one per worker of its own. Default: 16. */
  maxSessionsPerEdge?: number | undefined;
  /**
   * Permits targets at unspecified (0.0.0.0/8 and ::), broadcast, multicast, link-local and cloud metadata addresses.
   * Without it such a `targetHost` is refused, and a name that leads to such an address gives `targetUnreachable`.
   * Default: `false`.
   */
  allowSpecialTargets?: boolean | undefined;
  /** Bounds of what edges and strangers may cost this hub. */
  limits?: IHubLimits | undefined;
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

/** Certificate and key of a hub: both as PEM text, or both as names of files. */
export interface IHubTls {
  /**
   * Your own certificate with its chain, as PEM text and not as a file's name, in place of the self-signed one.
   * Default: none. Range: PEM text.
   */
  certPem?: string | undefined;
  /** Private key of `tls.certPem`, as PEM text. Default: none. Range: PEM text, not empty. */
  keyPem?: string | undefined;
  /**
   * The same as a file, together with `tls.keyFile`. Both are read again within 10 s of a change and at SIGHUP; files
   * that don't fit each other are logged, and the old certificate stays. Connections that exist aren't touched.
   * Default: none. Range: path, not empty.
   */
  certFile?: string | undefined;
  /**
   * Private key of `tls.certFile`. Only root, the hub's user and its groups may be able to write it; a warning tells
   * where others could read it. Default: none. Range: path, not empty.
   */
  keyFile?: string | undefined;
  /**
   * Lets tokens carry the pin of the key. It is off by default, because a renewal may change the key and would make
   * those tokens worthless. Default: `false`.
   */
  pin?: boolean | undefined;
}

/** Limits of a hub: what peers may cost it. 0 means no limit, unless the field says otherwise. */
export interface IHubLimits {
  /** Connections at the tunnel port that haven't proven a secret yet. Default: 512. */
  maxPreAuth?: number | undefined;
  /**
   * Connections from one client network that haven't proven a secret yet, see Shares (docs/operations.md). 0 is no
   * limit. Default: as many as are still free.
   */
  maxPreAuthPerIp?: number | undefined;
  /** New connections per second from one client network, TCP and QUIC together. Unit: connections/s. Default: 1,000. */
  handshakesPerIpPerSec?: number | undefined;
  /**
   * New connections from one client network that may come at once before `handshakesPerIpPerSec` counts. 0 counts as 1.
   * Default: 2,000.
   */
  handshakesPerIpBurst?: number | undefined;
  /** Time from accepting a connection to its proof. 0 counts as 60. Unit: s. Default: 10. */
  handshakeTimeoutSecs?: number | undefined;
  /**
   * Wrong proofs from one client network for one edge id within 60 s after which that id is refused from there for 60
   * s, doubled each time up to 15 min. Other ids from there and connections that exist aren't touched, and an id that
   * has proved itself from there may have twelve times as many, see Wrong secrets (docs/operations.md). Default: 5.
   */
  maxAuthFailuresPerIp?: number | undefined;
  /**
   * Networks whose addresses the limits `…PerIp` of this object don't count, for instance that of a load balancer in
   * front of the hub. The limits for all together hold for them, too. Default: `[]`. Range: addresses or
   * `address/bits`.
   */
  exempt?: string[] | undefined;
  /** Streams of all edges at a time. Default: 65,536. */
  maxStreams?: number | undefined;
  /** Streams of one edge at a time. Default: 16,384. */
  maxStreamsPerEdge?: number | undefined;
  /** Connections to targets that are being made for one edge at a time. Default: 1,024. */
  maxPendingDialsPerEdge?: number | undefined;
  /**
   * UDP flows of one edge at a time, each with a socket. Flows of all edges take at most half of the descriptor limit,
   * and three quarters of the machine's ephemeral ports. Default: 16,384.
   */
  maxUdpFlowsPerEdge?: number | undefined;
}

/**
 * An edge that a hub allows: its secret, and the ports that it opens.
 *
 * @example
 * const edge: IAllowedEdge = { id: 'edge-1', secret: createSecret(), listenPorts: [443], listenPortsUdp: [443] };
 */
export interface IAllowedEdge {
  /**
   * Name of the edge in tokens, events, status and PROXY v2 headers. Range: 1 to 128 bytes of UTF-8 without control
   * characters.
   */
  id: string;
  /**
   * Secret that the edge must prove to know. `createSecret()` or `remoteingress-bin secret` make a good one; fewer than
   * 16 bytes work with a warning. Range: not empty.
   */
  secret: string;
  /**
   * Second secret that is valid beside `secret`, for a rotation (SECURITY.md) that cuts nothing. Default: none. Range:
   * not empty.
   */
  nextSecret?: string | undefined;
  /**
   * TCP ports that this edge opens: any number of them, in at most 4,096 entries, TCP and UDP together. Long ranges
   * need descriptors (docs/operations.md). Default: `[]`.
   */
  listenPorts?: TTcpPort[] | undefined;
  /** UDP ports that this edge opens, see docs/udp.md. Default: `[]`. */
  listenPortsUdp?: TUdpPort[] | undefined;
  /** Pause between two lookups of the edge's public address by STUN. 0 turns them off. Unit: s. Default: 300. */
  stunIntervalSecs?: number | undefined;
  /**
   * `"public"` refuses streams and flows whose client address, as the edge reports it, is private, loopback, link-local
   * or otherwise not public. Default: `"any"`.
   */
  clientAddressPolicy?: TClientAddressPolicy | undefined;
  /**
   * Region in which the edge is: targets of pools with the strategy `"geo"` that are in it come after those in the
   * client's region, and before all others. Default: the hub's `region`.
   */
  region?: string | undefined;
  /**
   * Lets the hub dial this edge, which has `listenTunnel` then, instead of waiting for it: see A hub behind CGNAT
   * (docs/operations.md). A change of it ends the sessions that the edge has. Default: none: the edge dials.
   */
  dial?: IEdgeDial | undefined;
}

/** Clients that an edge may let in, by their address. */
export type TClientAddressPolicy =
  /** Every client. */
  | 'any'
  /** Clients with a public address only: a private, loopback or link-local one may be trusted by targets. */
  | 'public';

/** How a hub dials an edge. */
export interface IEdgeDial {
  /** Host of the edge. A name is looked up at every attempt to connect. Range: name or IP address. */
  host: string;
  /** Port on which the edge listens for its hub. Default: 8443. */
  port?: number | undefined;
  /** Transport of the tunnel, see Transports (docs/operations.md). Default: `"tcpTls"`. */
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
   * Proxy through which the edge is dialled: HTTP CONNECT or SOCKS5, see Through a proxy (docs/operations.md). In user
   * and password special characters are written as `%xx`. It carries `"tcpTls"` only. Default: none. Range: `http://`
   * or `socks5://`, then `user:password@` if need be, then `host:port`.
   */
  proxy?: string | undefined;
  /**
   * File with the password of the user that `proxy` names, in place of one in the URL. It is read at every attempt to
   * connect; a line end after the password is ignored. Default: none. Range: path, not empty.
   */
  proxyPasswordFile?: string | undefined;
  /**
   * Address of the hub's machine from which the edge, or its proxy, is dialled. Default: the system's choice. Range: IP
   * address.
   */
  sourceAddress?: string | undefined;
  /**
   * base64url SHA-256 hash of the edge's public key, which must be the one that the edge shows. Without it any key is
   * taken from an edge that proves the secret. Default: none. Range: 43 characters.
   */
  pin?: string | undefined;
}

/** Result of `startHub`. */
export interface IHubStarted {
  /** Port that was bound, also when 0 was asked for. */
  tunnelPort: number;
  /** base64url SHA-256 of the hub's public key; null where tokens carry none. */
  hubPin: string | null;
}

/** Edge ids, by what a change of the allowed edges did to them. */
export interface IAllowedEdgesChange {
  /** Edges that are allowed now and weren't before. */
  added: string[];
  /** Edges that aren't allowed any more: they are cut within a second. */
  removed: string[];
  /** Edges of which something has changed. */
  changed: string[];
  /** Edges that were named and are as before. */
  unchanged: string[];
}

/** Result of `removeEdges`. */
export interface IEdgesRemoved {
  /** Edges that aren't allowed any more: they are cut within a second. */
  removed: string[];
  /** Ids that no edge had. */
  unknown: string[];
}

/** Address at which an edge finds its hub. */
export interface ITokenTarget {
  /**
   * Name or IP address by which edges reach the hub, without scheme, port or path. An edge that the hub dials needs
   * none; every other does.
   */
  hubHost?: string | undefined;
  /** Port by which edges reach the hub, from 1 to 65535. Default: the hub's `tunnelPort`. */
  hubPort?: number | undefined;
}

/** Status of a hub. */
export interface IHubStatus {
  /** True while the hub answers. */
  running: boolean;
  /** True once the hub is about to stop: it takes no new streams, and ends with those that it has. */
  draining: boolean;
  /** Port on which edges connect, also where the configuration said 0. It is 0 for a hub that doesn't listen. */
  tunnelPort: number;
  /** base64url SHA-256 of the hub's public key, which tokens carry; null where they carry none. */
  hubPin: string | null;
  /** Connected edges: those with a session that has a connection. */
  connectedEdges: IConnectedEdge[];
  /** Unreachable edges: those that this hub dials and doesn't reach. */
  unreachableEdges: IUnreachableEdge[];
  /** Pools, by their names. */
  pools: IPoolStatus[];
  /** Clients that are bound to targets of pools with `affinity`. */
  bindings: number;
  /** State of the file that `routingDb` names; null without one. */
  routingDb: IRoutingDbStatus | null;
  /** State of the file that `geo.database` names; null without one. */
  geo: IGeoStatus | null;
  /**
   * Connections and streams that the hub refused, see Reasons in `rejected`. A reason that hasn't occurred is absent.
   */
  rejected: Partial<Record<THubRefusalReason, number>>;
  /** Memory that streams and their buffers have of the budget: `{ usedBytes, limitBytes }`. */
  memoryBudget: IMemoryBudget;
  /** Events that were lost because they weren't read in time. */
  eventsDropped: number;
  /** Lines of the access log that were lost because its disk was full or too slow. */
  accessLogLost: number;
}

/** An edge that has a session with a connection. */
export interface IConnectedEdge {
  /** Id of the allowed edge. */
  edgeId: string;
  /**
   * Address from which the edge connected. Over QUIC it stays the one from then, even if the edge's address changes.
   * Unit: `address:port`.
   */
  remoteAddress: string;
  /**
   * True while all sessions of the edge only let their streams finish: it is about to stop, or drains for another one.
   */
  draining: boolean;
  /** Transport of the session that came up last, which new streams use. */
  transport: TTransport;
  /** Time at which the edge's first session came up. Unit: ms since 1970. */
  connectedAt: number;
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
  /** Streams since the edge was allowed. */
  totalStreams: number;
  /** Payload of streams from clients towards targets, since the edge was allowed. */
  bytesIn: number;
  /** Payload of streams from targets towards clients, since the edge was allowed. */
  bytesOut: number;
  /** Round trip between hub and edge; null until it has been measured. Unit: ms. */
  rttMs: number | null;
  /**
   * Bytes that wait here to be sent into the tunnel: `{ control, datagrams, data, sustained }`. What has been sent and
   * isn't acknowledged yet isn't among them.
   */
  queuedBytes: IQueuedBytes;
  /**
   * Sessions that went on with their streams over a new connection, since the edge was allowed. Over QUIC there are
   * none.
   */
  resumed: number;
  /**
   * Public address of the edge as STUN told it, null where it isn't known. It is a hint, and nothing is authorized by
   * it.
   */
  publicIp: string | null;
  /** Software version of the edge. */
  version: string;
  /** End that has dialled. */
  dialledBy: TDialledBy;
  /**
   * Proxy through which this hub has dialled, as `host:port` without its login; null where there is none.
   * `remoteAddress` is the proxy's then.
   */
  proxy: string | null;
  /** Ports of the edge, as it reported them. */
  ports: IPortStatus[];
  /** Counts of UDP of this edge, taken at the hub. */
  udp: IUdpStatus;
}

/** An edge that the hub dials and doesn't reach. */
export interface IUnreachableEdge {
  /** Id of the allowed edge. */
  edgeId: string;
  /** Code of the last failure, see errors (docs/errors.md). */
  code: TBinaryErrorCode;
  /** Cause of the last failure, as a sentence. */
  reason: string;
  /** Proxy through which this hub dials the edge, as `host:port` without its login; null where there is none. */
  proxy: string | null;
  /** Time of the first failure of the outage. Unit: ms since 1970. */
  since: number;
}

/**
 * Result of `selfTest`.
 *
 * @example
 * const { checks } = await hub.selfTest('edge-1');
 */
export interface ISelfTestReport {
  /** Id of the edge. */
  edgeId: string;
  /** The checks, those of the tunnel first. */
  checks: ICheck[];
}
