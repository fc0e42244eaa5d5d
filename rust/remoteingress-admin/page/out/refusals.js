// Refusals by reason, the most frequent first.
import { byId, element, setText, Table, textColumn } from './dom.js';
import { count } from './format.js';
import { adviceOf } from './problems.js';
export class RefusalsView {
    table = new Table('refusals', [
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
    ], ({ reason }) => reason, 'Nothing was refused.');
    render(model) {
        const refusals = Object.entries(model.refusals())
            .map(([reason, times]) => ({ reason, times, recent: model.refusedSinceOpened(reason) }))
            .sort((a, b) => b.times - a.times);
        this.table.render(refusals);
        setText(byId('refusals-count'), `${count(refusals.reduce((sum, { times }) => sum + times, 0))} in all`);
    }
}
