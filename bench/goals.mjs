// The goals as ratios of medians within one run: goals.mjs RESULTS prints what is reached, and what isn't.
import { print, read } from './medians.mjs';

const us = 'ours:tcpTls';
const { median, peers } = read(process.argv[2]);

/** [what, figure, rival, bound, limit]: our median over the rival's. Without a rival the median itself. */
const goals = [
  ...['down', 'up'].flatMap((way) => [
    [`bulk ${way} 1, Gbit/s`, [`${way}1`, 'gbit_s'], 'haproxy:tls', '≥', 1.45],
    [`bulk ${way} 1, CPU s/GB`, [`${way}1`, 'cpu.cpu_s_per_gb'], 'haproxy:tls', '≤', 0.58],
  ]),
  ...['down', 'up'].flatMap((way) => [
    [`bulk ${way} 16, Gbit/s`, [`${way}16`, 'gbit_s'], 'stunnel', '≥', 1.1],
    [`bulk ${way} 16, CPU s/GB`, [`${way}16`, 'cpu.cpu_s_per_gb'], 'stunnel', '≤', 0.72],
    // Beside stunnel only: other parts have these scenarios for other ends.
    [`bulk ${way} 16, slowest/fastest`, [`${way}16`, 'slowest_to_fastest'], peers.includes('stunnel') ? null : 'stunnel', '≥', 0.8],
  ]),
  ['new connections/s', ['conn', 'per_s'], 'haproxy:tls', '≥', 10],
  ['new connections/s', ['conn', 'per_s'], 'haproxy:plain', '≥', 1.2],
  ['ping-pong, 1 connection, p50 ms', ['rtt1', 'p50_ms'], 'haproxy:tls', '≤', 0.88],
  ['ping-pong, 1 connection, p50 ms', ['rtt1', 'p50_ms'], 'rathole:tls', '≤', 1],
  ['ping-pong, 1 connection, p50 ms', ['rtt1', 'p50_ms'], 'stunnel', '≤', 1],
  ['ping-pong, 64 connections, per s', ['rtt64', 'per_s'], 'haproxy:plain', '≥', 1.3],
  ['ping-pong beside bulk, p99 ms', ['mixed', 'rtt.p99_ms'], 'stunnel', '≤', 0.3],
  ['the bulk beside it, Gbit/s', ['mixed', 'bulk.gbit_s'], 'stunnel', '≥', 1.1],
  ['ping-pong beside slow readers, p99 ms', ['slow', 'rtt.p99_ms'], 'stunnel', '≤', 0.6],
  ['idle connection, KiB', ['idle', 'rss_kib_per_conn'], 'haproxy:tls', '≤', 0.1],
  ['datagrams of 1,200 bytes, 4 flows, per s', ['udp-1200-4-max', 'per_s'], 'direct', '≥', 0.38, 'ours:quic'],
  ['the same over TLS', ['udp-1200-4-max', 'per_s'], 'direct', '≥', 0.38],
  ...['down1', 'down16', 'up1', 'up16'].map((scenario) => {
    const figure = [scenario, 'cpu.cpu_s_per_gb'];
    return [`QUIC bulk ${scenario.replace(/\d/, ' $&')}, CPU s/GB`, figure, 'quinn', '≤', 1.3, 'ours:quic'];
  }),
];

const rows = goals.flatMap(([what, figure, rival, bound, limit, peer = us]) => {
  const [ours, theirs] = [median(peer, figure), rival ? median(rival, figure) : 1];
  const ratio = ours / theirs;
  if (!Number.isFinite(ratio)) return [];
  const isReached = bound === '≥' ? ratio >= limit : ratio <= limit;
  const beside = rival ? `${short(theirs)} ${rival}` : '-';
  return [[what, short(ours), beside, ratio.toFixed(2), `${bound} ${limit}`, isReached ? 'reached' : '**not reached**']];
});
print(process.argv[3], ['', 'ours', 'beside', 'ratio', 'goal', ''], rows);

function short(number) {
  return number >= 100 ? number.toFixed(0) : number.toPrecision(3);
}
