// Options of every asynchronous call of the API, and of the constructors.

/**
 * A signal that ends the waiting of a call: `signal` of an `AbortController`, or `AbortSignal.timeout(ms)`. It is
 * declared by its parts, so that the signals of Node's and of a browser's declarations fit alike.
 */
export interface IAbortSignal {
  /** True once the signal was given. */
  readonly aborted: boolean;
  /** Reason why the signal was given; becomes the `cause` of the error. */
  readonly reason?: unknown;
  /** Calls `listener` when the signal is given. */
  addEventListener(type: 'abort', listener: () => void, options?: IAbortListenerOptions): void;
  /** Takes that listener away. */
  removeEventListener(type: 'abort', listener: () => void): void;
}

/** Options of a listener of an {@link IAbortSignal}. */
export interface IAbortListenerOptions {
  /** True takes the listener away after its first call. */
  once?: boolean;
}

/**
 * Limits on a call's wait for its answer.
 *
 * @example
 * const controller = new AbortController();
 * const status = await hub.getStatus({ signal: controller.signal, timeoutMs: 2_000 });
 */
export interface ICallOptions {
  /** Ends the waiting with `E_ABORTED`. The binary may still do what it has been asked to do. */
  signal?: IAbortSignal | undefined;
  /** Ends the waiting with `E_TIMEOUT`, in ms from 0 to 2,147,483,647 (25 days). Default 30,000. */
  timeoutMs?: number | undefined;
}

/** Limits on the drain of `stop`. */
export interface IStopOptions {
  /** Cuts the drain short: what still runs is reset at once, then `stop` returns as usual. */
  signal?: IAbortSignal | undefined;
  /**
   * The longest drain, in ms from 0 to 2,147,483,647 (25 days). Default: `drainTimeoutSecs` of the configuration and
   * 5 s.
   */
  timeoutMs?: number | undefined;
}

/** The binary that runs a hub or an edge. */
export interface IBinaryOptions {
  /**
   * Path of the `remoteingress-bin` to run. Default: the environment variable REMOTEINGRESS_BIN, else the one in the
   * package. A path that holds no executable file is refused by `start`; nothing else is run in its place.
   */
  binaryPath?: string | undefined;
  /** Time that a started binary may take to say that it is ready, in ms from 0 to 2,147,483,647. Default 10,000. */
  readyTimeoutMs?: number | undefined;
}
