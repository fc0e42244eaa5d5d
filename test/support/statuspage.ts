// A server that answers as the admin server of a hub does, with whatever status a test wants, and a Chromium to look at it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { IConnectedEdge, IEdgeStatus, IHubStatus, IPoolStatus, ITargetStatus } from '@serve.zone/remoteingress';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const root = fileURLToPath(new URL('../..', import.meta.url));
const files = join(root, 'rust/remoteingress-admin/page');
const executablePath = '/usr/bin/chromium';

/** The header that `remoteingress_admin::page` has as a constant. */
const policy = readFileSync(join(root, 'rust/remoteingress-admin/src/page.rs'), 'utf8')
  .match(/CONTENT_SECURITY_POLICY: &str = "([^"]*)"/)![1]!
  .replace(/\\\n\s*/g, '');

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const hasChromium = existsSync(executablePath);
if (!hasChromium && process.env['REMOTEINGRESS_REQUIRE_PEERS']) throw new Error(`${executablePath} isn't installed`);

export interface IFakeStatus {
  role: 'hub' | 'edge';
  version: string;
  startedAt: number;
  hub: IHubStatus | null;
  edge: IEdgeStatus | null;
}

export interface IFakeEvent {
  seq: number;
  at: number;
  event: string;
  data: object;
}

/** No name leads anywhere: what a page loads from elsewhere fails, and its console says so. */
export async function startChromium(test: TestContext): Promise<Browser> {
  const quiet = ['quic', 'background-networking', 'component-update', 'sync', 'gpu'].map((part) => `--disable-${part}`);
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--no-first-run', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1', ...quiet] });
  test.after(() => browser.close());
  return browser;
}

export interface IOpened {
  page: Page;
  /** Addresses that were asked for and aren't of the admin server. */
  strangers(): string[];
  /** Errors and warnings of the console, and exceptions of scripts. */
  complaints: string[];
}

/** Opens a page at an address; it is ready once its script has drawn a status. */
export async function openPage(test: TestContext, url: string, context: BrowserContextOptions = {}): Promise<IOpened> {
  const browser = await startChromium(test);
  const page = await (await browser.newContext({ viewport: { width: 1440, height: 900 }, ...context })).newPage();
  const requests: string[] = [];
  const complaints: string[] = [];
  page.on('request', (request) => requests.push(request.url()));
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  const answer = await page.goto(url);
  assert.equal(answer?.status(), 200);
  if (context.javaScriptEnabled !== false) await page.locator('html[data-ready]').waitFor();
  const strangers = () => requests.filter((request) => !request.startsWith(url) && !request.startsWith('data:'));
  return { page, strangers, complaints };
}

/** What keeps people from reading the page, in both themes and at both widths, where the window shall not scroll aside. */
export async function graveViolations(page: Page): Promise<string[]> {
  const told: string[] = [];
  await page.evaluate(axeSource);
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [390, 1440]) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.setViewportSize({ width, height: 900 });
      const violations = (await page.evaluate('axe.run().then(({ violations }) => violations)')) as IViolation[];
      for (const { id, impact, nodes } of violations) {
        if (impact !== 'serious' && impact !== 'critical') continue;
        told.push(`${colorScheme} at ${width} px: ${id}: ${nodes.map(({ html }) => html).join(' ')}`);
      }
      const isWider = await page.evaluate('document.documentElement.scrollWidth > innerWidth');
      if (isWider) told.push(`${colorScheme} at ${width} px: wider than the window`);
    }
  }
  return told;
}

interface IViolation {
  id: string;
  impact: string;
  nodes: { html: string }[];
}

export class FakeAdmin {
  url = '';
  events: IFakeEvent[] = [];
  /** None: the server answers 404. */
  streams: object[] | null = [];
  private readonly listeners = new Set<ServerResponse>();
  private html = '';
  private readonly server = createServer((request, response) => this.answer(request.url ?? '', response));
  status: IFakeStatus;

  constructor(status: IFakeStatus) {
    this.status = status;
  }

  async start(test: TestContext): Promise<void> {
    this.html = await render(this.status);
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`;
    test.after(() => this.stop());
  }

  stop(): void {
    this.server.close();
    this.server.closeAllConnections();
  }

  send(status: IFakeStatus): void {
    this.status = status;
    for (const listener of this.listeners) listener.write(`event: status\ndata: ${JSON.stringify(status)}\n\n`);
  }

  private answer(url: string, response: ServerResponse): void {
    const path = url.split('?')[0]!;
    const json = (value: object) => response.setHeader('content-type', 'application/json').end(JSON.stringify(value));
    if (path === '/') {
      const headers = { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': policy };
      response.writeHead(200, headers).end(this.html);
    } else if (path.startsWith('/page/')) {
      const name = path.slice('/page/'.length);
      const isScript = name.endsWith('.js');
      response.setHeader('content-type', isScript ? 'text/javascript' : 'text/css');
      response.end(readFileSync(join(files, isScript ? 'out' : '', name)));
    } else if (path === '/api/v1/events/stream') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`event: status\ndata: ${JSON.stringify(this.status)}\n\n`);
      this.listeners.add(response);
      response.on('close', () => this.listeners.delete(response));
    } else if (path === '/api/v1/streams' && this.streams) json({ streams: this.streams, total: this.streams.length });
    else if (path === '/api/v1/events') json({ events: this.events, next: 0, lost: 0 });
    else if (path === '/api/v1/edges') {
      const ids = [...(this.status.hub?.connectedEdges ?? [])].map(({ edgeId }) => edgeId);
      for (const id of ids) this.allowed.add(id);
      json({ edges: [...this.allowed].map((id) => ({ id, connected: null, unreachable: null })) });
    } else response.writeHead(404).end();
  }

  readonly allowed = new Set<string>();
}

function render(status: IFakeStatus): Promise<string> {
  const args = ['run', '--quiet', '--locked', '--package', 'remoteingress-admin', '--example', 'page'];
  return new Promise((resolve, reject) => {
    const child = execFile('cargo', args, { cwd: root, maxBuffer: 1 << 26 }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
    child.stdin!.end(JSON.stringify(status));
  });
}

export function fakeEdge(edgeId: string, changes: Partial<IConnectedEdge> = {}): IConnectedEdge {
  return {
    edgeId,
    remoteAddress: '192.0.2.7:51820',
    draining: false,
    transport: 'quic',
    connectedAt: Date.now() - 4_000_000,
    sessions: 2,
    sessionsByTransport: { tcpTls: 0, quic: 2 },
    queuedBytes: { control: 0, datagrams: 0, data: 0, sustained: 0 },
    resumed: 0,
    activeStreams: 42,
    activeStreamsByTransport: { tcpTls: 2, quic: 40 },
    totalStreams: 18_204,
    bytesIn: 1_000_000,
    bytesOut: 9_000_000,
    rttMs: 12.4,
    publicIp: null,
    version: '0.3.0',
    dialledBy: 'edge',
    proxy: null,
    ports: [
      { protocol: 'tcp', port: 443, state: 'bound' },
      { protocol: 'udp', port: 443, state: 'bound' },
    ],
    udp: { activeFlows: 3, datagramsIn: 90, datagramsOut: 80, dropped: {} },
    ...changes,
  };
}

/** A pool whose targets differ from a calm one's in this. */
export function fakePool(name: string, targets: (Partial<ITargetStatus> & { id: string })[]): IPoolStatus {
  const calm = {
    host: '192.0.2.8',
    port: 80,
    source: 'config',
    region: null,
    country: null,
    state: 'up',
    admin: 'active',
    retryInMs: null,
    failures: 0,
    checkError: null,
    activeStreams: 0,
    totalStreams: 0,
    failedStreams: 0,
    connectMs: null,
    weight: 1,
    effectiveWeight: 1,
    softLimit: 100,
    hardLimit: 0,
    priority: 0,
  } as const;
  const counts = { activeStreams: 0, totalStreams: 0, picks: {}, retries: 0, waiting: 0, affinityHits: 0, affinityBroken: 0 };
  const refused = { refusedEmpty: 0, refusedFull: 0, refusedUnhealthy: 0 };
  return { name, strategy: 'geo', discovery: null, ...counts, ...refused, targets: targets.map((target) => ({ ...calm, ...target })) };
}

/** One run of the hub: another time would be another process. */
const startedAt = Date.now() - 300_000_000;

export function fakeHub(connectedEdges: IConnectedEdge[], pools: IPoolStatus[] = []): IFakeStatus {
  const rejected = { authFailed: 3, targetRefused: 12 };
  const kept = { memoryBudget: { usedBytes: 0, limitBytes: 1_000_000 }, accessLogLost: 0, pools, bindings: 0, routingDb: null, geo: null };
  const hub = { running: true, draining: false, tunnelPort: 8443, hubPin: null, connectedEdges, unreachableEdges: [], rejected, eventsDropped: 0, ...kept };
  return { role: 'hub', version: '0.3.0', startedAt, hub, edge: null };
}
