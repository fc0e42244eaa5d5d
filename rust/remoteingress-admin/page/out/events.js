import { byId, element, setState, setText, Table } from './dom.js';
import { clock, count, counted, transport, words } from './format.js';
export class EventsView {
    table = new Table('events', [
        {
            label: 'Time',
            className: 'time',
            cell: (cell) => {
                const time = cell.appendChild(element('time'));
                return ({ at }) => {
                    time.dateTime = new Date(at).toISOString();
                    setText(time, clock(at));
                };
            },
        },
        {
            label: 'Event',
            className: 'wrap',
            isHeader: true,
            cell: (cell) => {
                const title = element('span', 'pill quiet');
                const edge = element('span', 'subject');
                const text = element('span', 'note');
                cell.append(title, edge, text);
                return (event) => {
                    const sentence = describe(event);
                    setState(title, sentence.tone, sentence.title);
                    setText(edge, typeof event.data['edgeId'] === 'string' ? event.data['edgeId'] : '');
                    setText(text, sentence.text);
                };
            },
        },
    ], ({ seq }) => String(seq), 'Nothing has happened yet.');
    render(events) {
        this.table.render(events);
        setText(byId('events-count'), events.length === 0 ? '' : `latest ${count(events.length)}`);
    }
}
const titles = {
    edgeConnected: ['good', 'Edge connected'],
    edgeDisconnected: ['bad', 'Edge went away'],
    edgeRejected: ['warning', 'Edge refused'],
    edgeUnreachable: ['warning', 'Edge unreachable'],
    edgeKeyChanged: ['bad', 'Edge has another key'],
    tunnelConnected: ['good', 'Hub connected'],
    tunnelDisconnected: ['bad', 'Hub went away'],
    transportChanged: ['muted', 'Transport changed'],
    publicIpDiscovered: ['muted', 'Public address found'],
    eventsDropped: ['warning', 'Events lost'],
};
export function describe({ event, data }) {
    const ports = data['ports'];
    if (Array.isArray(ports))
        return describePorts(ports);
    const [tone, title] = titles[event] ?? ['muted', words(event)];
    return { tone, title, text: sentence(event, data) };
}
function describePorts(ports) {
    const bound = ports.filter(({ state }) => state === 'bound').length;
    const failed = ports.filter(({ state }) => state === 'failed');
    const parts = [`${count(bound)} bound`];
    if (failed.length > 0)
        parts.push(`${count(failed.length)} failed`);
    const first = failed[0];
    if (first)
        parts.push(`${first.protocol} ${first.port}: ${first.error?.code ?? ''}`);
    return { tone: failed.length > 0 ? 'warning' : 'muted', title: 'Ports applied', text: parts.join(', ') };
}
function sentence(event, data) {
    const say = (name) => String(data[name] ?? '');
    switch (event) {
        case 'edgeConnected':
            return `from ${say('remoteAddress')} over ${transport(say('transport'))}, version ${say('version')}`;
        case 'edgeDisconnected':
            return say('reason');
        case 'edgeRejected':
            return `${say('reason')}, from ${say('remoteAddress')}`;
        case 'edgeUnreachable':
        case 'tunnelDisconnected':
            return `${say('code')}: ${say('reason')}`;
        case 'tunnelConnected':
            return `at ${say('hubAddress')} over ${transport(say('transport'))}${data['resumed'] ? ', streams go on' : ''}`;
        case 'transportChanged':
            return `to ${transport(say('transport'))}: ${say('reason')}`;
        case 'publicIpDiscovered':
            return say('publicIp');
        case 'eventsDropped':
            return counted(Number(data['count'] ?? 0), 'event');
        default:
            return plain(data);
    }
}
/** Data of an event that this page doesn't know. */
function plain(data) {
    const text = Object.entries(data)
        .map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
        .join(', ');
    return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
