// A tiny UDP server behind the hub. It reads the PROXY v2 header that the hub puts in front of each datagram
// (`everyDatagram`), and answers with the client's address from it.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

/** Offsets of the parts of a header for UDP over IPv4, in bytes, by its specification. */
const at = { command: 12, length: 14, address: 16, port: 24, end: 16 };

/** Version 2, command PROXY; IPv4, datagrams. */
const proxyUdp4 = 0x2112;

export async function startUdpTarget() {
  const socket = createSocket('udp4');
  socket.on('message', (datagram, hub) => {
    if (datagram.length < at.port + 2 || datagram.readUInt16BE(at.command) !== proxyUdp4) return;
    const client = `${datagram.subarray(at.address, at.address + 4).join('.')}:${datagram.readUInt16BE(at.port)}`;
    const said = datagram.subarray(at.end + datagram.readUInt16BE(at.length));
    socket.send(`You are ${client} and said "${said}".`, hub.port, hub.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return { port: socket.address().port, stop: () => new Promise((resolve) => socket.close(resolve)) };
}
