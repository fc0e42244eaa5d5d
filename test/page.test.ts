// The status page in a real Chromium.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type TestContext, test } from 'node:test';
import type { Page } from 'playwright-core';
import { FakeAdmin, fakeEdge, fakeHub, hasChromium, startChromium } from './support/statuspage.js';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const options = { skip: hasChromium ? false : 'Chromium is not installed' };

const failed = { code: 'E_ADDRESS_IN_USE', message: 'nginx has it' } as const;
const edges = () => [
  fakeEdge('fra-1'),
  fakeEdge('nyc-1', { transport: 'tcpTls', rttMs: 84.1 }),
  fakeEdge('sgp-1', { ports: [{ protocol: 'tcp', port: 80, state: 'failed', error: failed }] }),
];

async function open(t: TestContext, admin: FakeAdmin, context: object = {}) {
  const browser = await startChromium(t);
  const page = await (await browser.newContext({ viewport: { width: 1440, height: 900 }, ...context })).newPage();
  const requests: string[] = [];
  const complaints: string[] = [];
  page.on('request', (request) => requests.push(request.url()));
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.goto(admin.url);
  return { page, requests, complaints };
}

const row = (page: Page, id: string) => page.locator('#edges > tr', { hasText: id });

async function startHub(t: TestContext, connected = edges()): Promise<FakeAdmin> {
  const admin = new FakeAdmin(fakeHub(connected));
  await admin.start(t);
  return admin;
}

test('it shows what the status says, and an edge that goes away turns red within 2 s', options, async (t) => {
  const admin = await startHub(t);
  const { page, requests, complaints } = await open(t, admin);
  await page.locator('html[data-ready]').waitFor();
  assert.equal(await page.locator('#tile-edges').innerText(), '3');
  assert.equal(await page.locator('#tile-streams').innerText(), '126');
  assert.match(await row(page, 'nyc-1').innerText(), /Connected[\s\S]*TLS[\s\S]*84\.1 ms[\s\S]*42/);
  assert.match(await row(page, 'sgp-1').innerText(), /Port failed[\s\S]*E_ADDRESS_IN_USE/);
  assert.match(await page.locator('#refusals').innerText(), /targetRefused\s+12/);

  const moved = edges().map((edge) => ({ ...edge, bytesIn: edge.bytesIn + 1_000_000 }));
  admin.send(fakeHub(moved));
  await row(page, 'fra-1').getByText(/[1-9].* [kMG]bit\/s/).waitFor({ timeout: 2_000 });
  const left = performance.now();
  admin.send({ ...admin.status, hub: fakeHub(moved.slice(1)).hub });
  await row(page, 'fra-1').locator('.pill[data-tone=bad]', { hasText: 'Away' }).waitFor({ timeout: 2_000 });
  assert.ok(performance.now() - left < 2_000);
  assert.match(await page.locator('#announcements').innerText(), /Edge fra-1: Away/);
  assert.match(await page.title(), /1 away/);
  assert.deepEqual(requests.filter((url) => !url.startsWith(admin.url) && !url.startsWith('data:')), []);
  assert.deepEqual(complaints, []);

  admin.stop();
  await page.getByRole('alert').filter({ hasText: 'No answer from the admin server' }).waitFor();
});

test('it is readable without script', options, async (t) => {
  const admin = await startHub(t);
  const { page } = await open(t, admin, { javaScriptEnabled: false });
  const text = await page.locator('main').innerText();
  for (const shown of ['fra-1', '84.1 ms', 'E_ADDRESS_IN_USE', 'targetRefused']) assert.ok(text.includes(shown), shown);
});

test('axe finds nothing serious, in both themes and widths', options, async (t) => {
  const admin = await startHub(t);
  const { page } = await open(t, admin, { bypassCSP: true, reducedMotion: 'reduce' });
  await page.locator('html[data-ready]').waitFor();
  admin.send({ ...admin.status, hub: fakeHub(edges().slice(1)).hub });
  await page.locator('#edges .pill[data-tone=bad]').waitFor();
  await page.evaluate(axeSource);
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [390, 1440]) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.setViewportSize({ width, height: 900 });
      const violations = (await page.evaluate('axe.run().then(({ violations }) => violations)')) as {
        id: string;
        impact: string;
        nodes: { html: string }[];
      }[];
      const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
      const told = grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
      assert.deepEqual(told, [], `${colorScheme} at ${width} px`);
      assert.ok(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), `fits into ${width} px`);
    }
  }
});

test('the keyboard reaches filter and details', options, async (t) => {
  const admin = await startHub(t);
  const { page } = await open(t, admin);
  await page.locator('html[data-ready]').waitFor();
  const reached = new Set<string>();
  for (let presses = 0; presses < 12; presses += 1) {
    await page.keyboard.press('Tab');
    reached.add((await page.evaluate('document.activeElement.id || document.activeElement.textContent')) as string);
  }
  for (const wanted of ['Skip to content', 'edge-filter', 'fra-1', 'sgp-1', 'Status as JSON']) assert.ok(reached.has(wanted), wanted);
  await page.locator('#edge-filter').fill('sgp');
  assert.equal(await page.locator('#edges > tr').count(), 1);
});

test('1,000 edges are drawn within 300 ms, 200 of them as rows', options, async (t) => {
  const admin = await startHub(t, Array.from({ length: 1_000 }, (_, index) => fakeEdge(`edge-${index}`)));
  const { page } = await open(t, admin);
  await page.locator('html[data-ready]').waitFor();
  assert.equal(await page.locator('#edges > tr').count(), 200);
  assert.match(await page.locator('#edges-count').innerText(), /1,000 connected · 200 of 1,000 matches shown/);
  // From the next status to the text that it changes, with layout.
  await page.evaluate(`void (window.drawn = new Promise((resolve) => {
    const seen = () => resolve(document.body.offsetHeight);
    new MutationObserver(seen).observe(document.getElementById('tile-streams'), { childList: true });
  }))`);
  const begin = performance.now();
  admin.send({ ...admin.status, hub: fakeHub(admin.status.hub!.connectedEdges.map((edge) => ({ ...edge, activeStreams: 43 }))).hub });
  await page.evaluate('window.drawn');
  const ms = performance.now() - begin;
  assert.ok(ms < 300, `${ms.toFixed(0)} ms`);
});
