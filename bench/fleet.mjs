// Many edges on one hub, each a process with one worker, for the benches of many edges.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const { BIN, OUT, BASE_PORT } = process.env;
const atOnce = 20; // edges that start at a time
const startedWithinMs = 120_000;

/** Starts a hub that knows `count` edges, which lead to `targetPort`. `hubConfig` is added to its configuration. */
export async function startHub(count, targetPort, hubConfig = {}) {
  const directory = join(OUT, 'peers', 'edges');
  mkdirSync(directory, { recursive: true });
  const log = openSync(join(directory, 'log'), 'w');
  const tunnelPort = Number(BASE_PORT) + 56;
  const listenPort = tunnelPort + 1;
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
  const ask = (method, params = {}) => {
    const id = String(performance.now());
    hub.stdin.write(`${JSON.stringify({ id, method, params })}\n`);
    return new Promise((resolve) => answers.set(id, resolve));
  };
  await ask('startHub', {
    tunnelPort,
    bindAddress: '127.0.0.1',
    drainTimeoutSecs: 1,
    // All edges have one address here.
    limits: { maxPreAuth: 0, maxPreAuthPerIp: 0, handshakesPerIpPerSec: 0, maxStreams: 0 },
    edges: ids.map((id) => ({ id, secret, stunIntervalSecs: 0, listenPorts: [{ port: listenPort, targetPort, proxyProtocol: 'none' }] })),
    ...hubConfig,
  });

  /** Every edge listens on the same port of an address of its own. */
  const addressOf = (n) => `127.1.${n >> 8}.${n & 255}`;
  const startEdge = (n, id) => {
    const file = join(directory, `${id}.json`);
    const config = {
      hubHost: '127.0.0.1',
      hubPort: tunnelPort,
      edgeId: id,
      secret,
      workers: 1,
      bindAddress: addressOf(n),
      stunServers: [],
      drainTimeoutSecs: 1,
    };
    writeFileSync(file, JSON.stringify(config));
    return spawn(BIN, ['edge', '--config', file], { stdio: ['ignore', 'ignore', log] });
  };
  const countConnected = async () => {
    const { connectedEdges } = await ask('getStatus');
    return connectedEdges.filter(({ ports }) => ports.every(({ state }) => state === 'bound')).length;
  };
  /** Settles when so many edges are connected and listen, or none any more. */
  const connected = async (wanted) => {
    const deadline = performance.now() + startedWithinMs;
    while ((await countConnected()) !== wanted) {
      if (performance.now() > deadline) throw new Error(`not ${wanted} edges connected; see ${directory}/log`);
      await pause(50);
    }
  };
  return {
    hub,
    edges,
    ask,
    addressOf,
    listenPort,
    countConnected,
    async startEdges() {
      for (const [n, id] of ids.entries()) {
        edges.push(startEdge(n, id));
        if (edges.length % atOnce === 0) await connected(edges.length);
      }
      await connected(count);
    },
    async stopEdges() {
      for (const edge of edges) edge.kill('SIGTERM');
      await Promise.all(edges.map((edge) => edge.exitCode === null && edge.signalCode === null && once(edge, 'exit')));
      await connected(0);
    },
  };
}
