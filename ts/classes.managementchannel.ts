// One run of the binary, from spawn to exit, over smartrust's RustBridge.
//
// RustBridge serves one child per instance and answers a failed start with `false`. A supervisor also needs
// what is here: errors with codes, a reason for every failed start, and an exit that is always reported.
import { binaryName } from './functions.binarylocation.js';
import { BinaryTransport } from './classes.binarytransport.js';
import { longestTimerMs } from './functions.deadline.js';
import { parseLogLine } from './functions.logline.js';
import { RemoteIngressError } from './classes.remoteingresserror.js';
import type { ILogEvent } from './interfaces/index.js';
import { managementProtocolVersion, type IReady, type TCommands, type TMethod } from './interfaces/management.js';
import * as plugins from './plugins.js';

export interface IChannelOptions {
  binaryPath: string;
  readyTimeoutMs: number;
  /** Restarts of the binary so far, for its metrics. */
  restarts: number;
  /** The events to pass on; any other is ignored. */
  events: readonly string[];
  onEvent(name: string, data: unknown): void;
  onLog(entry: ILogEvent): void;
}

/** The longest request line, in bytes, as docs/ipc.md says. */
const maxRequestBytes = 1024 * 1024;

/** Room for id and method beside the parameters. */
const requestOverheadBytes = 128;

/** Many edges with thousands of ports each make a long status, 7 MiB for one edge with all; that is no reason to drop it. */
const maxAnswerBytes = 256 * 1024 * 1024;

/** Time after the exit in which we still read what the child had written; its pipes normally end at once. */
const lastWordsMs = 500;

/** Time that a child that was told to cut may take to send its resets and to exit. */
const cutGraceMs = 1_000;

/** RustBridge's own words for a child that is gone, or whose stdin is. */
const unreachable = /process exited$|is not running$|^Failed to write/;

export class ManagementChannel {
  /** Spawns the binary and waits until it is ready; when that fails, no child is left. */
  public static async open(options: IChannelOptions, abandoned: AbortSignal): Promise<ManagementChannel> {
    const channel = new ManagementChannel(options);
    try {
      await channel.#becomeReady(options.readyTimeoutMs, abandoned);
      return channel;
    } catch (error) {
      await channel.kill();
      await channel.#releaseReadyTimer();
      throw error;
    }
  }

  /** Settles as soon as the child is gone; pending calls are rejected by then. */
  public readonly exited: Promise<void>;
  /** Settles after `exited`, when everything that the child had written has been passed on. */
  public readonly closed: Promise<void>;

  readonly #bridge: plugins.smartrust.RustBridge<TCommands>;
  readonly #transport: BinaryTransport;
  readonly #ready: Promise<IReady>;
  #exit = '';
  #lastError = '';

  private constructor(options: IChannelOptions) {
    this.#bridge = new plugins.smartrust.RustBridge<TCommands>({
      binaryName,
      // Our own timers decide: RustBridge's tell neither why a start failed nor which call took too long.
      requestTimeoutMs: longestTimerMs,
      readyTimeoutMs: longestTimerMs,
      maxPayloadSize: maxAnswerBytes,
    });
    this.#bridge.on('stderr', (line: string) => {
      const entry = parseLogLine(line);
      if (entry.level === 'error') this.#lastError = entry.message;
      options.onLog(entry);
    });
    for (const name of options.events) {
      this.#bridge.on(`management:${name}`, (data: unknown) => options.onEvent(name, data));
    }

    this.#transport = new BinaryTransport(options.binaryPath, maxAnswerBytes, options.restarts);
    this.#ready = new Promise((resolve, reject) => {
      this.#bridge.once('management:ready', resolve);
      this.#transport.once('error', (cause: Error) => {
        reject(
          new RemoteIngressError('E_SPAWN_FAILED', `failed to run ${options.binaryPath}: ${cause.message}`, cause),
        );
      });
    });
    this.#ready.catch(() => {});
    // `spawn` does this after it has searched for the file; this way there is a child to kill from here on.
    void this.#bridge['connectWithTransport'](this.#transport);

    const { child } = this.#transport;
    this.exited = new Promise((resolve) => {
      child?.once('exit', (code, signal) => {
        this.#exit = signal ? `was ended by ${signal}` : `exited with code ${code}`;
        resolve();
      });
    });
    const drained = new Promise((resolve) => child?.once('close', resolve));
    this.closed = this.exited.then(async () => {
      const timeout = new AbortController();
      const lastWords = plugins.timers.setTimeout(lastWordsMs, undefined, { signal: timeout.signal });
      await Promise.race([drained, lastWords]);
      lastWords.catch(() => {});
      timeout.abort();
    });
  }

  /** End of the child, as a sentence; with its last error, as far as that has been read. */
  public get ending(): string {
    return `${binaryName} ${this.#exit}${this.#lastError && `: ${this.#lastError}`}`;
  }

  public async call<M extends TMethod>(method: M, params: TCommands[M]['params']): Promise<TCommands[M]['result']> {
    const bytes = Buffer.byteLength(JSON.stringify(params)) + requestOverheadBytes;
    if (bytes > maxRequestBytes) {
      throw new RemoteIngressError(
        'E_BAD_REQUEST',
        `${method}: the request takes ${bytes} bytes, at most ${maxRequestBytes} are allowed`,
      );
    }
    try {
      return await this.#bridge.sendCommand(method, params);
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      const answer = RemoteIngressError.fromAnswer(text);
      if (answer) throw answer;
      if (!unreachable.test(text)) throw new RemoteIngressError('E_INTERNAL', `${method}: ${text}`, cause);
      throw new RemoteIngressError('E_BINARY_EXITED', `${method}: ${this.#exit ? this.ending : text}`, cause);
    }
  }

  /** Has a child that drains reset what still runs, and ends it where it doesn't; settles when it is gone. */
  public async cut(): Promise<void> {
    const { child } = this.#transport;
    // The first signal drains and the second cuts. They differ because two of a kind may merge into one.
    for (const signal of ['SIGTERM', 'SIGINT'] as const) child?.kill(signal);
    const handled = new AbortController();
    const grace = plugins.timers.setTimeout(cutGraceMs, undefined, { signal: handled.signal });
    await Promise.race([this.exited, grace]);
    grace.catch(() => {});
    handled.abort();
    await this.kill();
  }

  /** Ends the child at once; settles when it is gone. (RustBridge's `kill` would suppress the exit.) */
  public async kill(): Promise<void> {
    const { child } = this.#transport;
    if (child?.pid === undefined) return;
    child.kill('SIGKILL');
    await this.exited;
  }

  async #becomeReady(readyTimeoutMs: number, abandoned: AbortSignal): Promise<void> {
    const settled = new AbortController();
    const gaveUp = new Promise<never>((_, reject) => {
      const onAbandoned = () => reject(abandoned.reason);
      if (abandoned.aborted) onAbandoned();
      abandoned.addEventListener('abort', onAbandoned, { signal: settled.signal });
      const timer = setTimeout(() => {
        reject(new RemoteIngressError('E_SPAWN_FAILED', `${binaryName} isn't ready after ${readyTimeoutMs} ms`));
      }, readyTimeoutMs);
      settled.signal.addEventListener('abort', () => clearTimeout(timer));
    });
    const died = this.closed.then(() => {
      throw new RemoteIngressError('E_SPAWN_FAILED', `${this.ending} before it was ready`);
    });
    died.catch(() => {});
    try {
      const ready = await Promise.race([this.#ready, died, gaveUp]);
      if (ready?.protocolVersion !== managementProtocolVersion) {
        throw new RemoteIngressError(
          'E_VERSION_MISMATCH',
          `${binaryName} ${ready?.version} speaks protocol version ${ready?.protocolVersion}, ` +
            `this package needs ${managementProtocolVersion}; install a binary of the package's own version`,
        );
      }
    } finally {
      settled.abort();
    }
  }

  /** RustBridge goes on waiting for a `ready` that can't come, and would keep Node's event loop alive. */
  async #releaseReadyTimer(): Promise<void> {
    await plugins.timers.setImmediate(); // its timer starts a turn after the spawn
    this.#bridge.emit('management:ready');
  }
}
