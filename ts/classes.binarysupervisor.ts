// Keeps the binary running for as long as its user wants it to.
//
//   stopped ──start──► opening ──► running ──stop──► stopping ──► stopped
//                         ▲           │ the child is gone
//                         └───────────┘
import { locateBinary } from './functions.binarylocation.js';
import { eitherSignal, withDeadline } from './functions.deadline.js';
import { type IChannelOptions, ManagementChannel } from './classes.managementchannel.js';
import { RemoteIngressError } from './classes.remoteingresserror.js';
import type { IBinaryOptions, ICallOptions, IRestartedEvent, IStopOptions } from './interfaces/index.js';
import * as plugins from './plugins.js';

export interface ISupervisedOutput extends Pick<IChannelOptions, 'events' | 'onEvent' | 'onLog'> {
  onRestarted(event: IRestartedEvent): void;
}

/** Brings a fresh binary into the desired state; asked again after each restart. */
export type TApply = (channel: ManagementChannel, isRestart: boolean) => Promise<void>;

type TPhase =
  | { name: 'stopped' }
  | { name: 'opening'; channel: Promise<ManagementChannel>; cancel: AbortController }
  | { name: 'running'; channel: ManagementChannel }
  | { name: 'stopping'; done: Promise<void>; cut: AbortController };

/** Far beyond what a loaded machine needs; a binary that fails says so by exiting, and isn't waited for. */
const defaultReadyTimeoutMs = 10_000;

/** Full jitter below a bound that doubles from the first to the last of these. The first restart is at once. */
const firstBackoffMs = 100;
const lastBackoffMs = 5_000;

/** A binary that ran for this long has earned an immediate restart again. */
const healthyAfterMs = 30_000;

/** Beyond the drain: time for the last answers and the exit. */
const stopGraceMs = 5_000;

export class BinarySupervisor {
  readonly #output: ISupervisedOutput;
  readonly #options: IBinaryOptions;
  #phase: TPhase = { name: 'stopped' };
  /** Since the binary was last healthy. */
  #restarts = 0;
  /** Since `start`: the binary shows it among its metrics. */
  #allRestarts = 0;

  constructor(output: ISupervisedOutput, options: IBinaryOptions) {
    this.#output = output;
    this.#options = options;
  }

  /** Settles when the binary runs and `apply` has succeeded. A start that fails leaves nothing behind. */
  public async start(apply: TApply, options: ICallOptions): Promise<void> {
    const leaving = this.#phase;
    if (leaving.name === 'stopping') await withDeadline('start', options, () => leaving.done);
    if (this.#phase.name !== 'stopped') {
      throw new RemoteIngressError('E_ALREADY_RUNNING', 'start: already started; call stop() first');
    }
    this.#restarts = 0;
    this.#allRestarts = 0;
    await this.#enter(apply, (cancel) => this.#open('start', apply, options, cancel, false));
  }

  /** The running binary; waits while it is being started or restarted. */
  public async channel(): Promise<ManagementChannel> {
    const phase = this.#phase;
    if (phase.name === 'running') return phase.channel;
    if (phase.name === 'stopping') {
      throw new RemoteIngressError('E_NOT_RUNNING', 'stopping, since stop() was called; call start() to run it again');
    }
    if (phase.name === 'stopped') throw new RemoteIngressError('E_NOT_RUNNING', 'not started; call start() first');
    try {
      return await phase.channel;
    } catch (cause) {
      throw new RemoteIngressError('E_NOT_RUNNING', 'the start that this call waited for has failed', cause);
    }
  }

  /** Drains for up to `drainMs`, then cuts. Settles when the child is gone, whatever happens. */
  public async stop(drainMs: number, options: IStopOptions): Promise<void> {
    while (this.#phase.name === 'opening') {
      this.#phase.cancel.abort(new RemoteIngressError('E_ABORTED', 'ended by stop()'));
      await this.#phase.channel.catch(() => {});
    }
    if (this.#phase.name === 'running') this.#leave(this.#phase.channel);
    if (this.#phase.name !== 'stopping') return;
    const { done, cut } = this.#phase;
    const { signal, timeoutMs = drainMs + stopGraceMs } = options;
    try {
      await withDeadline('stop', { signal, timeoutMs }, () => done);
    } catch {
      cut.abort();
      await done;
    }
  }

  async #enter(apply: TApply, open: (cancel: AbortSignal) => Promise<ManagementChannel>): Promise<void> {
    const cancel = new AbortController();
    const channel = open(cancel.signal).then(
      (opened) => {
        this.#phase = { name: 'running', channel: opened };
        this.#watch(opened, apply);
        return opened;
      },
      (error: unknown) => {
        this.#phase = { name: 'stopped' };
        throw error;
      },
    );
    this.#phase = { name: 'opening', channel, cancel };
    await channel;
  }

  #leave(channel: ManagementChannel): void {
    const cut = new AbortController();
    const wasCut = new Promise((resolve) => cut.signal.addEventListener('abort', resolve));
    const leave = async () => {
      // The exit is what counts; it may even be noticed before the answer. But a binary that refuses won't exit.
      channel.call('stop', {}).catch((error: RemoteIngressError) => error.code === 'E_BINARY_EXITED' || cut.abort());
      await Promise.race([channel.exited, wasCut]);
      if (cut.signal.aborted) await channel.cut();
      await channel.closed;
      this.#phase = { name: 'stopped' };
    };
    this.#phase = { name: 'stopping', done: leave(), cut };
  }

  #watch(channel: ManagementChannel, apply: TApply): void {
    const since = performance.now();
    void channel.exited.then(async () => {
      if (this.#phase.name !== 'running' || this.#phase.channel !== channel) return;
      if (performance.now() - since >= healthyAfterMs) this.#restarts = 0;
      const reason = channel.ending;
      let attempt = 0;
      const reopen = async (cancel: AbortSignal): Promise<ManagementChannel> => {
        for (;;) {
          attempt += 1;
          this.#allRestarts += 1;
          await this.#backOff(cancel);
          try {
            return await this.#open('restart', apply, {}, cancel, true);
          } catch (error) {
            cancel.throwIfAborted();
            this.#log('error', `restart ${attempt} failed: ${error instanceof Error ? error.message : error}`);
          }
        }
      };
      this.#log('warn', `${reason}; restarting it`);
      try {
        await this.#enter(apply, reopen);
      } catch {
        return; // only stop() ends the attempts
      }
      this.#output.onRestarted({ attempt, reason });
    });
  }

  async #backOff(cancel: AbortSignal): Promise<void> {
    const bound = Math.min(lastBackoffMs, firstBackoffMs * 2 ** (this.#restarts - 1));
    const delay = this.#restarts === 0 ? 0 : Math.random() * bound;
    this.#restarts += 1;
    await plugins.timers.setTimeout(delay, undefined, { signal: cancel });
  }

  /** Spawns and applies within the deadline; waits for its own clean-up where that fails. */
  async #open(
    what: string,
    apply: TApply,
    options: ICallOptions,
    cancel: AbortSignal,
    isRestart: boolean,
  ): Promise<ManagementChannel> {
    let opening: Promise<ManagementChannel> | undefined;
    try {
      return await withDeadline(what, options, (abandoned) => {
        opening = this.#bringUp(apply, eitherSignal(abandoned, cancel), isRestart);
        return opening;
      });
    } catch (error) {
      const tooLate = await opening?.catch(() => undefined);
      await tooLate?.kill();
      throw error;
    }
  }

  async #bringUp(apply: TApply, abandoned: AbortSignal, isRestart: boolean): Promise<ManagementChannel> {
    const binaryPath = await locateBinary(this.#options.binaryPath);
    const { events, onEvent, onLog } = this.#output;
    const readyTimeoutMs = this.#options.readyTimeoutMs ?? defaultReadyTimeoutMs;
    const restarts = this.#allRestarts;
    const channelOptions = { binaryPath, readyTimeoutMs, restarts, events, onEvent, onLog };
    const channel = await ManagementChannel.open(channelOptions, abandoned);
    const kill = () => void channel.kill();
    abandoned.addEventListener('abort', kill, { once: true });
    try {
      abandoned.throwIfAborted();
      await apply(channel, isRestart);
      abandoned.throwIfAborted();
      return channel;
    } catch (error) {
      await channel.kill();
      throw abandoned.aborted ? abandoned.reason : error;
    } finally {
      abandoned.removeEventListener('abort', kill);
    }
  }

  #log(level: 'warn' | 'error', message: string): void {
    this.#output.onLog({ level, message, target: 'supervisor', fields: {} });
  }
}
