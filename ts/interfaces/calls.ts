// What every asynchronous call of the API takes, and what the constructors take.

export interface ICallOptions {
  /** Ends the waiting with `E_ABORTED`. What the binary has been asked to do may still happen. */
  signal?: AbortSignal | undefined;
  /** Ends the waiting with `E_TIMEOUT`, in ms. Default 30,000. */
  timeoutMs?: number | undefined;
}

export interface IStopOptions {
  /** Cuts the drain short: what still runs is reset at once, then `stop` returns as usual. */
  signal?: AbortSignal | undefined;
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
