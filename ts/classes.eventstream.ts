// Events of an emitter as an async iterator, with a bound on those that wait for its reader.
import type { IAbortSignal, IEventStream } from './interfaces/index.js';

/** Events that may wait; the oldest are dropped for newer ones, and `eventsDropped` tells how many. */
const maxWaiting = 10_000;

/** How an emitter of any events is listened to. */
export interface IListenable {
  on(name: string, listener: (data: never) => void): unknown;
  off(name: string, listener: (data: never) => void): unknown;
}

/** Listens from its making on, until it is ended. */
export class EventStream<TEvent> implements IEventStream<TEvent> {
  readonly #emitter: IListenable;
  readonly #signal: IAbortSignal | undefined;
  readonly #onEnd: (stream: EventStream<TEvent>) => void;
  readonly #listeners = new Map<string, (data: never) => void>();
  readonly #readers: ((result: IteratorResult<TEvent, undefined>) => void)[] = [];
  #waiting: TEvent[] = [];
  #dropped = 0;
  #isOver = false;
  readonly #onAbort = () => this.end();

  constructor(
    emitter: IListenable,
    names: readonly string[],
    signal: IAbortSignal | undefined,
    onEnd: (stream: EventStream<TEvent>) => void,
  ) {
    this.#emitter = emitter;
    this.#signal = signal;
    this.#onEnd = onEnd;
    for (const name of new Set(names)) {
      const listener = (data: never) => this.#push({ event: name, data } as TEvent);
      this.#listeners.set(name, listener);
      emitter.on(name, listener);
    }
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.end();
  }

  /** Ends the iteration: what waits is still read. */
  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const [name, listener] of this.#listeners) this.#emitter.off(name, listener);
    this.#signal?.removeEventListener('abort', this.#onAbort);
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined });
    this.#onEnd(this);
  }

  next(): Promise<IteratorResult<TEvent, undefined>> {
    if (this.#dropped > 0) {
      const data = { count: this.#dropped };
      this.#dropped = 0;
      return Promise.resolve({ value: { event: 'eventsDropped', data } as TEvent });
    }
    const value = this.#waiting.shift();
    if (value !== undefined) return Promise.resolve({ value });
    if (this.#isOver) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  return(): Promise<IteratorResult<TEvent, undefined>> {
    this.end();
    this.#waiting = [];
    this.#dropped = 0;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #push(value: TEvent): void {
    const reader = this.#readers.shift();
    if (reader) {
      reader({ value });
      return;
    }
    this.#waiting.push(value);
    if (this.#waiting.length > maxWaiting) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
  }
}
