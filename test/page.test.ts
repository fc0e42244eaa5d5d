// The status page in a real Chromium, of a made-up server: states that a real one is hard to bring into.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Page } from 'playwright-core';
import { FakeAdmin, fakeEdge, fakeHub, fakePool, graveViolations, hasChromium, openPage } from './support/statuspage.js';

const options = { skip: hasChromium ? false : 'Chromium is not installed' };

const failed = { code: 'E_ADDRESS_IN_USE', message: 'nginx has it' } as const;
const edges = () => [
  fakeEdge('fra-1'),
  fakeEdge('nyc-1', { transport: 'tcpTls', rttMs: 84.1 }),
  fakeEdge('sgp-1', { ports: [{ protocol: 'tcp', port: 80, state: 'failed', error: failed }] }),
];

const row = (page: Page, id: string) => page.locator('#edges > tr', { hasText: id });

async function startHub(t: TestContext, connected = edges()): Promise<FakeAdmin> {
  const admin = new FakeAdmin(fakeHub(connected));
  await admin.start(t);
  return admin;
}

test('it shows what the status says, and an edge that goes away turns red within 2 s', options, async (t) => {
  const admin = await startHub(t);
  const { page, strangers, complaints } = await openPage(t, admin.url);
  assert.equal(await page.locator('#tile-edges').innerText(), '3');
  assert.equal(await page.locator('#tile-streams').innerText(), '126');
  assert.match(await row(page, 'nyc-1').innerText(), /Connected[\s\S]*TLS[\s\S]*84\.1 ms[\s\S]*42/);
  assert.match(await row(page, 'sgp-1').innerText(), /Port failed[\s\S]*E_ADDRESS_IN_USE/);
  assert.match(await page.locator('#refusals').innerText(), /targetRefused\s+Start the target.*\s+12/);

  const moved = edges().map((edge) => ({ ...edge, bytesIn: edge.bytesIn + 1_000_000 }));
  admin.send(fakeHub(moved));
  await row(page, 'fra-1').getByText(/[1-9].* [kMG]bit\/s/).waitFor({ timeout: 2_000 });
  const left = performance.now();
  admin.send({ ...admin.status, hub: fakeHub(moved.slice(1)).hub });
  await row(page, 'fra-1').locator('.pill[data-tone=bad]', { hasText: 'Away' }).waitFor({ timeout: 2_000 });
  assert.ok(performance.now() - left < 2_000);
  assert.match(await page.locator('#announcements').innerText(), /Edge fra-1: Away/);
  assert.match(await page.title(), /1 away/);
  assert.deepEqual(strangers(), []);
  assert.deepEqual(complaints, []);

  admin.stop();
  await page.getByRole('alert').filter({ hasText: 'No answer from the admin server' }).waitFor();
});

test('it is readable without script', options, async (t) => {
  const admin = await startHub(t);
  const { page } = await openPage(t, admin.url, { javaScriptEnabled: false });
  const text = await page.locator('main').innerText();
  for (const shown of ['fra-1', '84.1 ms', 'E_ADDRESS_IN_USE', 'targetRefused']) assert.ok(text.includes(shown), shown);
});

test('what others wrote stays text, with and without script', options, async (t) => {
  const markup = '<img src=x onerror="document.title = 1"><script>document.title = 2</script>';
  const port = { protocol: 'tcp', port: 80, state: 'failed', error: { ...failed, message: markup } } as const;
  const admin = await startHub(t, [fakeEdge(markup, { version: markup, proxy: markup, ports: [port] })]);
  admin.events = [{ seq: 1, at: Date.now(), event: markup, data: { edgeId: markup, reason: markup } }];
  for (const javaScriptEnabled of [true, false]) {
    const { page, strangers, complaints } = await openPage(t, admin.url, { javaScriptEnabled });
    if (javaScriptEnabled) await page.locator('#events .pill').waitFor();
    await page.locator('#edges summary').click();
    assert.equal(await page.locator('main :is(img, script), [onerror]').count(), 0);
    for (const part of ['problems', 'edges', 'ports']) assert.ok((await page.locator(`#${part}`).innerText()).includes(markup), part);
    assert.match(await page.title(), /^Hub/);
    assert.deepEqual([...strangers(), ...complaints], []);
  }
});

test('axe finds nothing serious, in both themes and widths', options, async (t) => {
  const admin = await startHub(t);
  const { page } = await openPage(t, admin.url, { bypassCSP: true, reducedMotion: 'reduce' });
  admin.send({ ...admin.status, hub: fakeHub(edges().slice(1)).hub });
  await page.locator('#edges .pill[data-tone=bad]').waitFor();
  assert.deepEqual(await graveViolations(page), []);
});

test('the keyboard reaches filter and details', options, async (t) => {
  const admin = await startHub(t);
  const { page } = await openPage(t, admin.url);
  const reached = new Set<string>();
  for (let presses = 0; presses < 12; presses += 1) {
    await page.keyboard.press('Tab');
    reached.add((await page.evaluate('document.activeElement.id || document.activeElement.textContent')) as string);
  }
  for (const wanted of ['Skip to content', 'edge-filter', 'fra-1', 'sgp-1', 'Status as JSON']) assert.ok(reached.has(wanted), wanted);
  await page.locator('#edge-filter').fill('sgp');
  assert.equal(await page.locator('#edges > tr').count(), 1);
});

test('of 1,000 edges 200 are rows, and the filter finds the others', options, async (t) => {
  const admin = await startHub(t, Array.from({ length: 1_000 }, (_, index) => fakeEdge(`edge-${index}`)));
  const { page } = await openPage(t, admin.url);
  assert.equal(await page.locator('#edges > tr').count(), 200);
  assert.match(await page.locator('#edges-count').innerText(), /1,000 connected · 200 of 1,000 matches shown/);
  await page.locator('#edge-filter').fill('edge-987');
  await row(page, 'edge-987').waitFor();
});

test('a server without a list of streams has no section for it', options, async (t) => {
  const admin = await startHub(t);
  admin.streams = null;
  const { page } = await openPage(t, admin.url);
  await page.locator('#section-streams').waitFor({ state: 'hidden' });
});

const pool = (first: number, second: number) => {
  const one = { id: 'one', totalStreams: first, activeStreams: 7, connectMs: 1.5, region: 'eu' };
  return fakePool('web', [one, { id: 'two', totalStreams: second, failedStreams: 3, state: 'ejected', checkError: 'refused' }]);
};
const target = (page: Page, id: string) => page.locator('#pools').getByRole('row', { name: new RegExp(`^${id} `) });

test('pools show the state of each target and its part of the new streams', options, async (t) => {
  const admin = new FakeAdmin(fakeHub(edges(), [pool(60, 20)]));
  await admin.start(t);
  const silent = await openPage(t, admin.url, { javaScriptEnabled: false });
  assert.match(await target(silent.page, 'one').innerText(), /one\s+web\s+Up\s+7\s+75 %\s+0\s+1\.50 ms\s+eu/);
  assert.match(await silent.page.locator('#problems').innerText(), /1 target out\s+web\/two: ejected\s+Streams to it have failed/);

  const { page, complaints } = await openPage(t, admin.url, { bypassCSP: true, reducedMotion: 'reduce' });
  assert.match(await target(page, 'one').innerText(), /Up\s+7\s+none/);
  assert.match(await target(page, 'two').innerText(), /two\s+web\s+Ejected\s+Last check: refused\. Streams to it have failed[\s\S]*3/);
  assert.equal(await page.locator('#pools > tr').first().locator('th').innerText(), 'two');
  assert.match(await page.locator('#problems').innerText(), /1 target out\s+web\/two: ejected\s+Streams to it have failed/);
  assert.equal(await page.locator('#pools-count').innerText(), '1 pool · 2 targets, 1 out');
  // Of those that have come since, not of all.
  admin.send(fakeHub(edges(), [pool(61, 23)]));
  await target(page, 'two').getByText('75 %').waitFor({ timeout: 2_000 });
  assert.equal(await target(page, 'two').locator('.part').getAttribute('width'), '75');
  assert.deepEqual(await graveViolations(page), []);

  admin.send(fakeHub(edges(), [fakePool('none', [])]));
  await page.locator('#problems', { hasText: /1 pool closed\s*none: no target takes streams/ }).waitFor({ timeout: 2_000 });
  admin.send(fakeHub(edges()));
  await page.locator('#section-pools').waitFor({ state: 'hidden', timeout: 2_000 });
  assert.match(await page.locator('#problems').innerText(), /All well|failed/);
  assert.deepEqual(complaints, []);
});
