// The wrapper against binaries that behave well or badly on purpose; the real one is in hubedge.test.ts.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ILogEvent, RemoteIngressEdge, RemoteIngressError, RemoteIngressHub } from '@serve.zone/remoteingress';
import { fakeBinary, type IFakeBinary, temporaryDirectory } from './support/fakes.js';
import { nodeScript } from './support/nodescript.js';
import { isAlive } from './support/processes.js';
import { eventually, nextEvent } from './support/waiting.js';

const config = { tunnelPort: 0, drainTimeoutSecs: 1 };

function code(expected: string, message: RegExp = /./) {
  return (error: unknown) => {
    assert.ok(error instanceof RemoteIngressError, `${error}`);
    assert.equal(error.code, expected, error.message);
    assert.match(error.message, message);
    return true;
  };
}

const pids = (fake: IFakeBinary) => fake.journal().flatMap(({ start }) => start ?? []);
const requests = (fake: IFakeBinary, method: string) => fake.journal().filter((entry) => entry.method === method);

async function quickly(work: () => Promise<unknown>): Promise<void> {
  const start = performance.now();
  await work();
  assert.ok(performance.now() - start < 5_000, 'took until some timeout');
}

test('start, calls and stop', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  const logged = nextEvent(hub, 'log');
  assert.deepEqual(await hub.start(config), { tunnelPort: 40_001, hubPin: null });
  const entry: ILogEvent = await logged;
  assert.deepEqual(entry, { level: 'info', message: 'ready now', target: 'fake', fields: { answer: 42 } });
  assert.equal((await hub.getStatus()).running, true);
  assert.equal(await hub.createConnectionToken('a', { hubHost: 'hub.example.com' }), 'token-a');
  await assert.rejects(hub.start(config), code('E_ALREADY_RUNNING'));
  await Promise.all([hub.stop(), hub.stop()]);
  await hub.stop();
  assert.equal(pids(fake).some(isAlive), false);
  await assert.rejects(hub.getStatus(), code('E_NOT_RUNNING'));
  await assert.rejects(hub.updateAllowedEdges([]), code('E_NOT_RUNNING'));

  await hub.start(config);
  await hub[Symbol.asyncDispose]();
  assert.equal(pids(fake).length, 2);
});

test('a refused start leaves nothing behind and can be tried again', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  const refused = code('E_INVALID_CONFIG', /^targetHost: is refused$/);
  await assert.rejects(hub.start({ ...config, targetHost: 'refuse' }), refused);
  assert.equal(pids(fake).some(isAlive), false);
  await hub.start(config);
  await hub.stop();
});

test('a wrong binary path is E_BINARY_NOT_FOUND at once, whatever else is installed', async (t) => {
  const directory = temporaryDirectory(t);
  const notExecutable = join(directory, 'plain');
  writeFileSync(notExecutable, '', { mode: 0o644 });
  for (const binaryPath of [join(directory, 'missing'), notExecutable, directory]) {
    const hub = new RemoteIngressHub({ binaryPath });
    await quickly(() => assert.rejects(hub.start(config), code('E_BINARY_NOT_FOUND', /binaryPath/)));
  }
});

test('a file that cannot be run is E_SPAWN_FAILED at once', async (t) => {
  const directory = temporaryDirectory(t);
  for (const [name, content] of [
    ['noformat', 'nonsense'],
    ['nointerpreter', '#!/nonexistent/interpreter\n'],
  ] as const) {
    const binaryPath = join(directory, name);
    writeFileSync(binaryPath, content, { mode: 0o755 });
    const hub = new RemoteIngressHub({ binaryPath });
    await quickly(() => assert.rejects(hub.start(config), code('E_SPAWN_FAILED')));
  }
});

test('a binary that exits before it is ready says so at once, with its last error', async (t) => {
  const hub = new RemoteIngressHub(fakeBinary(t, 'exitsEarly'));
  await quickly(() => assert.rejects(hub.start(config), code('E_SPAWN_FAILED', /code 3: no luck today/)));
});

test('a binary that never gets ready is killed', async (t) => {
  const fake = fakeBinary(t, 'neverReady');
  const hub = new RemoteIngressHub({ ...fake, readyTimeoutMs: 500 });
  await quickly(() => assert.rejects(hub.start(config), code('E_SPAWN_FAILED', /ready/)));
  assert.equal(pids(fake).some(isAlive), false);
});

test('another protocol version is E_VERSION_MISMATCH', async (t) => {
  const fake = fakeBinary(t, 'oldProtocol');
  await assert.rejects(new RemoteIngressHub(fake).start(config), code('E_VERSION_MISMATCH', /99/));
  assert.equal(pids(fake).some(isAlive), false);
});

test('garbage on stdout does no harm', async (t) => {
  const hub = new RemoteIngressHub(fakeBinary(t, 'garbage'));
  await hub.start(config);
  for (let i = 0; i < 10; i += 1) await hub.getStatus();
  await hub.stop();
});

test('only what the binary needs of the environment reaches it, and nothing in argv', async (t) => {
  process.env['REMOTEINGRESS_TEST_CANARY'] = 'canary';
  process.env['REMOTEINGRESS_TOKEN'] = 'canary';
  t.after(() => {
    delete process.env['REMOTEINGRESS_TEST_CANARY'];
    delete process.env['REMOTEINGRESS_TOKEN'];
  });
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  await hub.start(config);
  await hub.stop();
  const { argv, env } = fake.journal()[0]!;
  assert.deepEqual(argv, ['--management']);
  assert.equal(env!['PATH'], process.env['PATH']);
  assert.ok(!JSON.stringify(env).includes('canary'));
});

test('signal and timeoutMs end a start and leave no child', async (t) => {
  const fake = fakeBinary(t, 'ignores:startHub');
  const hub = new RemoteIngressHub(fake);
  const cause = new Error('enough');
  const aborted = (error: unknown) => code('E_ABORTED')(error) && (error as Error).cause === cause;
  await assert.rejects(hub.start(config, { signal: AbortSignal.abort(cause) }), aborted);
  assert.deepEqual(pids(fake), []);

  const controller = new AbortController();
  const start = hub.start(config, { signal: controller.signal });
  await eventually('startHub arrives', 5_000, () => requests(fake, 'startHub').length === 1);
  controller.abort(cause);
  await assert.rejects(start, aborted);
  assert.equal(pids(fake).some(isAlive), false);

  await assert.rejects(hub.start(config, { timeoutMs: 300 }), code('E_TIMEOUT', /300 ms/));
  assert.equal(pids(fake).some(isAlive), false);
});

test('a start can be aborted at any moment', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  for (let delayMs = 0; delayMs < 60; delayMs += 4) {
    await hub.start(config, { timeoutMs: delayMs }).catch(code('E_TIMEOUT'));
    await hub.stop();
  }
  assert.equal(pids(fake).some(isAlive), false);
});

test('signal and timeoutMs end a call, not the hub', async (t) => {
  const hub = new RemoteIngressHub(fakeBinary(t, 'ignores:getStatus'));
  await hub.start(config);
  await assert.rejects(hub.getStatus({ timeoutMs: 50 }), code('E_TIMEOUT', /getStatus/));
  await assert.rejects(hub.getStatus({ signal: AbortSignal.timeout(50) }), code('E_ABORTED'));
  await assert.rejects(hub.getStatus({ signal: AbortSignal.abort() }), code('E_ABORTED'));
  assert.equal(await hub.createConnectionToken('a', { hubHost: 'h' }), 'token-a');
  await hub.stop();
});

test('stop during a start ends the start', async (t) => {
  const fake = fakeBinary(t, 'ignores:startHub');
  const hub = new RemoteIngressHub(fake);
  const start = assert.rejects(hub.start(config), code('E_ABORTED', /stop/));
  const waiting = assert.rejects(hub.getStatus(), code('E_NOT_RUNNING'));
  await eventually('startHub arrives', 5_000, () => requests(fake, 'startHub').length === 1);
  await hub.stop();
  await Promise.all([start, waiting]);
  assert.equal(pids(fake).some(isAlive), false);
});

test('a start during a stop waits for it', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  await hub.start(config);
  const stop = hub.stop();
  await Promise.all([stop, hub.start(config)]);
  await hub.getStatus();
  await hub.stop();
});

test('a binary that ignores stop is killed, in the end or on demand', async (t) => {
  const fake = fakeBinary(t, 'ignores:stop', 'deaf');
  const hub = new RemoteIngressHub(fake);
  for (const options of [{ timeoutMs: 100 }, { signal: AbortSignal.abort() }, { signal: AbortSignal.timeout(50) }]) {
    await hub.start(config);
    await quickly(() => hub.stop(options));
    assert.equal(pids(fake).some(isAlive), false);
  }
  await hub.start(config);
  const slow = hub.stop({ timeoutMs: 60_000 });
  await quickly(() => hub.stop({ timeoutMs: 50 }));
  await slow;
});

test('a config that is no JSON is E_INVALID_CONFIG, a huge one E_BAD_REQUEST', async (t) => {
  const hub = new RemoteIngressHub(fakeBinary(t));
  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  await assert.rejects(hub.start(cyclic as never), code('E_INVALID_CONFIG'));
  await assert.rejects(hub.start(undefined as never), code('E_INVALID_CONFIG'));
  await hub.start(config);
  const huge = [{ id: 'edge', secret: 'x'.repeat(1024 * 1024) }];
  await assert.rejects(hub.updateAllowedEdges(huge), code('E_BAD_REQUEST'));
  await hub.stop();
});

test('more edges than fit into a request go in parts with one commit, and so again after a restart', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  const edges = Array.from({ length: 20_000 }, (_, i) => {
    return { id: `edge-${i}`, secret: 'x'.repeat(43), listenPorts: [443, 8080, 8443] };
  });
  /** The edges of the parts that were sent since `mark`, and the names of the methods. */
  const sent = (mark: number) => {
    const calls = fake.journal().slice(mark).filter(({ method }) => method?.endsWith('AllowedEdges'));
    const parts = calls.filter(({ method }) => method === 'addAllowedEdges');
    assert.ok(parts.length > 1 && parts.every(({ params }) => JSON.stringify(params).length < 1024 * 1024));
    assert.equal(calls[0]?.method, 'beginAllowedEdges');
    assert.equal(calls.at(-1)?.method, 'commitAllowedEdges');
    assert.equal(calls.length, parts.length + 2);
    return parts.flatMap(({ params }) => params!['edges']);
  };
  await hub.start({ ...config, edges });
  assert.deepEqual(sent(0), edges);
  assert.equal(requests(fake, 'startHub')[0]!.params!['edges'], undefined);
  let mark = fake.journal().length;
  await hub.updateAllowedEdges(edges.slice(1));
  assert.deepEqual(sent(mark), edges.slice(1));

  await hub.upsertEdges([{ id: 'edge-2', secret: 'changed' }, edges[0]!]);
  await hub.removeEdges(['edge-3', 'nobody']);
  mark = fake.journal().length;
  const restarted = nextEvent(hub, 'restarted');
  process.kill(pids(fake).at(-1)!, 'SIGKILL');
  await restarted;
  const now = [edges[1], { id: 'edge-2', secret: 'changed' }, ...edges.slice(4), edges[0]];
  assert.deepEqual(sent(mark), now);
  await hub.stop();
});

test('a pending call of a binary that dies is rejected at once, and a restart follows', async (t) => {
  const hub = new RemoteIngressHub(fakeBinary(t, 'dies:getStatus'));
  await hub.start(config);
  const restarted = nextEvent(hub, 'restarted');
  await quickly(() => assert.rejects(hub.getStatus(), code('E_BINARY_EXITED', /SIGKILL/)));
  const event = await restarted;
  assert.equal(event.attempt, 1);
  assert.match(event.reason, /SIGKILL/);
  await hub.stop();
});

test('a restart asks for the port that was bound and for the last edges that were accepted', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  const edges = [{ id: 'a', secret: 'sa', listenPorts: [80] }];
  await hub.start({ ...config, edges: [{ id: 'old', secret: 'so' }] });
  const update = hub.updateAllowedEdges(edges);
  edges[0]!.id = 'changed after the call';
  await update;

  for (let round = 1; round <= 3; round += 1) {
    const restarted = nextEvent(hub, 'restarted');
    process.kill(pids(fake).at(-1)!, 'SIGKILL');
    await restarted;
    const again = requests(fake, 'startHub').at(-1)!.params!;
    assert.equal(again['tunnelPort'], 40_001);
    assert.deepEqual(again['edges'], [{ id: 'a', secret: 'sa', listenPorts: [80] }]);
  }
  await hub.stop();
});

test('an update that kills the binary is not remembered', async (t) => {
  const fake = fakeBinary(t, 'dies:updateAllowedEdges');
  const hub = new RemoteIngressHub(fake);
  await hub.start({ ...config, edges: [{ id: 'old', secret: 'so' }] });
  const restarted = nextEvent(hub, 'restarted');
  await assert.rejects(hub.updateAllowedEdges([{ id: 'new', secret: 'sn' }]), code('E_BINARY_EXITED'));
  await restarted;
  assert.deepEqual(requests(fake, 'startHub').at(-1)!.params!['edges'], [{ id: 'old', secret: 'so' }]);
  await hub.stop();
});

test('updates apply in the order of the calls, also across a restart; abandoned ones are not sent', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  await hub.start(config);
  const restarted = nextEvent(hub, 'restarted');
  process.kill(pids(fake)[0]!, 'SIGKILL');
  await nextEvent(hub, 'log', 5_000, ({ message }) => message.includes('restarting'));
  const abandoned = new AbortController();
  const names = ['a', 'b', 'c', 'd'];
  const updates = names.map((id) => {
    const options = id === 'c' ? { signal: abandoned.signal } : {};
    return hub.updateAllowedEdges([{ id, secret: id }], options);
  });
  abandoned.abort();
  const [results] = await Promise.all([Promise.allSettled(updates), restarted]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
  );
  const sent = requests(fake, 'updateAllowedEdges').map(({ params }) => (params!['edges'] as { id: string }[])[0]!.id);
  assert.deepEqual(sent, ['a', 'b', 'd']);
  await hub.stop();
});

test('a restart that fails is tried again', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  await hub.start(config);
  const failed = nextEvent(hub, 'log', 10_000, ({ message }) => message.startsWith('restart 1 failed'));
  const restarted = nextEvent(hub, 'restarted');
  fake.failNext();
  process.kill(pids(fake)[0]!, 'SIGKILL');
  assert.match((await failed).message, /no luck today/);
  const status = hub.getStatus(); // waits for the restart
  assert.equal((await restarted).attempt, 2);
  assert.equal((await status).running, true);
  await hub.stop();
});

test('stop ends the attempts to restart', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  await hub.start(config);
  writeFileSync(fake.binaryPath, '#!/nonexistent/interpreter\n');
  process.kill(pids(fake)[0]!, 'SIGKILL');
  await nextEvent(hub, 'log', 10_000, ({ message }) => message.startsWith('restart 2 failed'));
  await quickly(() => hub.stop());
  await assert.rejects(hub.getStatus(), code('E_NOT_RUNNING'));
});

test('a binary that closes its stdin is replaced, without an unhandled EPIPE', async (t) => {
  const fake = fakeBinary(t, 'closesStdin');
  const hub = new RemoteIngressHub(fake);
  await quickly(() => assert.rejects(hub.start(config), code('E_BINARY_EXITED')));
  assert.equal(pids(fake).some(isAlive), false);
});

test('a binary that closes its stdout is replaced', async (t) => {
  const hub = new RemoteIngressHub(fakeBinary(t, 'closesStdout:getStatus'));
  await hub.start(config);
  const restarted = nextEvent(hub, 'restarted');
  await quickly(() => assert.rejects(hub.getStatus(), code('E_BINARY_EXITED')));
  await restarted;
  await hub.stop();
});

test('Node ends by itself after a stop and after every kind of failed start', async (t) => {
  const directory = temporaryDirectory(t);
  const binaries = ['exitsEarly', 'neverReady', 'oldProtocol', ''].map((fault) => fakeBinary(t, fault).binaryPath);
  const noFormat = join(directory, 'noformat');
  writeFileSync(noFormat, 'nonsense', { mode: 0o755 });
  const noInterpreter = join(directory, 'nointerpreter');
  writeFileSync(noInterpreter, '#!/nonexistent/interpreter\n', { mode: 0o755 });
  const script = `
    import { RemoteIngressHub } from '@serve.zone/remoteingress';
    for (const binaryPath of process.argv.slice(1)) {
      const hub = new RemoteIngressHub({ binaryPath, readyTimeoutMs: 500 });
      await hub.start({ tunnelPort: 0 }).then(() => hub.stop(), (error) => console.log(error.code));
    }
    console.log('last');`;
  const { stdout } = await nodeScript(script, [...binaries, noFormat, noInterpreter, join(directory, 'missing')]);
  const codes =
    'E_SPAWN_FAILED E_SPAWN_FAILED E_VERSION_MISMATCH E_SPAWN_FAILED E_SPAWN_FAILED E_BINARY_NOT_FOUND last';
  assert.deepEqual(stdout.trim().split('\n'), codes.split(' '));
});

test('an edge that is restarted replaces its dead instance', async (t) => {
  const fake = fakeBinary(t);
  const edge = new RemoteIngressEdge(fake);
  await edge.start({ token: 'some token' });
  const restarted = nextEvent(edge, 'restarted');
  process.kill(pids(fake)[0]!, 'SIGKILL');
  await restarted;
  const [first, second] = requests(fake, 'startEdge');
  assert.deepEqual(first!.params, { token: 'some token' });
  assert.deepEqual(second!.params, { token: 'some token', replaceInstance: true });
  await edge.stop();
});

test('stream events are subscribed to while somebody listens, also after a restart', async (t) => {
  const fake = fakeBinary(t);
  const hub = new RemoteIngressHub(fake);
  t.after(() => hub.stop());
  const subscriptions = () => requests(fake, 'subscribe').map(({ params }) => (params!['events'] as string[]).join());
  const expectNext = async (expected: string, count: number) => {
    await eventually(`subscription ${count}`, 5_000, () => subscriptions().length >= count);
    assert.equal(subscriptions().at(-1), expected);
    assert.equal(subscriptions().length, count);
  };
  const listener = () => {};

  await hub.start(config);
  await hub.getStatus();
  assert.deepEqual(subscriptions(), []);
  hub.on('streamOpened', listener);
  await hub.getStatus();
  assert.deepEqual(fake.journal().slice(-2).map(({ method }) => method), ['subscribe', 'getStatus']);
  await expectNext('streamOpened', 1);
  hub.once('streamClosed', listener).on('streamClosed', listener);
  await expectNext('streamOpened,streamClosed', 2);
  hub.off('streamOpened', listener);
  await expectNext('streamClosed', 3);

  const restarted = nextEvent(hub, 'restarted');
  process.kill(pids(fake)[0]!, 'SIGKILL');
  await restarted;
  await expectNext('streamClosed', 4);
  hub.removeAllListeners();
  await expectNext('', 5);
  hub.on('streamOpened', listener);
  await expectNext('streamOpened', 6);
  await hub.stop();

  await hub.start(config);
  await expectNext('streamOpened', 7);
  await hub.stop();
});

test('a listener that throws is an uncaught exception, but breaks nothing', async (t) => {
  const hub = new RemoteIngressHub(fakeBinary(t));
  const failure = new Error('from a listener');
  const caught: unknown[] = [];
  const previous = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.once('uncaughtException', (error) => caught.push(error));
  t.after(() => previous.forEach((listener) => process.on('uncaughtException', listener)));
  hub.once('log', () => {
    throw failure;
  });
  await hub.start(config);
  await eventually('the exception', 5_000, () => caught.length > 0);
  assert.deepEqual(caught, [failure]);
  await hub.getStatus();
  await hub.stop();
});
