// The management interface of the binary as types; docs/ipc.md is the contract.
import type { IEdgeConfig, IEdgeStatus } from './edge.js';
import type { IAllowedEdge, IAllowedEdgesChange, IHubConfig, IHubStarted, IHubStatus } from './hub.js';

/** The only protocol this package speaks; the binary names its own in `ready`. */
export const managementProtocolVersion = 1;

export interface IReady {
  version: string;
  protocolVersion: number;
  /** `tcpTls`, `quic`, `udp`. */
  features: string[];
}

type TNothing = Record<string, never>;

export type TSubscribable = 'streamOpened' | 'streamClosed';

/** Methods, by name. */
export type TCommands = {
  ping: { params: TNothing; result: TNothing };
  startHub: { params: IHubConfig; result: IHubStarted };
  updateAllowedEdges: { params: { edges: IAllowedEdge[] }; result: IAllowedEdgesChange };
  createConnectionToken: {
    params: { edgeId: string; hubHost: string; hubPort?: number | undefined };
    result: { token: string };
  };
  startEdge: { params: IEdgeConfig; result: TNothing };
  getStatus: { params: TNothing; result: IHubStatus | IEdgeStatus };
  /** The whole set wanted; [] = none. */
  subscribe: { params: { events: TSubscribable[] }; result: TNothing };
  /** Answered after the drain; then the process exits with 0. */
  stop: { params: TNothing; result: TNothing };
};

export type TMethod = keyof TCommands;
