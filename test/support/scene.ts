// A hub, an edge and an echo target on loopback, of the real binary.
import type { TestContext } from 'node:test';
import {
  createSecret,
  type IAllowedEdge,
  type IEdgeSettings,
  type IHubConfig,
  RemoteIngressEdge,
  RemoteIngressHub,
  type TTcpPort,
  type TUdpPort,
} from '@serve.zone/remoteingress';
import { temporaryDirectory } from './fakes.js';
import { childPids } from './processes.js';
import { echoTarget, freePorts, type IEchoTarget } from './sockets.js';
import { nextEvent } from './waiting.js';

export const edgeId = 'edge-nyc-01';
const bindAddress = '127.0.0.1';

export interface IScene {
  hub: RemoteIngressHub;
  edge: RemoteIngressEdge;
  hubPid: number;
  edgePid: number;
  tunnelPort: number;
  target: IEchoTarget;
  /** Ports on which the edge listens; each leads to the target. */
  ports: number[];
  token: string;
  /** The allowed edge, as the hub has it; to be changed and sent again. */
  entry: IAllowedEdge & { listenPorts: TTcpPort[] };
}

/** The edge has connected, its ports are bound, and the hub knows, when this returns. */
export async function startScene(
  test: TestContext,
  {
    portCount = 1,
    listenPortsUdp,
    hubConfig = {},
    edgeConfig = {},
  }: {
    portCount?: number;
    listenPortsUdp?: TUdpPort[];
    hubConfig?: Partial<IHubConfig>;
    edgeConfig?: IEdgeSettings;
  } = {},
): Promise<IScene> {
  const target = await echoTarget(test);
  const hub = new RemoteIngressHub();
  const edge = new RemoteIngressEdge();
  // In this order; an edge that can't reach its hub any more has nothing left to drain.
  test.after(async () => {
    await edge.stop();
    await hub.stop();
  });

  const stateDir = temporaryDirectory(test);
  const before = childPids();
  const { tunnelPort } = await hub.start({ tunnelPort: 0, bindAddress, stateDir, drainTimeoutSecs: 1, ...hubConfig });
  const afterHub = childPids();

  const ports = await freePorts(portCount);
  const listenPorts = ports.map((port) => ({ port, targetPort: target.port }));
  const entry = { id: edgeId, secret: createSecret(), listenPorts, listenPortsUdp, stunIntervalSecs: 0 };
  await hub.updateAllowedEdges([entry]);
  const token = await hub.createConnectionToken(edgeId, { hubHost: bindAddress });

  const assigned = Promise.all([nextEvent(edge, 'portsAssigned'), nextEvent(hub, 'portsApplied')]);
  await edge.start({ token, bindAddress, stunServers: [], drainTimeoutSecs: 1, ...edgeConfig });
  await assigned;
  const [hubPid = 0] = afterHub.filter((pid) => !before.includes(pid));
  const [edgePid = 0] = childPids().filter((pid) => !afterHub.includes(pid));
  return { hub, edge, hubPid, edgePid, tunnelPort, target, ports, token, entry };
}
