// The token codec, held to the same fixtures as the one in Rust.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  createSecret,
  decodeConnectionToken,
  encodeConnectionToken,
  type IDecodedConnectionToken,
  RemoteIngressError,
} from '@serve.zone/remoteingress';

interface IFixture {
  name: string;
  token: string;
  valid: boolean;
  /** The one spelling that encoding gives. */
  canonical?: boolean;
  decoded?: IDecodedConnectionToken;
  /** A part of the message. */
  error?: string;
}

const fixtures = JSON.parse(
  readFileSync(new URL('../test/fixtures/tokens.json', import.meta.url), 'utf8'),
) as IFixture[];

const example: IDecodedConnectionToken = {
  hubHost: 'hub.example.com',
  hubPort: 8443,
  edgeId: 'edge-nyc-01',
  secret: 'correct horse battery staple',
};

/** Every refusal is an E_INVALID_TOKEN, and nothing but that may be thrown. */
function decodeOrRefuse(token: string): IDecodedConnectionToken | RemoteIngressError {
  try {
    return decodeConnectionToken(token);
  } catch (error) {
    assert.ok(error instanceof RemoteIngressError, `${error}`);
    assert.equal(error.code, 'E_INVALID_TOKEN');
    assert.equal(error.cause, undefined, 'a cause could quote the token');
    return error;
  }
}

for (const { name, token, valid, canonical, decoded, error } of fixtures) {
  test(`fixture: ${name}`, () => {
    const result = decodeOrRefuse(token);
    if (valid) {
      assert.deepEqual(result, decoded);
      if (canonical) assert.equal(encodeConnectionToken(decoded!), token);
    } else {
      assert.ok(result instanceof RemoteIngressError, 'must be refused');
      assert.ok(result.message.includes(error ?? ''), `${result.message} should mention ${error}`);
      assert.doesNotMatch(result.message, /canary|31337/);
    }
  });
}

test('a changed character is refused or means something else', () => {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= \n.\u0000é';
  for (const { token, decoded } of fixtures.filter(({ valid, canonical }) => valid && canonical)) {
    const step = Math.max(1, Math.floor(token.length / 200)); // the long ones are sampled
    for (let index = 0; index < token.length; index += step) {
      for (const character of alphabet) {
        if (character === token[index]) continue;
        const result = decodeOrRefuse(token.slice(0, index) + character + token.slice(index + 1));
        if (result instanceof RemoteIngressError) assert.doesNotMatch(result.message, /canary|sssss|geheim/);
        else assert.notDeepEqual(result, decoded);
      }
    }
  }
});

test('a cut token is refused', () => {
  const token = encodeConnectionToken(example);
  for (let length = 0; length < token.length; length += 1) {
    assert.ok(decodeOrRefuse(token.slice(0, length)) instanceof RemoteIngressError);
  }
});

test('what is no string is refused', () => {
  for (const value of [undefined, null, 5, {}, [], Buffer.from('x')]) {
    assert.ok(decodeOrRefuse(value as unknown as string) instanceof RemoteIngressError);
  }
});

test('encoding refuses what decoding would', () => {
  const refused: [string, object][] = [
    ['hubHost', { ...example, hubHost: '' }],
    ['hubPort', { ...example, hubPort: 0 }],
    ['hubPort', { ...example, hubPort: '443' }],
    ['edgeId', { ...example, edgeId: 'x'.repeat(129) }],
    ['secret', { ...example, secret: undefined }],
    ['secret', { ...example, secret: '\ud800' }],
    ['hubPins[0]', { ...example, hubPins: ['short'] }],
    ['2048', { ...example, secret: 'x'.repeat(2_000) }],
    ['hubPing', { ...example, hubPing: [] }],
    ['secret', { ...example, extra: { secret: 'another' } }],
  ];
  for (const [message, token] of refused) {
    assert.throws(
      () => encodeConnectionToken(token as IDecodedConnectionToken),
      (error: RemoteIngressError) => error.code === 'E_INVALID_TOKEN' && error.message.includes(message),
      message,
    );
  }
  assert.throws(() => encodeConnectionToken(undefined as unknown as IDecodedConnectionToken), RemoteIngressError);
});

test('names from Object.prototype are ordinary unknown fields', () => {
  const extra = JSON.parse('{"__proto__": {"secret": "x"}, "toString": 1}') as Record<string, unknown>;
  const decoded = decodeConnectionToken(encodeConnectionToken({ ...example, extra }));
  assert.deepEqual(Object.keys(decoded.extra!), ['__proto__', 'toString']);
  assert.equal(decoded.secret, example.secret);
});

test('createSecret gives 32 random bytes as base64url', () => {
  const secrets = new Set(Array.from({ length: 100 }, createSecret));
  assert.equal(secrets.size, 100);
  for (const secret of secrets) assert.equal(Buffer.from(secret, 'base64url').length, 32);
});
