// The demo as a newcomer sees it (`npm test` has built everything by the time this runs).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { decodeConnectionToken } from '@serve.zone/remoteingress';
import { childPids } from './support/processes.js';
import { eventually } from './support/waiting.js';

const play = new URL('../scripts/demo/play.mjs', import.meta.url);

function playDemo(seconds: string) {
  const script = `import { playDemo } from ${JSON.stringify(play.href)}; await playDemo(${seconds});`;
  const args = ['--input-type=module', '--eval', script];
  const cwd = fileURLToPath(new URL('..', import.meta.url));
  let child!: ReturnType<typeof execFile>;
  const done = new Promise<{ exitCode: unknown; stdout: string }>((resolve) => {
    child = execFile(process.execPath, args, { cwd, timeout: 60_000 }, (error, stdout) => {
      resolve({ exitCode: error ? (error.code ?? error.signal) : 0, stdout });
    });
  });
  return { child, done };
}

test('it shows the token, true client addresses over TLS and QUIC and a line per second, then ends by itself', async () => {
  const { exitCode, stdout } = await playDemo('2').done;
  assert.equal(exitCode, 0, stdout);
  const token = /^ {2}(eyJ\S+)$/m.exec(stdout)?.[1];
  assert.equal(decodeConnectionToken(token!).edgeId, 'demo-edge');
  for (const address of ['127.0.0.1', '127.0.0.2', '127.1.2.3']) {
    assert.match(stdout, new RegExp(`✓ request from (${address}:\\d+) +target answers: You are \\1\\.`));
  }
  const [overTls = '', overQuic = ''] = stdout.split("The same over QUIC (transportMode: 'quic')");
  for (const lines of [overTls, overQuic]) {
    assert.match(lines, /✓ request from (127\.0\.0\.2:\d+) +target answers: You are \1\./);
    assert.match(lines, /✓ datagram from (127\.0\.0\.2:\d+) +target answers: You are \1 and said "hello"\./);
  }
  assert.match(stdout, /steady traffic for 2 s; try `curl http:\S+` yourself\.\n/);
  const live = stdout.match(/^ +\d+ s │ streams: +\d+ open, \d+ in all +│ in .* │ out .* │ round trip .* │ ● a +\d+\/s  ● b +\d+\/s  ● c +\d+\/s$/gm);
  assert.equal(live?.length, 2, stdout);
});

test('a target that leaves takes no client along, and gets clients again when it is back', async () => {
  const { exitCode, stdout } = await playDemo('9').done;
  assert.equal(exitCode, 0, stdout);
  const [, , after = ''] = /target b has left: .*\n([^]*?)target b is back\n([^]*)$/.exec(stdout) ?? [];
  assert.match(stdout, /target b has left: [^]*○ b ejected[^]*target b is back/);
  assert.match(after, /● b +[1-9]\d*\/s/, stdout);
});

test('Ctrl-C ends it in order', async () => {
  const { child, done } = playDemo('Infinity');
  let stdout = '';
  child.stdout!.on('data', (chunk) => (stdout += chunk));
  await Promise.race([eventually('a live line', 30_000, () => /round trip/.test(stdout)), done]);
  // As from a terminal: to the binaries too.
  for (const pid of [...childPids(child.pid), child.pid!]) process.kill(pid, 'SIGINT');
  const { exitCode } = await done;
  assert.equal(exitCode, 0, stdout);
  assert.match(stdout, /stopped: hub, edge and targets are gone/);
});
