// Ports with their states: failed ones first, neighbours in one line.
import { byId, element, type IColumn, setState, setText, Table, textColumn, type TTone } from './dom.js';
import { count } from './format.js';
import { groupPorts, type IPortGroup } from './model.js';
import type { IPortStatus } from './answers.js';

const rowsShown = 100;
const tones: Record<string, TTone> = { failed: 'bad', draining: 'warning', bound: 'good' };
const words: Record<string, string> = { failed: 'Failed', draining: 'Draining', bound: 'Bound' };
const order = ['failed', 'draining', 'bound'];

export class PortsView {
  private readonly table: Table<IPortGroup>;

  constructor(isHub: boolean) {
    const edge = textColumn<IPortGroup>('Edge', ({ edgeId }) => edgeId, 'mono');
    const columns: IColumn<IPortGroup>[] = [
      { label: 'Port', className: 'mono', isHeader: true, cell: portCell },
      ...(isHub ? [edge] : []),
      { label: 'State', className: 'state', cell: stateCell },
      textColumn('Error', ({ first }) => (first.error ? `${first.error.code}: ${first.error.message}` : '–'), 'wrap'),
    ];
    this.table = new Table('ports', columns, keyOf, 'No port is assigned.');
  }

  render(edges: { id: string; ports: IPortStatus[] }[]): void {
    const groups = edges.flatMap(({ id, ports }) => groupPorts(id, ports));
    const of = (state: string) => edges.reduce((sum, { ports }) => sum + ports.filter((p) => p.state === state).length, 0);
    groups.sort((a, b) => order.indexOf(a.first.state) - order.indexOf(b.first.state));
    this.table.render(groups.slice(0, rowsShown));
    const parts = [`${count(of('bound'))} bound`, `${count(of('failed'))} failed`];
    if (groups.length > rowsShown) parts.push(`${rowsShown} of ${count(groups.length)} lines shown`);
    setText(byId('ports-count'), parts.join(' · '));
  }
}

function keyOf({ edgeId, first }: IPortGroup): string {
  return [edgeId, first.protocol, first.bindAddress ?? '', first.port].join(' ');
}

function portCell(cell: HTMLElement) {
  return ({ ports, first }: IPortGroup) => {
    const address = first.bindAddress ? ` on ${first.bindAddress}` : '';
    setText(cell, `${first.protocol} ${ports}${address}`);
  };
}

function stateCell(cell: HTMLElement) {
  const state = element('span', 'pill');
  cell.append(state);
  return ({ first }: IPortGroup) => setState(state, tones[first.state] ?? 'muted', words[first.state] ?? first.state);
}
