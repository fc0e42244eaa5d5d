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
  /** The call took longer than `timeoutMs`. What was asked for may still happen. */
  | 'E_TIMEOUT'
  /** The call's `signal` was aborted, or `stop` ended a start. What was asked for may still happen. */
  | 'E_ABORTED';

/** Code of a {@link RemoteIngressError}. */
export type TRemoteIngressErrorCode = TBinaryErrorCode | TWrapperErrorCode;

/** The codes of the binary as values; a record, so that the compiler finds one that is missing. */
const binaryCodes: Record<TBinaryErrorCode, true> = {
  E_BAD_REQUEST: true,
  E_DUPLICATE_ID: true,
  E_UNKNOWN_METHOD: true,
  E_NOT_RUNNING: true,
  E_ALREADY_RUNNING: true,
  E_INVALID_CONFIG: true,
  E_INVALID_TOKEN: true,
  E_UNKNOWN_EDGE: true,
  E_BIND_FAILED: true,
  E_ADDRESS_IN_USE: true,
  E_PERMISSION_DENIED: true,
  E_PORT_NOT_ALLOWED: true,
  E_STATE_DIR: true,
  E_TLS: true,
  E_HUB_UNREACHABLE: true,
  E_HUB_PIN_MISMATCH: true,
  E_AUTH_FAILED: true,
  E_INSTANCE_CONFLICT: true,
  E_PROTOCOL: true,
  E_OVERLOADED: true,
  E_INTERNAL: true,
};

export class RemoteIngressError extends Error {
  public override readonly name = 'RemoteIngressError';
  public readonly code: TRemoteIngressErrorCode;

  constructor(code: TRemoteIngressErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }

  /** Reads the binary's `E_CODE: message`; undefined for anything else. An unknown code becomes `E_INTERNAL`. */
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
