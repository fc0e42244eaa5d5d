// The events of hub and edge, as maps from name to arguments.
import type { IPortStatus } from './ports.js';
import type {
  TBinaryErrorCode,
  TProtocol,
  TStreamCloseReason,
  TTransport,
  TTunnelRefusalReason,
} from './reasons.js';

export interface ILogEvent {
  level: 'trace' | 'debug' | 'info' | 'warn' | 'error';
  message: string;
  /** The part of the program that speaks. */
  target: string;
  /** Where the binary logs an event, `event` is its name and `data` its data, as JSON inside a string. */
  fields: Record<string, unknown>;
}

export interface IRestartedEvent {
  /** Tries that this restart took; 1 = the first one worked. */
  attempt: number;
  /** How the binary ended. */
  reason: string;
}

export interface IStreamOpenedEvent {
  edgeId: string;
  streamId: number | string;
  clientAddress: string;
  protocol: TProtocol;
  /** The listener's port. */
  port: number;
  /** On the hub: where the stream goes. */
  target?: string;
}

export interface IStreamClosedEvent {
  edgeId: string;
  streamId: number | string;
  bytesIn: number;
  bytesOut: number;
  reason: TStreamCloseReason;
}

export interface IEdgeConnectedEvent {
  edgeId: string;
  remoteAddress: string;
  transport: TTransport;
  version: string;
}

export interface IEdgeDisconnectedEvent {
  edgeId: string;
  remoteAddress: string;
  reason: string;
}

export interface IEdgeRejectedEvent {
  /** null where it isn't known. */
  edgeId: string | null;
  remoteAddress: string;
  reason: TTunnelRefusalReason;
  /** For `instanceConflict`: where the edge with this id is connected from. */
  otherAddress?: string;
}

export interface IPortsEvent {
  /** Counts up with every configuration that the hub sends. */
  generation: number;
  ports: IPortStatus[];
}

export interface ITunnelConnectedEvent {
  hubAddress: string;
  transport: TTransport;
  /** Streams from before a lost connection go on. */
  resumed: boolean;
}

export interface ITunnelDisconnectedEvent {
  reason: string;
  code: TBinaryErrorCode;
}

export interface ITransportChangedEvent {
  /** What carries new streams from now on. */
  transport: TTransport;
  reason: string;
}

/** Both sides have these. `streamOpened` and `streamClosed` cost nothing while nobody listens. */
export interface ICommonEvents {
  streamOpened: [IStreamOpenedEvent];
  streamClosed: [IStreamClosedEvent];
  eventsDropped: [{ count: number }];
  /** The binary had died; it runs again with the last configuration. */
  restarted: [IRestartedEvent];
  log: [ILogEvent];
}

export interface IHubEvents extends ICommonEvents {
  /** The first session of a tunnel is up. */
  edgeConnected: [IEdgeConnectedEvent];
  /** A tunnel's last connection is gone; its sessions may still resume. */
  edgeDisconnected: [IEdgeDisconnectedEvent];
  edgeRejected: [IEdgeRejectedEvent];
  portsApplied: [IPortsEvent & { edgeId: string }];
}

export interface IEdgeEvents extends ICommonEvents {
  /** The first session of the tunnel is up. */
  tunnelConnected: [ITunnelConnectedEvent];
  /** No session is up any more. */
  tunnelDisconnected: [ITunnelDisconnectedEvent];
  /** With `'quicWithFallback'`: new streams use the other transport; those that run finish where they are. */
  transportChanged: [ITransportChangedEvent];
  /** The first configuration of a tunnel. */
  portsAssigned: [IPortsEvent];
  /** Every later one, a failed port that is bound now, and a drained port that is gone. */
  portsUpdated: [IPortsEvent];
  publicIpDiscovered: [{ publicIp: string }];
}
