// The hub: its configuration, its edges, its status. Defaults are those of the binary.
import type { IPortStatus, IUdpStatus, TTcpPort, TUdpPort } from './ports.js';
import type { THubRefusalReason, TTransport } from './reasons.js';

/**
 * Configuration of a hub. Every field has a default; durations are whole seconds. An unknown field is refused with
 * `E_INVALID_CONFIG`.
 *
 * @example
 * await hub.start({ tunnelPort: 8443, targetHost: '10.0.0.5', stateDir: './hub-state' });
 */
export interface IHubConfig {
  /** Port where edges connect, TCP and UDP alike. Default 8443; 0 = any that is free for both. */
  tunnelPort?: number | undefined;
  /** DNS name or IP address of the targets: a stream of port p goes to `targetHost`:p. Default "127.0.0.1". */
  targetHost?: string | undefined;
  /** IP address of the tunnel port. Default: 0.0.0.0, and :: where IPv6 exists. */
  bindAddress?: string | undefined;
  /**
   * Directory that keeps the hub's key, so that tokens can carry its pin. It is made where it is missing. Default: the
   * key lives in memory, and tokens carry no pin.
   */
  stateDir?: string | undefined;
  /** Your own certificate instead of a self-signed one. */
  tls?: IHubTls | undefined;
  /** The edges allowed from the start; `updateAllowedEdges` replaces the whole set. Default none. */
  edges?: IAllowedEdge[] | undefined;
  /** Count of threads. Default: one per CPU. */
  workers?: number | undefined;
  /** Upper bound of all stream buffers, in MiB. Default 200. */
  memoryBudgetMiB?: number | undefined;
  /** How long streams wait for a lost connection to come back, in seconds. Default 30; 0 = not at all. */
  resumeTimeoutSecs?: number | undefined;
  /** How long `stop` lets streams finish, in seconds. Default 30; 0 = not at all. */
  drainTimeoutSecs?: number | undefined;
  /** Deadline of a connection to a target, in seconds, at least 1. Default 5. */
  connectTimeoutSecs?: number | undefined;
  /** Ends a stream without a byte for this long, in seconds. Default 0 = off. */
  idleTimeoutSecs?: number | undefined;
  /** Ends a half-closed stream without a byte for this long, in seconds. Default 0 = off. */
  halfClosedTimeoutSecs?: number | undefined;
  /** Ends a UDP flow without a datagram in either direction for this long, in seconds, at least 1. Default 60. */
  udpIdleTimeoutSecs?: number | undefined;
  /** How QUIC finds out how fast this end may send. Default `'cubic'`. */
  congestionController?: TCongestionController | undefined;
  /** Sessions that one tunnel may have. Default 16. */
  maxSessionsPerEdge?: number | undefined;
  /**
   * True permits targets that are never meant for streams: unspecified, multicast, link-local and cloud metadata
   * addresses. Default false.
   */
  allowSpecialTargets?: boolean | undefined;
  /** Limits that protect this hub from strangers and from its edges. */
  limits?: IHubLimits | undefined;
}

/** Certificate and key of a hub, both as PEM text; a file's name is no PEM text. */
export interface IHubTls {
  /** The certificate, followed by its chain. */
  certPem: string;
  /** The private key of the certificate. */
  keyPem: string;
  /** True lets tokens carry this key's pin. Default false, since a renewal may change the key. */
  pin?: boolean | undefined;
}

/** Limits of a hub. 0 turns a limit off. An address is one IPv4 address or one IPv6 /64. */
export interface IHubLimits {
  /** Connections at once that haven't proven a secret yet. Default 512. */
  maxPreAuth?: number | undefined;
  /** Connections of one address at once that haven't proven a secret yet. Default 64. */
  maxPreAuthPerIp?: number | undefined;
  /** New connections of one address per second, on average. Default 20. */
  handshakesPerIpPerSec?: number | undefined;
  /** New connections of one address in a burst. Default 64; 0 = 1. */
  handshakesPerIpBurst?: number | undefined;
  /** How long a connection may take from its accept to its proof, in seconds. Default 10; 0 = 60. */
  handshakeTimeoutSecs?: number | undefined;
  /** Failed proofs of one address within 60 s; after them it is blocked for 60 s to 15 min. Default 5. */
  maxAuthFailuresPerIp?: number | undefined;
  /** Streams of all edges at once. Default 65,536. */
  maxStreams?: number | undefined;
  /** Streams of one edge at once. Default 16,384. */
  maxStreamsPerEdge?: number | undefined;
  /** Connections to targets that are being made for one edge at once. Default 1,024. */
  maxPendingDialsPerEdge?: number | undefined;
  /** UDP flows of one edge at once, each with a socket. Default 16,384. */
  maxUdpFlowsPerEdge?: number | undefined;
}

/**
 * An edge that the hub allows: what it must know, and the ports it opens.
 *
 * @example
 * const edge: IAllowedEdge = { id: 'edge-1', secret: createSecret(), listenPorts: [443], listenPortsUdp: [443] };
 */
export interface IAllowedEdge {
  /** Name of the edge: 1 to 128 bytes without control characters, unique within the hub. */
  id: string;
  /** Secret that the edge must prove. `createSecret()` makes a good one; keep it, since tokens hold it. */
  secret: string;
  /** A second secret that is as good as `secret`, for rotation: a tunnel whose secret remains as either isn't cut. */
  nextSecret?: string | undefined;
  /** TCP ports that the edge opens; with the UDP ports at most 4,096. Default none. */
  listenPorts?: TTcpPort[] | undefined;
  /** UDP ports that the edge opens; with the TCP ports at most 4,096. Default none. */
  listenPortsUdp?: TUdpPort[] | undefined;
  /** How often the edge asks for its public address, in seconds. Default 300; 0 = off. */
  stunIntervalSecs?: number | undefined;
  /** Clients that may come. Default `'any'`. */
  clientAddressPolicy?: TClientAddressPolicy | undefined;
}

/** Clients that an edge may let in, by their address. */
export type TClientAddressPolicy =
  /** Every client. */
  | 'any'
  /** Clients with a public address only: none that is private, loopback or link-local. */
  | 'public';

/** Result of a hub's start. */
export interface IHubStarted {
  /** The port that was bound, also when 0 was asked for. */
  tunnelPort: number;
  /** base64url SHA-256 of the hub's public key; null where tokens carry none. */
  hubPin: string | null;
}

/** Edge ids, by what `updateAllowedEdges` did to them. */
export interface IAllowedEdgesChange {
  /** Edges that are allowed since now. */
  added: string[];
  /** Edges that are allowed no more: they are cut within a second. */
  removed: string[];
  /** Edges of which something has changed. */
  changed: string[];
  /** Edges that are as before. */
  unchanged: string[];
}

/** Where an edge finds its hub. */
export interface ITokenTarget {
  /** DNS name or IP address by which edges reach the hub, without scheme, port or path. */
  hubHost: string;
  /** Port by which edges reach the hub, from 1 to 65535. Default: the hub's `tunnelPort`. */
  hubPort?: number | undefined;
}

/** Status of a hub. Counts are since the start of its binary. */
export interface IHubStatus {
  /** Always true: a stopped hub has no status. */
  running: boolean;
  /** Port where edges connect. */
  tunnelPort: number;
  /** base64url SHA-256 of the hub's public key; null where tokens carry none. */
  hubPin: string | null;
  /** Edges that have a connection now. */
  connectedEdges: IConnectedEdge[];
  /** Refused connections, tunnels and streams, by reason; a reason that hasn't occurred is absent. */
  rejected: Partial<Record<THubRefusalReason, number>>;
  /** Events that the binary dropped because this process didn't read them in time. */
  eventsDropped: number;
}

/** An edge that has a connection. */
export interface IConnectedEdge {
  /** Id of the edge. */
  edgeId: string;
  /** Where the edge connected from, as `address:port`. */
  remoteAddress: string;
  /** Transport of the session that came up last: new streams use it. */
  transport: TTransport;
  /** When the edge connected, in ms since 1970. */
  connectedAt: number;
  /** Sessions with a connection, also those that only finish their streams. */
  sessions: number;
  /** Streams (TCP clients) now. */
  activeStreams: number;
  /** Streams now, by what carries them. */
  activeStreamsByTransport: IStreamsByTransport;
  /** Streams since the edge was allowed. */
  totalStreams: number;
  /** Payload bytes of streams from clients towards targets. */
  bytesIn: number;
  /** Payload bytes of streams from targets towards clients. */
  bytesOut: number;
  /** Round trip to the edge, in ms; null until measured. */
  rttMs: number | null;
  /** Public address that a STUN server told the edge: a hint. null while unknown. */
  publicIp: string | null;
  /** Counts of UDP. */
  udp: IUdpStatus;
  /** Version of the edge's software. */
  version: string;
  /** Every port that the edge was assigned, with its state. */
  ports: IPortStatus[];
}

/** Streams now; after a change of the transport those of before finish on the other one. */
export interface IStreamsByTransport {
  /** Streams over TLS. */
  tcpTls: number;
  /** Streams over QUIC. */
  quic: number;
}

/** How QUIC finds out how fast an end may send. */
export type TCongestionController =
  /** By loss, as TCP does. */
  | 'cubic'
  /** By rate and round trip: half the latency on a line that loses packets, but experimental. */
  | 'bbr';
