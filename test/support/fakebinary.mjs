// Stands in for remoteingress-bin where a test needs a binary that misbehaves. `journal.jsonl` in `directory` gets a
// line for each start and each request, so that a test sees what the binary saw.
import { appendFileSync, closeSync, existsSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

export function run(directory, faults) {
  const has = (fault) => faults.includes(fault);
  const note = (entry) => appendFileSync(join(directory, 'journal.jsonl'), `${JSON.stringify(entry)}\n`);
  const write = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  const log = (level, message) => {
    const entry = { timestamp: new Date().toISOString(), level, target: 'fake', fields: { message, answer: 42 } };
    process.stderr.write(`${JSON.stringify(entry)}\n`);
  };
  note({ start: process.pid, argv: process.argv.slice(2), env: process.env });

  // A file `fail` makes this run, and no later one, end before it is ready.
  const failFile = join(directory, 'fail');
  if (has('exitsEarly') || existsSync(failFile)) {
    rmSync(failFile, { force: true });
    log('ERROR', 'no luck today');
    process.exitCode = 3;
    return;
  }
  if (has('neverReady')) return void setInterval(() => {}, 1_000);
  if (has('garbage')) process.stdout.write('5\nnull\n"text"\n[1,2]\nnot JSON\n{"id":"nobody","success":true}\n{}\n');

  let tunnelPort = 40_001;
  let stopping = false;
  let set = 0;
  const change = () => ({ added: [], removed: [], changed: [], unchanged: [] });
  const methods = {
    ping: () => ({}),
    startHub: (params) => {
      if (params.targetHost === 'refuse') throw new Error('E_INVALID_CONFIG: targetHost: is refused');
      if (params.tunnelPort !== 0) tunnelPort = params.tunnelPort;
      return { tunnelPort, hubPin: null };
    },
    startEdge: () => ({}),
    updateAllowedEdges: change,
    beginAllowedEdges: () => ({ set: ++set }),
    addAllowedEdges: () => ({}),
    commitAllowedEdges: change,
    upsertEdges: change,
    removeEdges: () => ({ removed: [], unknown: [] }),
    createConnectionToken: ({ edgeId }) => ({ token: `token-${edgeId}` }),
    subscribe: () => ({}),
    getStatus: () => ({ running: true, tunnelPort }),
    stop: () => ((stopping = true), {}),
  };
  const answer = ({ id, method, params }) => {
    note({ method, params });
    if (has(`dies:${method}`)) process.kill(process.pid, 'SIGKILL');
    if (has(`closesStdout:${method}`)) closeSync(1);
    if (has(`ignores:${method}`) || has(`closesStdout:${method}`)) return;
    try {
      write({ id, success: true, result: methods[method](params) });
    } catch (error) {
      write({ id, success: false, error: error.message });
    }
    if (has('garbage')) process.stdout.write('7\n');
    if (stopping) process.exit(0);
  };

  if (has('deaf')) process.on('SIGTERM', () => {}).on('SIGINT', () => {});
  if (has('closesStdin')) {
    closeSync(0);
    setInterval(() => {}, 1_000);
  } else {
    createInterface({ input: process.stdin })
      .on('line', (line) => answer(JSON.parse(line)))
      .on('close', () => process.exit(0));
  }
  const protocolVersion = has('oldProtocol') ? 99 : 1;
  write({ event: 'ready', data: { version: '0.0.0', protocolVersion, wireVersion: 7, features: [] } });
  log('INFO', 'ready now');
}
