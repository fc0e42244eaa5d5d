// The admin server of a hub with many edges and streams: admin.mjs EDGES STREAMS prints, as one line of JSON, how long its
// answers take, and what a ping-pong of 64 bytes through the tunnel takes while nobody asks and while somebody does. An open
// status page asks for the status once a second and for streams every 2 s; `asking` asks again as soon as it is answered.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { get } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { startHub } from './fleet.mjs';
import { median } from './medians.mjs';

const { TUNNELBENCH, BASE_PORT } = process.env;
const [edgeCount, streamCount] = process.argv.slice(2, 4).map(Number);
const paths = ['/', '/api/v1/status', '/api/v1/streams', '/api/v1/streams?limit=10000', '/api/v1/edges', '/metrics'];
const askedTimes = 20;
const rounds = 5;
const settleMs = 5_000;

const socketPath = join(mkdtempSync(join(tmpdir(), 'admin-')), 'hub.sock');
const { ask, addressOf, listenPort, startEdges } = await startHub(edgeCount, Number(BASE_PORT), {
  admin: { listen: socketPath },
  memoryBudgetMiB: 8_192,
});
await startEdges();
const clients = [];
for (let n = 0; n < streamCount; n += 1) {
  const client = connect(listenPort, addressOf(n % edgeCount));
  client.on('error', () => {});
  clients.push(client);
  if (n % 500 === 499) await Promise.all(clients.slice(-500).map((one) => one.connecting && once(one, 'connect')));
}
const open = async () => (await ask('getStreams', { limit: 1 })).total;
for (const deadline = performance.now() + 60_000; (await open()) < streamCount; await pause(100)) {
  if (performance.now() > deadline) throw new Error(`only ${await open()} streams are open`);
}
await pause(settleMs);

const answers = {};
for (const path of paths) {
  const times = [];
  let bytes = 0;
  for (let n = 0; n < askedTimes; n += 1) {
    const begun = performance.now();
    bytes = await fetched(path);
    times.push(performance.now() - begun);
  }
  answers[path] = { median_ms: median(times), max_ms: Math.max(...times), kib: bytes / 1024 };
}

// Turns beside each other, since a machine isn't always as fast.
const pings = { idle: [], page: [], asking: [] };
for (let n = 0; n < rounds; n += 1) {
  for (const [kind, results] of Object.entries(pings)) {
    const stop = kind === 'idle' ? () => {} : kind === 'page' ? openPage() : askAlways();
    await pause(500);
    results.push(await ping());
    await stop();
  }
}
const summed = Object.entries(pings).map(([kind, results]) => [
  kind,
  Object.fromEntries(['p50_ms', 'p99_ms'].map((name) => [name, median(results.map((result) => result[name]))])),
]);
console.log(JSON.stringify({ edges: edgeCount, streams: await open(), answers, ping: Object.fromEntries(summed) }));
process.exit(0);

/** Bytes of an answer. */
async function fetched(path) {
  const [response] = await once(get({ socketPath, path, headers: { host: 'hub' } }), 'response');
  if (response.statusCode !== 200) throw new Error(`${path}: ${response.statusCode}`);
  let bytes = 0;
  for await (const chunk of response) bytes += chunk.length;
  return bytes;
}

async function ping() {
  const args = ['rtt', '--concurrency', '1', '--secs', '5', '--address', `${addressOf(0)}:${listenPort}`];
  return JSON.parse((await promisify(execFile)(TUNNELBENCH, args)).stdout);
}

function openPage() {
  const feed = get({ socketPath, path: '/api/v1/events/stream?status', headers: { host: 'hub' } }, (response) => response.resume());
  feed.on('error', () => {});
  const timer = setInterval(() => fetched('/api/v1/streams').catch(() => {}), 2_000);
  return () => {
    clearInterval(timer);
    feed.destroy();
  };
}

function askAlways() {
  let isOver = false;
  const asking = (async () => {
    while (!isOver) {
      await fetched('/api/v1/status');
      await fetched('/api/v1/streams');
    }
  })();
  return () => {
    isOver = true;
    return asking;
  };
}
