// node scripts/screenshots.mjs [SECONDS]: pictures of the status page in docs/img/, of a hub and an edge of the real
// binary with real traffic on loopback, at two widths, light and dark. Needs Chromium. REMOTEINGRESS_BIN names a binary
// that is already built.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { buildBinary, buildTests, buildTypeScript, installPackages, root } from './setup.mjs';

installPackages();
if (!process.env.REMOTEINGRESS_BIN) buildBinary();
buildTypeScript();
buildTests();
const { createSecret, RemoteIngressEdge, RemoteIngressHub } = await import('../dist_ts/index.js');
const { startChromium } = await import('../dist_test/support/statuspage.js');

const seconds = Number(process.argv[2] ?? 60);
const largestBytes = 150_000;
const host = '127.0.0.1';
const endings = [];
const scope = { after: (ending) => endings.unshift(ending) };
let isOver = false;

/** Each edge has a loopback address of its own; `load` is how much its clients send, and the last one is away in the end. */
const sites = [
  { id: 'ams-1', transportMode: 'quic', load: 90 },
  { id: 'fra-1', transportMode: 'quic', load: 260 },
  { id: 'nyc-1', transportMode: 'tcpTls', load: 40 },
  { id: 'sgp-1', transportMode: 'quic', load: 12 },
  { id: 'syd-1', transportMode: 'tcpTls', load: 5 },
].map((site, index) => ({ ...site, address: `127.0.1.${10 + index}` }));

const web = await target();
const names = await udpTarget();
const stateDir = mkdtempSync(join(tmpdir(), 'remoteingress-pictures-'));
scope.after(() => rmSync(stateDir, { recursive: true, force: true }));

const [hubPort, edgePort, nobody] = await freePorts(3);
const hub = new RemoteIngressHub();
scope.after(() => hub.stop());
const adminOf = (port) => ({ admin: { listen: `${host}:${port}` } });
const { tunnelPort } = await hub.start({ tunnelPort: 0, bindAddress: host, stateDir, drainTimeoutSecs: 1, ...adminOf(hubPort) });
await hub.updateAllowedEdges(
  sites.map(({ id }) => ({
    id,
    secret: createSecret(),
    stunIntervalSecs: 0,
    listenPorts: [
      { port: 8443, targetPort: web, proxyProtocol: 'none' },
      { port: 8080, targetPort: web, proxyProtocol: 'none' },
      { port: '2201-2208', targetPort: web, proxyProtocol: 'none' },
      { port: 9000, targetPort: nobody, proxyProtocol: 'none' }, // nobody listens there
    ],
    listenPortsUdp: [{ port: 5353, targetPort: names, proxyProtocol: 'none' }],
  })),
);

await occupy(sites[3].address, 8080);
await strangersAt(tunnelPort);
const edges = [];
for (const [index, { id, address, transportMode }] of sites.entries()) {
  const edge = new RemoteIngressEdge();
  scope.after(() => edge.stop());
  const token = await hub.createConnectionToken(id, { hubHost: host });
  const config = { token, bindAddress: address, sourceAddress: address, transportMode, stunServers: [], drainTimeoutSecs: 1 };
  const applied = new Promise((resolve) => hub.on('portsApplied', (event) => event.edgeId === id && resolve()));
  await edge.start({ ...config, ...(index === 1 ? adminOf(edgePort) : {}) });
  await applied;
  edges.push(edge);
}
for (const site of sites) serve(site);
for (let visits = 0; visits < 7; visits += 1) await refused(sites[visits % 3].address);

const browser = await startChromium(scope);
mkdirSync(join(root, 'docs/img'), { recursive: true });
const pages = [];
for (const [role, port] of [['hub', hubPort], ['edge', edgePort]]) {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1440, 390]) {
      const context = await browser.newContext({ colorScheme, viewport: { width, height: 680 } });
      const page = await context.newPage();
      await page.goto(`http://${host}:${port}/`);
      pages.push({ page, path: join(root, `docs/img/status-${role}-${width}-${colorScheme}.png`) });
    }
  }
}
await pause(seconds * 1_000);
await edges[4].stop();
await pages[0].page.locator('#edges .pill[data-tone=bad]').waitFor();
await pause(2_500);
for (const { page, path } of pages) {
  await page.screenshot({ path });
  const { size } = statSync(path);
  console.log(`${path.slice(root.length)}: ${size} bytes`);
  if (size > largestBytes) process.exitCode = 1;
}
isOver = true;
for (const ending of endings) await ending();
if (process.exitCode) console.error(`A picture has more than ${largestBytes} bytes`);

async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, host));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Answers each byte with six, as a web server's answers are larger than its requests. */
async function target() {
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('data', (data) => socket.write(Buffer.concat(Array(6).fill(data)))).on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  }).listen(0, host);
  await once(server, 'listening');
  scope.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return server.address().port;
}

async function udpTarget() {
  const socket = createSocket('udp4').bind(0, host);
  await once(socket, 'listening');
  socket.on('message', (data, { port, address }) => socket.send(data, port, address));
  scope.after(() => socket.close());
  return socket.address().port;
}

async function occupy(address, port) {
  const server = createServer().listen(port, address);
  await once(server, 'listening');
  scope.after(() => server.close());
}

/** Callers at the tunnel port that aren't edges. */
async function strangersAt(port) {
  for (let callers = 0; callers < 3; callers += 1) {
    const socket = connect(port, host).on('error', () => {}).resume();
    socket.end('GET / HTTP/1.1\r\n\r\n');
    await new Promise((resolve) => socket.on('close', resolve));
  }
}

async function refused(address) {
  const socket = connect(9000, address).on('error', () => {}).resume();
  socket.write('hello');
  await new Promise((resolve) => socket.on('close', resolve));
}

/** Clients of one edge: streams that stay, whose load swings, and UDP. */
function serve({ address, load }) {
  const clients = Array.from({ length: 4 + Math.round(load / 9) }, (_, index) => {
    const socket = connect({ host: address, port: index % 4 === 3 ? 8080 : 8443, localAddress: `127.0.2.${1 + (index % 200)}` });
    return socket.on('error', () => {}).resume();
  });
  const udp = createSocket('udp4');
  let step = 0;
  const timer = setInterval(() => {
    if (isOver) return;
    step += 1;
    const swing = 2 + Math.sin(step / 9 + load) + Math.sin(step * 0.9 + load) / 2;
    const socket = clients[step % clients.length];
    if (!socket.destroyed) socket.write(Buffer.alloc(Math.round(load * 250 * swing)));
    udp.send('name', 5353, address, () => {});
  }, 100);
  scope.after(() => {
    clearInterval(timer);
    udp.close();
    for (const socket of clients) socket.destroy();
  });
}
