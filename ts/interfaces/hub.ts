// The hub: its configuration, its edges, its status. Defaults are those of the binary.
import type { IPortStatus, IUdpStatus, TTcpPort, TUdpPort } from './ports.js';
import type { THubRefusalReason, TTransport } from './reasons.js';

export interface IHubConfig {
  /** Where edges connect, TCP and UDP alike. Default 8443; 0 = any free port, see `getStatus().tunnelPort`. */
  tunnelPort?: number | undefined;
  /** A stream for listener port p goes to `targetHost`:p. Default "127.0.0.1". */
  targetHost?: string | undefined;
  /** Default: 0.0.0.0, and :: where IPv6 exists. */
  bindAddress?: string | undefined;
  /** Directory that keeps the hub's key, so that tokens can carry its pin. Default: the key lives in memory. */
  stateDir?: string | undefined;
  /** Your own certificate instead of a self-signed one. */
  tls?: IHubTls | undefined;
  /** The edges allowed from the start; `updateAllowedEdges` replaces the whole set. Default none. */
  edges?: IAllowedEdge[] | undefined;
  /** Threads. Default: one per CPU. */
  workers?: number | undefined;
  /** Upper bound of all stream buffers, in MiB. Default 200. */
  memoryBudgetMiB?: number | undefined;
  /** How long streams wait for a lost connection to come back, in seconds. Default 30. */
  resumeTimeoutSecs?: number | undefined;
  /** How long `stop` lets streams finish, in seconds. Default 30. */
  drainTimeoutSecs?: number | undefined;
  /** Deadline of a connection to a target, in seconds. Default 5. */
  connectTimeoutSecs?: number | undefined;
  /** Ends a stream without a byte for this long, in seconds. Default 0 = off. */
  idleTimeoutSecs?: number | undefined;
  /** Ends a half-closed stream without a byte for this long, in seconds. Default 0 = off. */
  halfClosedTimeoutSecs?: number | undefined;
  /** Ends a UDP flow without a datagram in either direction for this long, in seconds. Default 60. */
  udpIdleTimeoutSecs?: number | undefined;
  /** How QUIC finds out how fast this end may send. Default `'cubic'`. */
  congestionController?: TCongestionController | undefined;
  /** Sessions that one tunnel may have. Default 16. */
  maxSessionsPerEdge?: number | undefined;
  /** Permits targets that are never meant for streams (unspecified, multicast, link-local). Default false. */
  allowSpecialTargets?: boolean | undefined;
  limits?: IHubLimits | undefined;
}

export interface IHubTls {
  certPem: string;
  keyPem: string;
  /** Lets tokens carry this key's pin. Default false, since renewal may change the key. */
  pin?: boolean | undefined;
}

/** 0 = off. */
export interface IHubLimits {
  /** Connections that haven't proven a secret yet. Default 512. */
  maxPreAuth?: number | undefined;
  /** The same for one address. Default 64. */
  maxPreAuthPerIp?: number | undefined;
  /** Default 20. */
  handshakesPerIpPerSec?: number | undefined;
  /** Default 64. */
  handshakesPerIpBurst?: number | undefined;
  /** Default 10. */
  handshakeTimeoutSecs?: number | undefined;
  /** Failed proofs per 60 s. Default 5. */
  maxAuthFailuresPerIp?: number | undefined;
  /** Default 65,536. */
  maxStreams?: number | undefined;
  /** Default 16,384. */
  maxStreamsPerEdge?: number | undefined;
  /** Default 1,024. */
  maxPendingDialsPerEdge?: number | undefined;
  /** UDP flows of one edge, each with a socket. Default 16,384. */
  maxUdpFlowsPerEdge?: number | undefined;
}

export interface IAllowedEdge {
  id: string;
  /** `createSecret()` makes a good one. */
  secret: string;
  /** For rotation: valid beside `secret`; a tunnel whose secret remains as either isn't cut. */
  nextSecret?: string | undefined;
  listenPorts?: TTcpPort[] | undefined;
  listenPortsUdp?: TUdpPort[] | undefined;
  /** How often the edge asks for its public address, in seconds. Default 300, 0 = off. */
  stunIntervalSecs?: number | undefined;
  /** `'public'` refuses streams whose client has no public address. Default `'any'`. */
  clientAddressPolicy?: 'any' | 'public' | undefined;
}

export interface IHubStarted {
  /** The port that was bound, also when 0 was asked for. */
  tunnelPort: number;
  /** base64url SHA-256 of the hub's public key; null where tokens carry none. */
  hubPin: string | null;
}

/** Edge ids, by what `updateAllowedEdges` did to them. */
export interface IAllowedEdgesChange {
  added: string[];
  removed: string[];
  changed: string[];
  unchanged: string[];
}

export interface ITokenTarget {
  /** The name or address by which edges reach the hub. */
  hubHost: string;
  /** Default: the hub's `tunnelPort`. */
  hubPort?: number | undefined;
}

export interface IHubStatus {
  running: boolean;
  tunnelPort: number;
  hubPin: string | null;
  connectedEdges: IConnectedEdge[];
  /** Refused tunnels and streams, by reason. */
  rejected: Partial<Record<THubRefusalReason, number>>;
  /** Events that the binary dropped because they weren't read in time. */
  eventsDropped: number;
}

export interface IConnectedEdge {
  edgeId: string;
  remoteAddress: string;
  /** Of the session that came up last: new streams use it. */
  transport: TTransport;
  /** ms since 1970. */
  connectedAt: number;
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
  publicIp: string | null;
  udp: IUdpStatus;
  version: string;
  ports: IPortStatus[];
}

/** Streams now; after a change of the transport those of before finish on the other one. */
export interface IStreamsByTransport {
  tcpTls: number;
  quic: number;
}

/** `'bbr'` is experimental. */
export type TCongestionController = 'cubic' | 'bbr';
