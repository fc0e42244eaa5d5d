// Places where an edge's secret must not show: logs, command lines, environments, statuses, events, errors (threats
// A5.1-A5.3).
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { createSecret, RemoteIngressEdge, RemoteIngressHub } from '@serve.zone/remoteingress';
import { temporaryDirectory } from './support/fakes.js';
import { edgeId, startScene } from './support/scene.js';
import { visit } from './support/sockets.js';
import { nextEvent } from './support/waiting.js';

// Set before any binary starts: nothing may show at the most talkative level either.
process.env['REMOTEINGRESS_LOG'] = 'trace';

/** Every way in which a careless line would show a secret. */
function spellings(secret: string): string[] {
  const text = Buffer.from(secret);
  const bytes = Buffer.from(secret, 'base64url');
  return [text, bytes].flatMap((value) => [
    value.toString('latin1'),
    value.toString('hex'),
    value.toString('base64').replace(/=+$/, ''),
    value.toString('base64url'),
    [...value].join(', '), // a byte slice in Rust's Debug
  ]);
}

function assertHidden(where: string, text: string, secrets: string[]): void {
  for (const secret of secrets) {
    for (const spelling of spellings(secret)) assert.ok(!text.includes(spelling), `a secret shows in ${where}`);
  }
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch (error) {
    // A process that isn't dumpable hides it even from its own user.
    assert.equal((error as NodeJS.ErrnoException).code, 'EACCES');
    return '';
  }
}

test('a secret shows nowhere', async (t) => {
  const scene = await startScene(t);
  const { hub, edge, entry, ports, hubPid, edgePid, token, tunnelPort } = scene;
  const heard: unknown[] = [];
  const hubEvents = [
    'edgeConnected',
    'edgeDisconnected',
    'edgeRejected',
    'edgeUnreachable',
    'edgeKeyChanged',
    'portsApplied',
    'streamOpened',
    'streamClosed',
    'log',
  ] as const;
  const edgeEvents = [
    'tunnelConnected',
    'tunnelDisconnected',
    'transportChanged',
    'portsAssigned',
    'portsUpdated',
    'streamOpened',
    'streamClosed',
    'log',
  ] as const;
  for (const name of hubEvents) hub.on(name, (event: unknown) => heard.push(event));
  for (const name of edgeEvents) edge.on(name, (event: unknown) => heard.push(event));

  const next = createSecret();
  const wrong = createSecret();
  const secrets = [entry.secret, next, wrong];
  await visit(t, ports[0]!);
  await hub.updateAllowedEdges([{ ...entry, nextSecret: next }]);
  const { hubPin } = await hub.getStatus();
  await hub.createConnectionToken(edgeId, { hubHost: 'hub.example.com' });

  const stranger = new RemoteIngressEdge();
  t.after(() => stranger.stop());
  for (const name of edgeEvents) stranger.on(name, (event: unknown) => heard.push(event));
  const rejected = nextEvent(hub, 'edgeRejected');
  await stranger.start({
    hubHost: '127.0.0.1',
    hubPort: tunnelPort,
    edgeId,
    secret: wrong,
    hubPins: [hubPin!],
    bindAddress: '127.0.0.1',
    stunServers: [],
    drainTimeoutSecs: 1,
  });
  await rejected;
  await stranger.stop();

  const seen: [string, string][] = [
    ['a status', inspect([await hub.getStatus(), await edge.getStatus()], { depth: null })],
    ['an object', inspect([hub, edge], { depth: null, showHidden: true })],
  ];
  for (const pid of [hubPid, edgePid]) {
    seen.push(['a command line', readProc(pid, 'cmdline')], ['an environment', readProc(pid, 'environ')]);
  }
  const restarted = nextEvent(hub, 'restarted');
  process.kill(hubPid, 'SIGKILL');
  await restarted;
  await edge.stop();
  await hub.stop();
  seen.push(['an event or a log', inspect(heard, { depth: null, maxArrayLength: null, maxStringLength: null })]);
  assert.ok(heard.length > 10, 'the logs were listened to');
  for (const [where, text] of seen) {
    assertHidden(where, text, secrets);
    assert.ok(!text.includes(token), `a token shows in ${where}`);
  }
});

test('an error never repeats a secret', async (t) => {
  const hub = new RemoteIngressHub();
  const edge = new RemoteIngressEdge();
  t.after(() => Promise.all([hub.stop(), edge.stop()]));
  const logs: unknown[] = [];
  hub.on('log', (entry) => logs.push(entry));
  edge.on('log', (entry) => logs.push(entry));
  const secret = createSecret();
  const config = { tunnelPort: 0, bindAddress: '127.0.0.1', drainTimeoutSecs: 1 };
  const token = Buffer.from(JSON.stringify({ hubHost: 'h', hubPort: 1, edgeId: 'a', secret })).toString('base64url');
  const calls = [
    ...[
      [{ id: 'a', secret: [secret] }],
      [{ id: 'a', secret: { secret } }],
      [{ id: 'a', secrte: secret }],
      [{ id: 'a', secret, listenPorts: ['x'] }],
      [
        { id: 'a', secret },
        { id: 'a', secret },
      ],
      [{ id: 'a', secret, nextSecret: 5 }],
      [[secret]],
      secret,
    ].map((edges) => () => hub.start({ ...config, edges } as never)),
    ...[token.slice(0, -3), `${token}*`, `${token}${token}`, [token], { token }].map(
      (bad) => () => edge.start({ token: bad } as never),
    ),
    () => edge.start({ hubHost: '127.0.0.1', edgeId: '', secret }),
    () => edge.start({ hubHost: '127.0.0.1', edgeId: 'a', secret, hubPins: [secret.slice(1)] }),
  ];
  for (const call of calls) {
    const error = await call().then(
      () => assert.fail('must be refused'),
      (reason: unknown) => reason,
    );
    assertHidden('an error', inspect(error, { depth: null }), [secret]);
    assert.ok(!inspect(error).includes(token.slice(20, 60)), 'a part of a token shows');
  }
  assertHidden('a log', inspect(logs, { depth: null, maxArrayLength: null }), [secret]);
});

test('key files are private, and no core is dumped', async (t) => {
  const stateDir = join(temporaryDirectory(t), 'state');
  const { hubPid, edgePid } = await startScene(t, { hubConfig: { stateDir } });
  assert.equal(statSync(stateDir).mode & 0o777, 0o700);
  const files = readdirSync(stateDir);
  assert.ok(files.length > 0);
  for (const file of files) assert.equal(statSync(join(stateDir, file)).mode & 0o777, 0o600, file);
  for (const pid of [hubPid, edgePid]) {
    assert.match(readFileSync(`/proc/${pid}/limits`, 'latin1'), /^Max core file size +0 +0 /m);
  }
});
