// The edge: its configuration and its status. Defaults are those of the binary.
import type { IStreamsByTransport, TCongestionController } from './hub.js';
import type { IPortStatus, IUdpStatus, TPortRange } from './ports.js';
import type { TEdgeRefusalReason, TTransport } from './reasons.js';

export type IEdgeConfig = (IEdgeByToken | IEdgeByParts) & IEdgeSettings;

export interface IEdgeByToken {
  token: string;
}

/** What a token holds, field by field. */
export interface IEdgeByParts {
  hubHost: string;
  /** Default 8443. */
  hubPort?: number | undefined;
  edgeId: string;
  secret: string;
  /** 1 to 4 base64url SHA-256 hashes of the hub's public key. */
  hubPins?: string[] | undefined;
}

export interface IEdgeSettings {
  /** The hub's certificate must be valid for this name (public CA), instead of a pin. */
  verifyHostname?: string | undefined;
  /**
   * What carries the tunnel; `'quic'` needs UDP to the hub's `tunnelPort`, `'quicWithFallback'` takes `'tcpTls'` while
   * that doesn't get through. Default `'tcpTls'`.
   */
  transportMode?: TTransportMode | undefined;
  /** With `'quicWithFallback'`: how soon QUIC is tried again, in seconds; later less often. Default 60. */
  quicProbeIntervalSecs?: number | undefined;
  /** With `'quicWithFallback'`: how long QUIC must hold before new streams use it again, in seconds. Default 30. */
  quicStableSecs?: number | undefined;
  /** How QUIC finds out how fast this end may send. Default `'cubic'`. */
  congestionController?: TCongestionController | undefined;
  /** The address to listen on. Default: 0.0.0.0, and :: where IPv6 exists. */
  bindAddress?: string | undefined;
  /** The only ports this edge will open, whatever the hub asks. Default: any. */
  allowedPorts?: { tcp?: TPortRange[] | undefined; udp?: TPortRange[] | undefined } | undefined;
  /** Threads. Default: one per CPU. */
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
  /** Takes over from another running edge with this id, instead of being refused. Default false. */
  replaceInstance?: boolean | undefined;
  /** `host:port` of servers that tell the public address. Default Cloudflare's, [] = off. */
  stunServers?: string[] | undefined;
  limits?: IEdgeLimits | undefined;
}

export type TTransportMode = 'tcpTls' | 'quic' | 'quicWithFallback';

/** 0 = off. */
export interface IEdgeLimits {
  /** Default: 65,536, or 40 % of the descriptor limit where that is less. */
  maxConnections?: number | undefined;
  /** Default 8,192. */
  maxConnectionsPerListener?: number | undefined;
  /** Default 256. */
  maxConnectionsPerIp?: number | undefined;
  /** Default 100. */
  newConnectionsPerIpPerSec?: number | undefined;
  /** Default 200. */
  newConnectionsPerIpBurst?: number | undefined;
  /** Clients that may wait while no session to the hub is live. Default 1,024. */
  maxHeldClients?: number | undefined;
  /** How long they may wait. Default 5. */
  holdTimeoutSecs?: number | undefined;
  /** UDP flows per port; the oldest unanswered one makes room. Default 65,536. */
  maxUdpFlowsPerListener?: number | undefined;
  /** UDP flows per client address, likewise. Default 256. */
  maxUdpFlowsPerIp?: number | undefined;
  /** Bytes of answers per byte of a UDP client that hasn't sent again since an answer. Default 0 = any number. */
  unvalidatedReplyFactor?: number | undefined;
}

export interface IEdgeStatus {
  running: boolean;
  /** A session to the hub takes new streams. */
  connected: boolean;
  /** What carries new streams; null while no session is up. */
  transport: TTransport | null;
  /** With `'quicWithFallback'`: why it is what it is, once it has changed; null before. */
  transportReason: string | null;
  publicIp: string | null;
  /** Sessions with a connection, also those that only finish their streams. */
  sessions: number;
  activeStreams: number;
  activeStreamsByTransport: IStreamsByTransport;
  totalStreams: number;
  /** Payload bytes from clients towards targets. */
  bytesIn: number;
  /** Payload bytes from targets towards clients. */
  bytesOut: number;
  /** Round trip in ms; null until measured. */
  rttMs: number | null;
  listenPorts: number[];
  listenPortsUdp: number[];
  ports: IPortStatus[];
  udp: IUdpStatus;
  /** Attempts to resume a session after its connection was lost. */
  reconnects: number;
  /** Sessions that went on after a lost connection. */
  resumed: number;
  /** Clients that wait for the hub right now. */
  heldClients: number;
  /** What the edge itself refused, by reason; what the hub refused is counted at the hub. */
  rejected: Partial<Record<TEdgeRefusalReason, number>>;
  /** Events that the binary dropped because they weren't read in time. */
  eventsDropped: number;
}
