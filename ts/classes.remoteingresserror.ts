// The one error of this package: a code to branch on, a message to read.

/** What the binary says. */
const binaryCodes = [
  'E_BAD_REQUEST',
  'E_DUPLICATE_ID',
  'E_UNKNOWN_METHOD',
  'E_NOT_RUNNING',
  'E_ALREADY_RUNNING',
  'E_INVALID_CONFIG',
  'E_INVALID_TOKEN',
  'E_UNKNOWN_EDGE',
  'E_BIND_FAILED',
  'E_ADDRESS_IN_USE',
  'E_PERMISSION_DENIED',
  'E_PORT_NOT_ALLOWED',
  'E_STATE_DIR',
  'E_TLS',
  'E_HUB_UNREACHABLE',
  'E_HUB_PIN_MISMATCH',
  'E_AUTH_FAILED',
  'E_INSTANCE_CONFLICT',
  'E_PROTOCOL',
  'E_OVERLOADED',
  'E_INTERNAL',
] as const;

/** What this package adds about the binary itself and about waiting for it. */
type TWrapperCode =
  'E_BINARY_NOT_FOUND' | 'E_SPAWN_FAILED' | 'E_VERSION_MISMATCH' | 'E_BINARY_EXITED' | 'E_TIMEOUT' | 'E_ABORTED';

export type TRemoteIngressErrorCode = (typeof binaryCodes)[number] | TWrapperCode;

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
    const code = binaryCodes.find((known) => known === name);
    return code ? new RemoteIngressError(code, message) : new RemoteIngressError('E_INTERNAL', text);
  }
}
