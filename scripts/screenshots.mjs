// node scripts/screenshots.mjs: pictures of the status page for the readme, at two widths, light and dark.
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { buildTests, buildTypeScript, installPackages, root } from './setup.mjs';

installPackages();
buildTypeScript();
buildTests();
const { FakeAdmin, fakeEdge, fakeHub, startChromium } = await import('../dist_test/support/statuspage.js');

const largestBytes = 150_000;
const samples = 60;
const endings = [];
const scope = { after: (ending) => endings.unshift(ending) };

const failed = { code: 'E_ADDRESS_IN_USE', message: 'another socket has the port' };
const edges = [
  fakeEdge('ams-1', { remoteAddress: '192.0.2.10:52110', rttMs: 8.2, activeStreams: 214 }),
  fakeEdge('fra-1', { remoteAddress: '192.0.2.24:40118', rttMs: 11.7, activeStreams: 1_204 }),
  fakeEdge('nyc-1', { remoteAddress: '198.51.100.7:51820', transport: 'tcpTls', rttMs: 84.1, activeStreams: 96 }),
  fakeEdge('sgp-1', {
    remoteAddress: '203.0.113.80:61002',
    rttMs: 171,
    activeStreams: 31,
    ports: [
      { protocol: 'tcp', port: 443, state: 'bound' },
      { protocol: 'tcp', port: 80, state: 'failed', error: failed },
    ],
  }),
  fakeEdge('syd-1', { rttMs: 248, activeStreams: 12 }),
];

const admin = new FakeAdmin(fakeHub(edges));
const now = Date.now();
const connected = (edgeId) => ({ edgeId, remoteAddress: '192.0.2.24:40118', transport: 'quic', version: '0.3.0' });
admin.events = [
  { seq: 1, at: now - 9_000_000, event: 'edgeConnected', data: connected('fra-1') },
  { seq: 2, at: now - 8_000_000, event: 'portsApplied', data: { edgeId: 'sgp-1', ports: edges[3].ports } },
  { seq: 3, at: now - 600_000, event: 'edgeRejected', data: { edgeId: null, reason: 'authFailed', remoteAddress: '198.51.100.99:4242' } },
  { seq: 4, at: now - 20_000, event: 'edgeDisconnected', data: { edgeId: 'syd-1', reason: 'the connection was reset' } },
];
admin.streams = ['192.0.2.201:50122', '[2001:db8::17]:41852', '198.51.100.44:60911', '203.0.113.5:39004'].map(
  (clientAddress, index) => ({
    id: `a1-${index}`,
    edgeId: ['fra-1', 'ams-1', 'nyc-1', 'fra-1'][index],
    protocol: 'tcp',
    clientAddress,
    port: 443,
    target: '10.0.0.5:8443',
    transport: index === 2 ? 'tcpTls' : 'quic',
    openedAt: now - 4_000_000 / (index + 1) ** 3,
    bytesIn: 52_000 * (index + 1),
    bytesOut: 9_400_000 * (4 - index),
    tier: index === 0 ? 'sustained' : 'data',
    waitsFor: index === 3 ? 'dial' : null,
  }),
);
await admin.start(scope);
const browser = await startChromium(scope);
mkdirSync(join(root, 'docs/img'), { recursive: true });

for (const colorScheme of ['light', 'dark']) {
  for (const width of [1440, 390]) {
    admin.status = fakeHub(edges);
    const page = await (await browser.newContext({ colorScheme, viewport: { width, height: width === 390 ? 844 : 900 } })).newPage();
    await page.goto(admin.url);
    await page.locator('html[data-ready]').waitFor();
    await draw(page);
    const path = join(root, `docs/img/status-${width}-${colorScheme}.png`);
    await page.screenshot({ path });
    const { size } = statSync(path);
    console.log(`${path.slice(root.length)}: ${size} bytes`);
    if (size > largestBytes) throw new Error(`${path} has more than ${largestBytes} bytes`);
  }
}
for (const ending of endings) await ending();

/** Traffic of some seconds, and one edge that goes away. */
async function draw(page) {
  let moved = edges;
  for (let sample = 0; sample < samples; sample += 1) {
    moved = moved.map((edge, index) => {
      const rate = 3_000_000 * (index + 1) * (2 + Math.sin(sample / 4 + index) + Math.sin(sample * 1.7 + index) / 3);
      return { ...edge, bytesIn: edge.bytesIn + Math.round(rate / 60), bytesOut: edge.bytesOut + Math.round(rate / 10) };
    });
    admin.send(fakeHub(sample < samples - 1 ? moved : moved.slice(0, 4)));
    await page.waitForTimeout(120);
  }
  await page.locator('#edges .pill[data-tone=bad]').waitFor();
}
