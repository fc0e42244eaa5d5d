// Bounds a wait by the caller's signal and time.
import { RemoteIngressError } from './classes.remoteingresserror.js';
import type { IAbortSignal, ICallOptions } from './interfaces/index.js';

/** Long enough for a start on a busy machine; a caller with another idea passes `timeoutMs`. */
const defaultTimeoutMs = 30_000;

/** The longest that Node's timers can wait (about 25 days); they turn anything longer into 1 ms. */
export const longestTimerMs = 2 ** 31 - 1;

/**
 * Waits for `work`, but no longer than `options` allow. `work` gets a signal that says that nobody waits any more;
 * what it still yields then is ignored.
 */
export function withDeadline<T>(
  what: string,
  options: ICallOptions,
  work: (abandoned: AbortSignal) => Promise<T>,
): Promise<T> {
  const { signal, timeoutMs = defaultTimeoutMs } = options;
  if (signal?.aborted) return Promise.reject(aborted(what, signal));
  return new Promise((resolve, reject) => {
    const abandoned = new AbortController();
    const giveUp = (error: RemoteIngressError) => {
      settle();
      abandoned.abort(error);
      reject(error);
    };
    const onAbort = () => giveUp(aborted(what, signal));
    // First, since only this can throw: no timer may be left then.
    signal?.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(
      () => giveUp(new RemoteIngressError('E_TIMEOUT', `${what} took longer than ${timeoutMs} ms`)),
      Math.min(timeoutMs, longestTimerMs),
    );
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    work(abandoned.signal).finally(settle).then(resolve, reject);
  });
}

/** `AbortSignal.any` of Node 20 holds its sources weakly and can lose them to the garbage collector. */
export function eitherSignal(...sources: AbortSignal[]): AbortSignal {
  const either = new AbortController();
  for (const source of sources) {
    if (source.aborted) either.abort(source.reason);
    source.addEventListener('abort', () => either.abort(source.reason), { signal: either.signal });
  }
  return either.signal;
}

function aborted(what: string, signal: IAbortSignal | undefined): RemoteIngressError {
  return new RemoteIngressError('E_ABORTED', `${what} was aborted`, signal?.reason);
}
