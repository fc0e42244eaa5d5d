// Wrong arguments: refused at once, by E_INVALID_ARGUMENT, before anything reaches the binary.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  encodeConnectionToken,
  type ICallOptions,
  RemoteIngressEdge,
  RemoteIngressError,
  RemoteIngressHub,
} from '@serve.zone/remoteingress';
import { fakeBinary } from './support/fakes.js';
import { nodeScript } from './support/nodescript.js';
import { eventually } from './support/waiting.js';

const config = { tunnelPort: 0, drainTimeoutSecs: 1 };
const token = { token: 'some token' };

/** Time that a refusal may take: much less than any time limit, enough for a busy machine. */
const atOnceMs = 1_000;

/** Each with the words that its message must hold. */
const wrongOptions: [unknown, RegExp][] = [
  [{ signal: 'x' }, /signal is a string; pass the signal of an AbortController/],
  [{ signal: {} }, /signal is an object; pass/],
  [{ signal: null }, /signal is null; pass/],
  [{ signal: new AbortController() }, /signal is an object; pass the signal of/],
  [{ signal: { aborted: false, addEventListener: () => {} } }, /signal is an object/],
  [{ signal: () => {} }, /signal is a function/],
  [{ timeoutMs: '5' }, /timeoutMs is a string; pass a number of milliseconds from 0 to 2147483647/],
  [{ timeoutMs: -1 }, /timeoutMs is -1; pass/],
  [{ timeoutMs: NaN }, /timeoutMs is NaN; pass/],
  [{ timeoutMs: Infinity }, /timeoutMs is Infinity; pass/],
  [{ timeoutMs: 1e12 }, /timeoutMs is 1000000000000; pass/],
  [{ timeoutMs: 2 ** 31 }, /timeoutMs is 2147483648; pass/],
  [{ timeoutMs: null }, /timeoutMs is null; pass/],
  [{ timeoutMs: 5n }, /timeoutMs is a bigint; pass/],
  [{ timeoutMs: {} }, /timeoutMs is an object; pass/],
  [null, /options is null; pass \{ signal\?, timeoutMs\? \}/],
  ['x', /options is a string/],
  [5_000, /options is 5000/],
  [[], /options is a list/],
];

function refused(message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof RemoteIngressError, `${error}`);
    assert.equal(error.code, 'E_INVALID_ARGUMENT', error.message);
    assert.match(error.message, message);
    return true;
  };
}

/** The call must give a promise, never throw, and that promise must be rejected at once. */
async function refuses(call: () => Promise<unknown>, message: RegExp): Promise<void> {
  const start = performance.now();
  await assert.rejects(call(), refused(message));
  assert.ok(performance.now() - start < atOnceMs, `${message} took ${performance.now() - start} ms`);
}

type TCall = (options: ICallOptions) => Promise<unknown>;

/** Every call that takes options. */
function calls(hub: RemoteIngressHub, edge: RemoteIngressEdge): [string, TCall][] {
  return [
    ['start', (options) => hub.start(config, options)],
    ['updateAllowedEdges', (options) => hub.updateAllowedEdges([], options)],
    ['upsertEdges', (options) => hub.upsertEdges([], options)],
    ['removeEdges', (options) => hub.removeEdges([], options)],
    ['createConnectionToken', (options) => hub.createConnectionToken('a', { hubHost: 'h' }, options)],
    ['getStatus', (options) => hub.getStatus(options)],
    ['selfTest', (options) => hub.selfTest('a', options)],
    ['getStreams', (options) => hub.getStreams({}, options)],
    ['getMetrics', (options) => hub.getMetrics(options)],
    ['stop', (options) => hub.stop(options)],
    ['start', (options) => edge.start(token, options)],
    ['getStatus', (options) => edge.getStatus(options)],
    ['getStreams', (options) => edge.getStreams({}, options)],
    ['getMetrics', (options) => edge.getMetrics(options)],
    ['stop', (options) => edge.stop(options)],
  ];
}

test('every call refuses wrong options, whether the binary runs or not', async (t) => {
  const [hubBinary, edgeBinary] = [fakeBinary(t), fakeBinary(t)];
  const hub = new RemoteIngressHub(hubBinary);
  const edge = new RemoteIngressEdge(edgeBinary);
  t.after(() => Promise.all([hub.stop(), edge.stop()]));
  const sent = () => [...hubBinary.journal(), ...edgeBinary.journal()].length;
  const refuseAll = async () => {
    const before = sent();
    for (const [options, message] of wrongOptions) {
      for (const [name, call] of calls(hub, edge)) {
        await refuses(() => call(options as never), new RegExp(`^${name}: ${message.source}`));
      }
    }
    assert.equal(sent(), before, 'nothing was sent to a binary, and none was started');
  };
  await refuseAll();
  await Promise.all([hub.start(config), edge.start(token)]);
  await refuseAll();
  assert.equal((await hub.getStatus()).running, true);
  assert.equal((await edge.getStatus()).running, true);
});

test('the whole range of timeoutMs is taken, and signals of any make', async (t) => {
  const hub = new RemoteIngressHub(fakeBinary(t));
  t.after(() => hub.stop());
  await assert.rejects(hub.start(config, { timeoutMs: 0 }), (error: RemoteIngressError) => error.code === 'E_TIMEOUT');
  await hub.start(config, { signal: undefined, timeoutMs: 2 ** 31 - 1 });
  await hub.getStatus({ signal: new AbortController().signal, timeoutMs: 9_999.5 });
  await hub.getStatus({ signal: { aborted: false, addEventListener: () => {}, removeEventListener: () => {} } });
});

test('a wrong signal does not end the process later', async () => {
  // Before there was a check, the limit of the time struck when the call was long answered, outside of any promise.
  const script = `
    import { RemoteIngressHub } from '@serve.zone/remoteingress';
    const hub = new RemoteIngressHub({ binaryPath: process.execPath });
    const error = await hub.start({}, { signal: 'x', timeoutMs: 50 }).catch((error) => error);
    await new Promise((resolve) => setTimeout(resolve, 200));
    console.log(error.code);`;
  assert.equal((await nodeScript(script)).stdout, 'E_INVALID_ARGUMENT\n');
});

test("a signal that can't be listened to leaves no timer that keeps Node alive", async () => {
  const script = `
    import { RemoteIngressHub } from '@serve.zone/remoteingress';
    const refuse = () => { throw new Error('not here'); };
    const signal = { aborted: false, addEventListener: refuse, removeEventListener: refuse };
    await new RemoteIngressHub().getStatus({ signal }).catch((error) => console.log(error.message));`;
  assert.equal((await nodeScript(script)).stdout, 'not here\n');
});

test('the state stays what it is while a start or a stop is under way', async (t) => {
  const fake = fakeBinary(t, 'ignores:startHub');
  const hub = new RemoteIngressHub(fake);
  const start = assert.rejects(hub.start(config), (error: RemoteIngressError) => error.code === 'E_ABORTED');
  await eventually('startHub arrives', 5_000, () => fake.journal().some(({ method }) => method === 'startHub'));
  await refuses(() => hub.stop({ timeoutMs: -1 }), /^stop: timeoutMs/);
  await refuses(() => hub.start(config, { timeoutMs: -1 }), /^start: timeoutMs/);
  await hub.stop();
  await start;
});

test('wrong options of the constructors', () => {
  const wrong: [unknown, RegExp][] = [
    [null, /options is null; pass \{ binaryPath\?, readyTimeoutMs\? \}/],
    ['/usr/bin/true', /options is a string/],
    [{ binaryPath: 5 }, /binaryPath is 5; pass the path of a file/],
    [{ binaryPath: '' }, /binaryPath is an empty string/],
    [{ binaryPath: null }, /binaryPath is null/],
    [{ binaryPath: new URL('file:///usr/bin/true') }, /binaryPath is an object/],
    [{ readyTimeoutMs: -1 }, /readyTimeoutMs is -1; pass a number of milliseconds/],
    [{ readyTimeoutMs: NaN }, /readyTimeoutMs is NaN/],
    [{ readyTimeoutMs: Infinity }, /readyTimeoutMs is Infinity/],
    [{ readyTimeoutMs: '5' }, /readyTimeoutMs is a string/],
  ];
  for (const [options, message] of wrong) {
    for (const Engine of [RemoteIngressHub, RemoteIngressEdge]) {
      assert.throws(
        () => new Engine(options as never),
        refused(new RegExp(`^new ${Engine.name}: ${message.source}`)),
      );
    }
  }
});

test('wrong arguments of createConnectionToken', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  t.after(() => hub.stop());
  await hub.start(config);
  const before = fake.journal().length;
  const target = { hubHost: 'hub.example.com' };
  const wrong: [unknown, unknown, RegExp][] = [
    [undefined, target, /edgeId is undefined; pass the id of an allowed edge/],
    ['', target, /edgeId is an empty string/],
    [5, target, /edgeId is 5/],
    [{ id: 'a' }, target, /edgeId is an object/],
    ['a', null, /target is null/],
    ['a', 'hub.example.com', /target is a string/],
    ['a', { hubHost: '' }, /hubHost is an empty string/],
    ['a', { hubHost: 5 }, /hubHost is 5/],
    ['a', { hubHost: 'https://hub.example.com' }, /hubHost is no host; pass a DNS name/],
    ['a', { hubHost: 'hub.example.com:8443' }, /hubHost is no host/],
    ['a', { ...target, hubPort: 0 }, /hubPort is 0; pass a number from 1 to 65535/],
    ['a', { ...target, hubPort: 65_536 }, /hubPort is 65536/],
    ['a', { ...target, hubPort: 80.5 }, /hubPort is 80.5/],
    ['a', { ...target, hubPort: NaN }, /hubPort is NaN/],
    ['a', { ...target, hubPort: '8443' }, /hubPort is a string/],
    ['a', { ...target, hubPort: null }, /hubPort is null/],
  ];
  for (const [edgeId, where, message] of wrong) {
    const call = () => hub.createConnectionToken(edgeId as never, where as never);
    await refuses(call, new RegExp(`^createConnectionToken: ${message.source}`));
  }
  assert.equal(fake.journal().length, before, 'nothing was sent to the binary');
  // The first argument counts, whatever else the second holds.
  assert.equal(await hub.createConnectionToken('a', { ...target, edgeId: 'b' } as never), 'token-a');
});

test('a configuration that is no object, or no list of edges, is E_INVALID_CONFIG and starts nothing', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  const edge = new RemoteIngressEdge(fake);
  t.after(() => hub.stop());
  const invalid = (message: RegExp) => (error: RemoteIngressError) =>
    error.code === 'E_INVALID_CONFIG' && message.test(error.message);
  for (const wrong of [null, 5, 'x', true, []]) {
    await assert.rejects(hub.start(wrong as never), invalid(/^config: must be an object$/));
    await assert.rejects(edge.start(wrong as never), invalid(/^config: must be an object$/));
  }
  for (const wrong of [() => {}, 5n, { token: 5n }]) {
    await assert.rejects(edge.start(wrong as never), invalid(/^config: must be plain JSON$/));
  }
  assert.deepEqual(fake.journal(), []);
  await hub.start(config);
  const before = fake.journal().length;
  for (const wrong of [null, 5, 'x', {}]) {
    await assert.rejects(hub.updateAllowedEdges(wrong as never), invalid(/^edges: must be a list$/));
    await assert.rejects(hub.upsertEdges(wrong as never), invalid(/^edges: must be a list$/));
    await assert.rejects(hub.removeEdges(wrong as never), invalid(/^edgeIds: must be a list$/));
  }
  assert.equal(fake.journal().length, before);
});

test('extra fields of a token that are no fields are refused', () => {
  const fields = { hubHost: 'hub.example.com', hubPort: 8443, edgeId: 'a', secret: 's' };
  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  for (const extra of [null, 5, 'text', ['x'], () => {}, { big: 5n }, cyclic, { toJSON: () => 5 }]) {
    assert.throws(
      () => encodeConnectionToken({ ...fields, extra: extra as never }),
      (error: RemoteIngressError) => error.code === 'E_INVALID_TOKEN' && /extra must be/.test(error.message),
    );
  }
});
