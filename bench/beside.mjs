// Two builds beside each other: beside.mjs BEFORE AFTER [RUNS] [-- tunnelbench's scenario and options]
//   node bench/beside.mjs /tmp/before /tmp/after 40 -- rtt --concurrency 1 --secs 0.3
// Whole rounds one after the other differ by 5 to 10 % when nothing has changed: by where the kernel puts the processes,
// and by who comes first. Here all stand up once and take turns, each second time backwards, and BEFORE takes part twice:
// what differs between it and itself is noise. With ACCESS_LOG=after only AFTER writes access logs, so that one build
// tells what they cost. Builds the load generator, measures over TLS on loopback.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median, print } from './medians.mjs';

const [before, after, ...rest] = process.argv.slice(2);
if (!after) throw new Error('usage: beside.mjs BEFORE AFTER [RUNS] [-- SCENARIO OPTION...]');
const runs = rest[0] && rest[0] !== '--' ? Number(rest.shift()) : 30;
const scenario = rest.length > 1 ? rest.slice(1) : ['rtt', '--concurrency', '1', '--secs', '0.3'];

const here = fileURLToPath(new URL('.', import.meta.url));
const out = join(here, 'out');
const basePort = Number(process.env.BASE_PORT ?? 27000);
const target = `127.0.0.1:${basePort}`;
const builds = { before, after, 'before, again': before };

const text = (command, args, options) => execFileSync(command, args, { encoding: 'utf8', ...options });
const tunnelbench = join(out, 'target', 'release', 'tunnelbench');
const manifest = join(here, 'tunnelbench', 'Cargo.toml');
text('cargo', ['build', '-q', '--release', '--locked', '--manifest-path', manifest, '--target-dir', join(out, 'target')]);

const environment = (n) => {
  const OUT = join(out, 'beside', String(n));
  mkdirSync(join(OUT, 'peers', 'ours'), { recursive: true });
  const ACCESS_LOG = process.env.ACCESS_LOG === 'after' && n !== 1 ? '' : (process.env.ACCESS_LOG ?? '');
  return { ...process.env, ACCESS_LOG, BIN: Object.values(builds)[n], OUT, BASE_PORT: String(basePort + 100 * (n + 1)) };
};
const peer = (n, ...args) =>
  text(join(here, 'peers', 'ours.sh'), args, { env: environment(n), stdio: ['ignore', 'pipe', 'inherit'] });

const echo = spawn(tunnelbench, ['target', '--address', target], { stdio: ['pipe', 'pipe', 'inherit'] });
process.on('exit', () => {
  echo.kill();
  Object.keys(builds).forEach((_, n) => peer(n, 'stop'));
});
await once(echo.stdout, 'data'); // it listens
const stands = Object.keys(builds).map((_, n) => {
  const { listen, pids } = Object.fromEntries(
    peer(n, 'start', String(basePort), 'tcpTls').trim().split(' ').map((word) => word.split('=')),
  );
  return { args: ['--address', listen, '--pids', pids], results: [] };
});
if (scenario[0] === 'bulk') scenario.push('--target', target);
for (let run = 0; run < runs; run += 1) {
  for (const { args, results } of run % 2 ? [...stands].reverse() : stands) {
    results.push(flat(JSON.parse(text(tunnelbench, [...scenario, ...args], { stdio: ['ignore', 'pipe', 'inherit'] }))));
  }
}
const title = `${scenario.join(' ')}: medians of ${runs} turns, ± the standard error of the mean`;
print(title, ['figure', ...Object.keys(builds)], Object.keys(stands[0].results[0]).map((key) => [
  key,
  ...stands.map(({ results }) => cell(results.map((result) => result[key]))),
]));
process.exit();

/** All numbers of a result, by path. */
function flat(value, path = '') {
  if (typeof value === 'number') return { [path]: value };
  if (typeof value !== 'object' || value === null) return {};
  return Object.assign({}, ...Object.entries(value).map(([key, inner]) => flat(inner, path ? `${path}.${key}` : key)));
}

function cell(numbers) {
  const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  const variance = numbers.reduce((sum, number) => sum + (number - mean) ** 2, 0) / Math.max(1, numbers.length - 1);
  return `${Number(median(numbers).toPrecision(4))} ± ${Number(Math.sqrt(variance / numbers.length).toPrecision(2))}`;
}
