// Medians of the results of bench/run as markdown tables, (lowest–highest) of the rounds beside what matters.
import { print, read } from './medians.mjs';

const us = 'ours:tcpTls';
const rivals = ['haproxy:tls', 'rathole:tls'];

const { peers, scenarios, rounds, values, median } = read(process.argv[2]);
const has = (peer) => peers.includes(peer);

function cell(peer, figure, places, hasSpread) {
  const all = values(peer, figure);
  const ran = rounds(peer, figure[0]);
  if (all.length === 0) return ran.length > 0 ? 'failed' : '-';
  const failed = ran.filter((result) => result === null).length;
  const text = median(peer, figure).toFixed(places);
  const spread = hasSpread && all.length > 1 ? ` (${Math.min(...all).toFixed(places)}–${Math.max(...all).toFixed(places)})` : '';
  return text + spread + (failed ? ` [${failed} failed]` : '');
}

/** columns: [heading, scenario, path of the figure, decimal places, whether the spread is shown] */
function table(title, columns) {
  const measured = columns.filter(([, scenario]) => scenarios.includes(scenario));
  const rows = peers
    .filter((peer) => measured.some(([, scenario]) => rounds(peer, scenario).length > 0))
    .map((peer) => [peer, ...measured.map(([, scenario, path, places, hasSpread]) => cell(peer, [scenario, path], places, hasSpread))]);
  print(title, ['peer', ...measured.map(([heading]) => heading)], rows);
}

/** Factor by which we are better: 2 is twice as good, whether more or less of the figure is better. */
function better(figure, rival, isLessBetter) {
  const [ours, theirs] = [median(us, figure), median(rival, figure)];
  const ratio = isLessBetter ? theirs / ours : ours / theirs;
  return Number.isFinite(ratio) ? ratio.toFixed(2) : '-';
}

const bulk = [
  ['down 1', 'down1'],
  ['down 16', 'down16'],
  ['up 1', 'up1'],
  ['up 16', 'up16'],
];
const headlines = [
  ...bulk.map(([title, scenario]) => [`bulk ${title}, Gbit/s`, [scenario, 'gbit_s'], 2, false]),
  ...bulk.map(([title, scenario]) => [`bulk ${title}, CPU s/GB`, [scenario, 'cpu.cpu_s_per_gb'], 2, true]),
  ['new connections/s, 32 at a time', ['conn', 'per_s'], 0, false],
  ['CPU µs per new connection', ['conn', 'cpu.cpu_us_per_op'], 0, true],
  ['round trips/s, 1 connection', ['rtt1', 'per_s'], 0, false],
  ['round trips/s, 64 connections', ['rtt64', 'per_s'], 0, false],
  ['ping-pong beside 8 bulk streams, p50 ms', ['mixed', 'rtt.p50_ms'], 2, true],
  ['the same, p99 ms', ['mixed', 'rtt.p99_ms'], 2, true],
  ['ping-pong beside 8 slow readers, p99 ms', ['slow', 'rtt.p99_ms'], 2, true],
  ['KiB resident per idle connection', ['idle', 'rss_kib_per_conn'], 1, true],
];
const compared = rivals.filter(has);
if (has(us) && compared.length > 0) {
  const rows = headlines
    .filter(([, [scenario]]) => rounds(us, scenario).length > 0)
    .map(([title, figure, places, isLessBetter]) => [
      title,
      ...[us, ...compared].map((peer) => cell(peer, figure, places, false)),
      ...compared.map((rival) => better(figure, rival, isLessBetter)),
    ]);
  const head = ['', us, ...compared, ...compared.map((rival) => `times better than ${rival}`)];
  print('Side by side (below 1.00 we are worse)', head, rows);
}

const inBulk = (path, places, hasSpread) =>
  bulk.map(([title, scenario]) => [title, scenario, path, places, hasSpread]);
table('Bulk, Gbit/s delivered', inBulk('gbit_s', 2, true));
const processes = has('quinn') ? 'edge + hub; of quinn client + server, which nobody relays' : 'edge + hub';
table(`Bulk, CPU s per GB (${processes})`, inBulk('cpu.cpu_s_per_gb', 2, true));
table('Bulk, fairness and errors', [
  ['down 16, slowest/fastest', 'down16', 'slowest_to_fastest', 2],
  ['up 16, slowest/fastest', 'up16', 'slowest_to_fastest', 2],
  ...bulk.map(([title, scenario]) => [`${title}, errors`, scenario, 'errors', 0]),
]);
table('New connections, 32 at a time: connect, 64 bytes there and back, close', [
  ['per s', 'conn', 'per_s', 0, true],
  ['p50 ms', 'conn', 'p50_ms', 2],
  ['p99 ms', 'conn', 'p99_ms', 2],
  ['p99.9 ms', 'conn', 'p999_ms', 2],
  ['CPU µs each', 'conn', 'cpu.cpu_us_per_op', 0, true],
  ['errors', 'conn', 'errors', 0],
]);
for (const [scenario, title] of [
  ['rtt1', 'Ping-pong, 1 connection, 64 bytes'],
  ['rtt64', 'Ping-pong, 64 connections, 512 bytes'],
]) {
  table(title, [
    ['per s', scenario, 'per_s', 0, true],
    ['p50 ms', scenario, 'p50_ms', 3],
    ['p99 ms', scenario, 'p99_ms', 3],
    ['p99.9 ms', scenario, 'p999_ms', 3],
    ['CPU µs each', scenario, 'cpu.cpu_us_per_op', 1],
    ['errors', scenario, 'errors', 0],
  ]);
}
for (const [scenario, title] of [
  ['mixed', 'Ping-pong beside 8 bulk streams at full speed'],
  ['slow', 'Ping-pong beside 8 bulk streams whose readers take 40 Mbit/s each'],
]) {
  table(title, [
    ['p50 ms', scenario, 'rtt.p50_ms', 3],
    ['p99 ms', scenario, 'rtt.p99_ms', 3, true],
    ['p99.9 ms', scenario, 'rtt.p999_ms', 3],
    ['bulk Gbit/s', scenario, 'bulk.gbit_s', 2, true],
    ['slowest/fastest', scenario, 'bulk.slowest_to_fastest', 2],
    ['errors', scenario, 'rtt.errors', 0],
  ]);
}
table('8 bulk streams beside clients that never read, Gbit/s', [
  ['alone', 'stalled0', 'gbit_s', 2, true],
  ['1 stalled', 'stalled1', 'gbit_s', 2, true],
  ['100 stalled', 'stalled100', 'gbit_s', 2, true],
  ['errors', 'stalled100', 'errors', 0],
]);
table('5,000 idle connections', [
  ['established', 'idle', 'established', 0],
  ['still answer', 'idle', 'alive_after_hold', 0],
  ['opened/s', 'idle', 'opened_per_s', 0],
  ['KiB resident each (edge + hub)', 'idle', 'rss_kib_per_conn', 1, true],
]);
for (const flows of [1, 4, 100]) {
  for (const size of [64, 512, 1200]) {
    const [most, steady] = ['max', '10000'].map((load) => `udp-${size}-${flows}-${load}`);
    const title = `Datagrams of ${size} bytes there and back, ${flows === 1 ? '1 flow' : `${flows} flows`}`;
    table(`${title}: 128 in flight, then 10,000 per s`, [
      ['per s', most, 'per_s', 0, true],
      ['lost %', most, 'loss_percent', 2],
      ['CPU µs each', most, 'cpu.cpu_us_per_op', 1, true],
      ['at 10,000/s: p50 ms', steady, 'p50_ms', 3],
      ['p99 ms', steady, 'p99_ms', 3, true],
      ['lost %', steady, 'loss_percent', 2],
      ['CPU µs each', steady, 'cpu.cpu_us_per_op', 1],
      ['strays', most, 'errors', 0],
    ]);
  }
}
for (const scenario of scenarios) {
  const [, load, count] = /^(open|closed)(\d+)$/.exec(scenario) ?? [];
  if (!load) continue;
  const how = load === 'open' ? `${count} begun per s` : `${count} clients, each one after the other`;
  table(`16 KiB there and back over the line, a new connection each: ${how}`, [
    ['p50 ms', scenario, 'p50_ms', 1, true],
    ['p99 ms', scenario, 'p99_ms', 1, true],
    ['p99.9 ms', scenario, 'p999_ms', 1],
    ['per s', scenario, 'per_s', 1],
    ['exchanges', scenario, 'ops', 0],
    ['errors', scenario, 'errors', 0],
  ]);
}
if (has('ours:quic') && has(us)) {
  const rows = scenarios
    .filter((scenario) => /^(open|closed)\d+$/.test(scenario))
    .map((scenario) => {
      const [quic, tls] = ['ours:quic', us].map((peer) => median(peer, [scenario, 'p99_ms']));
      return [scenario, quic.toFixed(1), tls.toFixed(1), (quic / tls).toFixed(2)];
    });
  print('p99 of exchanges, ms', ['', 'ours:quic', us, 'quic / tcpTls'], rows);
}
const held = scenarios.filter((scenario) => /^streams\d+$/.test(scenario));
for (const peer of peers) {
  const columns = [
    ['opened/s', 'opened_per_s', 0, false],
    ['CPU µs to open', 'opening.cpu_us_per_op', 0, true],
    ['KiB resident each (edge + hub)', 'rss_kib_per_conn', 1, true],
    ['CPU µs per s while all are idle', 'idle.cpu_us_per_s', 0, false],
    ['64 of them talk: CPU µs per round trip', 'some.cpu.cpu_us_per_op', 1, true],
    ['p50 ms', 'some.p50_ms', 2, false],
    ['p99 ms', 'some.p99_ms', 2, false],
    ['all in turn: CPU µs per round trip', 'all.cpu.cpu_us_per_op', 1, true],
    ['p50 ms', 'all.p50_ms', 2, false],
    ['p99 ms', 'all.p99_ms', 2, false],
    ['not opened', 'errors', 0, false],
    ['ended', 'all.errors', 0, false],
  ];
  const rows = held
    .filter((scenario) => rounds(peer, scenario).length > 0)
    .map((scenario) => [
      scenario.slice('streams'.length),
      ...columns.map(([, path, places, hasSpread]) => cell(peer, [scenario, path], places, hasSpread)),
    ]);
  print(`The cost of a stream, ${peer}`, ['streams', ...columns.map(([heading]) => heading)], rows);
}
for (const scenario of scenarios) {
  const [, count] = /^edges(\d+)$/.exec(scenario) ?? [];
  if (!count) continue;
  table(`${count} idle edges on one hub, an edge a process with one worker`, [
    ['connected', scenario, 'connected', 0],
    ['s to connect them', scenario, 'secs_to_connect', 1],
    ['hub before, MiB', scenario, 'hub_mib.before', 1],
    ['hub with them, MiB', scenario, 'hub_mib.with', 1],
    ['hub when they have left, MiB', scenario, 'hub_mib.after', 1],
    ['hub: KiB per edge', scenario, 'hub_kib_per_edge', 1, true],
    ['hub: CPU µs per edge and s', scenario, 'hub_cpu_us_per_edge_s', 1, true],
    ['an edge: MiB resident', scenario, 'edge_mib', 1, true],
    ['of them its own', scenario, 'edge_own_mib', 1],
    ['an edge: CPU µs per s', scenario, 'edge_cpu_us_per_s', 1, true],
  ]);
}
