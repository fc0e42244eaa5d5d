// A TCP target that understands PROXY v1, a UDP target that understands v2, clients, a relay, and free ports.
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';

const host = '127.0.0.1';

export interface IEchoTarget {
  port: number;
  /** Text of each connection's PROXY line, in order of arrival. */
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

export interface IUdpEchoTarget {
  port: number;
  /** The client's address in each datagram's PROXY header, in order of arrival. */
  clients: string[];
}

/** Takes the PROXY v2 header off each datagram (`everyDatagram`, IPv4) and sends the rest back. */
export async function udpEchoTarget(test: TestContext): Promise<IUdpEchoTarget> {
  const clients: string[] = [];
  const socket = await udpSocket(test);
  socket.on('message', (datagram, { address, port }) => {
    // Signature 12, version and command, family and protocol, length; then source and destination (v2, section 2.2).
    if (datagram.readUInt16BE(12) !== 0x2112) return;
    clients.push(`${datagram.subarray(16, 20).join('.')}:${datagram.readUInt16BE(24)}`);
    socket.send(datagram.subarray(16 + datagram.readUInt16BE(14)), port, address);
  });
  return { port: socket.address().port, clients };
}

/** A UDP port that was free a moment ago. */
export async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, host);
  await once(socket, 'listening');
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}

/** A bound UDP socket, closed with the test. */
export async function udpSocket(test: TestContext, port = 0): Promise<UdpSocket> {
  const socket = createSocket('udp4').bind(port, host);
  test.after(() => socket.close());
  await once(socket, 'listening');
  return socket;
}

export interface ITunnelRelay {
  port: number;
  carriesUdp: boolean;
}

/** Passes TCP on to a hub, and UDP too while it shall: a network between edge and hub. */
export async function tunnelRelay(test: TestContext, hubPort: number): Promise<ITunnelRelay> {
  const server = createServer((from) => {
    const to = connect(hubPort, host);
    test.after(() => to.destroy());
    from.on('error', () => to.destroy()).pipe(to);
    to.on('error', () => from.destroy()).pipe(from);
  });
  const relay = { port: await listen(test, server), carriesUdp: true };
  const entrance = await udpSocket(test, relay.port);
  const exits = new Map<number, Promise<UdpSocket>>();
  const newExit = async (edgePort: number) => {
    const exit = await udpSocket(test);
    return exit.on('message', (datagram) => {
      if (relay.carriesUdp) entrance.send(datagram, edgePort, host);
    });
  };
  entrance.on('message', async (datagram, { port }) => {
    if (!relay.carriesUdp) return;
    if (!exits.has(port)) exits.set(port, newExit(port));
    (await exits.get(port)!).send(datagram, hubPort, host);
  });
  return relay;
}
