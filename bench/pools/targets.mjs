// Targets behind the pools, in a process of their own: each answers every chunk that it gets with its own number, as
// one byte. Started by `startTargets`, which talks to it over Node's channel between processes.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const host = '127.0.0.1';
const file = fileURLToPath(import.meta.url);

if (process.send && process.argv[2] === 'serve') serve();
if (process.send && process.argv[2] === 'hole') await hole(Number(process.argv[3]));

function serve() {
  const servers = new Map(); // by port
  const listen = async (port, number) => {
    const sockets = new Set();
    const server = createServer({ noDelay: true }, (socket) => {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => sockets.delete(socket));
      socket.on('data', () => socket.write(Buffer.of(number)));
    });
    server.listen({ port, host, backlog: 4096 });
    await once(server, 'listening');
    servers.set(port, { server, sockets });
  };
  const close = async (port) => {
    const { server, sockets } = servers.get(port);
    servers.delete(port);
    server.close();
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const commands = { listen, close };
  process.on('message', async ({ id, command, params }) => process.send({ id, result: await commands[command](...params) }));
  process.on('disconnect', () => process.exit());
  process.send('ready');
}

/** Listens with a queue of one. `dig` stops it by a signal, so that it accepts no more. */
async function hole(port) {
  const server = createServer((socket) => socket.on('error', () => {}).on('data', () => socket.write(Buffer.of(8)))).listen({ port, host, backlog: 1 });
  await once(server, 'listening');
  process.on('disconnect', () => process.exit());
  process.send('ready');
}

/** `listen(port, number)` and `close(port)`, which also resets what is open. */
export async function startTargets() {
  const child = fork(file, ['serve']);
  process.on('exit', () => child.kill('SIGKILL'));
  await once(child, 'message');
  const waiting = new Map();
  child.on('message', ({ id, result }) => waiting.get(id)(result));
  let last = 0;
  const ask = (command, ...params) => {
    const id = (last += 1);
    child.send({ id, command, params });
    return new Promise((resolve) => waiting.set(id, resolve));
  };
  return { listen: (port, number) => ask('listen', port, number), close: (port) => ask('close', port) };
}

/** A target that `dig()` makes a black hole: its queue of unaccepted connections is full, so that SYNs are dropped. */
export async function startHole(port) {
  const child = fork(file, ['hole', String(port)]);
  const end = () => child.kill('SIGKILL');
  process.on('exit', end);
  await once(child, 'message');
  const fillers = [];
  const dig = async () => {
    child.kill('SIGSTOP');
    for (let n = 0; n < 16; n += 1) {
      const filler = connect({ port, host }).on('error', () => {});
      fillers.push(filler);
      if (!(await Promise.race([once(filler, 'connect').then(() => true), pause(300, false)]))) return;
    }
    throw new Error(`port ${port} still takes connections`);
  };
  return {
    dig,
    end() {
      fillers.forEach((filler) => filler.destroy());
      end();
      process.off('exit', end);
    },
  };
}
