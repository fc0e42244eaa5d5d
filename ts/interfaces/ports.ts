// Port specifications and what became of them.
import type { TPortErrorCode, TPortState, TProtocol, TUdpDropReason } from './reasons.js';

/** A port, or `"443"`, or the inclusive range `"20000-20100"`. */
export type TPortRange = number | string;

/** How a TCP target learns the client's address. */
export type TProxyProtocolTcp = 'v1' | 'v2' | 'none';

/** How a UDP target learns the client's address. */
export type TProxyProtocolUdp = 'firstDatagram' | 'everyDatagram' | 'none';

export interface IPortObject<TProxyProtocol> {
  port: TPortRange;
  /** Default: the hub's `targetHost`. */
  targetHost?: string | undefined;
  /** Default: the listener's port. For a range, its first target. */
  targetPort?: number | undefined;
  proxyProtocol?: TProxyProtocol | undefined;
  /** The edge's address to listen on; overrides the edge's `bindAddress`. */
  bindAddress?: string | undefined;
}

/** `proxyProtocol` defaults to `'v1'`; use `'none'` for targets that don't parse it (ssh, databases). */
export type TTcpPort = TPortRange | IPortObject<TProxyProtocolTcp>;

/** `proxyProtocol` defaults to `'firstDatagram'`; use `'none'` for targets that don't parse it. */
export type TUdpPort = TPortRange | IPortObject<TProxyProtocolUdp>;

export interface IPortStatus {
  protocol: TProtocol;
  port: number;
  /** `draining`: accepts nothing new, its streams run on. UDP ports close at once. */
  state: TPortState;
  /** Why it failed; such a port is tried again after 1 s to 30 s. */
  error?: { code: TPortErrorCode; message: string };
}

/** What one end counts of UDP. */
export interface IUdpStatus {
  /** Clients that have sent or got something within `udpIdleTimeoutSecs`. */
  activeFlows: number;
  /** From clients towards targets. */
  datagramsIn: number;
  /** From targets towards clients. */
  datagramsOut: number;
  /** Datagrams that went no further, by reason. */
  dropped: Partial<Record<TUdpDropReason, number>>;
}
