// An idle tunnel: idle.mjs TRANSPORT SECS prints the bytes that it costs a day, as one line of JSON. It runs in a network
// namespace of its own, where nothing else uses loopback: its counter counts every packet once, with the headers of IP,
// TCP and UDP, and with acknowledgements.
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const { BIN, OUT, KEEPALIVE } = process.env;
const [transportMode, secs] = [process.argv[2], Number(process.argv[3])];
const workers = 8;
const tunnelPort = 27050;
const asleepMs = 75_000; // after this long sessions without use sleep

const directory = join(OUT, 'peers', `idle-${transportMode}`);
mkdirSync(directory, { recursive: true });
const log = openSync(join(directory, 'log'), 'w');
const secret = (await promisify(execFile)(BIN, ['secret'])).stdout.trim();
const keepalive = KEEPALIVE ? { keepaliveSecs: Number(KEEPALIVE) } : {};
const ends = [
  start('hub', {
    tunnelPort,
    bindAddress: '127.0.0.1',
    edges: [{ id: 'idle', secret, stunIntervalSecs: 0, listenPorts: [{ port: tunnelPort + 1, targetPort: 9 }] }],
  }),
  start('edge', {
    hubHost: '127.0.0.1',
    hubPort: tunnelPort,
    edgeId: 'idle',
    secret,
    transportMode,
    bindAddress: '127.0.0.1',
    stunServers: [],
  }),
];
process.on('exit', () => ends.forEach((end) => end.kill('SIGKILL')));

await pause(asleepMs);
const before = received();
await pause(secs * 1000);
const after = received();
const perDay = (name) => ((after[name] - before[name]) * 86_400) / secs;
console.log(JSON.stringify({ transport: transportMode, workers, secs, bytes_per_day: perDay('bytes'), packets_per_day: perDay('packets') }));
process.exit(0);

function start(end, config) {
  const file = join(directory, `${end}.json`);
  writeFileSync(file, JSON.stringify({ workers, ...keepalive, ...config }));
  return spawn(BIN, [end, '--config', file], { stdio: ['ignore', 'ignore', log] });
}

function received() {
  const [bytes, packets] = /\blo:\s*(\d+)\s+(\d+)/.exec(readFileSync('/proc/net/dev', 'latin1')).slice(1).map(Number);
  return { bytes, packets };
}
