// The status page of the real binary in a real Chromium: what it shows is what the status says.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createSecret, type IConnectedEdge, type IHubStatus } from '@serve.zone/remoteingress';
import type { Page } from 'playwright-core';
import { temporaryDirectory } from './support/fakes.js';
import { edgeId, type IScene, startScene } from './support/scene.js';
import { client, freePorts, roundTrip } from './support/sockets.js';
import { graveViolations, hasChromium, openPage } from './support/statuspage.js';
import { nextEvent } from './support/waiting.js';

const options = { skip: hasChromium ? false : 'Chromium is not installed' };
const token = 'admin-token-0123456789';
const soonMs = 10_000;

interface IAdmins {
  scene: IScene;
  hubUrl: string;
  edgeUrl: string;
}

async function start(t: TestContext, admin: { token?: string } = {}): Promise<IAdmins> {
  const [hubPort, edgePort] = await freePorts(2);
  const at = (port: number | undefined) => ({ admin: { listen: `127.0.0.1:${port}`, ...admin } });
  const scene = await startScene(t, { hubConfig: at(hubPort), edgeConfig: { ...at(edgePort), limits: { holdTimeoutSecs: 60 } } });
  return { scene, hubUrl: `http://127.0.0.1:${hubPort}/`, edgeUrl: `http://127.0.0.1:${edgePort}/` };
}

/** Another edge, of the standalone binary: nobody starts it again when it is killed. */
async function startSecondEdge(t: TestContext, { hub, hubPid, entry, tunnelPort }: IScene, id: string) {
  const stays = { ...entry, listenPorts: [...entry.listenPorts] };
  await hub.updateAllowedEdges([stays, { id, secret: createSecret(), listenPorts: [], stunIntervalSecs: 0 }]);
  const config = join(temporaryDirectory(t), 'edge.json');
  const tunnelToken = await hub.createConnectionToken(id, { hubHost: '127.0.0.1', hubPort: tunnelPort });
  writeFileSync(config, JSON.stringify({ token: tunnelToken, stunServers: [] }), { mode: 0o600 });
  const connected = nextEvent(hub, 'edgeConnected', soonMs, (event) => event.edgeId === id);
  const child = spawn(`/proc/${hubPid}/exe`, ['edge', '--config', config], { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  await connected;
  return child;
}

const row = (page: Page, id: string) => page.locator('#edges > tr', { hasText: id });
const text = (page: Page, id: string) => page.locator(`#${id}`).innerText();

async function statusOf(url: string): Promise<{ version: string; hub: IHubStatus }> {
  return (await (await fetch(`${url}api/v1/status`)).json()) as { version: string; hub: IHubStatus };
}

test('the page of a hub shows its status, live', options, async (t) => {
  const { scene, hubUrl } = await start(t);
  const hostile = '<script>document.title = 1</script>';
  const second = await startSecondEdge(t, scene, hostile);
  const { page, strangers, complaints } = await openPage(t, hubUrl);

  const { version, hub } = await statusOf(hubUrl);
  assert.equal(await text(page, 'version'), version);
  assert.equal(await text(page, 'tile-edges'), '2');
  assert.match(await text(page, 'problems'), /All well/);
  const [first] = hub.connectedEdges.filter((edge) => edge.edgeId === edgeId) as [IConnectedEdge];
  const transport = { tcpTls: 'TLS', quic: 'QUIC' }[first.transport];
  assert.match(await row(page, edgeId).innerText(), new RegExp(`Connected\\s+${transport}[\\s\\S]*1 bound`));
  assert.match(await text(page, 'ports'), new RegExp(`tcp ${scene.ports[0]}`));
  await row(page, edgeId).locator('summary').click();
  assert.ok((await row(page, edgeId).innerText()).includes(first.remoteAddress));
  assert.ok((await text(page, 'edges')).includes(hostile));
  assert.match(await text(page, 'events'), /Edge connected/);

  const socket = await client(t, scene.ports[0]!);
  // A rate is shown for a second: it is waited for while the bytes move.
  const rate = row(page, edgeId).getByText(/[1-9].* [kMG]bit\/s/).first().waitFor();
  await roundTrip(socket, 'x'.repeat(2_000_000));
  await rate;
  await page.locator('#tile-streams', { hasText: /^1$/ }).waitFor();
  await page.locator('#streams > tr', { hasText: `127.0.0.1:${socket.localPort}` }).waitFor();
  await row(page, edgeId).getByText(/2.00 MB in, 2.00 MB out/).waitFor();

  const killed = performance.now();
  second.kill('SIGKILL');
  await row(page, hostile).locator('.pill[data-tone=bad]', { hasText: 'Away' }).waitFor({ timeout: 2_000 });
  const ms = performance.now() - killed;
  assert.ok(ms < 2_000, `${ms} ms`);
  assert.match(await text(page, 'problems'), /1 edge away[\s\S]*Check that the edge runs/);
  assert.match(await text(page, 'announcements'), /Away/);
  assert.match(await page.title(), /^\(1 away\) Hub/);

  assert.deepEqual(strangers(), []);
  assert.deepEqual(complaints, []);
});

test('the page of an edge shows its hub, its ports and the clients that it holds', options, async (t) => {
  const { scene, edgeUrl } = await start(t);
  const { page, strangers, complaints } = await openPage(t, edgeUrl);
  assert.match(await text(page, 'hub-state'), /Connected/);
  assert.match(await text(page, 'hub-facts'), /Transport\s+(TLS|QUIC)[\s\S]*Dialled by\s+edge/);
  assert.match(await text(page, 'ports'), new RegExp(`tcp ${scene.ports[0]}[\\s\\S]*Bound`));
  const socket = await client(t, scene.ports[0]!);
  await roundTrip(socket, 'x'.repeat(1_000_000));
  await page.locator('#tile-streams', { hasText: /^1$/ }).waitFor();

  socket.destroy();
  await scene.hub.stop();
  await page.locator('#hub-state [data-tone=bad], #hub-state[data-tone=bad]').waitFor();
  await client(t, scene.ports[0]!);
  await page.locator('#tile-held', { hasText: /^1$/ }).waitFor();
  const problems = await text(page, 'problems');
  assert.match(problems, /Hub away\s+E_[A-Z_]+, [\s\S]*Check the hub's name[\s\S]*1 client held/);
  assert.deepEqual([...strangers(), ...complaints], []);
});

test('the keyboard, the screen reader and narrow windows get all of it', options, async (t) => {
  const { hubUrl, edgeUrl } = await start(t);
  for (const url of [hubUrl, edgeUrl]) {
    const { page } = await openPage(t, url, { bypassCSP: true, reducedMotion: 'reduce' });
    assert.deepEqual(await graveViolations(page), []);
  }
  const { page } = await openPage(t, hubUrl);
  const reached = new Set<unknown>();
  for (let presses = 0; presses < 12; presses += 1) {
    await page.keyboard.press('Tab');
    reached.add(await page.evaluate('document.activeElement.id || document.activeElement.textContent'));
  }
  for (const wanted of ['Skip to content', 'edge-filter', edgeId, 'Status as JSON']) assert.ok(reached.has(wanted), wanted);
});

test('without script it is a table that is read', options, async (t) => {
  const { scene, hubUrl, edgeUrl } = await start(t);
  const narrow = { javaScriptEnabled: false, viewport: { width: 390, height: 844 } };
  const hub = await openPage(t, hubUrl, narrow);
  assert.match(await row(hub.page, edgeId).innerText(), /Connected[\s\S]*(TLS|QUIC)[\s\S]*1 bound/);
  const edge = await openPage(t, edgeUrl, narrow);
  assert.match(await text(edge.page, 'ports'), new RegExp(`tcp ${scene.ports[0]}[\\s\\S]*Bound`));
  assert.deepEqual([...hub.complaints, ...edge.complaints], []);
});

test('the page is locked as all reads are, and says nothing but to its own origin', options, async (t) => {
  const { hubUrl } = await start(t, { token });
  const refused = await fetch(hubUrl);
  assert.equal(refused.status, 401);
  assert.match(refused.headers.get('www-authenticate') ?? '', /^Basic /);
  assert.equal((await fetch(`${hubUrl}page/page.js`)).status, 401);

  const { page, complaints } = await openPage(t, hubUrl, { httpCredentials: { username: 'any', password: token } });
  await row(page, edgeId).waitFor();
  assert.deepEqual(complaints, []);

  const headers = { authorization: `Bearer ${token}` };
  for (const path of ['', 'page/page.js', 'page/page.css']) {
    const answer = await fetch(hubUrl + path, { headers });
    assert.equal(answer.status, 200, path);
    const policy = answer.headers.get('content-security-policy') ?? '';
    assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self'; /);
    assert.doesNotMatch(policy, /unsafe|\*/);
    const rest = ['x-content-type-options', 'referrer-policy', 'cache-control'].map((name) => answer.headers.get(name));
    assert.deepEqual(rest, ['nosniff', 'no-referrer', 'no-store'], path);
  }
  assert.equal((await fetch(`${hubUrl}page/..%2fCargo.toml`, { headers })).status, 404);
});
