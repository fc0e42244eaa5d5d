// Answers of the admin server that the page reads.
import type {
  IConnectedEdge,
  IEdgeStatus,
  IHubStatus,
  IUnreachableEdge,
  TProtocol,
  TTransport,
} from '../../../ts/interfaces/index.js';

export type {
  IConnectedEdge,
  IEdgeStatus,
  IHubStatus,
  IPoolStatus,
  IPortStatus,
  ITargetStatus,
  IUnreachableEdge,
  TTargetState,
} from '../../../ts/interfaces/index.js';

/** `/api/v1/status`, and the server-sent event `status`. */
export interface IStatus {
  role: 'hub' | 'edge';
  version: string;
  startedAt: number;
  hub: IHubStatus | null;
  edge: IEdgeStatus | null;
}

/** `/api/v1/edges`. */
export interface IEdgeList {
  edges: { id: string; connected: IConnectedEdge | null; unreachable: IUnreachableEdge | null }[];
}

/** One of `/api/v1/streams`. */
export interface IStream {
  id: string | null;
  streamId: number;
  edgeId: string;
  protocol: TProtocol;
  clientAddress: string;
  port: number;
  target: string | null;
  transport: TTransport;
  openedAt: number;
  bytesIn: number;
  bytesOut: number;
  tier: string;
  waitsFor: string | null;
}

export interface IStreamList {
  streams: IStream[];
  total: number;
}

/** The server-sent event `event`, and one of `/api/v1/events`. */
export interface IEvent {
  seq: number;
  at: number;
  event: string;
  data: Record<string, unknown>;
}

export interface IEventList {
  events: IEvent[];
}
