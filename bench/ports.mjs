// How fast an edge opens ports: ports.mjs ROUNDS prints a table. A connected edge without ports gets ranges of TCP and
// UDP ports, as many as the descriptor limit allows; the time is that from the change at the hub to its `portsApplied`.
// It belongs into a network namespace of its own, where nothing else has a port.
import { execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { median } from './medians.mjs';

const { BIN } = process.env;
const rounds = Number(process.argv[2]);
const run = promisify(execFile);
const tunnelPort = 443;
const first = 1_000;
const clients = 100; // the edge's limits.maxConnections
const spare = 1_024; // what an edge keeps beside clients and listeners
const eachMost = 32_000 - first; // below the ports that the kernel gives to the tunnel

const limit = Number((await run('sh', ['-c', 'ulimit -Hn'])).stdout);
const each = Math.min(eachMost, Math.floor((limit - spare - clients) / 2));
const secret = (await run(BIN, ['secret'])).stdout.trim();
const id = 'edge';
const children = new Set();
process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')));

const results = [];
for (let round = 0; round < rounds; round += 1) results.push(await measure());

const rows = [
  ['ms until all are open', (result) => result.ms],
  ['ports per second', (result) => (2 * each) / (result.ms / 1000)],
  // The thread that opens them may wait for a core, on a machine that does something else.
  ['ports per second that its main thread ran', (result) => (2 * each) / (result.ranMs / 1000)],
  ['CPU µs of the edge per port', (result) => (result.cpuMs * 1000) / (2 * each)],
  ['descriptors per port', (result) => result.descriptors / (2 * each)],
  ['resident KiB of the edge per port', (result) => result.kib / (2 * each)],
];
console.log(`${each} TCP ports and ${each} UDP ports at one edge with two workers, in ${rounds} rounds.\n`);
console.log('| | median | lowest | highest |\n|---|---:|---:|---:|');
for (const [name, value] of rows) {
  const values = results.map(value);
  const cells = [median(values), Math.min(...values), Math.max(...values)];
  console.log(`| ${name} | ${cells.map((cell) => shown(cell)).join(' | ')} |`);
}
process.exit(0);

function shown(value) {
  return value < 100 ? value.toFixed(2) : Math.round(value).toLocaleString('en');
}

async function measure() {
  const hub = start();
  const edge = start();
  const allow = (ports) =>
    hub.ask('updateAllowedEdges', {
      edges: [{ id, secret, stunIntervalSecs: 0, listenPorts: ports, listenPortsUdp: ports }],
    });
  await hub.ask('startHub', { tunnelPort, bindAddress: '127.0.0.1', drainTimeoutSecs: 1 });
  const ready = hub.next('portsApplied');
  await allow([]);
  await edge.ask('startEdge', {
    hubHost: '127.0.0.1',
    hubPort: tunnelPort,
    edgeId: id,
    secret,
    workers: 2,
    stunServers: [],
    drainTimeoutSecs: 1,
    limits: { maxConnections: clients },
  });
  await ready;
  const before = weigh(edge);
  const begun = performance.now();
  const applied = hub.next('portsApplied');
  await allow([{ port: `${first}-${first + each - 1}`, targetPort: 9 }]);
  const { ports } = await applied;
  const ms = performance.now() - begun;
  const bound = ports.filter(({ state }) => state === 'bound').length;
  if (bound !== 2 * each) throw new Error(`${bound} of ${2 * each} ports are open`);
  const after = weigh(edge);
  await Promise.all([edge.end(), hub.end()]);
  return {
    ms,
    ranMs: after.ranMs - before.ranMs,
    cpuMs: after.cpuMs - before.cpuMs,
    descriptors: after.descriptors - before.descriptors,
    kib: after.kib - before.kib,
  };
}

/** A process of the binary that is driven over its stdin. */
function start() {
  const child = spawn(BIN, ['--management'], { stdio: ['pipe', 'pipe', 'ignore'] });
  children.add(child);
  const answers = new Map();
  const waiting = new Map();
  let last = 0;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { id: answered, success, result, error, event, data } = JSON.parse(line);
    if (event !== undefined) {
      waiting.get(event)?.(data);
      waiting.delete(event);
    } else {
      answers.get(answered)?.(success ? result : Promise.reject(new Error(error)));
      answers.delete(answered);
    }
  });
  return {
    pid: child.pid,
    ask(method, params) {
      const request = String((last += 1));
      child.stdin.write(`${JSON.stringify({ id: request, method, params })}\n`);
      return new Promise((resolve) => answers.set(request, resolve));
    },
    next: (event) => new Promise((resolve) => waiting.set(event, resolve)),
    end() {
      children.delete(child);
      child.kill('SIGKILL');
      return new Promise((resolve) => child.once('exit', resolve));
    },
  };
}

function weigh({ pid }) {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const [, times] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ');
  const [user, system] = times.split(' ').slice(11, 13).map(Number);
  return {
    ranMs: Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')[0]) / 1e6,
    cpuMs: (user + system) * 10, // the kernel counts in hundredths of a second
    kib: Number(/VmRSS:\s*(\d+)/.exec(status)[1]),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
  };
}
