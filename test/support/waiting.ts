// Waiting for what another process does, with a deadline instead of a guess.
import type { EventEmitter } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';

const pollMs = 10;

/** Asks until `probe` answers with something; its errors count as "not yet". */
export async function eventually<T>(what: string, deadlineMs: number, probe: () => T | Promise<T>): Promise<NonNullable<T>> {
  const deadline = performance.now() + deadlineMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== null && value !== false) return value as NonNullable<T>;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${what}`, { cause: lastError });
    await pause(pollMs);
  }
}

/** The next event of this name, or an error after the deadline. */
export function nextEvent<TEvents extends Record<keyof TEvents, unknown[]>, K extends keyof TEvents & string>(
  emitter: EventEmitter<TEvents>,
  name: K,
  deadlineMs = 10_000,
  matches: (event: TEvents[K][0]) => boolean = () => true,
): Promise<TEvents[K][0]> {
  const plain = emitter as unknown as EventEmitter;
  return new Promise((resolve, reject) => {
    const listener = (event: TEvents[K][0]) => {
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

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
