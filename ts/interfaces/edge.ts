// The edge: its configuration and its status. Defaults are those of the binary.
import type { IStreamsByTransport, TCongestionController } from './hub.js';
import type { IPortStatus, IUdpStatus, TPortRange } from './ports.js';
import type { TEdgeRefusalReason, TTransport } from './reasons.js';

/**
 * Configuration of an edge: the token that its hub has made (or the token's fields), and settings that all have a
 * default. An unknown field is refused with `E_INVALID_CONFIG`.
 *
 * @example
 * await edge.start({ token, transportMode: 'quicWithFallback', allowedPorts: { tcp: [80, 443] } });
 */
export type IEdgeConfig = (IEdgeByToken | IEdgeByParts) & IEdgeSettings;

/** Names the hub by a connection token. */
export interface IEdgeByToken {
  /** The token that `hub.createConnectionToken` gave. It holds the edge's secret. */
  token: string;
}

/** Names the hub by the fields of a connection token. */
export interface IEdgeByParts {
  /** DNS name or IP address of the hub, without scheme, port or path. */
  hubHost: string;
  /** The hub's tunnel port, from 1 to 65535. Default 8443. */
  hubPort?: number | undefined;
  /** The id under which the hub lists this edge. */
  edgeId: string;
  /** The secret that the hub lists for this edge. */
  secret: string;
  /** 1 to 4 base64url SHA-256 hashes of the hub's public key, of which its key must be one. Default: any key. */
  hubPins?: string[] | undefined;
}

/** Settings of an edge. Durations are whole seconds. */
export interface IEdgeSettings {
  /** A name for which the hub's certificate must be valid, by a root of the system: for one of a public CA. */
  verifyHostname?: string | undefined;
  /**
   * Transport of the tunnel; `'quic'` needs UDP to the hub's `tunnelPort`, `'quicWithFallback'` takes `'tcpTls'` while
   * that doesn't get through. Default `'tcpTls'`.
   */
  transportMode?: TTransportMode | undefined;
  /** With `'quicWithFallback'`: how soon QUIC is tried again, in seconds; later less often. Default 60. */
  quicProbeIntervalSecs?: number | undefined;
  /** With `'quicWithFallback'`: how long QUIC must hold before new streams use it again, in seconds. Default 30. */
  quicStableSecs?: number | undefined;
  /** How QUIC finds out how fast this end may send. Default `'cubic'`. */
  congestionController?: TCongestionController | undefined;
  /** IP address to listen on. Default: 0.0.0.0, and :: where IPv6 exists. */
  bindAddress?: string | undefined;
  /** The only ports this edge will open, whatever the hub asks. Default: any. */
  allowedPorts?: IAllowedPorts | undefined;
  /** Count of threads. Default: one per CPU. */
  workers?: number | undefined;
  /** Upper bound of all stream buffers, in MiB. Default 200. */
  memoryBudgetMiB?: number | undefined;
  /** How long streams wait for a lost connection to come back, in seconds. Default 30. */
  resumeTimeoutSecs?: number | undefined;
  /** How long `stop` lets streams finish, in seconds. Default 30. */
  drainTimeoutSecs?: number | undefined;
  /** Ends a stream without a byte for this long, in seconds. Default 0 = off. */
  idleTimeoutSecs?: number | undefined;
  /** Ends a half-closed stream without a byte for this long, in seconds. Default 0 = off. */
  halfClosedTimeoutSecs?: number | undefined;
  /** Ends a UDP flow without a datagram in either direction for this long, in seconds. Default 60. */
  udpIdleTimeoutSecs?: number | undefined;
  /** True takes over from another running edge with this id, instead of being refused. Default false. */
  replaceInstance?: boolean | undefined;
  /** `host:port` of servers that tell the public address. Default Cloudflare's, [] = off. */
  stunServers?: string[] | undefined;
  /** Limits that protect this edge and its hub from clients. */
  limits?: IEdgeLimits | undefined;
}

/** Ports that an edge may open, as numbers or ranges. */
export interface IAllowedPorts {
  /** TCP ports. An absent list allows none. */
  tcp?: TPortRange[] | undefined;
  /** UDP ports. An absent list allows none. */
  udp?: TPortRange[] | undefined;
}

/** How an edge chooses the transport of its tunnel. */
export type TTransportMode =
  /** TLS over TCP. */
  | 'tcpTls'
  /** QUIC over UDP, and nothing else. */
  | 'quic'
  /** QUIC, and TLS over TCP while QUIC doesn't get through. */
  | 'quicWithFallback';

/** Limits of an edge. 0 turns a limit off. */
export interface IEdgeLimits {
  /** TCP clients at once. Default: 65,536, or 40 % of the descriptor limit where that is less. */
  maxConnections?: number | undefined;
  /** TCP clients of one port at once. Default 8,192. */
  maxConnectionsPerListener?: number | undefined;
  /** TCP clients of one address at once. Default 256. */
  maxConnectionsPerIp?: number | undefined;
  /** New TCP clients of one address per second, on average. Default 100. */
  newConnectionsPerIpPerSec?: number | undefined;
  /** New TCP clients of one address in a burst. Default 200; 0 = 1. */
  newConnectionsPerIpBurst?: number | undefined;
  /** Clients that may wait while no session to the hub is live. Default 1,024. */
  maxHeldClients?: number | undefined;
  /** How long they may wait, in seconds. Default 5; 0 = they don't wait. */
  holdTimeoutSecs?: number | undefined;
  /** UDP flows of one port; the oldest unanswered one makes room. Default 65,536. */
  maxUdpFlowsPerListener?: number | undefined;
  /** UDP flows of one client address, likewise. Default 256. */
  maxUdpFlowsPerIp?: number | undefined;
  /** Bytes of answers per byte of a UDP client that hasn't sent again since an answer. Default 0 = any number. */
  unvalidatedReplyFactor?: number | undefined;
}

/** Status of an edge. Counts are since the start of its binary. */
export interface IEdgeStatus {
  /** Always true: a stopped edge has no status. */
  running: boolean;
  /** True while a session to the hub takes new streams. */
  connected: boolean;
  /** Transport of new streams; null while no session is up. */
  transport: TTransport | null;
  /** With `'quicWithFallback'`: why the transport last changed, as a sentence; null before it has. */
  transportReason: string | null;
  /** Public address of the edge, as a STUN server told it; null while unknown. */
  publicIp: string | null;
  /** Sessions with a connection, also those that only finish their streams. */
  sessions: number;
  /** Streams (TCP clients) now. */
  activeStreams: number;
  /** Streams now, by what carries them. */
  activeStreamsByTransport: IStreamsByTransport;
  /** Streams since the start. */
  totalStreams: number;
  /** Payload bytes of streams from clients towards targets. */
  bytesIn: number;
  /** Payload bytes of streams from targets towards clients. */
  bytesOut: number;
  /** Round trip to the hub, in ms; null until measured. */
  rttMs: number | null;
  /** TCP ports that are open now. */
  listenPorts: number[];
  /** UDP ports that are open now. */
  listenPortsUdp: number[];
  /** Every port that the hub has assigned, with its state. */
  ports: IPortStatus[];
  /** Counts of UDP. */
  udp: IUdpStatus;
  /** Attempts to resume a session after its connection was lost. */
  reconnects: number;
  /** Sessions that went on after a lost connection. */
  resumed: number;
  /** Clients that wait for the hub right now. */
  heldClients: number;
  /**
   * Clients that the edge itself refused, by reason; a reason that hasn't occurred is absent. Refusals by the hub are
   * counted at the hub.
   */
  rejected: Partial<Record<TEdgeRefusalReason, number>>;
  /** Events that the binary dropped because this process didn't read them in time. */
  eventsDropped: number;
}
