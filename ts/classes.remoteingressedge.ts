// The edge: listens on the ports the hub assigns and sends what comes in through the tunnel.
import { RemoteIngressEngine } from './classes.remoteingressengine.js';
import { readCallOptions, snapshotObject } from './functions.arguments.js';
import type { IBinaryOptions, ICallOptions, IEdgeConfig, IEdgeEvents, IEdgeStatus, IStreamList, IStreamsParams } from './interfaces/index.js';

const edgeEvents: readonly (keyof IEdgeEvents)[] = [
  'tunnelConnected',
  'tunnelDisconnected',
  'transportChanged',
  'portsAssigned',
  'portsUpdated',
  'publicIpDiscovered',
];

/**
 * An edge: opens the ports that its hub assigns, and sends what comes in through the tunnel.
 *
 * Each edge is a process of its own. When that dies it is started again with the last configuration, and `restarted` is
 * emitted. An edge dials its hub for as long as it runs, and keeps Node alive until `stop`.
 *
 * @example
 * const edge = new RemoteIngressEdge();
 * edge.on('tunnelConnected', ({ hubAddress, transport }) => console.log(`connected to ${hubAddress} by ${transport}`));
 * edge.on('tunnelDisconnected', ({ code, reason }) => console.log(code, reason));
 * await edge.start({ token });
 */
export class RemoteIngressEdge extends RemoteIngressEngine<IEdgeEvents> {
  /**
   * Makes an edge that doesn't run yet.
   *
   * @throws {@link RemoteIngressError} with `E_INVALID_ARGUMENT` for a wrong option.
   */
  constructor(options: IBinaryOptions = {}) {
    super(edgeEvents, options);
  }

  /**
   * Starts the edge; resolves when it runs. The event `tunnelConnected` tells when it has reached its hub, and
   * `tunnelDisconnected` why it hasn't. A start that fails leaves nothing behind, and can be tried again.
   *
   * @param config - is copied: later changes of the object have no effect.
   * @param options - bound the whole start. Default `timeoutMs`: 30,000.
   * @throws {@link RemoteIngressError} with
   * - `E_INVALID_TOKEN` if the token can't be read: copy it whole, or make a new one
   * - `E_INVALID_CONFIG` for a wrong field, whose path begins the message; `E_INVALID_ARGUMENT` for a wrong option
   * - `E_ALREADY_RUNNING` if it is started already
   * - `E_BINARY_NOT_FOUND`, `E_SPAWN_FAILED`, `E_VERSION_MISMATCH`, `E_BINARY_EXITED` if the binary doesn't run
   * - `E_TIMEOUT`, `E_ABORTED` if `timeoutMs`, `signal` or `stop` ended it
   *
   * @example
   * await edge.start({ token, transportMode: 'quicWithFallback' });
   */
  public async start(config: IEdgeConfig, options: ICallOptions = {}): Promise<void> {
    const checked = readCallOptions('start', options);
    const desired = snapshotObject('config', config);
    await this.startBinary(
      async (channel, isRestart) => {
        // The instance that the hub may still believe in is our own dead one.
        await channel.call('startEdge', isRestart ? { ...desired, replaceInstance: true } : desired);
      },
      desired.drainTimeoutSecs,
      checked,
    );
  }

  /**
   * Asks the edge for its status.
   *
   * @returns the tunnel's state, the ports, and counts since the start of the binary.
   * @throws {@link RemoteIngressError} with `E_NOT_RUNNING`, `E_INVALID_ARGUMENT`, `E_BINARY_EXITED`, `E_TIMEOUT` or
   * `E_ABORTED`.
   *
   * @example
   * const { connected, transport, ports } = await edge.getStatus();
   * for (const { port, error } of ports) if (error) console.log(`port ${port}: ${error.message}`);
   */
  public async getStatus(options: ICallOptions = {}): Promise<IEdgeStatus> {
    return (await this.call('getStatus', {}, options)) as IEdgeStatus;
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
   * const { streams, total } = await edge.getStreams({ limit: 10 });
   * for (const { id, clientAddress, waitsFor } of streams) console.log(id, clientAddress, waitsFor);
   */
  public async getStreams(params: IStreamsParams = {}, options: ICallOptions = {}): Promise<IStreamList> {
    return (await this.call('getStreams', snapshotObject('params', params), options)) as IStreamList;
  }
}
