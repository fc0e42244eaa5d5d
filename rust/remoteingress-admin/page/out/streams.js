import { byId, setText, Table, textColumn } from './dom.js';
import { bytes, count, duration, transport } from './format.js';
export class StreamsView {
    table;
    constructor(isHub) {
        const client = {
            label: 'Client',
            className: 'mono',
            isHeader: true,
            cell: (cell) => (stream) => setText(cell, stream.clientAddress),
        };
        const edge = textColumn('Edge', ({ edgeId }) => edgeId, 'mono');
        const columns = [
            client,
            ...(isHub ? [edge] : []),
            textColumn('Port', ({ protocol, port }) => `${protocol} ${port}`, 'mono'),
            ...(isHub ? [textColumn('Target', ({ target }) => target ?? '–', 'mono')] : []),
            textColumn('Transport', (stream) => transport(stream.transport)),
            textColumn('Age', ({ openedAt }) => duration(Date.now() - openedAt), 'number'),
            textColumn('In', ({ bytesIn }) => bytes(bytesIn), 'number'),
            textColumn('Out', ({ bytesOut }) => bytes(bytesOut), 'number'),
            textColumn('Tier', ({ tier }) => tier),
            textColumn('Waits for', ({ waitsFor }) => waitsFor ?? 'nothing'),
        ];
        this.table = new Table('streams', columns, keyOf, 'No stream is open.');
    }
    /** Null where the server doesn't tell them. */
    render(list) {
        byId('section-streams').hidden = list === null;
        if (!list)
            return;
        const { streams, total } = list;
        this.table.render(streams);
        const shown = streams.length < total ? `oldest ${count(streams.length)} of ${count(total)}` : `${count(total)} open`;
        setText(byId('streams-count'), shown);
    }
}
function keyOf({ id, edgeId, protocol, streamId, port, clientAddress }) {
    return [id ?? streamId, edgeId, protocol, port, clientAddress].join(' ');
}
