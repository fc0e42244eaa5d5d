// Many idle edges on one hub: edges.mjs COUNT prints what they cost, as one line of JSON. Each edge is a process with
// one worker, a listener and one connection (TLS over TCP); nothing travels but keep-alives.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { median } from './medians.mjs';

const { BIN, TUNNELBENCH, OUT, BASE_PORT } = process.env;
const count = Number(process.argv[2]);
const atOnce = 20; // edges that start at a time
const startedWithinMs = 120_000;
const idleSecs = 30;
const settleMs = 5_000;

const directory = join(OUT, 'peers', 'edges');
mkdirSync(directory, { recursive: true });
const log = openSync(join(directory, 'log'), 'w');
const tunnelPort = Number(BASE_PORT) + 56;
const secret = (await promisify(execFile)(BIN, ['secret'])).stdout.trim();
const ids = Array.from({ length: count }, (_, n) => `edge-${n}`);
const edges = [];
const hub = spawn(BIN, ['--management'], { stdio: ['pipe', 'pipe', log] });
process.on('exit', () => [...edges, hub].forEach((child) => child.kill('SIGKILL')));

const answers = new Map();
createInterface({ input: hub.stdout }).on('line', (line) => {
  const { id, success, result, error } = JSON.parse(line);
  answers.get(id)?.(success ? result : Promise.reject(new Error(error)));
  answers.delete(id);
});
await ask('startHub', {
  tunnelPort,
  bindAddress: '127.0.0.1',
  drainTimeoutSecs: 1,
  // All edges have one address here.
  limits: { maxPreAuth: 0, maxPreAuthPerIp: 0, handshakesPerIpPerSec: 0 },
  edges: ids.map((id) => ({ id, secret, stunIntervalSecs: 0, listenPorts: [{ port: tunnelPort + 1, targetPort: 9 }] })),
});
await pause(settleMs);
const [before] = await weigh([hub.pid], 1);

const begun = performance.now();
for (const [n, id] of ids.entries()) {
  edges.push(startEdge(n, id));
  if (edges.length % atOnce === 0) await connected(edges.length);
}
await connected(count);
const secsToConnect = (performance.now() - begun) / 1000;
await pause(settleMs);
const [hubIdle, ...edgesIdle] = await weigh([hub.pid, ...edges.map((edge) => edge.pid)], idleSecs);
const stillConnected = await countConnected();
const ownKib = edges.map((edge) => Number(/RssAnon:\s*(\d+)/.exec(readFileSync(`/proc/${edge.pid}/status`, 'latin1'))[1]));

for (const edge of edges) edge.kill('SIGTERM');
await Promise.all(edges.map((edge) => edge.exitCode === null && edge.signalCode === null && once(edge, 'exit')));
await connected(0);
await pause(settleMs);
const [after] = await weigh([hub.pid], 1);

console.log(
  JSON.stringify({
    connected: stillConnected,
    secs_to_connect: secsToConnect,
    hub_mib: { before: before.kib / 1024, with: hubIdle.kib / 1024, after: after.kib / 1024 },
    hub_kib_per_edge: (hubIdle.kib - before.kib) / count,
    hub_cpu_us_per_edge_s: hubIdle.cpuUs / count,
    edge_mib: median(edgesIdle.map(({ kib }) => kib)) / 1024,
    edge_own_mib: median(ownKib) / 1024, // without the pages of the binary, which all edges share
    edge_cpu_us_per_s: edgesIdle.reduce((sum, { cpuUs }) => sum + cpuUs, 0) / count,
  }),
);
process.exit(0);

function ask(method, params = {}) {
  const id = String(performance.now());
  hub.stdin.write(`${JSON.stringify({ id, method, params })}\n`);
  return new Promise((resolve) => answers.set(id, resolve));
}

/** Every edge listens on the same port of an address of its own. */
function startEdge(n, id) {
  const file = join(directory, `${id}.json`);
  const config = {
    hubHost: '127.0.0.1',
    hubPort: tunnelPort,
    edgeId: id,
    secret,
    workers: 1,
    bindAddress: `127.1.${n >> 8}.${n & 255}`,
    stunServers: [],
    drainTimeoutSecs: 1,
  };
  writeFileSync(file, JSON.stringify(config));
  return spawn(BIN, ['edge', '--config', file], { stdio: ['ignore', 'ignore', log] });
}

/** Settles when so many edges are connected and listen, or none any more. */
async function connected(wanted) {
  const deadline = performance.now() + startedWithinMs;
  while ((await countConnected()) !== wanted) {
    if (performance.now() > deadline) throw new Error(`not ${wanted} edges connected; see ${directory}/log`);
    await pause(50);
  }
}

async function countConnected() {
  const { connectedEdges } = await ask('getStatus');
  return connectedEdges.filter(({ ports }) => ports.every(({ state }) => state === 'bound')).length;
}

async function weigh(pids, secs) {
  const { stdout } = await promisify(execFile)(TUNNELBENCH, ['weigh', '--pids', pids.join(), '--secs', String(secs)]);
  const { cpu_us_per_s, rss_kib } = JSON.parse(stdout);
  return rss_kib.map((kib, n) => ({ kib, cpuUs: cpu_us_per_s[n] }));
}
