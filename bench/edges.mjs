// Many idle edges on one hub: edges.mjs COUNT prints what they cost, as one line of JSON. Each edge is a process with
// one worker, a listener and one connection (TLS over TCP); nothing travels but keep-alives.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { startHub } from './fleet.mjs';
import { median } from './medians.mjs';

const { TUNNELBENCH } = process.env;
const count = Number(process.argv[2]);
const idleSecs = 30;
const settleMs = 5_000;

const { hub, edges, countConnected, startEdges, stopEdges } = await startHub(count, 9);
await pause(settleMs);
const [before] = await weigh([hub.pid], 1);

const begun = performance.now();
await startEdges();
const secsToConnect = (performance.now() - begun) / 1000;
await pause(settleMs);
const [hubIdle, ...edgesIdle] = await weigh([hub.pid, ...edges.map((edge) => edge.pid)], idleSecs);
const stillConnected = await countConnected();
const ownKib = edges.map((edge) => Number(/RssAnon:\s*(\d+)/.exec(readFileSync(`/proc/${edge.pid}/status`, 'latin1'))[1]));

await stopEdges();
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

async function weigh(pids, secs) {
  const { stdout } = await promisify(execFile)(TUNNELBENCH, ['weigh', '--pids', pids.join(), '--secs', String(secs)]);
  const { cpu_us_per_s, rss_kib } = JSON.parse(stdout);
  return rss_kib.map((kib, n) => ({ kib, cpuUs: cpu_us_per_s[n] }));
}
