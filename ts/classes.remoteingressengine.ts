// The common part of hub and edge: a supervised binary, and its events as this object's own.
/// <reference lib="esnext.disposable" preserve="true" />
import { BinarySupervisor, type TApply } from './classes.binarysupervisor.js';
import type { ManagementChannel } from './classes.managementchannel.js';
import { RemoteIngressError } from './classes.remoteingresserror.js';
import { EventStream, type IListenable } from './classes.eventstream.js';
import { readBinaryOptions, readCallOptions, readEventsRequest } from './functions.arguments.js';
import { withDeadline } from './functions.deadline.js';
import type {
  IBinaryOptions,
  ICallOptions,
  ICommonEvents,
  IEventEmitter,
  IEventsOptions,
  IEventStream,
  IStopOptions,
  TEventMap,
  TNamedEvent,
} from './interfaces/index.js';
import type { TCommands, TMethod, TSubscribable } from './interfaces/management.js';
import * as plugins from './plugins.js';

const subscribable: readonly TSubscribable[] = ['streamOpened', 'streamClosed'];
const commonEvents = [...subscribable, 'eventsDropped'];

/** The binary's own default. */
const defaultDrainTimeoutSecs = 30;

/** Node's EventEmitter by a type that needs none of Node's: declarations of this class must make sense without them. */
const EventEmitter = plugins.EventEmitter as unknown as new <
  TEvents extends TEventMap<TEvents>,
>() => IEventEmitter<TEvents>;

/**
 * The common part of {@link RemoteIngressHub} and {@link RemoteIngressEdge}: each runs one process of the binary,
 * starts it again with the last configuration when it dies, and emits its events.
 */
export abstract class RemoteIngressEngine<TEvents extends ICommonEvents & TEventMap<TEvents>>
  extends EventEmitter<TEvents>
  implements AsyncDisposable
{
  readonly #supervisor: BinarySupervisor;
  readonly #events: readonly string[];
  readonly #streams = new Set<{ end(): void }>();
  #drainMs = 0;
  #subscribed = '';
  readonly #onListenersChanged = () => queueMicrotask(() => void this.#subscribe());

  /** @internal */
  protected constructor(events: readonly string[], options: IBinaryOptions) {
    super();
    this.#events = [...commonEvents, ...events, 'log', 'restarted'];
    this.#followListeners();
    this.#supervisor = new BinarySupervisor(
      {
        events: [...commonEvents, ...events],
        onEvent: (name, data) => this.#publish(name, data),
        onLog: (entry) => this.#publish('log', entry),
        onRestarted: (event) => this.#publish('restarted', event),
      },
      readBinaryOptions(`new ${new.target.name}`, options),
    );
  }

  /**
   * Accepts nothing new, lets running streams finish for up to `drainTimeoutSecs`, and ends the binary. Resolves when
   * its process is gone, at once where none runs; may be called twice. A start that is under way ends with `E_ABORTED`.
   * While it drains, other calls reject with `E_NOT_RUNNING`, and `start` waits for its end.
   *
   * @param options - `signal` and `timeoutMs` cut the drain short: streams that still run are reset, and `stop`
   * resolves as usual.
   * @throws {@link RemoteIngressError} with `E_INVALID_ARGUMENT` for a wrong option. Nothing is stopped then.
   *
   * @example
   * process.once('SIGTERM', () => hub.stop({ timeoutMs: 10_000 }));
   */
  public async stop(options: IStopOptions = {}): Promise<void> {
    await this.#supervisor.stop(this.#drainMs, readCallOptions('stop', options));
    for (const stream of this.#streams) stream.end();
  }

  /**
   * The same as `stop()`, for `await using`.
   *
   * @example
   * await using hub = new RemoteIngressHub(); // stopped where its block ends
   */
  public [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /**
   * Asks for the metrics, as Prometheus reads them at `/metrics` of the admin server. From the first call on streams are
   * timed. docs/operations.md says what each metric means.
   *
   * @returns text of the type `application/openmetrics-text; version=1.0.0; charset=utf-8`.
   * @throws {@link RemoteIngressError} with `E_NOT_RUNNING`, `E_INVALID_ARGUMENT`, `E_BINARY_EXITED`, `E_TIMEOUT` or
   * `E_ABORTED`.
   *
   * @example
   * const text = await hub.getMetrics();
   * console.log(text.split('\n').length, 'lines');
   */
  public async getMetrics(options: ICallOptions = {}): Promise<string> {
    return (await this.call('getMetrics', {}, options)).text;
  }

  /**
   * Iterates over events from now on. It ends with `stop`, with the signal, or when the loop is left. At most 10,000 events
   * wait for the loop; older ones are dropped for newer ones, and `eventsDropped` tells how many.
   *
   * @param names - the events to listen to.
   * @throws {@link RemoteIngressError} with `E_INVALID_ARGUMENT` for an event that isn't known, or a wrong option.
   *
   * @example
   * for await (const { event, data } of hub.events(['edgeConnected', 'edgeDisconnected'])) {
   *   if (event !== 'eventsDropped') console.log(event, data.edgeId);
   * }
   */
  public events<K extends keyof TEvents & string>(
    names: readonly K[],
    options: IEventsOptions = {},
  ): IEventStream<TNamedEvent<TEvents, K> | TNamedEvent<ICommonEvents, 'eventsDropped'>> {
    const request = readEventsRequest(this.#events, names, options);
    const stream = new EventStream<TNamedEvent<TEvents, K> | TNamedEvent<ICommonEvents, 'eventsDropped'>>(
      this as unknown as IListenable,
      request.names,
      request.signal,
      (ended) => this.#streams.delete(ended),
    );
    this.#streams.add(stream);
    return stream;
  }

  /** Takes all listeners of an event away, or of every event where none is named. */
  public override removeAllListeners(eventName?: keyof TEvents): this {
    // Node tells the two forms apart by the number of arguments.
    if (eventName === undefined) super.removeAllListeners();
    else super.removeAllListeners(eventName);
    this.#followListeners();
    return this;
  }

  /** @internal */
  protected startBinary(apply: TApply, drainTimeoutSecs: unknown, options: ICallOptions): Promise<void> {
    const start: TApply = async (channel, isRestart) => {
      await apply(channel, isRestart);
      this.#drainMs = 1_000 * (typeof drainTimeoutSecs === 'number' ? drainTimeoutSecs : defaultDrainTimeoutSecs);
      this.#subscribed = '';
      await this.#subscribeOn(channel);
    };
    return this.#supervisor.start(start, options);
  }

  /** @internal */
  protected async call<M extends TMethod>(
    method: M,
    params: TCommands[M]['params'],
    options: ICallOptions,
  ): Promise<TCommands[M]['result']> {
    return this.withBinary(method, readCallOptions(method, options), (channel) => channel.call(method, params));
  }

  /**
   * Gives `work` the running binary, unless nobody waits for it any more by then.
   *
   * @internal
   */
  protected withBinary<T>(
    what: string,
    options: ICallOptions,
    work: (channel: ManagementChannel) => Promise<T>,
  ): Promise<T> {
    return withDeadline(what, options, async (abandoned) => {
      const channel = await this.#supervisor.channel();
      abandoned.throwIfAborted();
      // Ahead of the call: when it is answered, events have been subscribed to that were listened for before it.
      void this.#subscribe(channel);
      return work(channel);
    });
  }

  /** A listener that throws must surface as in any EventEmitter, but not inside the reading of the binary's lines. */
  #publish(name: string, data: unknown): void {
    try {
      (this as unknown as plugins.EventEmitter).emit(name, data);
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  }

  #followListeners(): void {
    const emitter = this as unknown as plugins.EventEmitter;
    for (const change of ['newListener', 'removeListener']) {
      if (!emitter.listeners(change).includes(this.#onListenersChanged)) emitter.on(change, this.#onListenersChanged);
    }
  }

  async #subscribe(channel?: ManagementChannel): Promise<void> {
    try {
      await this.#subscribeOn(channel ?? (await this.#supervisor.channel()));
    } catch (error) {
      // Without a binary there is nothing to do: the next start subscribes.
      if (error instanceof RemoteIngressError && ['E_NOT_RUNNING', 'E_BINARY_EXITED'].includes(error.code)) return;
      const message = `failed to subscribe: ${error instanceof Error ? error.message : error}`;
      this.#publish('log', { level: 'warn', message, target: 'supervisor', fields: {} });
    }
  }

  async #subscribeOn(channel: ManagementChannel): Promise<void> {
    const events = subscribable.filter((name) => (this as unknown as plugins.EventEmitter).listenerCount(name) > 0);
    if (events.join() === this.#subscribed) return;
    this.#subscribed = events.join();
    await channel.call('subscribe', { events });
  }
}
