// The edge: listens on the ports the hub assigns and sends what comes in through the tunnel.
import { RemoteIngressEngine } from './classes.remoteingressengine.js';
import { readCallOptions, snapshotObject } from './functions.arguments.js';
import type { IBinaryOptions, ICallOptions, IEdgeConfig, IEdgeEvents, IEdgeStatus } from './interfaces/index.js';

const edgeEvents: readonly (keyof IEdgeEvents)[] = [
  'tunnelConnected',
  'tunnelDisconnected',
  'transportChanged',
  'portsAssigned',
  'portsUpdated',
  'publicIpDiscovered',
];

export class RemoteIngressEdge extends RemoteIngressEngine<IEdgeEvents> {
  constructor(options: IBinaryOptions = {}) {
    super(edgeEvents, options);
  }

  /** Settles when the edge runs; `tunnelConnected` tells when it has reached its hub. */
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

  public async getStatus(options: ICallOptions = {}): Promise<IEdgeStatus> {
    return (await this.call('getStatus', {}, options)) as IEdgeStatus;
  }
}
