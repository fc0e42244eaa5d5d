// Waiting for what another process does, with a deadline instead of a guess.
import type { EventEmitter } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import type { IEdgeEvents, IHubEvents, RemoteIngressEdge, RemoteIngressHub } from '@serve.zone/remoteingress';

const pollMs = 10;

type TAnswer<T> = Exclude<T, undefined | null | false>;

/** Asks `question` until its answer is something; its errors count as "not yet". */
export async function eventually<T>(
  what: string,
  deadlineMs: number,
  question: () => T | Promise<T>,
): Promise<TAnswer<T>> {
  const deadline = performance.now() + deadlineMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await question();
      if (value !== undefined && value !== null && value !== false) return value as TAnswer<T>;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${what}`, { cause: lastError });
    await pause(pollMs);
  }
}

/** The next event of this name (that matches), or an error after the deadline. */
export function nextEvent<K extends keyof IHubEvents>(
  hub: RemoteIngressHub,
  name: K,
  deadlineMs?: number,
  matches?: (event: IHubEvents[K][0]) => boolean,
): Promise<IHubEvents[K][0]>;
export function nextEvent<K extends keyof IEdgeEvents>(
  edge: RemoteIngressEdge,
  name: K,
  deadlineMs?: number,
  matches?: (event: IEdgeEvents[K][0]) => boolean,
): Promise<IEdgeEvents[K][0]>;
export function nextEvent<T>(
  emitter: object,
  name: string,
  deadlineMs = 10_000,
  matches: (event: T) => boolean = () => true,
): Promise<T> {
  const plain = emitter as EventEmitter;
  return new Promise((resolve, reject) => {
    const listener = (event: T) => {
      if (!matches(event)) return;
      clearTimeout(timer);
      plain.off(name, listener);
      resolve(event);
    };
    const timer = setTimeout(() => {
      plain.off(name, listener);
      reject(new Error(`no ${name} within ${deadlineMs} ms`));
    }, deadlineMs);
    plain.on(name, listener);
  });
}
