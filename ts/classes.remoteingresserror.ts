// The one error of this package: a code to branch on, a message to read.

import type { TBinaryErrorCode } from './interfaces/index.js';

/** Code that this package adds to those of the binary: about your call, the binary itself, and waiting for it. */
export type TWrapperErrorCode =
  /** An argument can't be meant so; the message names it. Nothing was sent to the binary, and nothing has changed. */
  | 'E_INVALID_ARGUMENT'
  /** No binary for this machine, or none where `binaryPath` or REMOTEINGRESS_BIN says. */
  | 'E_BINARY_NOT_FOUND'
  /** The binary didn't start; the message says why. */
  | 'E_SPAWN_FAILED'
  /** Binary and package speak different versions of their protocol. */
  | 'E_VERSION_MISMATCH'
  /** The binary died during the call. It is restarted: call again. */
  | 'E_BINARY_EXITED'
  /** The call took longer than `timeoutMs`. The request may still be carried out. */
  | 'E_TIMEOUT'
  /** The call's `signal` was aborted, or `stop` ended a start. The request may still be carried out. */
  | 'E_ABORTED';

/** Code of a {@link RemoteIngressError}. */
export type TRemoteIngressErrorCode = TBinaryErrorCode | TWrapperErrorCode;

/** The codes of the binary as values; a record, so that the compiler finds one that is missing. */
const binaryCodes: Record<TBinaryErrorCode, true> = {
  E_BAD_REQUEST: true,
  E_EDGE_SET_CLOSED: true,
  E_DUPLICATE_ID: true,
  E_UNKNOWN_METHOD: true,
  E_NOT_RUNNING: true,
  E_ALREADY_RUNNING: true,
  E_INVALID_CONFIG: true,
  E_INVALID_TOKEN: true,
  E_UNKNOWN_EDGE: true,
  E_BIND_FAILED: true,
  E_DESCRIPTOR_LIMIT: true,
  E_ADDRESS_IN_USE: true,
  E_PERMISSION_DENIED: true,
  E_PORT_NOT_ALLOWED: true,
  E_STATE_DIR: true,
  E_TLS: true,
  E_PROXY_UNREACHABLE: true,
  E_PROXY_REFUSED: true,
  E_PROXY_AUTH_FAILED: true,
  E_EDGE_UNREACHABLE: true,
  E_EDGE_PIN_MISMATCH: true,
  E_HUB_UNREACHABLE: true,
  E_HUB_PIN_MISMATCH: true,
  E_AUTH_FAILED: true,
  E_INSTANCE_CONFLICT: true,
  E_PROTOCOL: true,
  E_OVERLOADED: true,
  E_UNAUTHORIZED: true,
  E_FORBIDDEN: true,
  E_NOT_FOUND: true,
  E_INTERNAL: true,
};

/**
 * The error with which the calls of this package reject: `code` to branch on, `message` to read, and where there is one
 * the `cause`. The message of `E_INVALID_CONFIG` begins with the path of the field, such as `edges[0].listenPorts[1]`.
 * No message repeats a secret.
 *
 * @example
 * try {
 *   await hub.start({ tunnelPort: 443 });
 * } catch (error) {
 *   if (!(error instanceof RemoteIngressError)) throw error;
 *   if (error.code === 'E_PERMISSION_DENIED') console.log('Ports below 1024 need root or CAP_NET_BIND_SERVICE.');
 *   else console.log(error.message);
 * }
 */
export class RemoteIngressError extends Error {
  /** Always `'RemoteIngressError'`. */
  public override readonly name = 'RemoteIngressError';
  /** The kind of failure, to branch on. A `switch` over it can be exhaustive. */
  public readonly code: TRemoteIngressErrorCode;

  /** Made by this package; make one yourself in tests of your own program. */
  constructor(code: TRemoteIngressErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }

  /** Reads `E_CODE: message`, as the binary writes it; undefined for anything else. An unknown code is `E_INTERNAL`. */
  public static fromAnswer(text: string): RemoteIngressError | undefined {
    const parts = /^(E_[A-Z0-9_]+): (.*)$/s.exec(text);
    if (!parts) return undefined;
    const [, name = '', message = ''] = parts;
    return isBinaryCode(name) ? new RemoteIngressError(name, message) : new RemoteIngressError('E_INTERNAL', text);
  }
}

function isBinaryCode(text: string): text is TBinaryErrorCode {
  return Object.hasOwn(binaryCodes, text);
}
