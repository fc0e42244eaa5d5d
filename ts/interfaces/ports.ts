// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.
import type { TPortErrorCode, TPortState, TProtocol, TUdpDropReason } from './reasons.js';

/** A port from 1 to 65535, as a number or as text such as `"443"`, or the inclusive range `"20000-20100"`. */
export type TPortRange = number | string;

/** The way a TCP target learns the client's address. */
export type TProxyProtocolTcp =
  /** A line of text ahead of the client's first byte. */
  | 'v1'
  /** A binary header ahead of the client's first byte. */
  | 'v2'
  /** No header, for targets that don't parse one, such as ssh and databases. */
  | 'none';

/** The way a UDP target learns the client's address. */
export type TProxyProtocolUdp =
  /**
   * A PROXY v2 header in a datagram of its own before the client's first one, as SmartProxy and Cloudflare Spectrum
   * have it.
   */
  | 'firstDatagram'
  /** A PROXY v2 header in front of each datagram's payload, as the specification has it. */
  | 'everyDatagram'
  /** No header, for targets that don't parse one, such as WireGuard. */
  | 'none';

/** A port or range of ports that an edge opens, and where its streams or datagrams go. */
export interface IPortObject<TProxyProtocol> {
  /** Port or range on which the edge listens. Range: 1 to 65535, or a range of these. */
  port: TPortRange;
  /**
   * Host of the target, as seen from the hub. Default: the hub's `targetHost`. Range: name or IP address; a link-local
   * one with its zone, as `fe80::1%eth0`.
   */
  targetHost?: string | undefined;
  /**
   * Port of the target; for a range the first one, so that `{ port: "3000-3010", targetPort: 4000 }` goes to 4000 to
   * 4010. With hub and edge on one machine give this or `targetHost`, or the port leads to itself in a loop. Default:
   * the listener's port.
   */
  targetPort?: number | undefined;
  /**
   * TCP only: unix socket of the target on the hub's machine, instead of `targetHost` and `targetPort`; all ports of a
   * range go there. PROXY headers carry the client's address and the listener's, as they do over TCP. Default: none.
   * Range: absolute path, or `@` and a name in the abstract namespace; at most 107 bytes.
   */
  targetPath?: string | undefined;
  /**
   * Pool of which a target is chosen for each stream or flow, instead of `targetHost`, `targetPort` and `targetPath`:
   * see docs/pools.md. A target without a port of its own gets the listener's. Default: none. Range: name of one of the
   * hub's `pools`, or an `app` of its `routingDb`; `"*"`: all rows of that.
   */
  pool?: string | undefined;
  /**
   * Header by which the target learns the client's address. A target that doesn't expect it takes it for payload: see
   * docs/targets.md for TCP and docs/udp.md for UDP. Default: `"v1"`; UDP: `"firstDatagram"`. Range: TCP: `"v1"`,
   * `"v2"`, `"none"`; UDP: `"firstDatagram"`, `"everyDatagram"`, `"none"`.
   */
  proxyProtocol?: TProxyProtocol | undefined;
  /**
   * Address of the edge's machine on which this port listens. With it a port may be there on several addresses
   * (docs/configuration.md), each with its own target. It needn't be there yet (docs/operations.md). Default: the
   * edge's `bindAddress`. Range: IP address.
   */
  bindAddress?: string | undefined;
  /**
   * UDP only: ends a flow of this port that had no datagram in either direction for this long, at both ends. Unit: s.
   * Default: the hub's `udpIdleTimeoutSecs`.
   */
  udpIdleTimeoutSecs?: number | undefined;
}

/**
 * TCP port or ports of an edge.
 *
 * @example
 * const listenPorts: TTcpPort[] = [443, '8000-8010', { port: 22, targetHost: '10.0.0.5', proxyProtocol: 'none' }];
 */
export type TTcpPort = TPortRange | IPortObject<TProxyProtocolTcp>;

/**
 * UDP port or ports of an edge.
 *
 * @example
 * const listenPortsUdp: TUdpPort[] = [{ port: 53, targetPort: 5353, proxyProtocol: 'everyDatagram' }];
 */
export type TUdpPort = TPortRange | IPortObject<TProxyProtocolUdp>;

/** State of one port of an edge. */
export interface IPortStatus {
  /** Protocol of the port. */
  protocol: TProtocol;
  /** The listener's port; a range has an entry for each of its ports. */
  port: number;
  /** `bindAddress` of the port, only where the same port is there on several addresses. */
  bindAddress?: string;
  /**
   * `"bound"`: it is open. `"failed"`: it couldn't be opened, and is tried again after 1 s to 30 s. `"draining"`: it
   * was removed, or its edge is about to stop: it accepts nothing new and lets its streams run on; UDP ports close at
   * once.
   */
  state: TPortState;
  /** `{ code, message }` of a failed port, for example `E_ADDRESS_IN_USE`. Absent in the other states. */
  error?: IPortError;
}

/** Reason why a port failed. */
export interface IPortError {
  /** Code to branch on. */
  code: TPortErrorCode;
  /** Message to read. */
  message: string;
}

/** Counts of UDP at one end. */
export interface IUdpStatus {
  /** Clients that have sent or got a datagram within `udpIdleTimeoutSecs`. */
  activeFlows: number;
  /** Datagrams from clients towards targets: those that an edge read, or that a hub sent to targets. */
  datagramsIn: number;
  /** Datagrams from targets towards clients: those that a hub read from targets, or that an edge sent to clients. */
  datagramsOut: number;
  /** Datagrams that went no further, see Reasons in `udp.dropped`. A reason that hasn't occurred is absent. */
  dropped: Partial<Record<TUdpDropReason, number>>;
}
