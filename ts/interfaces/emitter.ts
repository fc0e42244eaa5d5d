// The emitter of a hub's or an edge's events. It is Node's EventEmitter, declared here once more for the events of this
// package, so that a project without `@types/node` knows it too.

import type { IAbortSignal } from './calls.js';

/** Events, as a map from name to the arguments of a listener. */
export type TEventMap<TEvents> = Record<keyof TEvents, unknown[]>;

/**
 * Node's EventEmitter for the events `TEvents`.
 *
 * An event without a listener is lost. A listener that throws is an uncaught exception of the process, and disturbs
 * neither the hub or edge nor other calls.
 */
export interface IEventEmitter<TEvents extends TEventMap<TEvents>> {
  /**
   * Calls `listener` at each event of this name.
   *
   * @example
   * hub.on('edgeConnected', ({ edgeId, remoteAddress }) => console.log(`${edgeId} from ${remoteAddress}`));
   */
  on<K extends keyof TEvents>(eventName: K, listener: (...args: TEvents[K]) => void): this;

  /** Calls `listener` at the next event of this name, and then no more. */
  once<K extends keyof TEvents>(eventName: K, listener: (...args: TEvents[K]) => void): this;

  /** Takes a listener away that `on` or `once` added. */
  off<K extends keyof TEvents>(eventName: K, listener: (...args: TEvents[K]) => void): this;

  /** Another name of `on`. */
  addListener<K extends keyof TEvents>(eventName: K, listener: (...args: TEvents[K]) => void): this;

  /** Another name of `off`. */
  removeListener<K extends keyof TEvents>(eventName: K, listener: (...args: TEvents[K]) => void): this;

  /** Like `on`, but ahead of the listeners that are there. */
  prependListener<K extends keyof TEvents>(eventName: K, listener: (...args: TEvents[K]) => void): this;

  /** Like `once`, but ahead of the listeners that are there. */
  prependOnceListener<K extends keyof TEvents>(eventName: K, listener: (...args: TEvents[K]) => void): this;

  /** Takes all listeners of an event away, or of every event where none is named. */
  removeAllListeners(eventName?: keyof TEvents): this;

  /** Calls the listeners of an event as if it had happened; for tests of your own program. True if there was one. */
  emit<K extends keyof TEvents>(eventName: K, ...args: TEvents[K]): boolean;

  /** The listeners of an event, in the order in which they are called. */
  listeners<K extends keyof TEvents>(eventName: K): ((...args: TEvents[K]) => void)[];

  /** The same, but with the wrappers that `once` has made. */
  rawListeners<K extends keyof TEvents>(eventName: K): ((...args: TEvents[K]) => void)[];

  /** Number of listeners that an event has; with `listener`, how many times this one. */
  listenerCount<K extends keyof TEvents>(eventName: K, listener?: (...args: TEvents[K]) => void): number;

  /** The names of the events that have a listener. */
  eventNames(): (string | symbol)[];

  /** The count of listeners of one event from which on Node warns of a leak; 0 = never. Default 10. */
  setMaxListeners(count: number): this;

  /** The count that `setMaxListeners` has set. */
  getMaxListeners(): number;
}

/** An event as it is iterated over. */
export interface INamedEvent<TName, TData> {
  /** Name of the event. */
  event: TName;
  /** Data of the event: what a listener gets. */
  data: TData;
}

/** Any of the events `TName`, each with its name. */
export type TNamedEvent<TEvents extends TEventMap<TEvents>, TName extends keyof TEvents> = {
  [K in TName]: INamedEvent<K, TEvents[K][0]>;
}[TName];

/** Events as they come, for `for await`. It listens from its making on, and ends with the loop. */
export interface IEventStream<TEvent> extends AsyncIterableIterator<TEvent> {
  /** The next event, as soon as there is one. */
  next(): Promise<IteratorResult<TEvent, undefined>>;
  /** Stops listening; what waits is dropped. A loop that is left calls it. */
  return(): Promise<IteratorResult<TEvent, undefined>>;
  /** This object itself. */
  [Symbol.asyncIterator](): this;
}

/** Options of `events`. */
export interface IEventsOptions {
  /** Ends the iteration, after the events that wait. */
  signal?: IAbortSignal | undefined;
}
