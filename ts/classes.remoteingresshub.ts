// The hub: accepts the tunnels of the edges and brings their streams to the targets.
import { RemoteIngressEngine } from './classes.remoteingressengine.js';
import { readCallOptions, readTokenRequest, snapshotList, snapshotObject } from './functions.arguments.js';
import { withDeadline } from './functions.deadline.js';
import type {
  IAllowedEdge,
  IAllowedEdgesChange,
  IBinaryOptions,
  ICallOptions,
  IHubConfig,
  IHubEvents,
  IHubStarted,
  IHubStatus,
  ITokenTarget,
} from './interfaces/index.js';

const hubEvents: readonly (keyof IHubEvents)[] = ['edgeConnected', 'edgeDisconnected', 'edgeRejected', 'portsApplied'];

/** What a restarted binary is given: the last configuration that a running one has accepted. */
interface IDesiredHub {
  config: IHubConfig;
  started?: IHubStarted;
}

export class RemoteIngressHub extends RemoteIngressEngine<IHubEvents> {
  #desired: IDesiredHub | undefined;
  #lastUpdate: Promise<unknown> = Promise.resolve();

  constructor(options: IBinaryOptions = {}) {
    super(hubEvents, options);
  }

  public async start(config: IHubConfig, options: ICallOptions = {}): Promise<IHubStarted> {
    const checked = readCallOptions('start', options);
    const desired: IDesiredHub = { config: snapshotObject('config', config) };
    await this.startBinary(
      async (channel) => {
        desired.started = await channel.call('startHub', desired.config);
        // Edges know the port by now, so a restart asks for the same one even if it was "any".
        desired.config.tunnelPort = desired.started.tunnelPort;
        this.#desired = desired;
      },
      desired.config.drainTimeoutSecs,
      checked,
    );
    return desired.started as IHubStarted;
  }

  /**
   * Replaces the whole set of edges. The same content changes nothing; a removed edge, or one whose secret changed,
   * is cut within a second; changed ports touch only those ports. Concurrent updates apply in the order of the calls.
   */
  public async updateAllowedEdges(edges: IAllowedEdge[], options: ICallOptions = {}): Promise<IAllowedEdgesChange> {
    const checked = readCallOptions('updateAllowedEdges', options);
    const wanted = snapshotList('edges', edges);
    return withDeadline('updateAllowedEdges', checked, (abandoned) => {
      const update = this.#lastUpdate.then(() => {
        return this.withBinary('updateAllowedEdges', { signal: abandoned, timeoutMs: Infinity }, async (channel) => {
          const desired = this.#desired;
          const change = await channel.call('updateAllowedEdges', { edges: wanted });
          // Remembered even if the caller has given up waiting: it is what the binary does now.
          if (desired) desired.config.edges = wanted;
          return change;
        });
      });
      this.#lastUpdate = update.catch(() => {});
      return update;
    });
  }

  /** What an edge needs to connect, as one string to paste. It contains the edge's secret. */
  public async createConnectionToken(
    edgeId: string,
    target: ITokenTarget,
    options: ICallOptions = {},
  ): Promise<string> {
    const request = readTokenRequest('createConnectionToken', edgeId, target);
    const { token } = await this.call('createConnectionToken', request, options);
    return token;
  }

  public async getStatus(options: ICallOptions = {}): Promise<IHubStatus> {
    return (await this.call('getStatus', {}, options)) as IHubStatus;
  }
}
