// A tiny HTTP server behind the hub. It reads the PROXY v1 line that the hub writes before the client's first byte,
// and answers with the client's address from it.
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';

/** The longest PROXY v1 line, in bytes, by its specification. */
const longestLine = 107;

const proxyLine = /^PROXY (?:TCP4|TCP6) (?<client>\S+) \S+ (?<port>\d+) \d+$/;

/** @param port - where it listens; 0: any free one */
export async function startTarget(port = 0) {
  let isLeaving = false;
  const idle = new Set(); // between two requests; one whose first request is on its way isn't
  const http = createHttpServer((request, response) => {
    idle.delete(request.socket);
    response.on('finish', () => idle.add(request.socket));
    const size = Number(new URL(request.url, 'http://target').searchParams.get('bytes') ?? 0);
    request.resume();
    if (isLeaving) response.setHeader('connection', 'close');
    response.setHeader('x-client', request.socket.clientAddress);
    response.end(size > 0 ? Buffer.alloc(size, 'x') : `You are ${request.socket.clientAddress}.\n`);
  });
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket) && idle.delete(socket)).on('error', () => {});
    readProxyLine(socket, () => {
      http.emit('connection', socket);
      socket.resume();
    });
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    port: server.address().port,
    /** It answers what it is at, and takes nothing more: a new connection is refused. */
    async leave() {
      isLeaving = true;
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of idle) socket.destroy();
      await closed;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function readProxyLine(socket, done) {
  let head = Buffer.alloc(0);
  const onData = (chunk) => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf('\r\n');
    if (end < 0 && head.length <= longestLine) return;
    const match = proxyLine.exec(head.toString('latin1', 0, Math.max(end, 0)));
    if (!match) return void socket.destroy();
    socket.clientAddress = `${match.groups.client}:${match.groups.port}`;
    socket.off('data', onData).pause();
    socket.unshift(head.subarray(end + 2));
    done();
  };
  socket.on('data', onData);
}
