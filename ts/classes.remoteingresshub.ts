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

const hubEvents: readonly (keyof IHubEvents)[] = [
  'edgeConnected',
  'edgeDisconnected',
  'edgeRejected',
  'edgeUnreachable',
  'edgeKeyChanged',
  'portsApplied',
];

/** Configuration for a restarted binary: the last configuration that a running one has accepted. */
interface IDesiredHub {
  config: IHubConfig;
  started?: IHubStarted;
}

/**
 * A hub: accepts the tunnels of its edges and brings their clients' streams and datagrams to the targets.
 *
 * Each hub is a process of its own. When that dies it is started again with the last configuration, on the same tunnel
 * port, and `restarted` is emitted. A hub keeps Node alive until `stop`.
 *
 * @example
 * const hub = new RemoteIngressHub();
 * await hub.start({ tunnelPort: 8443, stateDir: './hub-state' });
 * const secret = createSecret(); // keep it: a new one makes old tokens worthless
 * await hub.updateAllowedEdges([{ id: 'edge-1', secret, listenPorts: [{ port: 443, targetPort: 8080 }] }]);
 * const token = await hub.createConnectionToken('edge-1', { hubHost: 'hub.example.com' });
 * hub.on('edgeConnected', ({ edgeId, remoteAddress }) => console.log(`${edgeId} from ${remoteAddress}`));
 */
export class RemoteIngressHub extends RemoteIngressEngine<IHubEvents> {
  #desired: IDesiredHub | undefined;
  #lastUpdate: Promise<unknown> = Promise.resolve();

  /**
   * Makes a hub that doesn't run yet.
   *
   * @throws {@link RemoteIngressError} with `E_INVALID_ARGUMENT` for a wrong option.
   */
  constructor(options: IBinaryOptions = {}) {
    super(hubEvents, options);
  }

  /**
   * Starts the hub; resolves when edges can connect. A start that fails leaves nothing behind, and can be tried again.
   *
   * @param config - is copied: later changes of the object have no effect.
   * @param options - bound the whole start. Default `timeoutMs`: 30,000.
   * @returns the port that was bound and the pin of the hub's key.
   * @throws {@link RemoteIngressError} with
   * - `E_INVALID_CONFIG` for a wrong field, whose path begins the message; `E_INVALID_ARGUMENT` for a wrong option
   * - `E_ALREADY_RUNNING` if it is started already
   * - `E_ADDRESS_IN_USE`, `E_PERMISSION_DENIED`, `E_BIND_FAILED` if the tunnel port can't be opened
   * - `E_STATE_DIR` if `stateDir` can't be used
   * - `E_BINARY_NOT_FOUND`, `E_SPAWN_FAILED`, `E_VERSION_MISMATCH`, `E_BINARY_EXITED` if the binary doesn't run
   * - `E_TIMEOUT`, `E_ABORTED` if `timeoutMs`, `signal` or `stop` ended it
   *
   * @example
   * const { tunnelPort, hubPin } = await hub.start({ tunnelPort: 0, stateDir: './hub-state' });
   */
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
   *
   * @param edges - every edge that is allowed from now on. The list is copied.
   * @returns the ids of the edges, by what happened to them.
   * @throws {@link RemoteIngressError} with
   * - `E_INVALID_CONFIG` for a wrong field, whose path begins the message; then nothing changes
   * - `E_INVALID_ARGUMENT` for a wrong option, `E_BAD_REQUEST` for a list of more than 1 MiB as JSON
   * - `E_NOT_RUNNING` if the hub isn't started or is stopping
   * - `E_BINARY_EXITED` if the binary died meanwhile: call again
   * - `E_TIMEOUT`, `E_ABORTED` if `timeoutMs` or `signal` ended the waiting; the update may still happen
   *
   * @example
   * const { added, removed } = await hub.updateAllowedEdges([
   *   { id: 'edge-1', secret, listenPorts: [80, { port: 22, proxyProtocol: 'none' }] },
   * ]);
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

  /**
   * Makes the connection token of an edge: everything it needs to connect, as one string to paste. The token contains
   * the edge's secret.
   *
   * @param edgeId - id of an edge that is allowed now.
   * @param target - where the edge finds this hub; leave it out for an edge that this hub dials.
   * @returns the token, about 250 characters of base64url.
   * @throws {@link RemoteIngressError} with
   * - `E_INVALID_CONFIG` without `hubHost` for an edge that dials, and with it for one that this hub dials
   * - `E_UNKNOWN_EDGE` if no edge has this id: add it with `updateAllowedEdges` first
   * - `E_INVALID_ARGUMENT` for an id, a host, a port or an option that can't be meant so
   * - `E_NOT_RUNNING` if the hub isn't started or is stopping
   * - `E_BINARY_EXITED` if the binary died meanwhile: call again
   * - `E_TIMEOUT`, `E_ABORTED` if `timeoutMs` or `signal` ended the waiting
   *
   * @example
   * const token = await hub.createConnectionToken('edge-1', { hubHost: 'hub.example.com', hubPort: 8443 });
   * const forDialledEdge = await hub.createConnectionToken('edge-2');
   */
  public async createConnectionToken(
    edgeId: string,
    target: ITokenTarget = {},
    options: ICallOptions = {},
  ): Promise<string> {
    const request = readTokenRequest('createConnectionToken', edgeId, target);
    const { token } = await this.call('createConnectionToken', request, options);
    return token;
  }

  /**
   * Asks the hub for its status.
   *
   * @returns edges that are connected, and counts since the start of the binary.
   * @throws {@link RemoteIngressError} with `E_NOT_RUNNING`, `E_INVALID_ARGUMENT`, `E_BINARY_EXITED`, `E_TIMEOUT` or
   * `E_ABORTED`.
   *
   * @example
   * const { connectedEdges, rejected } = await hub.getStatus();
   * for (const { edgeId, activeStreams, rttMs } of connectedEdges) console.log(edgeId, activeStreams, rttMs);
   * if (rejected.authFailed) console.log(`${rejected.authFailed} wrong proofs`);
   */
  public async getStatus(options: ICallOptions = {}): Promise<IHubStatus> {
    return (await this.call('getStatus', {}, options)) as IHubStatus;
  }
}
