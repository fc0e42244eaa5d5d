// Refusals by reason, the most frequent first.
import { byId, element, setText, Table, textColumn } from './dom.js';
import { count } from './format.js';
import { adviceOf } from './problems.js';
import type { Model } from './model.js';

interface IRefusal {
  reason: string;
  times: number;
  recent: number;
}

export class RefusalsView {
  private readonly table = new Table<IRefusal>(
    'refusals',
    [
      {
        label: 'Reason',
        className: 'mono',
        isHeader: true,
        cell: (cell) => {
          const code = cell.appendChild(element('code'));
          const note = cell.appendChild(element('span', 'note'));
          return ({ reason }) => {
            setText(code, reason);
            setText(note, adviceOf(reason));
          };
        },
      },
      textColumn('Times', ({ times }) => count(times), 'number'),
      textColumn('Since opened', ({ recent }) => (recent > 0 ? `+${count(recent)}` : '0'), 'number'),
    ],
    ({ reason }) => reason,
    'Nothing was refused.',
  );

  render(model: Model): void {
    const refusals = Object.entries(model.refusals())
      .map(([reason, times]) => ({ reason, times, recent: model.refusedSinceOpened(reason) }))
      .sort((a, b) => b.times - a.times);
    this.table.render(refusals);
    setText(byId('refusals-count'), `${count(refusals.reduce((sum, { times }) => sum + times, 0))} in all`);
  }
}
