// What every asynchronous call of the API takes, and what the constructors take.

/**
 * Ends the waiting of a call: the `signal` of an `AbortController`, or `AbortSignal.timeout(ms)`. Declared by its parts,
 * so that the signals of Node and of browsers' declarations fit alike.
 */
export interface IAbortSignal {
  /** True once the signal was given. */
  readonly aborted: boolean;
  /** Why it was given; becomes the `cause` of the error. */
  readonly reason?: unknown;
  /** Calls `listener` when the signal is given. */
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
  /** Takes that listener away. */
  removeEventListener(type: 'abort', listener: () => void): void;
}

export interface ICallOptions {
  /** Ends the waiting with `E_ABORTED`. What the binary has been asked to do may still happen. */
  signal?: IAbortSignal | undefined;
  /** Ends the waiting with `E_TIMEOUT`, in ms. Default 30,000. */
  timeoutMs?: number | undefined;
}

export interface IStopOptions {
  /** Cuts the drain short: what still runs is reset at once, then `stop` returns as usual. */
  signal?: IAbortSignal | undefined;
  /** The longest drain, in ms. Default: `drainTimeoutSecs` of the configuration plus 5 s. */
  timeoutMs?: number | undefined;
}

export interface IBinaryOptions {
  /**
   * The `remoteingress-bin` to run. Default: the environment variable REMOTEINGRESS_BIN, else the one in the package.
   */
  binaryPath?: string | undefined;
  /** How long a started binary may take to say that it is ready, in ms. Default 10,000. */
  readyTimeoutMs?: number | undefined;
}
