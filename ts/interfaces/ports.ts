// Port specifications and what became of them.
import type { TPortErrorCode, TPortState, TProtocol, TUdpDropReason } from './reasons.js';

/** A port from 1 to 65535, as a number or as text such as `"443"`, or the inclusive range `"20000-20100"`. */
export type TPortRange = number | string;

/** How a TCP target learns the client's address. */
export type TProxyProtocolTcp =
  /** By a line of text ahead of the client's first byte. */
  | 'v1'
  /** By a binary header ahead of the client's first byte. */
  | 'v2'
  /** Not at all: for targets that don't parse a header, such as ssh and databases. */
  | 'none';

/** How a UDP target learns the client's address. */
export type TProxyProtocolUdp =
  /** By a PROXY v2 header in a datagram of its own, ahead of the client's first. */
  | 'firstDatagram'
  /** By a PROXY v2 header at the begin of each datagram. */
  | 'everyDatagram'
  /** Not at all: for targets that don't parse a header, such as WireGuard. */
  | 'none';

/** A port or range of ports that an edge opens, and where its streams or datagrams go. */
export interface IPortObject<TProxyProtocol> {
  /** Port or range that the edge opens. */
  port: TPortRange;
  /** DNS name or IP address of the target, as the hub reaches it. Default: the hub's `targetHost`. */
  targetHost?: string | undefined;
  /** Port of the target; for a range, of its first port. Default: the edge's port. */
  targetPort?: number | undefined;
  /** How the target learns the client's address. Default `'v1'` for TCP and `'firstDatagram'` for UDP. */
  proxyProtocol?: TProxyProtocol | undefined;
  /** The edge's address to listen on; overrides the edge's `bindAddress`. */
  bindAddress?: string | undefined;
}

/**
 * A TCP port of an edge. `proxyProtocol` defaults to `'v1'`; say `'none'` for targets that don't parse it (ssh,
 * databases).
 *
 * @example
 * const listenPorts: TTcpPort[] = [443, '8000-8010', { port: 22, targetHost: '10.0.0.5', proxyProtocol: 'none' }];
 */
export type TTcpPort = TPortRange | IPortObject<TProxyProtocolTcp>;

/**
 * A UDP port of an edge. `proxyProtocol` defaults to `'firstDatagram'`; say `'none'` for targets that don't parse it.
 *
 * @example
 * const listenPortsUdp: TUdpPort[] = [{ port: 53, targetPort: 5353, proxyProtocol: 'everyDatagram' }];
 */
export type TUdpPort = TPortRange | IPortObject<TProxyProtocolUdp>;

/** State of one port of an edge. */
export interface IPortStatus {
  /** Protocol of the port. */
  protocol: TProtocol;
  /** The port; a range has an entry for each of its ports. */
  port: number;
  /** `'bound'` is open, `'failed'` isn't, `'draining'` accepts nothing new while its streams run on. */
  state: TPortState;
  /** Why the port failed; such a port is tried again after 1 s to 30 s. */
  error?: IPortError;
}

/** Why a port failed. */
export interface IPortError {
  /** Code to branch on. */
  code: TPortErrorCode;
  /** Message to read. */
  message: string;
}

/** Counts of UDP at a hub or an edge. */
export interface IUdpStatus {
  /** Flows (a client at a port) with a datagram in either direction within `udpIdleTimeoutSecs`. */
  activeFlows: number;
  /** Datagrams from clients towards targets. */
  datagramsIn: number;
  /** Datagrams from targets towards clients. */
  datagramsOut: number;
  /** Datagrams that went no further, by reason; a reason that hasn't occurred is absent. */
  dropped: Partial<Record<TUdpDropReason, number>>;
}
