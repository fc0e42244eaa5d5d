// Ports with their states: failed ones first, neighbours in one line.
import { byId, element, setState, setText, Table, textColumn } from './dom.js';
import { count } from './format.js';
import { groupPorts } from './model.js';
const rowsShown = 100;
const tones = { failed: 'bad', draining: 'warning', bound: 'good' };
const words = { failed: 'Failed', draining: 'Draining', bound: 'Bound' };
const order = ['failed', 'draining', 'bound'];
export class PortsView {
    table;
    constructor(isHub) {
        const edge = textColumn('Edge', ({ edgeId }) => edgeId, 'mono');
        const columns = [
            { label: 'Port', className: 'mono', isHeader: true, cell: portCell },
            ...(isHub ? [edge] : []),
            { label: 'State', className: 'state', cell: stateCell },
            textColumn('Error', ({ first }) => (first.error ? `${first.error.code}: ${first.error.message}` : '–'), 'wrap'),
        ];
        this.table = new Table('ports', columns, keyOf, 'No port is assigned.');
    }
    render(edges) {
        const groups = edges.flatMap(({ id, ports }) => groupPorts(id, ports));
        const of = (state) => edges.reduce((sum, { ports }) => sum + ports.filter((p) => p.state === state).length, 0);
        groups.sort((a, b) => order.indexOf(a.first.state) - order.indexOf(b.first.state));
        this.table.render(groups.slice(0, rowsShown));
        const parts = [`${count(of('bound'))} bound`, `${count(of('failed'))} failed`];
        if (groups.length > rowsShown)
            parts.push(`${rowsShown} of ${count(groups.length)} lines shown`);
        setText(byId('ports-count'), parts.join(' · '));
    }
}
function keyOf({ edgeId, first }) {
    return [edgeId, first.protocol, first.bindAddress ?? '', first.port].join(' ');
}
function portCell(cell) {
    return ({ ports, first }) => {
        const address = first.bindAddress ? ` on ${first.bindAddress}` : '';
        setText(cell, `${first.protocol} ${ports}${address}`);
    };
}
function stateCell(cell) {
    const state = element('span', 'pill');
    cell.append(state);
    return ({ first }) => setState(state, tones[first.state] ?? 'muted', words[first.state] ?? first.state);
}
