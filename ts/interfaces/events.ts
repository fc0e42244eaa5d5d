// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.
import type { TDiscoveryState, TTargetSource } from './pools.js';
import type { IPortStatus } from './ports.js';
import type { TBinaryErrorCode, TDialledBy, TProtocol, TStreamCloseReason, TTargetDownReason, TTransport, TTunnelRefusalReason } from './reasons.js';
import type { ISupervisionEvents } from './supervision.js';

/** Data of `edgeConnected`. */
export interface IEdgeConnectedEvent {
  /** Id of the edge. */
  edgeId: string;
  /** Address from which the edge connected, as `address:port`. */
  remoteAddress: string;
  /** Transport of the edge's first session. */
  transport: TTransport;
  /** Software version of the edge. */
  version: string;
  /** End that has dialled. */
  dialledBy: TDialledBy;
}

/** Data of `edgeDisconnected`. */
export interface IEdgeDisconnectedEvent {
  /** Id of the edge. */
  edgeId: string;
  /** Address from which the edge was connected, as `address:port`. */
  remoteAddress: string;
  /** Cause that ended the last connection, as a sentence. */
  reason: string;
}

/** Data of `edgeRejected`. */
export interface IEdgeRejectedEvent {
  /** Id that the edge claims, unproven for `authFailed`; null where it isn't known. */
  edgeId: string | null;
  /** Address from which the edge connected, as `address:port`. */
  remoteAddress: string;
  /** Reason why the edge was refused. */
  reason: TTunnelRefusalReason;
  /** Only for `instanceConflict`: address of the edge with this id that is connected, as `address:port`. */
  otherAddress?: string;
}

/** Data of `edgeUnreachable`. */
export interface IEdgeUnreachableEvent {
  /** Id of the edge. */
  edgeId: string;
  /** Code to branch on. */
  code: TBinaryErrorCode;
  /** Cause, as a sentence. */
  reason: string;
}

/** Data of `edgeKeyChanged`. */
export interface IEdgeKeyChangedEvent {
  /** Id of the edge. */
  edgeId: string;
  /** Address of the edge, as `address:port`. */
  remoteAddress: string;
  /** base64url SHA-256 of the edge's public key. */
  pin: string;
  /** The same of the key that it showed before. */
  previousPin: string;
}

/** Data of `portsApplied`. */
export interface IPortsAppliedEvent {
  /** Id of the edge whose ports these are. */
  edgeId: string;
  /** Number of the configuration; counts up with each one that the hub sends. */
  generation: number;
  /** Every port of the edge, with its state. */
  ports: IPortStatus[];
}

/** Data of `tunnelConnected`. */
export interface ITunnelConnectedEvent {
  /** Address of the hub, as `address:port`. */
  hubAddress: string;
  /** Transport of the first session. */
  transport: TTransport;
  /** True if streams from before a lost connection go on. */
  resumed: boolean;
}

/** Data of `tunnelDisconnected`. */
export interface ITunnelDisconnectedEvent {
  /** Cause, as a sentence. */
  reason: string;
  /** Cause, as a code to branch on. */
  code: TBinaryErrorCode;
}

/** Data of `transportChanged`. */
export interface ITransportChangedEvent {
  /** Transport of new streams from now on. */
  transport: TTransport;
  /** Reason for the change, as a sentence. */
  reason: string;
}

/** Data of `portsAssigned` and `portsUpdated`. */
export interface IPortsEvent {
  /** Number of the configuration; counts up with each one that the hub sends. */
  generation: number;
  /** Every port of the edge, with its state. */
  ports: IPortStatus[];
}

/** Data of `publicIpDiscovered`. */
export interface IPublicIpEvent {
  /** Public address of the edge, as STUN told it. */
  publicIp: string;
}

/** Data of `targetDown`. */
export interface ITargetDownEvent {
  /** Name of the pool. */
  pool: string;
  /** Id of the target. */
  target: string;
  /** The evidence. */
  reason: TTargetDownReason;
  /** Failures in a row. */
  failures: number;
}

/** Data of `targetUp`. */
export interface ITargetUpEvent {
  /** Name of the pool. */
  pool: string;
  /** Id of the target. */
  target: string;
}

/** Data of `poolEmpty`, `poolFull` and `poolUnhealthy`. */
export interface IPoolRefusedEvent {
  /** Name of the pool. */
  pool: string;
  /** Streams, and over UDP datagrams, that were refused since the pool's last such event. */
  refused: number;
}

/** Data of `targetRefused`. */
export interface ITargetRefusedEvent {
  /** Where the target comes from. */
  source: TTargetSource;
  /** Id of the target; null if it has none. */
  id: string | null;
  /** Place of its row in the table, from 1; null if it is no row. */
  row: number | null;
  /** What is wrong with it, as a sentence. */
  reason: string;
}

/** Data of `routingReloaded`. */
export interface IRoutingReloadedEvent {
  /** Number of the version. */
  revision: number;
  /** Rows in force. */
  rows: number;
  /** Rows that are new. */
  added: number;
  /** Rows that are gone. */
  removed: number;
  /** Rows with other values. */
  changed: number;
  /** Rows that are refused. */
  refused: number;
}

/** Data of `routingFailed`. */
export interface IRoutingFailedEvent {
  /** Path of the file. */
  path: string;
  /** Word to branch on. */
  reason: string;
  /** The problem and what to do about it, as a sentence. */
  error: string;
}

/** Data of `discoveryFailed`. */
export interface IDiscoveryFailedEvent {
  /** Name of the pool. */
  pool: string;
  /** Name that was looked up. */
  name: string;
  /** How far the pool's targets can be relied on. */
  state: TDiscoveryState;
  /** Cause, as a sentence. */
  error: string;
}

/** Data of `geoReloaded`. */
export interface IGeoReloadedEvent {
  /** Path of the file. */
  path: string;
  /** Time at which its data were put together. Unit: ms since 1970. */
  built: number;
  /** Networks whose country it knows. */
  networks: number;
}

/** Data of `geoFailed`. */
export interface IGeoFailedEvent {
  /** Path of the file. */
  path: string;
  /** Word to branch on. */
  reason: string;
  /** The problem and what to do about it, as a sentence. */
  error: string;
}

/** Data of `streamOpened`. */
export interface IStreamOpenedEvent {
  /** Id of the edge that the client came to. */
  edgeId: string;
  /** Number of the stream, unique within its process. It isn't the number that the stream has on the wire. */
  streamId: number;
  /**
   * Id of the stream, the same at edge and hub, in the access log and in the target's PROXY header; null where the
   * stream had ended before the hub knew of it.
   */
  id: string | null;
  /** Address of the client, as `address:port`. */
  clientAddress: string;
  /** Protocol of the listener's port. */
  protocol: TProtocol;
  /** The listener's port. */
  port: number;
  /** Address of the edge that the client connected to: where a port is there on several, it says which. */
  listenerIp: string;
  /** Only at the hub: target of the stream, as `host:port`. */
  target?: string;
  /** Only at the hub: pool and target that were chosen for the stream; absent for a port without a pool. */
  pool?: IChosenTarget;
}

/** Data of `streamClosed`. */
export interface IStreamClosedEvent {
  /** Id of the edge that the client came to. */
  edgeId: string;
  /** Number of the stream, as in `streamOpened`. */
  streamId: number;
  /** Id of the stream, as in `streamOpened`. */
  id: string | null;
  /** Bytes of payload from the client towards the target. */
  bytesIn: number;
  /** Bytes of payload from the target towards the client. */
  bytesOut: number;
  /** Reason why the stream ended. */
  reason: TStreamCloseReason;
}

/** Data of `eventsDropped`. */
export interface IEventsDroppedEvent {
  /** Events that were lost since the last `eventsDropped`. */
  count: number;
}

/** The target that a stream got from its pool. */
export interface IChosenTarget {
  /** Name of the pool. */
  name: string;
  /** Id of the target. */
  targetId: string;
  /** Targets that were dialled for the stream, this one among them. */
  attempts: number;
}

/** Events of hub and edge alike. `streamOpened` and `streamClosed` cost nothing while nobody listens. */
export interface ICommonEvents extends ISupervisionEvents {
  /** A stream was opened for a client. `port` is the listener's; the hub adds `target` as `host:port`. */
  streamOpened: [IStreamOpenedEvent];
  /** A stream has ended, for one of the reasons below. `bytesIn` and `bytesOut` are bytes of payload. */
  streamClosed: [IStreamClosedEvent];
  /** This number of events was lost, because they weren't read in time. */
  eventsDropped: [IEventsDroppedEvent];
}

/** Events of a hub. */
export interface IHubEvents extends ICommonEvents {
  /** The first session of an edge's tunnel is up. */
  edgeConnected: [IEdgeConnectedEvent];
  /** The last connection of an edge's tunnel is gone. Its sessions may still be resumed, with their streams. */
  edgeDisconnected: [IEdgeDisconnectedEvent];
  /**
   * An edge was refused for `reason`. `edgeId` is null where it isn't known, and is only claimed, not proven, for
   * `authFailed`; `instanceConflict` adds the address of the edge that is connected. The same edge at the same address
   * is told of once a minute for each reason, and once while the hub drains; the status field `rejected` counts every
   * time.
   */
  edgeRejected: [IEdgeRejectedEvent];
  /**
   * An edge that this hub dials can't be reached. It comes once per outage and cause; `code` is an error code
   * (docs/errors.md).
   */
  edgeUnreachable: [IEdgeUnreachableEvent];
  /**
   * An edge that this hub dials shows another key than before, after it has proved its secret. Unless the edge's
   * `stateDir` was lost or moved, somebody else has its secret; `dial.pin` refuses another key.
   */
  edgeKeyChanged: [IEdgeKeyChangedEvent];
  /** The edge has applied a configuration of its ports; `ports` tells the state of each (docs/status.md). */
  portsApplied: [IPortsAppliedEvent];
  /** A target of a pool gets no streams for now: streams to it failed, or its checks did. */
  targetDown: [ITargetDownEvent];
  /** A target takes streams again. */
  targetUp: [ITargetUpEvent];
  /**
   * Clients were refused, because their pool has no target, or isn't there. `refused` counts them since the pool's last
   * such event: streams, and over UDP datagrams. It comes every 5 s at most.
   */
  poolEmpty: [IPoolRefusedEvent];
  /** The same, because all targets of the pool were full, and no place in its queue came in time. */
  poolFull: [IPoolRefusedEvent];
  /** The same, because no target of the pool takes streams, or those that were dialled failed. */
  poolUnhealthy: [IPoolRefusedEvent];
  /** A row of routing.db or a record of DNS can't be a target. It is sent once for each. */
  targetRefused: [ITargetRefusedEvent];
  /** Another version of routing.db is in force. */
  routingReloaded: [IRoutingReloadedEvent];
  /** routing.db can't be read, for one of the reasons that docs/pools.md lists. The earlier targets stay. */
  routingFailed: [IRoutingFailedEvent];
  /**
   * The name of a pool can't be looked up, or has no records. It is sent when that begins, and when the targets go
   * after `holdSecs`; until then the earlier ones stay.
   */
  discoveryFailed: [IDiscoveryFailedEvent];
  /** Another database of countries is in force. */
  geoReloaded: [IGeoReloadedEvent];
  /**
   * The database of countries can't be read, for one of the reasons that docs/pools.md lists. The earlier data stay in
   * force.
   */
  geoFailed: [IGeoFailedEvent];
}

/** Events of an edge. */
export interface IEdgeEvents extends ICommonEvents {
  /**
   * The first session of the tunnel is up. `resumed` tells if it goes on with its streams from before a lost
   * connection; those of other sessions may go on in any case.
   */
  tunnelConnected: [ITunnelConnectedEvent];
  /**
   * No session is up. It comes once per outage and cause, also when the first attempt to connect fails; `code` is an
   * error code (docs/errors.md).
   */
  tunnelDisconnected: [ITunnelDisconnectedEvent];
  /**
   * With `"quicWithFallback"`, new streams use the other transport from now on. The first transport is in
   * `tunnelConnected` instead.
   */
  transportChanged: [ITransportChangedEvent];
  /** The first configuration of ports since the edge started has been applied. */
  portsAssigned: [IPortsEvent];
  /**
   * A later configuration has been applied, a port that had failed is open now, or the last stream of a removed port
   * has ended.
   */
  portsUpdated: [IPortsEvent];
  /** STUN told a public address that wasn't known before. */
  publicIpDiscovered: [IPublicIpEvent];
}
