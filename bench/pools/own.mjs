// The rows that only ours takes part in.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { quantile, visit } from './clients.mjs';
import { median } from '../medians.mjs';
import { start } from './stands.mjs';
import { startTargets } from './targets.mjs';
import { residentMib, startEcho, text, tunnelbench } from './world.mjs';

const [first, second, echo] = [27_001, 27_002, 27_007];
const plainPort = 27_090;

export const rate = {
  title: 'New connections through a pool of three targets, beside a port with one target: ratios of turns that are neighbours',
  head: ['', 'per s', 'ratio', 'CPU each, µs', 'more than plain'],
  goals: ['', '-', '≥ 0.97', '-', '≤ 1'],
  async measure({ scaled }) {
    await startEcho(echo);
    // The same process at all of these addresses.
    const targets = [1, 2, 3].map((n) => ({ host: `127.0.0.${n}`, port: echo }));
    const pools = { roundRobin: { strategy: 'roundRobin', targets }, geo: { strategy: 'geo', targets } };
    const listenPorts = [{ port: plainPort, targetPort: echo, proxyProtocol: 'none' }];
    const stand = await start('ours', pools, { listenPorts, pool: { affinity: {} } });
    const ports = { plain: plainPort, ...stand.ports, 'plain, again': plainPort };
    const results = Object.fromEntries(Object.keys(ports).map((name) => [name, []]));
    const turns = Math.max(2, scaled(16));
    for (let turn = 0; turn < turns; turn += 1) {
      for (const [name, port] of turn % 2 ? Object.entries(ports).reverse() : Object.entries(ports)) {
        const args = ['--secs', 0.5, '--address', `127.0.0.1:${port}`, '--pids', stand.pids().join()];
        results[name].push(await tunnelbench('conn', ...args));
      }
    }
    await stand.stop();
    const cpu = (result) => result.cpu.cpu_us_per_op;
    return Object.entries(results).map(([name, own]) => [
      name,
      median(own.map(({ per_s }) => per_s)),
      median(own.map(({ per_s }, turn) => per_s / results.plain[turn].per_s)),
      median(own.map(cpu)),
      median(own.map((result, turn) => cpu(result) - cpu(results.plain[turn]))),
    ]);
  },
};

export const memory = {
  title: 'Memory, MiB',
  head: ['', 'MiB', 'goal'],
  async measure({ scaled }) {
    const bindings = Number(text(join(process.env.OUT, 'target', 'release', 'bindings'), []));
    const idle = { without: [], with: [] };
    const targets = Array.from({ length: 1_000 }, (_, n) => ({ port: 10_001 + n }));
    for (let turn = 0; turn < Math.max(1, scaled(5)); turn += 1) {
      for (const [name, pools] of [['without', {}], ['with', { web: { strategy: 'roundRobin', targets } }]]) {
        const stand = await start('ours', pools, { listenPorts: [{ port: plainPort, targetPort: echo }] });
        await pause(1_000);
        idle[name].push(residentMib(stand.hub.pid));
        await stand.stop();
      }
    }
    return [
      ['1,048,576 bindings, the crate alone', bindings, '≤ 48'],
      ['an idle hub without pools, resident', median(idle.without), '-'],
      ['an idle hub with a pool of 1,000 targets, resident', median(idle.with), '-'],
    ];
  },
};

export const routing = {
  title: 'routing.db, all rows changed: ms from the commit of another process until a client gets the other target',
  head: ['rows', 'commits', 'p50', 'p99', 'longest', 'goal, p99'],
  async measure({ scaled }) {
    const targets = await startTargets();
    await targets.listen(first, 1);
    await targets.listen(second, 2);
    const rows = [];
    for (const count of [1_000, 10_000]) rows.push(await routed(count, Math.max(5, scaled(100))));
    return rows;
  },
};

/** Two rows are of the pool that clients come to; one of them is deleted, in turns. The others are 10 more pools. */
async function routed(count, commits) {
  const path = join(process.env.OUT, 'pools', `routing-${count}.db`);
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(path + suffix, { force: true });
  const writer = await startWriter(path);
  const row = (id, app, address, port) => `('${id}', '${app}', 'eu', '${address}', ${port}, 1, 2, 100, 0, 0)`;
  const others = Array.from({ length: count - 2 }, (_, n) =>
    row(`other-${n}`, `app-${n % 10}`, `127.1.${n >> 8}.${n & 255}`, 9));
  await writer.run(`CREATE TABLE backends (id TEXT PRIMARY KEY, app TEXT, region TEXT, wg_ip TEXT, port INTEGER, healthy INTEGER,
    weight INTEGER, soft_limit INTEGER, hard_limit INTEGER, deleted INTEGER);
    INSERT INTO backends VALUES ${[row('a', 'web', '127.0.0.1', first), row('b', 'web', '127.0.0.1', second), ...others].join()};
    UPDATE backends SET deleted = 1 WHERE id = 'b';`);
  const pools = { web: { strategy: 'roundRobin', targets: [] } };
  const stand = await start('ours', pools, { hubConfig: { routingDb: { path } } });
  const times = [];
  await reached(stand.ports.web, 1);
  for (let n = 0; n < commits; n += 1) {
    const [gone, number] = n % 2 ? ['b', 1] : ['a', 2];
    await pause(Math.random() * 250); // anywhere between two looks
    await writer.run(`UPDATE backends SET weight = ${1 + (n % 3)}, deleted = id = '${gone}';`);
    const begun = performance.now();
    await reached(stand.ports.web, number);
    times.push(performance.now() - begun);
  }
  await stand.stop();
  await writer.end();
  return [count, commits, quantile(times, 0.5), quantile(times, 0.99), Math.max(...times), '≤ 300'];
}

/** SQLite's command line: `run` settles after the commit. */
async function startWriter(path) {
  // In its default journal mode SQLite refuses a commit at once while somebody reads, unless it may wait.
  const shell = spawn('sqlite3', ['-cmd', '.timeout 10000', path], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: shell.stdout });
  return {
    async run(sql) {
      const committed = once(lines, 'line');
      shell.stdin.write(`${sql}\nSELECT 'committed';\n`);
      await committed;
    },
    async end() {
      shell.stdin.end();
      await once(shell, 'exit');
    },
  };
}

async function reached(port, number) {
  for (const deadline = performance.now() + 10_000; performance.now() < deadline; await pause(1)) {
    if ((await visit(port)).target === number) return;
  }
  throw new Error(`target ${number} isn't reached after 10 s`);
}

export const picks = {
  title: 'Picks of the crate alone, ns each, by Criterion',
  head: ['', 'ns', 'goal'],
  async measure() {
    const goals = {
      pick_geo_10: 60,
      pick_geo_100: 150,
      pick_geo_1000: 800,
      pick_two_choices_100: 30,
      pick_ip_hash_100: 30,
      pick_round_robin_100: 30,
      binding_touch: 150,
    };
    return Object.entries(goals).map(([name, goal]) => {
      const args = ['--package', 'remoteingress-bench', '--locked', '--target-dir', join(process.env.OUT, 'target')];
      const env = { ...process.env, CRITERION_HOME: join(process.env.OUT, 'criterion') };
      const said = text('cargo', ['bench', '-q', ...args, '--', `${name}$`], { env, stdio: ['ignore', 'pipe', 'ignore'] });
      const [, time, unit] = /time:\s+\[\S+ \S+ (\S+) (\S+)/.exec(said);
      return [name, (Number(time) * { ns: 1, µs: 1e3, ms: 1e6 }[unit]) / 100, `≤ ${goal}`]; // 100 picks a run
    });
  },
};
