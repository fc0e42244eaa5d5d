// Reads the arguments of the API before anything happens. TypeScript finds most mistakes; here are those that come
// through `any` or from JavaScript. No message repeats a text: it may be a secret in the wrong place.
import { RemoteIngressError } from './classes.remoteingresserror.js';
import { longestTimerMs } from './functions.deadline.js';
import { isHost } from './functions.host.js';
import type { IBinaryOptions, ICallOptions, ITokenTarget } from './interfaces/index.js';

const hostAdvice = 'pass a DNS name or an IP address alone, without scheme, port or path';

type TFields = Record<string, unknown>;

/** `signal` and `timeoutMs` of the call `what`. */
export function readCallOptions(what: string, options: unknown): ICallOptions {
  if (!isObject(options)) throw invalid(what, 'options', options, 'pass { signal?, timeoutMs? }, or leave them out');
  const { signal, timeoutMs } = options;
  if (signal !== undefined && !isAbortSignal(signal)) {
    throw invalid(what, 'signal', signal, 'pass the signal of an AbortController, or leave it out');
  }
  return { signal: signal as ICallOptions['signal'], timeoutMs: readMs(what, 'timeoutMs', timeoutMs) };
}

/** Names of events, and the signal that ends the iteration over them. */
export function readEventsRequest(
  known: readonly string[],
  names: unknown,
  options: unknown,
): { names: string[]; signal: ICallOptions['signal'] } {
  if (!Array.isArray(names) || names.length === 0) {
    throw invalid('events', 'names', names, 'pass the names of one or more events');
  }
  const unknown: unknown = names.find((name) => !known.includes(name as string));
  if (unknown !== undefined) throw invalid('events', 'names', unknown, `pass some of ${known.join(', ')}`);
  if (!isObject(options)) throw invalid('events', 'options', options, 'pass { signal? }, or leave it out');
  return { names: names as string[], signal: readCallOptions('events', { signal: options['signal'] }).signal };
}

/** Options of the constructor that `what` names. */
export function readBinaryOptions(what: string, options: unknown): IBinaryOptions {
  if (!isObject(options)) {
    throw invalid(what, 'options', options, 'pass { binaryPath?, readyTimeoutMs? }, or leave them out');
  }
  const { binaryPath, readyTimeoutMs } = options;
  if (binaryPath !== undefined && !isText(binaryPath)) {
    throw invalid(what, 'binaryPath', binaryPath, "pass the path of a file, or leave it out for the package's own");
  }
  return { binaryPath, readyTimeoutMs: readMs(what, 'readyTimeoutMs', readyTimeoutMs) };
}

/** The edge that a token is for, and the place of its hub. Fields that aren't known here are left to the binary. */
export function readTokenRequest(what: string, edgeId: unknown, target: unknown): ITokenTarget & { edgeId: string } {
  const id = readEdgeId(what, edgeId);
  if (!isObject(target)) throw invalid(what, 'target', target, 'pass { hubHost, hubPort? }, or leave it out for an edge that the hub dials');
  const { hubHost, hubPort } = target;
  if (hubHost !== undefined && !isText(hubHost)) throw invalid(what, 'hubHost', hubHost, hostAdvice);
  if (hubHost !== undefined && !isHost(hubHost)) {
    throw new RemoteIngressError('E_INVALID_ARGUMENT', `${what}: hubHost is no host; ${hostAdvice}`);
  }
  if (hubPort !== undefined && !isPort(hubPort)) {
    throw invalid(what, 'hubPort', hubPort, "pass a number from 1 to 65535, or leave it out for the hub's tunnelPort");
  }
  return { ...snapshot('target', target), hubHost, hubPort, edgeId: id };
}

/** @returns the id of an edge. */
export function readEdgeId(what: string, edgeId: unknown): string {
  if (!isText(edgeId)) throw invalid(what, 'edgeId', edgeId, 'pass the id of an allowed edge');
  return edgeId;
}

/** A copy of a value as the binary will read it; the caller may change its objects after the call. */
export function snapshot<T>(what: string, value: T): T {
  if (value === undefined) throw new RemoteIngressError('E_INVALID_CONFIG', `${what}: is missing`);
  try {
    return JSON.parse(JSON.stringify(value)) as T;
  } catch (cause) {
    throw new RemoteIngressError('E_INVALID_CONFIG', `${what}: must be plain JSON`, cause);
  }
}

/** The same for a configuration. Its fields are left to the binary. */
export function snapshotObject<T extends object>(what: string, value: T): T {
  const copy = snapshot(what, value);
  if (!isObject(copy)) throw new RemoteIngressError('E_INVALID_CONFIG', `${what}: must be an object`);
  return copy;
}

/** The same for a list. Its elements are left to the binary. */
export function snapshotList<T>(what: string, value: T[]): T[] {
  const copy = snapshot(what, value);
  if (!Array.isArray(copy)) throw new RemoteIngressError('E_INVALID_CONFIG', `${what}: must be a list`);
  return copy;
}

/** True for a number that can be the port of a listener. */
export function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535;
}

export function isObject(value: unknown): value is TFields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

/** By its parts, not by its class: a signal of another realm or of a polyfill is one too. */
function isAbortSignal(value: unknown): boolean {
  if (!isObject(value) || typeof value['aborted'] !== 'boolean') return false;
  return typeof value['addEventListener'] === 'function' && typeof value['removeEventListener'] === 'function';
}

/** Node's timers turn anything longer, and what is no number, into 1 ms: so that is refused. */
function readMs(what: string, name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'number' && value >= 0 && value <= longestTimerMs) return value;
  throw invalid(what, name, value, `pass a number of milliseconds from 0 to ${longestTimerMs}, or leave it out`);
}

function invalid(what: string, name: string, value: unknown, advice: string): RemoteIngressError {
  return new RemoteIngressError('E_INVALID_ARGUMENT', `${what}: ${name} is ${describe(value)}; ${advice}`);
}

function describe(value: unknown): string {
  if (typeof value === 'number' || value === null || value === undefined) return String(value);
  if (value === '') return 'an empty string';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
