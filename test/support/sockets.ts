// A TCP target that understands PROXY v1, clients, and free ports.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';

const host = '127.0.0.1';

export interface IEchoTarget {
  port: number;
  /** What each connection's PROXY line said, in order of arrival. */
  lines: string[];
}

/** Reads the PROXY v1 line of each connection, then echoes every byte; ends when its client ends. */
export async function echoTarget(test: TestContext): Promise<IEchoTarget> {
  const lines: string[] = [];
  const server = createServer((socket) => {
    let head = Buffer.alloc(0);
    const onData = (chunk: Buffer) => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n');
      if (end < 0) return;
      lines.push(head.toString('latin1', 0, end));
      socket.off('data', onData);
      socket.write(head.subarray(end + 2));
      socket.pipe(socket);
    };
    socket.on('data', onData).on('error', () => {});
  });
  return { port: await listen(test, server), lines };
}

/** Listens on a port that the kernel chooses and returns it; closed with the test. */
export async function listen(test: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, host);
  await once(server, 'listening');
  test.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Ports that were free a moment ago, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, host));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export async function client(test: TestContext, port: number, localAddress: string = host): Promise<Socket> {
  const socket = connect({ host, port, localAddress });
  test.after(() => socket.destroy());
  await once(socket, 'connect');
  socket.on('error', () => {});
  return socket;
}

/** Sends a text and waits until it has come back. */
export async function roundTrip(socket: Socket, sent = 'ping'): Promise<void> {
  let received = '';
  const echoed = new Promise<void>((resolve, reject) => {
    const onData = (chunk: Buffer) => {
      received += chunk.toString();
      if (received.length >= sent.length) settle();
    };
    const onClose = () => settle(new Error(`closed after ${received.length} of ${sent.length} bytes`));
    const settle = (error?: Error) => {
      socket.off('data', onData).off('close', onClose);
      if (error) reject(error);
      else resolve();
    };
    socket.on('data', onData).on('close', onClose);
    if (socket.closed) onClose();
  });
  socket.write(sent);
  await echoed;
  if (received !== sent) throw new Error(`sent ${sent}, received ${received}`);
}

/** One connection with one round trip, ended in order. */
export async function visit(test: TestContext, port: number, localAddress?: string): Promise<string> {
  const socket = await client(test, port, localAddress);
  await roundTrip(socket);
  const own = `${socket.localAddress} ${socket.localPort}`;
  socket.end();
  await once(socket, 'close');
  return own;
}
