// What is wrong now and what to do about it; `src/page/problems.rs` renders the same without script.
import type { IEdgeStatus, IEvent, IHubStatus, IPoolStatus, IPortStatus } from './answers.js';
import { byId, element, setState, setText, type TTone } from './dom.js';
import { counted } from './format.js';
import type { Model } from './model.js';

const namesShown = 4;

interface IProblem {
  tone: TTone;
  title: string;
  seen: string;
  advice: string;
}

const advice = JSON.parse(byId('main').dataset['advice'] ?? '{}') as Record<string, string>;

/** What to do about a code or a reason; empty for one that the binary has no words for. */
export function adviceOf(name: string): string {
  return Object.hasOwn(advice, name) ? (advice[name] ?? '') : '';
}

export class ProblemsView {
  private readonly list = byId('problems');

  render(model: Model): void {
    const { hub, edge } = model.status ?? {};
    const problems = hub ? hubProblems(hub, model) : edge ? edgeProblems(edge, model.events) : [];
    if (problems.length === 0) {
      const seen = hub ? 'Every edge is connected' : 'The hub is connected';
      problems.push({ tone: 'good', title: 'All well', seen: `${seen}, and every port is open.`, advice: '' });
    }
    while (this.list.children.length > problems.length) this.list.lastChild?.remove();
    problems.forEach((problem, index) => show(this.list.children[index] ?? this.append(), problem));
  }

  private append(): Element {
    const parts = ['pill', 'seen', 'advice'].map((name) => element('span', name));
    return this.list.appendChild(element('li', '', ...parts));
  }
}

function show(line: Element, { tone, title, seen, advice }: IProblem): void {
  if (line.getAttribute('data-tone') !== tone) line.setAttribute('data-tone', tone);
  const [state, ...texts] = line.children;
  if (state) setState(state, tone, title);
  [seen, advice].forEach((text, index) => texts[index] && setText(texts[index], text));
}

function hubProblems(hub: IHubStatus, model: Model): IProblem[] {
  const away = model.sortedEdges().filter(({ state }) => state === 'away');
  const problems: IProblem[] = hub.draining ? [drains('hub')] : [];
  if (away.length > 0) {
    const advice = adviceOf('edgesAway');
    problems.push({ tone: 'bad', title: `${counted(away.length, 'edge')} away`, seen: names(away.map(({ id }) => id)), advice });
  }
  for (const [code, edges] of groups(hub.unreachableEdges, (edge) => edge.code)) {
    const seen = `${names(edges.map(({ edgeId }) => edgeId))}: ${code}, ${edges[0]?.reason ?? ''}`;
    problems.push({ tone: 'bad', title: `${counted(edges.length, 'edge')} unreachable`, seen, advice: adviceOf(code) });
  }
  const ports = hub.connectedEdges.flatMap(({ edgeId, ports }) => ports.map((port) => ({ port, of: ` of ${edgeId}` })));
  return [...problems, ...portProblems(ports), ...sourceProblems(hub), ...poolProblems(hub)];
}

/** Sources of targets and countries that can't be read, so that earlier data count. */
function sourceProblems({ routingDb, geo, pools }: IHubStatus): IProblem[] {
  const stays = 'What was read before counts on: mend the file.';
  const problems: IProblem[] = [];
  if (routingDb?.error) problems.push({ tone: 'bad', title: 'routing.db not read', seen: routingDb.error, advice: stays });
  if (routingDb && routingDb.refusedRows > 0) {
    const rows = routingDb.refused.map(({ id, row, reason }) => `${id ?? `row ${row}`} (${reason})`);
    const advice = 'Correct these rows; the others count.';
    problems.push({ tone: 'warning', title: `${counted(routingDb.refused.length, 'row')} refused`, seen: names(rows), advice });
  }
  if (geo?.error) problems.push({ tone: 'bad', title: 'Countries not read', seen: geo.error, advice: stays });
  for (const { name, discovery } of pools) {
    if (!discovery?.error) continue;
    const advice = 'Check the name and its server; the targets of before stay for holdSecs, or while the server gives no answer.';
    problems.push({ tone: 'warning', title: 'DNS failed', seen: `${name}: ${discovery.error}`, advice });
  }
  return problems;
}

/** Pools that take no streams, and targets that are out of the others. */
function poolProblems({ pools }: IHubStatus): IProblem[] {
  const isUsed = ({ targets }: IPoolStatus) => targets.some(({ state }) => state === 'up');
  const closed = pools.filter((pool) => !isUsed(pool)).map(({ name }) => name);
  const title = `${counted(closed.length, 'pool')} closed`;
  const seen = `${names(closed)}: no target takes streams`;
  const problems: IProblem[] = closed.length > 0 ? [{ tone: 'bad', title, seen, advice: adviceOf('noHealthyTarget') }] : [];
  const targets = pools.flatMap(({ name, targets }) => targets.map(({ id, state }) => ({ name: `${name}/${id}`, state })));
  const out = targets.filter(({ state }) => state !== 'up');
  for (const [state, those] of groups(out, ({ state }) => state)) {
    const title = `${counted(those.length, 'target')} out`;
    const seen = `${names(those.map(({ name }) => name))}: ${state}`;
    problems.push({ tone: 'warning', title, seen, advice: adviceOf(state) });
  }
  return problems;
}

function drains(end: string): IProblem {
  const seen = `this ${end} is about to stop, and takes no new clients`;
  return { tone: 'warning', title: 'Draining', seen, advice: 'It ends with its last stream, or after drainTimeoutSecs.' };
}

function edgeProblems(edge: IEdgeStatus, events: IEvent[]): IProblem[] {
  const problems: IProblem[] = edge.draining ? [drains('edge')] : [];
  if (!edge.connected && !edge.draining) {
    const data = events.find(({ event }) => event === 'tunnelDisconnected')?.data;
    const code = String(data?.['code'] ?? '');
    const seen = data ? `${code}, ${String(data['reason'])}` : 'there is no session that takes streams';
    problems.push({ tone: 'bad', title: 'Hub away', seen, advice: adviceOf(code) || adviceOf('E_HUB_UNREACHABLE') });
  }
  if (edge.heldClients > 0) {
    const advice = 'They are served if it is back within holdTimeoutSecs, else refused.';
    problems.push({ tone: 'warning', title: `${counted(edge.heldClients, 'client')} held`, seen: 'they wait for the hub', advice });
  }
  return [...problems, ...portProblems(edge.ports.map((port) => ({ port, of: '' })))];
}

function portProblems(ports: { port: IPortStatus; of: string }[]): IProblem[] {
  const failed = ports.filter(({ port }) => port.state === 'failed');
  return groups(failed, ({ port }) => port.error?.code ?? '').map(([code, lines]) => {
    const all = names(lines.map(({ port, of }) => `${port.protocol} ${port.port}${of}`));
    const seen = `${all}: ${code}, ${lines[0]?.port.error?.message ?? ''}`;
    return { tone: 'warning', title: `${counted(lines.length, 'port')} failed`, seen, advice: adviceOf(code) };
  });
}

function names(all: string[]): string {
  const more = all.length - namesShown;
  return all.slice(0, namesShown).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function groups<T>(items: T[], keyOf: (item: T) => string): [string, T[]][] {
  const found = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = found.get(key);
    if (group) group.push(item);
    else found.set(key, [item]);
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1));
}
