// The events of hub and edge, as maps from name to arguments.
import type { IPortStatus } from './ports.js';
import type {
  TBinaryErrorCode,
  TProtocol,
  TStreamCloseReason,
  TTransport,
  TTunnelRefusalReason,
} from './reasons.js';

/** Data of `log`: one line of the binary's log. */
export interface ILogEvent {
  /** How grave it is. REMOTEINGRESS_LOG sets the least grave level that is logged; `'info'` where it is absent. */
  level: TLogLevel;
  /** The message, as a sentence. */
  message: string;
  /** The part of the program that speaks. */
  target: string;
  /** Where the binary logs an event, `event` is its name and `data` its data, as JSON inside a string. */
  fields: Record<string, unknown>;
}

/** Levels of a log, from the least grave one. */
export type TLogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** Data of `restarted`. */
export interface IRestartedEvent {
  /** Tries that this restart took; 1 = the first one worked. */
  attempt: number;
  /** How the binary ended, as a sentence. */
  reason: string;
}

/** Data of `eventsDropped`. */
export interface IEventsDroppedEvent {
  /** Events that were lost since the last one that came. */
  count: number;
}

/** Data of `streamOpened`. */
export interface IStreamOpenedEvent {
  /** Id of the edge that the client came to. */
  edgeId: string;
  /** Number of the stream, unique within its binary's run. */
  streamId: number | string;
  /** The client, as `address:port`. */
  clientAddress: string;
  /** Protocol of the port. */
  protocol: TProtocol;
  /** Port of the edge that the client came to. */
  port: number;
  /** On the hub: the target, as `host:port`. */
  target?: string;
}

/** Data of `streamClosed`. */
export interface IStreamClosedEvent {
  /** Id of the edge that the client came to. */
  edgeId: string;
  /** Number of the stream, as `streamOpened` told it. */
  streamId: number | string;
  /** Payload bytes from the client towards the target. */
  bytesIn: number;
  /** Payload bytes from the target towards the client. */
  bytesOut: number;
  /** How the stream ended. */
  reason: TStreamCloseReason;
}

/** Data of `edgeConnected`. */
export interface IEdgeConnectedEvent {
  /** Id of the edge. */
  edgeId: string;
  /** Where the edge connected from, as `address:port`. */
  remoteAddress: string;
  /** Transport of the edge's first session. */
  transport: TTransport;
  /** Version of the edge's software. */
  version: string;
}

/** Data of `edgeDisconnected`. */
export interface IEdgeDisconnectedEvent {
  /** Id of the edge. */
  edgeId: string;
  /** Where the edge was connected from, as `address:port`. */
  remoteAddress: string;
  /** The end of its last connection, as a sentence. */
  reason: string;
}

/** Data of `edgeRejected`. */
export interface IEdgeRejectedEvent {
  /** Id that the edge claims, unproven where the reason is `'authFailed'`; null where it isn't known. */
  edgeId: string | null;
  /** Where the edge connected from, as `address:port`. */
  remoteAddress: string;
  /** Why it was refused. */
  reason: TTunnelRefusalReason;
  /** For `'instanceConflict'`: where the edge with this id is connected from, as `address:port`. */
  otherAddress?: string;
}

/** Data of `portsAssigned` and `portsUpdated`. */
export interface IPortsEvent {
  /** Counts up with every configuration that the hub sends. */
  generation: number;
  /** Every port of the edge, with its state. */
  ports: IPortStatus[];
}

/** Data of `portsApplied`. */
export interface IPortsAppliedEvent extends IPortsEvent {
  /** Id of the edge whose ports these are. */
  edgeId: string;
}

/** Data of `tunnelConnected`. */
export interface ITunnelConnectedEvent {
  /** The hub, as `address:port`. */
  hubAddress: string;
  /** Transport of the first session. */
  transport: TTransport;
  /** True if streams from before a lost connection go on. */
  resumed: boolean;
}

/** Data of `tunnelDisconnected`. */
export interface ITunnelDisconnectedEvent {
  /** Cause and remedy, as a sentence. */
  reason: string;
  /** The cause as a code to branch on. */
  code: TBinaryErrorCode;
}

/** Data of `transportChanged`. */
export interface ITransportChangedEvent {
  /** Transport of new streams from now on. */
  transport: TTransport;
  /** Why it changed, as a sentence. */
  reason: string;
}

/** Data of `publicIpDiscovered`. */
export interface IPublicIpEvent {
  /** Public address of the edge, as a STUN server told it. */
  publicIp: string;
}

/** Events of hub and edge alike. `streamOpened` and `streamClosed` cost nothing while nobody listens. */
export interface ICommonEvents {
  /** A client has a stream now; on the hub, its target is connected. */
  streamOpened: [IStreamOpenedEvent];
  /** A stream is over. */
  streamClosed: [IStreamClosedEvent];
  /** Events were lost, because this process didn't read them in time. */
  eventsDropped: [IEventsDroppedEvent];
  /** The binary had died; it runs again with the last configuration. */
  restarted: [IRestartedEvent];
  /** The binary, or the part of this package that keeps it running, has logged a line. */
  log: [ILogEvent];
}

/** Events of a hub. */
export interface IHubEvents extends ICommonEvents {
  /** The first session of an edge's tunnel is up. */
  edgeConnected: [IEdgeConnectedEvent];
  /** A tunnel's last connection is gone; its sessions may still resume. */
  edgeDisconnected: [IEdgeDisconnectedEvent];
  /** An edge was refused. */
  edgeRejected: [IEdgeRejectedEvent];
  /** An edge has told what became of its ports. */
  portsApplied: [IPortsAppliedEvent];
}

/** Events of an edge. */
export interface IEdgeEvents extends ICommonEvents {
  /** The first session of the tunnel is up. */
  tunnelConnected: [ITunnelConnectedEvent];
  /** No session is up. Told once per outage and cause, also when the first attempt fails. */
  tunnelDisconnected: [ITunnelDisconnectedEvent];
  /** With `'quicWithFallback'`: new streams use the other transport; those that run finish where they are. */
  transportChanged: [ITransportChangedEvent];
  /** The first configuration of a tunnel has been applied. */
  portsAssigned: [IPortsEvent];
  /** A later configuration has been applied, a failed port is open now, or a drained port is gone. */
  portsUpdated: [IPortsEvent];
  /** A STUN server has told the edge's public address, or a new one. */
  publicIpDiscovered: [IPublicIpEvent];
}
