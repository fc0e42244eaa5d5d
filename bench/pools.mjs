// Pools of targets, beside HAProxy and nginx: pools.mjs [ROW...] prints a table per row; without a name, all of them.
//   node bench/pools.mjs                    # about 15 minutes
//   node bench/pools.mjs failing reloads    # two rows
// Needs a release build (BIN, or dist_rust), the load generator (TUNNELBENCH, or it is built here), unshare and ip; SQLite's command line for
// `routing`. A rival that is missing is left out aloud. It all runs in a network namespace of its own. The environment:
//   ROUNDS=3   rounds of the rows with rivals: all take turns, each second round backwards; the tables have medians
//   SCALE=0.1  a trial: a tenth of the connections, turns and seconds
import { mkdirSync } from 'node:fs';
import { arch, cpus, platform, release } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median, print } from './medians.mjs';
import * as own from './pools/own.mjs';
import * as rivalry from './pools/rivalry.mjs';
import { kinds } from './pools/stands.mjs';
import { has, isInside, load, runInNamespace, text } from './pools/world.mjs';

const { distribution, failing, refusal, reloads, comeback } = rivalry;
const { rate, memory, routing, picks } = own;
const rows = { distribution, failing, refusal, reloads, rate, comeback, memory, routing, picks };
const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(rows);
if (wanted.some((name) => !rows[name])) throw new Error(`usage: pools.mjs [${Object.keys(rows).join('|')}]...`);

const here = fileURLToPath(new URL('.', import.meta.url));
process.chdir(join(here, '..')); // where cargo finds the workspace
process.env.OUT ??= join(here, 'out');
const { OUT } = process.env;
const os = { linux: 'linux', darwin: 'macos' }[platform()];
process.env.BIN ??= join(here, '..', 'dist_rust', `remoteingress-bin_${os}_${{ x64: 'amd64' }[arch()] ?? arch()}`);

mkdirSync(join(OUT, 'pools'), { recursive: true });
const rounds = Number(process.env.ROUNDS ?? 3);
const scale = Number(process.env.SCALE ?? 1);
const scaled = (count) => Math.ceil(count * scale);
const version = (command, flag) => text('sh', ['-c', `${command} ${flag} 2>&1`]).split('\n')[0];

if (isInside()) await run(wanted[0]);
else all();
process.exit(0);

/** Each row by itself: none finds the processes and ports of the one before. */
function all() {
  build();
  const rivals = [has('haproxy') && version('haproxy', '-v'), has('nginx') && version('nginx', '-v')].filter(Boolean);
  console.log(`- ${cpus().length} cores, ${cpus()[0].model}, Linux ${release()}, ${new Date().toISOString().slice(0, 10)}`);
  console.log(`- ${[version(process.env.BIN, '--version'), ...rivals].join('; ')}`);
  for (const name of wanted) runInNamespace([name]);
}

async function run(name) {
  const before = load();
  await ('kinds' in rows[name] ? compare(name, rows[name]) : show(rows[name]));
  console.log(`\nLoad average ${before} before, ${load()} after.`);
}

/** All kinds of stands in turns, and their medians. */
async function compare(name, { title, kinds: all, head, goals, setUp, measure }) {
  const present = all.filter((kind) => {
    const { needs, install } = kinds[kind];
    if (needs && !has(needs)) console.error(`${name}: ${kind} is left out: ${install}`);
    return !needs || has(needs);
  });
  const context = await setUp?.();
  const figures = Object.fromEntries(present.map((kind) => [kind, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const kind of round % 2 ? [...present].reverse() : present) {
      figures[kind].push(await measure(kind, { scaled, round, context }));
      console.error(`${name}, round ${round + 1}: ${kind}: ${figures[kind].at(-1).map(cell).join(', ')}`);
    }
  }
  await context?.end?.();
  const medians = ([kind, all]) => [kind, ...all[0].map((_, n) => withSpread(all.map((one) => one[n])))];
  print(`${title} (${rounds} rounds)`, head, [...Object.entries(figures).map(medians), ['goal', ...goals.slice(1)]]);
}

async function show({ title, head, goals, measure }) {
  const found = (await measure({ scaled })).map((row) => row.map(cell));
  print(title, head, goals ? [...found, ['goal', ...goals.slice(1)]] : found);
}

/** The median, and from where to where the rounds went. */
function withSpread(numbers) {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)].map(cell);
  return low === high ? low : `${cell(median(numbers))} (${low} to ${high})`;
}

function cell(value) {
  if (typeof value !== 'number') return value;
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return Number(value.toFixed(digits)).toLocaleString('en');
}

/** Outside of the namespace, where cargo may need the network: the load generator, unless TUNNELBENCH says where it is. */
function build() {
  const target = ['--target-dir', join(OUT, 'target')];
  const cargo = (...args) => text('cargo', [...args, '-q', '--release', '--locked', ...target], { stdio: 'inherit' });
  if (!process.env.TUNNELBENCH) {
    cargo('build', '--manifest-path', join(here, 'tunnelbench', 'Cargo.toml'));
    process.env.TUNNELBENCH = join(OUT, 'target', 'release', 'tunnelbench');
  }
  if (wanted.includes('memory')) cargo('build', '--package', 'remoteingress-bench', '--bin', 'bindings');
}
