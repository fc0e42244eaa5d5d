// The connection token: what an edge needs to know of its hub, as one string to paste.
//
// base64url without padding of a JSON object. rust/remoteingress-proto/src/token.rs is the same in Rust, and
// test/fixtures/tokens.json holds both to it. No message here ever repeats a value from the token.
import { RemoteIngressError } from './classes.remoteingresserror.js';
import { isObject, isPort } from './functions.arguments.js';
import { isHost } from './functions.host.js';
import type { IListenTunnel } from './interfaces/index.js';
import * as plugins from './plugins.js';

/** The fields of a connection token: everything that an edge needs to connect. */
export interface IConnectionToken {
  /** DNS name or IP address of the hub, without scheme, port or path. Absent where the hub dials. */
  hubHost?: string | undefined;
  /** The hub's tunnel port, from 1 to 65535. Absent where the hub dials. */
  hubPort?: number | undefined;
  /** Where the edge listens for a hub that dials. Absent where the edge dials. */
  listenTunnel?: IListenTunnel | undefined;
  /** The id under which the hub lists the edge: 1 to 128 bytes without control characters. */
  edgeId: string;
  /** The secret that the hub lists for the edge. */
  secret: string;
  /** 1 to 4 base64url SHA-256 hashes of the hub's public key. Default: tokens carry none. */
  hubPins?: string[] | undefined;
}

/** A token as it was read, or as it is to be written. */
export interface IDecodedConnectionToken extends IConnectionToken {
  /** Fields that this version doesn't know. They are kept, so that a newer version's token survives. */
  extra?: Record<string, unknown>;
}

/** In characters. A token of today takes about 250; the bound is checked before anything is decoded. */
const maxTokenLength = 2_048;
const maxPins = 4;
const knownNames = new Set(['hubHost', 'hubPort', 'listenTunnel', 'edgeId', 'secret', 'hubPins']);
const maxEdgeIdBytes = 128;

/**
 * Makes a secret for an edge: 32 random bytes as 43 characters of base64url. Keep it beside the edge's id, since a new
 * one makes the edge's tokens worthless.
 *
 * @example
 * await hub.updateAllowedEdges([{ id: 'edge-1', secret: createSecret(), listenPorts: [443] }]);
 */
export function createSecret(): string {
  return plugins.crypto.randomBytes(32).toString('base64url');
}

/**
 * Writes a connection token, without a hub that runs. `hub.createConnectionToken` knows port, secret and pin by itself.
 *
 * @returns base64url without padding, at most 2,048 characters.
 * @throws {@link RemoteIngressError} with `E_INVALID_TOKEN` for a field that can't be in a token; the message names it
 * and never repeats its value.
 *
 * @example
 * const token = encodeConnectionToken({ hubHost: 'hub.example.com', hubPort: 8443, edgeId: 'edge-1', secret });
 */
export function encodeConnectionToken(token: IDecodedConnectionToken): string {
  if (!isObject(token)) {
    throw invalid('an object with edgeId, secret, and hubHost and hubPort or listenTunnel is needed');
  }
  const { extra: given, ...fields } = token;
  const extra = readExtra(given);
  const { extra: unknown, ...known } = readFields({ ...fields });
  const unknownName = Object.keys({ ...unknown })[0];
  if (unknownName !== undefined) throw invalid(`${unknownName} is not a known field; put it into extra`);
  const doubleName = Object.keys(extra).find((name) => knownNames.has(name));
  if (doubleName !== undefined) throw invalid(`${doubleName} must not be in extra`);
  const encoded = Buffer.from(JSON.stringify({ ...known, ...extra })).toString('base64url');
  if (encoded.length > maxTokenLength) throw invalid(`longer than ${maxTokenLength} characters`);
  return encoded;
}

/**
 * Reads a connection token. White space around it is ignored, since tokens are pasted.
 *
 * @returns the fields of the token, the secret among them.
 * @throws {@link RemoteIngressError} with `E_INVALID_TOKEN` for anything that isn't a token; the message never repeats
 * a part of it.
 *
 * @example
 * const { hubHost, edgeId } = decodeConnectionToken(token);
 */
export function decodeConnectionToken(token: string): IDecodedConnectionToken {
  if (typeof token !== 'string') throw invalid('not a string');
  const encoded = token.trim();
  if (encoded === '') throw invalid('empty');
  if (encoded.length > maxTokenLength) throw invalid(`longer than ${maxTokenLength} characters`);
  return readFields(parse(decodeBase64url(encoded)));
}

/** Other fields as they will stand in the token. */
function readExtra(extra: unknown): Record<string, unknown> {
  if (extra === undefined) return {};
  let copy: unknown;
  try {
    copy = JSON.parse(JSON.stringify(extra));
  } catch {
    throw invalid('extra must be plain JSON'); // the cause could quote a secret
  }
  if (!isObject(copy)) throw invalid('extra must be an object of fields');
  return copy;
}

function decodeBase64url(encoded: string): Buffer {
  const bytes = Buffer.from(encoded, 'base64url');
  // Buffer skips what it doesn't know and drops stray bits; only the one true spelling is a token.
  if (bytes.toString('base64url') !== encoded) throw invalid('not base64url; was it copied completely?');
  return bytes;
}

function parse(bytes: Buffer): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw invalid('not JSON inside; was it copied completely?'); // the cause would quote the secret
  }
  if (!isObject(value)) throw invalid('not a JSON object inside');
  return value;
}

function readFields(fields: Record<string, unknown>): IDecodedConnectionToken {
  const { hubHost, hubPort, listenTunnel, edgeId, secret, hubPins, ...extra } = fields;
  const isListening = listenTunnel !== undefined;
  const dialled = Object.entries({ hubHost, hubPort, hubPins }).find(([, value]) => value !== undefined);
  if (isListening && dialled) throw invalid(`${dialled[0]} must not stand beside listenTunnel`);
  return {
    ...(isListening
      ? { listenTunnel: readListener(listenTunnel) }
      : { hubHost: readHost(hubHost), hubPort: readPort('hubPort', hubPort) }),
    edgeId: readEdgeId(edgeId),
    secret: readText('secret', secret),
    ...readPins(hubPins),
    ...(Object.keys(extra).length === 0 ? {} : { extra }),
  };
}

function readText(name: string, value: unknown): string {
  if (value === undefined) throw invalid(`${name} is missing`);
  if (typeof value !== 'string' || value === '') throw invalid(`${name} must be a string that isn't empty`);
  if (/\p{Surrogate}/u.test(value)) throw invalid(`${name} isn't Unicode text`);
  return value;
}

function readHost(value: unknown): string {
  const host = readText('hubHost', value);
  if (!isHost(host)) throw invalid('hubHost must be a DNS name or an IP address alone, without scheme, port or path');
  return host;
}

function readPort(name: string, value: unknown): number {
  if (value === undefined) throw invalid(`${name} is missing`);
  if (!isPort(value)) throw invalid(`${name} must be a number from 1 to 65535`);
  return value;
}

function readListener(value: unknown): IListenTunnel {
  if (!isObject(value)) throw invalid('listenTunnel must be an object');
  const { port, bindAddress } = value;
  const isAddress = typeof bindAddress === 'string' && plugins.net.isIP(bindAddress) !== 0;
  if (bindAddress !== undefined && !isAddress) throw invalid('listenTunnel.bindAddress must be an IP address');
  return { port: readPort('listenTunnel.port', port), ...(isAddress ? { bindAddress } : {}) };
}

function readEdgeId(value: unknown): string {
  const edgeId = readText('edgeId', value);
  if (Buffer.byteLength(edgeId) > maxEdgeIdBytes) throw invalid(`edgeId is longer than ${maxEdgeIdBytes} bytes`);
  if (/\p{Cc}/u.test(edgeId)) throw invalid('edgeId contains a control character');
  return edgeId;
}

/** An empty list means the same as none. */
function readPins(value: unknown): { hubPins?: string[] } {
  if (value === undefined) return {};
  if (!Array.isArray(value) || value.length > maxPins) throw invalid(`hubPins must be a list of 1 to ${maxPins} pins`);
  const hubPins = value.map((pin: unknown, index) => {
    const bytes = Buffer.from(typeof pin === 'string' ? pin : '', 'base64url');
    if (bytes.length !== 32 || bytes.toString('base64url') !== pin) {
      throw invalid(`hubPins[${index}] must be a SHA-256 hash as 43 characters of base64url`);
    }
    return pin;
  });
  return hubPins.length === 0 ? {} : { hubPins };
}

function invalid(what: string): RemoteIngressError {
  return new RemoteIngressError('E_INVALID_TOKEN', `invalid connection token: ${what}`);
}
