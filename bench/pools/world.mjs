// Where the bench of pools runs: a network namespace of its own, with the load generator and the targets; and what the
// kernel and other processes tell of it.
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

const mark = 'POOLS_NAMESPACE';

export const isInside = () => Boolean(process.env[mark]);

/** Runs this program again with these arguments, in a network namespace of its own: of what it leaves running, nothing is in anybody's way. */
export function runInNamespace(args) {
  const inside = 'ip link set lo up && exec "$@"';
  const own = process.getuid() === 0 ? ['-n'] : ['-r', '-n'];
  const { status, error } = spawnSync(
    'unshare',
    [...own, 'sh', '-c', inside, 'sh', process.execPath, process.argv[1], ...args],
    { stdio: 'inherit', env: { ...process.env, [mark]: '1' } },
  );
  if (error) throw new Error(`needs unshare (util-linux) and ip (iproute2): ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

export const text = (command, args, options) => execFileSync(command, args, { encoding: 'utf8', ...options });

/** Whether a program is there. */
export const has = (program) => spawnSync('which', [program]).status === 0;

/** A run of the load generator: what it found. */
export async function tunnelbench(...args) {
  return JSON.parse((await promisify(execFile)(process.env.TUNNELBENCH, args.map(String))).stdout);
}

/** The load generator's own target, on all addresses of loopback. */
export async function startEcho(port) {
  const echo = spawn(process.env.TUNNELBENCH, ['target', '--address', `0.0.0.0:${port}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  process.on('exit', () => echo.kill('SIGKILL'));
  await once(echo.stdout, 'data'); // it listens
}

/** Connections that TCP began in this namespace and that were refused or given up. */
export function failedDials() {
  const [names, values] = readFileSync('/proc/self/net/snmp', 'latin1').split('\n').filter((line) => line.startsWith('Tcp:'));
  return Number(values.split(' ')[names.split(' ').indexOf('AttemptFails')]);
}

/** Memory of processes in MiB; what they share is counted once. Those that have ended have none. */
export function memoryMib(pids) {
  const kib = pids.map((pid) => {
    try {
      return Number(/^Pss:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1] ?? 0);
    } catch {
      return 0;
    }
  });
  return kib.reduce((sum, one) => sum + one, 0) / 1024;
}

/** Resident memory of a process in MiB. */
export function residentMib(pid) {
  return Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))[1]) / 1024;
}

/** How busy the machine was in the last minute. */
export const load = () => readFileSync('/proc/loadavg', 'latin1').split(' ')[0];
