// The hub: accepts the tunnels of the edges and brings their streams to the targets.
import type { ManagementChannel } from './classes.managementchannel.js';
import { RemoteIngressEngine } from './classes.remoteingressengine.js';
import { readCallOptions, readEdgeId, readTokenRequest, snapshotList, snapshotObject } from './functions.arguments.js';
import { withDeadline } from './functions.deadline.js';
import { partsOf } from './functions.edgeparts.js';
import type {
  IAllowedEdge,
  IAllowedEdgesChange,
  IBinaryOptions,
  ICallOptions,
  IEdgesRemoved,
  IExplainParams,
  IHubConfig,
  IHubEvents,
  IHubStarted,
  IHubStatus,
  IPool,
  IPoolExplained,
  IPoolsChange,
  ISelfTestReport,
  IStreamList,
  IStreamsParams,
  ITargetStateParams,
  ITokenTarget,
} from './interfaces/index.js';

const hubEvents: readonly (keyof IHubEvents)[] = [
  'edgeConnected',
  'edgeDisconnected',
  'edgeRejected',
  'edgeUnreachable',
  'edgeKeyChanged',
  'portsApplied',
  'targetDown',
  'targetUp',
  'poolEmpty',
  'poolFull',
  'poolUnhealthy',
  'targetRefused',
  'routingReloaded',
  'routingFailed',
  'discoveryFailed',
  'geoReloaded',
  'geoFailed',
];

/** What a restarted binary gets: what a running one has accepted. */
interface IDesiredHub {
  config: IHubConfig;
  /** The edges, by id; `config` has none once they are known to be good. */
  edges: Map<string, IAllowedEdge>;
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
  #lastChange: Promise<unknown> = Promise.resolve();

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
    const { edges = [], ...rest } = snapshotObject('config', config);
    const desired: IDesiredHub = { config: rest, edges: new Map() };
    await this.startBinary(
      async (channel) => {
        // Of a binary that runs for the first time they may be wrong, and no list at all.
        const wanted = this.#desired === desired ? [...desired.edges.values()] : edges;
        desired.started = await startWithEdges(channel, desired.config, wanted);
        // Edges know the port by now, so a restart asks for the same one even if it was "any".
        if (desired.started.tunnelPort > 0) desired.config.tunnelPort = desired.started.tunnelPort;
        if (this.#desired !== desired) desired.edges = byId(wanted);
        this.#desired = desired;
      },
      desired.config.drainTimeoutSecs,
      checked,
    );
    return desired.started as IHubStarted;
  }

  /**
   * Replaces the whole set of edges, of whatever length, at one moment. The same content changes nothing; a removed
   * edge, or one whose secret changed, is cut within a second; changed ports touch only those ports. Concurrent changes
   * apply in the order of the calls.
   *
   * @param edges - every edge that is allowed from now on. The list is copied.
   * @returns the ids of the edges, by what happened to them.
   * @throws {@link RemoteIngressError} with
   * - `E_INVALID_CONFIG` for a wrong field, whose path begins the message; then nothing changes
   * - `E_INVALID_ARGUMENT` for a wrong option, `E_BAD_REQUEST` for more than 64 MiB as JSON or 1 MiB for one edge
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
    const wanted = snapshotList('edges', edges);
    return this.#change('updateAllowedEdges', options, async (channel, desired) => {
      const change = await sendEdges(channel, wanted, false);
      desired.edges = byId(wanted);
      return change;
    });
  }

  /**
   * Adds these edges, or replaces those of the same id, at one moment; the others stay as they are.
   *
   * @param edges - edges that are new or changed. The list is copied.
   * @returns the ids of these edges, by what happened to them; `removed` is empty.
   * @throws {@link RemoteIngressError} as `updateAllowedEdges`
   *
   * @example
   * await hub.upsertEdges([{ id: 'edge-2', secret, listenPorts: [443] }]);
   */
  public async upsertEdges(edges: IAllowedEdge[], options: ICallOptions = {}): Promise<IAllowedEdgesChange> {
    const wanted = snapshotList('edges', edges);
    return this.#change('upsertEdges', options, async (channel, desired) => {
      const change = await sendEdges(channel, wanted, true);
      for (const [id, edge] of byId(wanted)) desired.edges.set(id, edge);
      return change;
    });
  }

  /**
   * Removes these edges, which are cut within a second; the others stay as they are. An id that no edge has is no error.
   *
   * @param edgeIds - ids of the edges that are allowed no more. The list is copied.
   * @returns the ids, by whether an edge had them.
   * @throws {@link RemoteIngressError} as `updateAllowedEdges`, and `E_BAD_REQUEST` for ids of more than 1 MiB
   *
   * @example
   * const { removed, unknown } = await hub.removeEdges(['edge-2']);
   */
  public async removeEdges(edgeIds: string[], options: ICallOptions = {}): Promise<IEdgesRemoved> {
    const wanted = snapshotList('edgeIds', edgeIds);
    return this.#change('removeEdges', options, async (channel, desired) => {
      const change = await channel.call('removeEdges', { edgeIds: wanted });
      for (const id of wanted) desired.edges.delete(id);
      return change;
    });
  }

  /**
   * Replaces the whole set of pools at one moment. A pool that is the same isn't touched; a target that stays keeps its
   * health, its counts and its clients. Streams of a target that is gone run on.
   *
   * @param pools - every pool that is there from now on, by name. The object is copied.
   * @returns the names of the pools, by what happened to them.
   * @throws {@link RemoteIngressError} with
   * - `E_INVALID_CONFIG` for a wrong field, or if a port names a pool that would be gone; then nothing changes
   * - the other codes of `updateAllowedEdges`; `E_BAD_REQUEST` for more than 1 MiB as JSON
   *
   * @example
   * const { added, changed } = await hub.updatePools({
   *   web: { strategy: 'leastConnections', targets: [{ host: '10.0.0.5', port: 80 }, { host: '10.0.0.6', port: 80 }] },
   * });
   */
  public async updatePools(pools: Record<string, IPool>, options: ICallOptions = {}): Promise<IPoolsChange> {
    const wanted = snapshotObject('pools', pools);
    return this.#change('updatePools', options, async (channel, desired) => {
      const change = await channel.call('updatePools', { pools: wanted });
      desired.config.pools = wanted;
      return change;
    });
  }

  /**
   * Sets a target's state: `active`, `drain` (no new clients) or `dead` (no streams; with `cut`, those that it has end
   * within a second). The state lasts until another one is set: through changes of the pool, and through restarts of the
   * binary where the hub has a `stateDir`.
   *
   * @param params - the target, and its state.
   * @throws {@link RemoteIngressError} with
   * - `E_INVALID_CONFIG` if there is no such pool or target
   * - `E_NOT_RUNNING`, `E_INVALID_ARGUMENT`, `E_BINARY_EXITED`, `E_TIMEOUT` or `E_ABORTED`
   *
   * @example
   * await hub.setTargetState({ pool: 'web', target: '10.0.0.5:80', state: 'drain' });
   */
  public async setTargetState(params: ITargetStateParams, options: ICallOptions = {}): Promise<void> {
    await this.call('setTargetState', snapshotObject('params', params), options);
  }

  /**
   * Tells which target of a pool a client would get, and of each one why or why not. It changes nothing.
   *
   * @param params - the pool, the client, and the edge that it comes to.
   * @returns the targets, the best first.
   * @throws {@link RemoteIngressError} with
   * - `E_INVALID_CONFIG` if there is no such pool, `E_UNKNOWN_EDGE` if there is no such edge
   * - `E_NOT_RUNNING`, `E_INVALID_ARGUMENT`, `E_BINARY_EXITED`, `E_TIMEOUT` or `E_ABORTED`
   *
   * @example
   * const { region, targets } = await hub.explainPool({ pool: 'web', client: '192.0.2.1', edgeId: 'edge-1' });
   * for (const { id, state, tier, load } of targets) console.log(id, state, tier, load);
   */
  public async explainPool(params: IExplainParams, options: ICallOptions = {}): Promise<IPoolExplained> {
    return this.call('explainPool', snapshotObject('params', params), options);
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

  /**
   * Lists the streams and flows that are open now, the oldest first.
   *
   * @param params - whose streams, and how many at most.
   * @returns the streams, and the number of all that are open.
   * @throws {@link RemoteIngressError} with `E_NOT_RUNNING`, `E_INVALID_ARGUMENT`, `E_BAD_REQUEST`, `E_BINARY_EXITED`,
   * `E_TIMEOUT` or `E_ABORTED`.
   *
   * @example
   * const { streams, total } = await hub.getStreams({ limit: 10 });
   * for (const { id, clientAddress, waitsFor } of streams) console.log(id, clientAddress, waitsFor);
   */
  public async getStreams(params: IStreamsParams = {}, options: ICallOptions = {}): Promise<IStreamList> {
    return (await this.call('getStreams', snapshotObject('params', params), options)) as IStreamList;
  }

  /**
   * Tests the tunnel to an edge beside the traffic that is there, and the targets of the edge. It takes up to 10 s.
   *
   * @param edgeId - id of an edge that is allowed now. One that isn't connected has a check that says so.
   * @returns the checks, each with what was seen and what to do.
   * @throws {@link RemoteIngressError} with
   * - `E_UNKNOWN_EDGE` if no edge has this id
   * - `E_BAD_REQUEST` while a test of this edge runs, or of four others
   * - `E_INVALID_ARGUMENT` for an id or an option that can't be meant so
   * - `E_NOT_RUNNING` if the hub isn't started, or stops meanwhile
   * - `E_BINARY_EXITED`, `E_TIMEOUT` or `E_ABORTED`
   *
   * @example
   * const { checks } = await hub.selfTest('edge-1', { timeoutMs: 15_000 });
   * for (const { name, state, seen, advice } of checks) if (state !== 'ok') console.log(name, seen, advice);
   */
  public async selfTest(edgeId: string, options: ICallOptions = {}): Promise<ISelfTestReport> {
    return this.call('selfTest', { edgeId: readEdgeId('selfTest', edgeId) }, options);
  }

  /** Changes the edges after all changes that were called before. */
  #change<T>(
    what: string,
    options: ICallOptions,
    work: (channel: ManagementChannel, desired: IDesiredHub) => Promise<T>,
  ): Promise<T> {
    return withDeadline(what, readCallOptions(what, options), (abandoned) => {
      const change = this.#lastChange.then(() => {
        return this.withBinary(what, { signal: abandoned, timeoutMs: Infinity }, (channel) => {
          // Remembered even if the caller has given up waiting: it is what the binary does now.
          return work(channel, this.#desired as IDesiredHub);
        });
      });
      this.#lastChange = change.catch(() => {});
      return change;
    });
  }
}

/** Starts the hub with these edges. Those that are too many for one request follow it: until then edges try again. */
async function startWithEdges(
  channel: ManagementChannel,
  config: IHubConfig,
  edges: IAllowedEdge[],
): Promise<IHubStarted> {
  // A wrong value is left to the binary, as any other field.
  const isList = Array.isArray(edges);
  if (!isList || partsOf(edges).length <= 1) {
    return channel.call('startHub', isList && edges.length === 0 ? config : { ...config, edges });
  }
  const started = await channel.call('startHub', config);
  await sendEdges(channel, edges, false);
  return started;
}

/** Gives a running hub these edges at one moment, in as many requests as they take. */
async function sendEdges(
  channel: ManagementChannel,
  edges: IAllowedEdge[],
  keepOthers: boolean,
): Promise<IAllowedEdgesChange> {
  const parts = partsOf(edges);
  if (parts.length <= 1) return channel.call(keepOthers ? 'upsertEdges' : 'updateAllowedEdges', { edges });
  const { set } = await channel.call('beginAllowedEdges', {});
  for (const part of parts) await channel.call('addAllowedEdges', { set, edges: part });
  return channel.call('commitAllowedEdges', { set, keepOthers });
}

function byId(edges: IAllowedEdge[]): Map<string, IAllowedEdge> {
  return new Map(edges.map((edge) => [edge.id, edge]));
}
