// The rows that other proxies take part in.
import { setTimeout as pause } from 'node:timers/promises';
import { answered, answering, failed, hold, quantile, release, times, visitInTurn, visitSteadily } from './clients.mjs';
import { start } from './stands.mjs';
import { startHole, startTargets } from './targets.mjs';
import { failedDials, memoryMib, startEcho, tunnelbench } from './world.mjs';

const all = ['ours', 'ours, checks', 'HAProxy', 'HAProxy, checks', 'nginx'];
const [good1, good2, good3, changing, refusing, silent, echo] = [27_001, 27_002, 27_003, 27_004, 27_005, 27_006, 27_007];
const nobody = [27_011, 27_012, 27_013]; // ports that are never opened
const pool = (strategy, ports, weights = []) => ({
  strategy,
  targets: ports.map((port, n) => ({ port, weight: weights[n] ?? 1 })),
});

/** The good targets, numbered from 1. */
async function threeTargets() {
  const targets = await startTargets();
  for (const [n, port] of [good1, good2, good3].entries()) await targets.listen(port, n + 1);
  return targets;
}

export const distribution = {
  title: 'Weights 1:2:3, largest deviation of a target from its share, %',
  kinds: ['ours', 'HAProxy', 'nginx'],
  head: ['', 'round robin, in turn', 'round robin, held', 'least connections, in turn', 'least connections, held'],
  goals: ['', '≤ 2', '-', '-', '≤ 0.6'],
  setUp: threeTargets,
  async measure(kind, { scaled }) {
    const strategies = ['roundRobin', 'leastConnections'];
    const pools = Object.fromEntries(strategies.map((name) => [name, pool(name, [good1, good2, good3], [1, 2, 3])]));
    const stand = await start(kind, pools);
    const figures = [];
    for (const strategy of strategies) {
      figures.push(deviation(await visitInTurn(stand.ports[strategy], scaled(9_000))));
      const held = await hold(stand.ports[strategy], scaled(3_000));
      figures.push(deviation(held));
      await release(held);
    }
    await stand.stop();
    return figures;
  },
};

function deviation(visits) {
  const shares = [1, 2, 3].map((number) => {
    const share = (visits.length * number) / 6;
    return Math.abs(visits.filter(({ target }) => target === number).length / share - 1) * 100;
  });
  return Math.max(...shares);
}

export const failing = {
  title: 'One of three targets fails when clients begin to come, 3,000 of them, 500 per second',
  kinds: all,
  head: [
    '',
    'refuses: failed',
    'added p50, ms',
    'added p99, ms',
    'added at most, ms',
    'dials that it got',
    'silent: failed',
    'longest wait, ms',
    'waited > 100 ms',
  ],
  goals: ['', '0', '-', '-', '-', '≤ 3 and those under way', '0', '≤ 1,100', '-'],
  setUp: threeTargets,
  async measure(kind, { scaled, context: targets }) {
    await targets.listen(refusing, 9);
    const hole = await startHole(silent);
    const stand = await start(kind, {
      good: pool('roundRobin', [good1, good2, good3]),
      refused: pool('roundRobin', [good1, good2, refusing]),
      hole: pool('roundRobin', [good1, good2, silent]),
    });
    await pause(1_500); // first checks
    const come = (name) => visitSteadily(stand.ports[name], 500, scaled(3_000) / 500);
    const good = await come('good');
    if (failed(good).length > 0) throw new Error(`${failed(good).length} failed without a reason`);
    await targets.close(refusing);
    const dialsBefore = failedDials();
    const refused = await come('refused');
    const dials = failedDials() - dialsBefore;
    await hole.dig();
    const holed = await come('hole');
    await stand.stop();
    hole.end();
    const added = (share) => quantile(times(refused), share) - quantile(times(good), share);
    return [
      failed(refused).length,
      added(0.5),
      added(0.99),
      added(1),
      dials,
      failed(holed).length,
      Math.max(...holed.map(({ ms }) => ms)),
      holed.filter(({ ms }) => ms > 100).length,
    ];
  },
};

export const refusal = {
  title: 'All three targets refuse: 200 clients, 50 per second, until their connection ends',
  kinds: ['ours', 'HAProxy', 'HAProxy, checks', 'nginx'],
  head: ['', 'p50, ms', 'p99, ms', 'longest, ms', 'reset', 'closed', 'dials'],
  goals: ['', '-', '-', '≤ 100', '200', '-', '≤ 340: 1.2 each, + 100 in 10 s'],
  async measure(kind, { scaled }) {
    const stand = await start(kind, { none: pool('roundRobin', nobody) });
    const before = failedDials();
    const visits = await visitSteadily(stand.ports.none, 50, scaled(200) / 50);
    const dials = failedDials() - before;
    await stand.stop();
    const took = failed(visits).map(({ ms }) => ms);
    const ended = (how) => visits.filter(({ failure }) => failure === how).length;
    return [quantile(took, 0.5), quantile(took, 0.99), Math.max(...took), ended('ECONNRESET'), ended('closed'), dials];
  },
};

export const reloads = {
  title: 'Changes of a pool, up to 20 per second, beside 200 held streams, 300 new connections per second and a ping-pong',
  kinds: ['ours', 'HAProxy', 'nginx'],
  head: [
    '',
    'changes per s',
    'held streams lost',
    'new connections failed',
    'new, p99 ms',
    'without changes',
    'ping p99, ms',
    'without changes',
    'processes at the end',
    'their memory, MiB',
    'before',
  ],
  goals: ['', '20', '0', '0', '-', '-', '≤ 1.05 times', '', '-', '-', '-'],
  async setUp() {
    const targets = await threeTargets();
    await targets.listen(changing, 4);
    await startEcho(echo);
    return targets;
  },
  async measure(kind, { scaled, round }) {
    const pools = { web: pool('roundRobin', [good1, good2, good3]), ping: pool('roundRobin', [echo]) };
    const stand = await start(kind, pools);
    const before = memoryMib(stand.pids());
    const secs = Math.max(2, scaled(10));
    const phases = {};
    for (const name of round % 2 ? ['changing', 'quiet'] : ['quiet', 'changing']) {
      phases[name] = await underChange(stand, secs, name === 'changing' && changes(stand, pools));
    }
    await stand.stop();
    const { changing: changed, quiet } = phases;
    return [
      changed.changes / secs,
      changed.lost,
      changed.failed,
      changed.newP99,
      quiet.newP99,
      changed.pingP99,
      quiet.pingP99,
      changed.processes,
      changed.memory,
      before,
    ];
  },
};

/** Each change gives all targets another weight, and adds a target or takes it away. */
function changes(stand, pools) {
  return async (n) => {
    const ports = n % 2 ? [good1, good2, good3] : [good1, good2, good3, changing];
    await stand.reload({ ...pools, web: pool('roundRobin', ports, ports.map((_, target) => 1 + ((n + target) % 3))) });
  };
}

/** What becomes of all clients while `change`, if there is one, is called 20 times a second, or as often as it can be. */
async function underChange(stand, secs, change) {
  const held = await hold(stand.ports.web, 200);
  let isOver = false;
  let count = 0;
  const changed = (async () => {
    const underWay = [];
    for (let due = performance.now(); change && !isOver; due = Math.max(due + 50, performance.now())) {
      await pause(Math.max(0, due - performance.now()));
      underWay.push(change(count));
      if (!stand.overlaps) await underWay.pop();
      count += 1;
    }
    await Promise.all(underWay);
  })();
  const ping = tunnelbench('rtt', '--concurrency', 1, '--secs', secs - 0.5, '--address', `127.0.0.1:${stand.ports.ping}`);
  const visits = await visitSteadily(stand.ports.web, 300, secs);
  const pids = stand.pids();
  const memory = memoryMib(pids);
  isOver = true;
  await changed;
  const pingP99 = (await ping).p99_ms;
  const lost = held.length - (await answering(held));
  await release(held);
  const newP99 = quantile(times(visits), 0.99);
  return { changes: count, lost, failed: failed(visits).length, newP99, pingP99, processes: pids.length, memory };
}

export const comeback = {
  title: 'One of three targets is away for 5 s, with 200 new connections per second',
  kinds: all,
  head: ['', 'failed', 'back until its first client, s', 'its share 1 s after that, %'],
  goals: ['', '0', '≤ 1 after a good trial', '33'],
  setUp: threeTargets,
  async measure(kind, { context: targets }) {
    await targets.listen(refusing, 9);
    const stand = await start(kind, { web: pool('roundRobin', [good1, good2, refusing]) });
    await pause(1_500);
    let back = Infinity;
    let first = Infinity;
    const come = visitSteadily(stand.ports.web, 200, 40, {
      until: () => performance.now() > first + 3_000,
      seen(result) {
        if (result.target === 9 && performance.now() >= back) first = Math.min(first, performance.now());
        return result;
      },
    });
    await pause(2_000);
    await targets.close(refusing);
    await pause(5_000);
    await targets.listen(refusing, 9);
    back = performance.now();
    const visits = await come;
    await stand.stop();
    await targets.close(refusing);
    const later = answered(visits).filter(({ begun: at }) => at >= first + 1_000 && at < first + 2_000);
    const share = later.filter(({ target }) => target === 9).length / later.length;
    return [failed(visits).length, (first - back) / 1000, share * 100];
  },
};
