// The same pools at ours, HAProxy and nginx: each kind of stand starts with `{ NAME: { strategy, targets } }`, where a
// target is `{ port, weight }` on loopback, and gives every pool a port.
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { constants, cpus } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';

const host = '127.0.0.1';
const workers = cpus().length;
const tunnelPort = 27_050;
const firstPort = 27_100;
const startedWithinMs = 20_000;
const nginxModule = '/usr/lib/nginx/modules/ngx_stream_module.so'; // where it isn't compiled in
let stands = 0;

/** Kinds of stands by name. `needs` is a program, `install` the command for it. */
export const kinds = {
  ours: { start: (pools, options) => ours(pools, options) },
  'ours, checks': { start: (pools, options) => ours(pools, { ...options, check: { type: 'tcp', intervalSecs: 1 } }) },
  HAProxy: { start: (pools) => haproxy(pools, ''), needs: 'haproxy', install: 'apt-get install haproxy' },
  'HAProxy, checks': {
    start: (pools) => haproxy(pools, ' check inter 1s fall 2 rise 2 observe layer4 error-limit 3 on-error mark-down', ' 1'),
    needs: 'haproxy',
    install: 'apt-get install haproxy',
  },
  nginx: { start: (pools) => nginx(pools), needs: 'nginx', install: 'apt-get install nginx libnginx-mod-stream' },
};

/** A stand, after all of its ports are open: `{ ports, pids(), reload(pools), stop() }`. */
export async function start(kind, pools, options) {
  const stand = await kinds[kind].start(pools, options);
  for (const port of Object.values(stand.ports)) await opened(port, stand.directory);
  return stand;
}

function portsOf(pools) {
  return Object.fromEntries(Object.keys(pools).map((name, n) => [name, firstPort + n]));
}

/** A directory for configuration and logs, and how to run something there. */
function place(name) {
  const directory = join(process.env.OUT, 'pools', `${name}-${(stands += 1)}`);
  mkdirSync(directory, { recursive: true });
  const log = openSync(join(directory, 'log'), 'w');
  const children = [];
  const kill = () => children.forEach((child) => child.kill('SIGKILL'));
  process.on('exit', kill);
  return {
    directory,
    run(command, args, input = 'ignore') {
      const child = spawn(command, args, { stdio: [input, input === 'pipe' ? 'pipe' : 'ignore', log] });
      children.push(child);
      return child;
    },
    /** Ends all of it at once, with what the children have forked. */
    async stop() {
      process.off('exit', kill);
      for (const pid of children.flatMap(({ pid }) => family(pid))) signal(pid, 'SIGKILL');
      await pause(100);
    },
  };
}

/** Our hub, spoken to over its management channel, and an edge. `hubConfig` is added to the hub's configuration. */
async function ours(pools, { check, hubConfig = {}, listenPorts = [], pool = {} } = {}) {
  const { BIN } = process.env;
  const { directory, run, stop } = place('ours');
  const ports = portsOf(pools);
  const secret = (await promisify(execFile)(BIN, ['secret'])).stdout.trim();
  const hub = run(BIN, ['--management'], 'pipe');
  const waiting = new Map();
  const events = [];
  createInterface({ input: hub.stdout }).on('line', (line) => {
    const { id, success, result, error, event, data } = JSON.parse(line);
    if (event) events.push({ event, data });
    waiting.get(id)?.(success ? result : Promise.reject(new Error(JSON.stringify(error))));
    waiting.delete(id);
  });
  let last = 0;
  const ask = (method, params = {}) => {
    const id = String((last += 1));
    hub.stdin.write(`${JSON.stringify({ id, method, params })}\n`);
    return new Promise((resolve) => waiting.set(id, resolve));
  };
  const configured = (all) => {
    const entries = Object.entries(all).map(([name, { strategy, targets }]) => [
      name,
      { strategy, ...(check && { check }), ...pool, targets: targets.map((target) => ({ host, ...target })) },
    ]);
    return Object.fromEntries(entries);
  };
  await ask('startHub', {
    tunnelPort,
    bindAddress: host,
    workers,
    drainTimeoutSecs: 1,
    limits: { maxStreams: 0, maxStreamsPerEdge: 0 },
    pools: configured(pools),
    edges: [
      {
        id: 'bench',
        secret,
        stunIntervalSecs: 0,
        listenPorts: [
          ...Object.entries(ports).map(([name, port]) => ({ port, pool: name, proxyProtocol: 'none' })),
          ...listenPorts,
        ],
      },
    ],
    ...hubConfig,
  });
  const config = {
    hubHost: host,
    hubPort: tunnelPort,
    edgeId: 'bench',
    secret,
    bindAddress: host,
    stunServers: [],
    workers,
    drainTimeoutSecs: 1,
    // The bench's clients share an address.
    limits: { maxConnections: 0, maxConnectionsPerListener: 0, maxConnectionsPerIp: 0, newConnectionsPerIpPerSec: 0 },
  };
  writeFileSync(join(directory, 'edge.json'), JSON.stringify(config));
  const edge = run(BIN, ['edge', '--config', join(directory, 'edge.json')]);
  for (const { port } of listenPorts) await opened(port, directory);
  return {
    directory,
    ports,
    ask,
    events,
    hub,
    pids: () => [edge.pid, hub.pid],
    /** Changes may be asked for while others are under way: the hub puts them together. */
    overlaps: true,
    reload: (changed) => ask('updatePools', { pools: configured(changed) }),
    stop,
  };
}

/** HAProxy under its master process, so that it reloads as a service does: a new worker beside the old one. */
async function haproxy(pools, serverOptions, redispatch = '') {
  const { directory, run, stop } = place('haproxy');
  const ports = portsOf(pools);
  const balance = { roundRobin: 'roundrobin', leastConnections: 'leastconn' };
  const file = join(directory, 'haproxy.cfg');
  const write = (all) => {
    const sections = Object.entries(all).map(([name, { strategy, targets }]) =>
      [
        `listen ${name}`,
        `  bind ${host}:${ports[name]}`,
        `  balance ${balance[strategy]}`,
        ...targets.map(({ port, weight = 1 }) => `  server s${port} ${host}:${port} weight ${weight}${serverOptions}`),
      ].join('\n'),
    );
    const head = `global
  nbthread ${workers}
  maxconn 8000
defaults
  mode tcp
  retries 3
  option redispatch${redispatch}
  timeout connect 1s
  timeout client 1h
  timeout server 1h
`;
    writeFileSync(file, `${head}${sections.join('\n')}\n`);
  };
  write(pools);
  const master = run('haproxy', ['-W', '-f', file]);
  return { directory, ports, pids: () => family(master.pid), reload: reloading(master.pid, 'SIGUSR2', write), stop };
}

/** nginx, whose workers share the state of an upstream by its zone. */
async function nginx(pools) {
  const { directory, run, stop } = place('nginx');
  const ports = portsOf(pools);
  const file = join(directory, 'nginx.conf');
  const write = (all) => {
    const sections = Object.entries(all).map(
      ([name, { strategy, targets }]) => `
  upstream ${name} {
    zone ${name} 256k;
    ${strategy === 'leastConnections' ? 'least_conn;' : ''}
    ${targets.map(({ port, weight = 1 }) => `server ${host}:${port} weight=${weight};`).join('\n    ')}
  }
  server { listen ${host}:${ports[name]} backlog=4096; tcp_nodelay on; proxy_pass ${name}; }`,
    );
    writeFileSync(
      file,
      `${existsSync(nginxModule) ? `load_module ${nginxModule};` : ''}
daemon off;
pid ${directory}/pid;
error_log ${directory}/err crit;
worker_processes ${workers};
worker_rlimit_nofile 20000;
events { worker_connections 9000; }
stream {
  proxy_timeout 1h;
  proxy_connect_timeout 1s;
  proxy_next_upstream on;${sections.join('')}
}
`,
    );
  };
  write(pools);
  const master = run('nginx', ['-p', directory, '-c', file]);
  return { directory, ports, pids: () => family(master.pid), reload: reloading(master.pid, 'SIGHUP', write), stop };
}

/**
 * A reload by signal: settles when the master has a worker that it didn't have. HAProxy's master starts itself again for
 * each, and loses what comes meanwhile: it is sent when the master catches it, and once more if nothing comes of it.
 */
function reloading(master, name, write) {
  return async (pools) => {
    write(pools);
    const before = new Set(children(master));
    for (let tries = 0; tries < 50; tries += 1) {
      while (!catches(master, constants.signals[name])) await pause(2);
      signal(master, name);
      for (const again = performance.now() + 500; performance.now() < again; await pause(2)) {
        if (children(master).some((pid) => !before.has(pid))) return;
      }
    }
    throw new Error(`${name} brings no new worker`);
  };
}

/** Whether a process has a handler for a signal, and doesn't hold it back. */
function catches(pid, number) {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const has = (mask) => (BigInt(`0x${new RegExp(`${mask}:\\s*(\\S+)`).exec(status)[1]}`) >> BigInt(number - 1)) & 1n;
  return has('SigCgt') && !has('SigBlk');
}

function children(pid) {
  const file = `/proc/${pid}/task/${pid}/children`;
  return existsSync(file) ? readFileSync(file, 'latin1').trim().split(' ').filter(Boolean).map(Number) : [];
}

function family(pid) {
  return [pid, ...children(pid).flatMap(family)];
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}

/** Settles when the port takes connections. */
async function opened(port, directory) {
  for (const deadline = performance.now() + startedWithinMs; performance.now() < deadline; await pause(20)) {
    const isOpen = await new Promise((resolve) => {
      const socket = connect({ port, host }, () => resolve(true) || socket.destroy()).on('error', () => resolve(false));
    });
    if (isOpen) return;
  }
  throw new Error(`port ${port} doesn't open; see ${directory}/log`);
}
