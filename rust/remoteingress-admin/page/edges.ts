// The hub's table of edges.
import { byId, element, type IColumn, setState, setText, Table, textColumn, type TTone } from './dom.js';
import { bytes, clock, count, counted, duration, milliseconds, transport } from './format.js';
import { groupPorts, type IEdge, stateWords, type TEdgeState } from './model.js';
import { sparkline } from './sparkline.js';

/** More rows than anybody reads; the filter finds the others. */
export const rowsShown = 200;

const tones: Record<TEdgeState, TTone> = {
  away: 'bad',
  unreachable: 'warning',
  portFailed: 'warning',
  connected: 'good',
};

export class EdgesView {
  private readonly filter = byId('edge-filter') as HTMLInputElement;
  private readonly table: Table<IEdge>;

  constructor(changed: () => void) {
    this.table = new Table('edges', columns(), ({ id }) => id, 'No edge matches.');
    this.filter.addEventListener('input', changed);
    byId('edge-tools').hidden = false;
  }

  render(edges: IEdge[]): void {
    const wanted = this.filter.value.trim().toLowerCase();
    const matching = wanted ? edges.filter((edge) => searchText(edge).includes(wanted)) : edges;
    const shown = matching.slice(0, rowsShown);
    this.table.render(shown);
    setText(byId('edges-count'), summary(edges, matching.length, shown.length));
  }
}

function summary(edges: IEdge[], matching: number, shown: number): string {
  const parts = (['connected', 'portFailed', 'unreachable', 'away'] as const)
    .map((state) => ({ state, of: edges.filter((edge) => edge.state === state).length }))
    .filter(({ state, of }) => of > 0 || state === 'connected')
    .map(({ state, of }) => `${count(of)} ${stateWords[state].toLowerCase()}`);
  if (shown < edges.length) parts.push(`${count(shown)} of ${counted(matching, 'match', 'matches')} shown`);
  return parts.join(' · ');
}

function searchText({ id, state, connected, unreachable }: IEdge): string {
  const address = connected?.remoteAddress ?? '';
  const failed = connected?.ports.filter(({ state }) => state === 'failed').map(({ port }) => port) ?? [];
  const words = [id, stateWords[state], address, transport(connected?.transport ?? null), unreachable?.code ?? ''];
  return [...words, connected?.publicIp ?? '', ...failed].join(' ').toLowerCase();
}

function columns(): IColumn<IEdge>[] {
  return [
    { label: 'Edge', className: 'name', isHeader: true, cell: nameCell },
    { label: 'State', className: 'state', cell: stateCell },
    textColumn('Transport', ({ connected }) => (connected ? transport(connected.transport) : '–')),
    textColumn('Round trip', ({ connected }) => (connected ? milliseconds(connected.rttMs) : '–'), 'number'),
    textColumn('Streams', ({ connected }) => (connected ? count(connected.activeStreams) : '–'), 'number'),
    { label: 'In', className: 'throughput', cell: rateCell('in') },
    { label: 'Out', className: 'throughput', cell: rateCell('out') },
    textColumn('Ports', ports, 'number'),
  ];
}

function rateCell(direction: 'in' | 'out') {
  return (cell: HTMLElement) => {
    const update = sparkline(cell, direction);
    return ({ rates }: IEdge) => update(rates[direction]);
  };
}

function stateCell(cell: HTMLElement) {
  const state = element('span', 'pill');
  const note = element('span', 'note');
  cell.append(state, note);
  return (edge: IEdge) => {
    setState(state, tones[edge.state], stateWords[edge.state]);
    setText(note, stateNote(edge));
  };
}

function stateNote({ state, connected, unreachable, awaySince }: IEdge): string {
  if (state === 'away') return awaySince === null ? 'not seen since this page was opened' : `since ${clock(awaySince)}`;
  if (unreachable && state === 'unreachable') return `${unreachable.code} since ${clock(unreachable.since)}`;
  const failed = connected?.ports.filter(({ state }) => state === 'failed') ?? [];
  return failed.length > 0 ? (failed[0]?.error?.code ?? '') : '';
}

function ports({ connected }: IEdge): string {
  if (!connected) return '–';
  const bound = connected.ports.filter(({ state }) => state === 'bound').length;
  const failed = connected.ports.filter(({ state }) => state === 'failed').length;
  return failed > 0 ? `${count(bound)} bound, ${count(failed)} failed` : `${count(bound)} bound`;
}

/** The id, which opens what is known beside the row's figures. */
function nameCell(cell: HTMLElement) {
  const name = element('summary');
  const facts = element('dl', 'facts');
  const details = element('details', '', name, facts);
  cell.append(details);
  let last: IEdge | undefined;
  const show = () => {
    if (details.open && last) setFacts(facts, edgeFacts(last));
  };
  details.addEventListener('toggle', show);
  return (edge: IEdge) => {
    last = edge;
    setText(name, edge.id);
    show();
  };
}

export function setFacts(list: HTMLElement, facts: [string, string][]): void {
  const text = facts.map(([term, fact]) => `${term}\n${fact}`).join('\n');
  if (list.dataset['facts'] === text) return;
  list.dataset['facts'] = text;
  list.replaceChildren(
    ...facts.map(([term, fact]) => element('div', '', element('dt', '', term), element('dd', '', fact))),
  );
}

function edgeFacts({ connected, unreachable }: IEdge): [string, string][] {
  if (!connected) {
    if (!unreachable) return [['Connection', 'none']];
    const { code, reason, since, proxy } = unreachable;
    const facts: [string, string][] = [['Last failure', `${code}: ${reason}`], ['Since', clock(since)]];
    return proxy ? [...facts, ['Proxy', proxy]] : facts;
  }
  const { udp, activeStreamsByTransport: open } = connected;
  const facts: [string, string][] = [
    ['Address', connected.remoteAddress],
    ['Public address', connected.publicIp ?? 'unknown'],
    ['Version', connected.version],
    ['Connected for', duration(Date.now() - connected.connectedAt)],
    ['Dialled by', connected.dialledBy],
    ['Sessions', count(connected.sessions)],
    ['Streams', `${count(open.tcpTls)} over TLS, ${count(open.quic)} over QUIC, ${count(connected.totalStreams)} in all`],
    ['Payload', `${bytes(connected.bytesIn)} in, ${bytes(connected.bytesOut)} out`],
    ['UDP', `${counted(udp.activeFlows, 'flow')}, ${count(udp.datagramsIn)} in, ${count(udp.datagramsOut)} out`],
  ];
  if (connected.proxy) facts.push(['Proxy', connected.proxy]);
  for (const [reason, dropped] of Object.entries(udp.dropped)) {
    facts.push(['Datagrams dropped', `${count(dropped)} ${reason}`]);
  }
  const bound = groupPorts('', connected.ports.filter(({ state }) => state !== 'failed'));
  const first = bound.slice(0, 12).map(({ ports, first }) => `${first.protocol} ${ports}`);
  if (bound.length > 12) first.push(`${count(bound.length - 12)} more`);
  if (first.length > 0) facts.push(['Ports', first.join(', ')]);
  return facts;
}
