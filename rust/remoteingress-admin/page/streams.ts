// The table of live streams, as the last answer told them.
import type { IStream, IStreamList } from './answers.js';
import { byId, type IColumn, setText, Table, textColumn } from './dom.js';
import { bytes, count, duration, transport } from './format.js';

export class StreamsView {
  private readonly table: Table<IStream>;

  constructor(isHub: boolean) {
    const client: IColumn<IStream> = {
      label: 'Client',
      className: 'mono',
      isHeader: true,
      cell: (cell) => (stream) => setText(cell, stream.clientAddress),
    };
    const edge = textColumn<IStream>('Edge', ({ edgeId }) => edgeId, 'mono');
    const columns = [
      client,
      ...(isHub ? [edge] : []),
      textColumn<IStream>('Port', ({ protocol, port }) => `${protocol} ${port}`, 'mono'),
      ...(isHub ? [textColumn<IStream>('Target', ({ target }) => target ?? '–', 'mono')] : []),
      textColumn<IStream>('Transport', (stream) => transport(stream.transport)),
      textColumn<IStream>('Age', ({ openedAt }) => duration(Date.now() - openedAt), 'number'),
      textColumn<IStream>('In', ({ bytesIn }) => bytes(bytesIn), 'number'),
      textColumn<IStream>('Out', ({ bytesOut }) => bytes(bytesOut), 'number'),
      textColumn<IStream>('Tier', ({ tier }) => tier),
      textColumn<IStream>('Waits for', ({ waitsFor }) => waitsFor ?? 'nothing'),
    ];
    this.table = new Table('streams', columns, keyOf, 'No stream is open.');
  }

  /** Null where the server doesn't tell them. */
  render(list: IStreamList | null): void {
    byId('section-streams').hidden = list === null;
    if (!list) return;
    const { streams, total } = list;
    this.table.render(streams);
    const shown = streams.length < total ? `oldest ${count(streams.length)} of ${count(total)}` : `${count(total)} open`;
    setText(byId('streams-count'), shown);
  }
}

function keyOf({ id, edgeId, protocol, streamId, port, clientAddress }: IStream): string {
  return [id ?? streamId, edgeId, protocol, port, clientAddress].join(' ');
}
