// kill -9 of the binary under the TypeScript wrapper: ms from the kill until a new client gets its answer.
// Each kill meets a fresh hub and edge, as in operation, where kills are rare; the last rows kill one hub again and
// again, which is what the wrapper's back-off is for.
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createSecret, RemoteIngressEdge, RemoteIngressHub } from '../dist_ts/index.js';

const kills = 10;
const host = '127.0.0.1';
const giveUpMs = 30_000;

const target = createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(0, host);
await once(target, 'listening');

console.log('\n| killed | ms, median | ms, highest |');
console.log('|---|---:|---:|');
for (const victim of ['hub', 'edge']) {
  const samples = [];
  for (let kill = 0; kill < kills; kill++) samples.push(await inScene((scene) => killed(scene, victim)));
  report(`${victim}, ${kills} times, each time a fresh one`, samples);
}
await inScene(async (scene) => {
  const samples = [];
  for (let kill = 0; kill < 5; kill++) samples.push(await killed(scene, 'hub'));
  report('hub, 5 times in a row', samples);
});
target.close();

/** Runs `work` with a hub and an edge whose tunnel is up. */
async function inScene(work) {
  const stateDir = mkdtempSync(join(tmpdir(), 'remoteingress-bench-'));
  const [hub, edge, port] = [new RemoteIngressHub(), new RemoteIngressEdge(), await freePort()];
  const loopback = { bindAddress: host, drainTimeoutSecs: 1 };
  try {
    const edges = [
      {
        id: 'bench',
        secret: createSecret(),
        listenPorts: [{ port, targetPort: target.address().port, proxyProtocol: 'none' }],
        stunIntervalSecs: 0,
      },
    ];
    await hub.start({ ...loopback, tunnelPort: 0, stateDir, edges });
    const hubPid = newestChild();
    const token = await hub.createConnectionToken('bench', { hubHost: host });
    await edge.start({ ...loopback, token, stunServers: [] });
    const edgePid = newestChild();
    await served(port);
    return await work({ port, pids: { hub: hubPid, edge: edgePid } });
  } finally {
    await edge.stop();
    await hub.stop();
    rmSync(stateDir, { recursive: true });
  }
}

async function killed({ port, pids }, victim) {
  const pid = pids[victim];
  const begun = performance.now();
  process.kill(pid, 'SIGKILL');
  while (isRunning(pid)); // a dying process must not give the answer
  await served(port);
  const took = performance.now() - begun;
  pids[victim] = newestChild();
  return took;
}

/** Settles when a client has had its answer. */
async function served(port) {
  const deadline = performance.now() + giveUpMs;
  while (!(await isAnswered(port))) {
    if (performance.now() > deadline) throw new Error(`nothing answers on port ${port} after ${giveUpMs} ms`);
    await pause(5);
  }
}

function isAnswered(port) {
  return new Promise((resolve) => {
    const socket = connect({ port, host });
    socket.on('connect', () => socket.write('ping'));
    socket.on('data', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => {}).on('close', () => resolve(false));
  });
}

function isRunning(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !/\) [ZX] /.test(stat); // a zombie is dead, and waits for Node to notice
  } catch {
    return false;
  }
}

function newestChild() {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1');
  return Math.max(...children.trim().split(' ').map(Number));
}

async function freePort() {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

function report(name, samples) {
  const sorted = samples.sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
  console.log(`| ${name} | ${median.toFixed(0)} | ${sorted.at(-1).toFixed(0)} |`);
}
