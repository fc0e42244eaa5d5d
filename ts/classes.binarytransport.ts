// The binary as a child process whose faults stay its own.
import { environmentForBinary } from './functions.binarylocation.js';
import * as plugins from './plugins.js';

type TChild = import('node:child_process').ChildProcess;

/** A child whose pipe is gone can't be driven any more; normally it is only about to exit. */
const brokenPipeGraceMs = 1_000;

/** smartrust's transport with its gaps closed: it is private state of an exactly pinned version that we read here. */
export class BinaryTransport extends plugins.smartrust.StdioTransport {
  /** There from the start of `connect` on, unless the file couldn't be executed at all. */
  public child: TChild | undefined;

  constructor(binaryPath: string, maxPayloadSize: number, restarts: number) {
    super({
      binaryPath,
      cliArgs: ['--management'],
      env: environmentForBinary(restarts),
      maxPayloadSize,
      logger: { log: () => {} },
    });
  }

  public override async connect(): Promise<void> {
    try {
      const connected = super.connect();
      this.child = this['childProcess'] as TChild | undefined;
      // Without a listener a write to a child that has just died would end our process with EPIPE.
      this.child?.stdin?.on('error', () => this.#endSoon());
      this.child?.stdout?.once('end', () => this.#endSoon());
      await connected;
    } catch (error) {
      this.emit('error', error);
      throw error;
    }
  }

  /** RustBridge looks into every line that is JSON as if it were an object. */
  public override emit(event: string, ...args: unknown[]): boolean {
    if (event === 'line' && !String(args[0]).startsWith('{')) return false;
    return super.emit(event, ...args);
  }

  #endSoon(): void {
    const timer = setTimeout(() => this.child?.kill('SIGKILL'), brokenPipeGraceMs).unref();
    this.child?.once('exit', () => clearTimeout(timer));
  }
}
