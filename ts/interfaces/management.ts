// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.
import type { IEdgeConfig, IEdgeStatus } from './edge.js';
import type { IStreamList, IStreamsParams } from './engine.js';
import type { IAllowedEdge, IAllowedEdgesChange, IEdgesRemoved, IHubConfig, IHubStarted, IHubStatus, ISelfTestReport } from './hub.js';
import type { IExplainParams, IPool, IPoolExplained, IPoolsChange, ITargetStateParams } from './pools.js';

/** The only version of the management interface that this package speaks; `ready` names the binary's. */
export const managementProtocolVersion = 1;

/** Data of `ready`. */
export interface IReady {
  /** Software version of the binary. */
  version: string;
  /** Version of the management interface. A package that knows another one must not go on. */
  protocolVersion: number;
  /** Version of the protocol between edge and hub. */
  wireVersion: number;
  /** Transports and protocols that the binary has. */
  features: TFeature[];
}

/** Capability of the binary, as `ready` lists it. */
export type TFeature =
  /** Tunnels over TLS. */
  | 'tcpTls'
  /** Tunnels over QUIC. */
  | 'quic'
  /** UDP ports. */
  | 'udp';

/** An empty object. */
export type TNothing = Record<string, never>;

/** Event that is sent only to those who subscribe to it. */
export type TSubscribable =
  /** A stream was opened. */
  | 'streamOpened'
  /** A stream has ended. */
  | 'streamClosed';

/** Parameters of `updateAllowedEdges` and `upsertEdges`. */
export interface IEdgesParams {
  /** Edges that may connect: `updateAllowedEdges` takes the whole set, `upsertEdges` those that are new or changed. */
  edges: IAllowedEdge[];
}

/** Parameters of `updatePools`. */
export interface IPoolsParams {
  /** All pools, by name. */
  pools: Record<string, IPool>;
}

/** Result of `beginAllowedEdges`. */
export interface IEdgeSetBegun {
  /** Number of the set, which its parts and its commit name. */
  set: number;
}

/** Parameters of `addAllowedEdges`. */
export interface IEdgesPartParams {
  /** Number of the set, from `beginAllowedEdges`. */
  set: number;
  /** Edges that the set has besides those of its other parts. */
  edges: IAllowedEdge[];
}

/** Parameters of `commitAllowedEdges`. */
export interface IEdgeSetCommit {
  /** Number of the set. */
  set: number;
  /** Leaves edges allowed that the set doesn't have. Default: `false`. */
  keepOthers?: boolean | undefined;
}

/** Parameters of `removeEdges`. */
export interface IEdgesRemoval {
  /** Ids of the edges that are allowed no more. */
  edgeIds: string[];
}

/** Parameters of `createConnectionToken`. */
export interface ITokenParams {
  /** Id of an allowed edge. */
  edgeId: string;
  /**
   * Name or IP address by which edges reach the hub, without scheme, port or path. An edge that the hub dials needs
   * none; every other does.
   */
  hubHost?: string | undefined;
  /** Port by which edges reach the hub, from 1 to 65535. Default: the hub's `tunnelPort`. */
  hubPort?: number | undefined;
}

/** Result of `createConnectionToken`. */
export interface ITokenCreated {
  /** Connection token. It contains the edge's secret. */
  token: string;
}

/** Result of `getMetrics`. */
export interface IMetrics {
  /** The metrics, as `application/openmetrics-text; version=1.0.0; charset=utf-8`. */
  text: string;
}

/** Parameters of `selfTest`. */
export interface ISelfTestParams {
  /** Id of an allowed edge. */
  edgeId: string;
}

/** Parameters of `subscribe`. */
export interface ISubscription {
  /** The whole set that is wanted. */
  events: TSubscribable[];
}

/** Methods, by name. */
export type TCommands = {
  /** Does nothing but answer. */
  ping: { params: TNothing; result: TNothing };
  /** Starts a hub in this process. */
  startHub: { params: IHubConfig; result: IHubStarted };
  /** Replaces the hub's whole set of allowed edges. */
  updateAllowedEdges: { params: IEdgesParams; result: IAllowedEdgesChange };
  /**
   * Opens a set of allowed edges that comes in parts, for one that is too long for a line. It takes the place of a set
   * that is still open.
   */
  beginAllowedEdges: { params: TNothing; result: IEdgeSetBegun };
  /** Adds edges to the open set. A part that is refused drops the set. */
  addAllowedEdges: { params: IEdgesPartParams; result: TNothing };
  /**
   * Makes the open set the hub's whole set of allowed edges, at one moment; with `keepOthers` it adds or replaces the
   * edges of the set and leaves the others.
   */
  commitAllowedEdges: { params: IEdgeSetCommit; result: IAllowedEdgesChange };
  /** Adds or replaces these edges and leaves the others. */
  upsertEdges: { params: IEdgesParams; result: IAllowedEdgesChange };
  /** Removes these edges and leaves the others. An id that no edge has is no error. */
  removeEdges: { params: IEdgesRemoval; result: IEdgesRemoved };
  /**
   * Replaces the hub's whole set of pools. A pool that is the same isn't touched, and a target that stays keeps its
   * health, its counts and its clients.
   */
  updatePools: { params: IPoolsParams; result: IPoolsChange };
  /**
   * Sets whether a target takes streams, takes no new clients, or takes none. The state lasts until another one is set,
   * over every change of the pool.
   */
  setTargetState: { params: ITargetStateParams; result: TNothing };
  /** Tells which target of a pool a client would get, and of each one why or why not. It changes nothing. */
  explainPool: { params: IExplainParams; result: IPoolExplained };
  /** Makes the connection token of an edge. */
  createConnectionToken: { params: ITokenParams; result: ITokenCreated };
  /** Starts an edge in this process. The answer comes at once; `tunnelConnected` tells when the hub is reached. */
  startEdge: { params: IEdgeConfig; result: TNothing };
  /** Tells the status (docs/status.md) of the hub or edge. */
  getStatus: { params: TNothing; result: IHubStatus | IEdgeStatus };
  /** Lists the streams and flows that are open, the oldest first. */
  getStreams: { params: IStreamsParams; result: IStreamList };
  /**
   * Tells the metrics (docs/operations.md) of the hub or edge as OpenMetrics text. Streams are timed from the first
   * call on, unless an admin server runs.
   */
  getMetrics: { params: TNothing; result: IMetrics };
  /**
   * Tests (docs/operations.md) the tunnel to an edge and the edge's targets. The answer comes within 10 s, and after
   * those to later requests.
   */
  selfTest: { params: ISelfTestParams; result: ISelfTestReport };
  /** Sets which of the frequent events are sent; `[]` turns both off. */
  subscribe: { params: ISubscription; result: TNothing };
  /**
   * Ends the hub or edge. The answer comes after the drain, and then the process exits with 0; a second `stop` is
   * answered at once.
   */
  stop: { params: TNothing; result: TNothing };
};

/** Name of a method. */
export type TMethod = keyof TCommands;
