// The real binary killed, and Node killed.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { RemoteIngressError } from '@serve.zone/remoteingress';
import { nodeScript, startNodeScript } from './support/nodescript.js';
import { childPids, isAlive } from './support/processes.js';
import { edgeId, startScene } from './support/scene.js';
import { visit } from './support/sockets.js';
import { eventually, nextEvent } from './support/waiting.js';

/** Far beyond what a restart takes (see the bench); the test only has to end. */
const backAfterMs = 10_000;

const exited = (error: unknown) => error instanceof RemoteIngressError && error.code === 'E_BINARY_EXITED';

test('a killed hub rejects what is pending, and comes back with its port and its edges', async (t) => {
  const { hub, edge, hubPid, tunnelPort, ports } = await startScene(t);
  const restarted = nextEvent(hub, 'restarted', backAfterMs);
  process.kill(hubPid, 'SIGSTOP'); // so that the calls are pending for sure
  const pending = [hub.getStatus(), hub.updateAllowedEdges([]), hub.createConnectionToken(edgeId, { hubHost: 'h' })];
  const rejected = Promise.all(pending.map((call) => assert.rejects(call, exited)));
  process.kill(hubPid, 'SIGKILL');
  await rejected;
  assert.match((await restarted).reason, /SIGKILL/);
  assert.equal((await hub.getStatus()).tunnelPort, tunnelPort);
  assert.match(await hub.getMetrics(), /^remoteingress_restarts_total\{role="hub"\} 1$/m);
  await eventually('a stream through the new hub', backAfterMs, () => visit(t, ports[0]!));
  assert.equal((await edge.getStatus()).connected, true);
});

test('a killed edge comes back on the same ports', async (t) => {
  const { edge, edgePid, ports } = await startScene(t);
  const restarted = nextEvent(edge, 'restarted', backAfterMs);
  const assigned = nextEvent(edge, 'portsAssigned', backAfterMs);
  process.kill(edgePid, 'SIGKILL');
  await restarted;
  await assigned;
  assert.deepEqual((await edge.getStatus()).listenPorts, ports);
  await visit(t, ports[0]!);
});

/** Starts hub and edge, with `createSecret` and friends at hand, then goes on with `rest`. */
const program = (rest: string) => `
  import { createSecret, RemoteIngressEdge, RemoteIngressHub } from '@serve.zone/remoteingress';
  const hub = new RemoteIngressHub();
  const edge = new RemoteIngressEdge();
  const loopback = { bindAddress: '127.0.0.1', drainTimeoutSecs: 1 };
  const edges = [{ id: 'a', secret: createSecret(), stunIntervalSecs: 0 }];
  await hub.start({ tunnelPort: 0, ...loopback, edges });
  const token = await hub.createConnectionToken('a', { hubHost: '127.0.0.1' });
  const connected = new Promise((resolve) => edge.once('tunnelConnected', resolve));
  await edge.start({ token, ...loopback, stunServers: [] });
  await connected;
  ${rest}`;

test('Node ends by itself after stop', async () => {
  await nodeScript(program('await edge.stop(); await hub.stop();'));
  await nodeScript(program('await edge[Symbol.asyncDispose](); await hub[Symbol.asyncDispose]();'));
});

test('a running hub and edge keep Node alive', async () => {
  const { stdout } = await nodeScript(
    program(`
      console.log(process.getActiveResourcesInfo().filter((name) => name === 'ProcessWrap').length);
      await edge.stop();
      await hub.stop();`),
  );
  assert.equal(stdout, '2\n');
});

for (const [how, ending] of [
  ['is killed', "console.log('up'); setInterval(() => {}, 1_000);"],
  ['exits', "console.log('up'); process.stdin.resume(); process.on('SIGTERM', () => process.exit(1));"],
] as const) {
  test(`when Node ${how}, no child is left`, async (t) => {
    const node = startNodeScript(program(ending));
    t.after(() => node.kill('SIGKILL'));
    const [line] = await Promise.race([once(createInterface({ input: node.stdout }), 'line'), once(node, 'exit')]);
    assert.equal(line, 'up');
    const children = childPids(node.pid);
    assert.equal(children.length, 2);
    node.kill(how === 'is killed' ? 'SIGKILL' : 'SIGTERM');
    await eventually('the children are gone', 5_000, () => !children.some(isAlive));
  });
}
