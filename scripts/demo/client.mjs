// Clients of the edge: one request or datagram to look at, and steady traffic in the background.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { Agent, request } from 'node:http';

/** On loopback everything answers within milliseconds; beyond this something is broken. */
const answerTimeoutMs = 10_000;

/** The parts of steady traffic: every so often one request of each kind, each with its own connection. */
const everyMs = 100;
const kinds = [
  { method: 'GET', path: '/?bytes=65536', body: 0 },
  { method: 'POST', path: '/', body: 16_384 },
];

/** Sends one request from `localAddress` and tells which client the target saw, and which it really was. */
export async function ask(port, localAddress, { method = 'GET', path = '/', body = 0, agent = false, signal } = {}) {
  const sent = request({ host: '127.0.0.1', port, localAddress, method, path, agent, signal });
  sent.setTimeout(answerTimeoutMs, () => sent.destroy(new Error(`nothing for ${answerTimeoutMs} ms`)));
  sent.end(body > 0 ? Buffer.alloc(body, 'x') : undefined);
  const answered = await once(sent, 'response').catch((error) => {
    // The server had just given the idle connection up: like every client, ask again with a new one.
    if (sent.reusedSocket && !signal?.aborted) return undefined;
    throw error;
  });
  if (!answered) return ask(port, localAddress, { method, path, body, signal });
  const [response] = answered;
  const { localAddress: address, localPort } = response.socket;
  const text = await new Promise((resolve, reject) => {
    const chunks = [];
    response.on('data', (chunk) => chunks.push(chunk));
    response.on('end', () => resolve(Buffer.concat(chunks).toString()));
    response.on('error', reject);
  });
  return { status: response.statusCode, text, seen: response.headers['x-client'], own: `${address}:${localPort}` };
}

/** Sends one datagram from `localAddress` and tells the answer, and which client it really was. */
export async function askUdp(port, localAddress, text, signal) {
  const socket = createSocket('udp4');
  const giveUp = () => socket.emit('error', new Error(`nothing for ${answerTimeoutMs} ms`));
  const timer = setTimeout(giveUp, answerTimeoutMs);
  let again;
  try {
    socket.bind(0, localAddress);
    await once(socket, 'listening');
    const answered = once(socket, 'message', { signal });
    const send = () => socket.send(text, port, '127.0.0.1');
    // A datagram may be lost, as it is while not every worker has its session yet: every client of UDP asks again.
    again = setInterval(send, 500);
    send();
    const [answer] = await answered;
    return { text: answer.toString(), own: `${localAddress}:${socket.address().port}` };
  } finally {
    clearTimeout(timer);
    clearInterval(again);
    socket.close();
  }
}

/** Keeps a few connections busy until `stop`; `failures` says of each request that got no good answer why. */
export function startTraffic(port) {
  const agent = new Agent({ keepAlive: true });
  let stopped = false;
  const traffic = {
    failures: [],
    stop() {
      stopped = true;
      clearInterval(timer);
      agent.destroy();
    },
  };
  const send = async (options) => {
    const { method, agent: kept } = options;
    const failure = await ask(port, '127.0.0.1', options).then(
      ({ status }) => (status === 200 ? undefined : `status ${status}`),
      ({ message }) => message,
    );
    if (failure && !stopped) traffic.failures.push(`${method} over a ${kept ? 'kept' : 'new'} connection: ${failure}`);
  };
  const timer = setInterval(() => {
    for (const kind of kinds) {
      void send(kind);
      void send({ ...kind, agent });
    }
  }, everyMs);
  return traffic;
}
