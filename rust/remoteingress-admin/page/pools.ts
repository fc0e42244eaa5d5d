// The hub's table of pools' targets; `src/page/pools.rs` renders the same without script.
import type { IPoolStatus, ITargetStatus, TTargetState } from './answers.js';
import { byId, element, type IColumn, setState, setText, svg, Table, textColumn, type TTone } from './dom.js';
import { count, counted, milliseconds } from './format.js';
import type { Model } from './model.js';
import { adviceOf } from './problems.js';
import { Shares } from './shares.js';

const rowsShown = 200;

interface IRow {
  pool: string;
  target: ITargetStatus;
  share: number | undefined;
}

export const stateTones: Record<TTargetState, TTone> = {
  up: 'good',
  full: 'warning',
  weightless: 'warning',
  drain: 'warning',
  leaving: 'warning',
  dead: 'bad',
  down: 'bad',
  ejected: 'bad',
  trial: 'warning',
};

const words: Record<TTargetState, string> = {
  up: 'Up',
  full: 'Full',
  weightless: 'No weight',
  drain: 'Draining',
  leaving: 'Leaving',
  dead: 'Dead',
  down: 'Down',
  ejected: 'Ejected',
  trial: 'On trial',
};

const order: TTone[] = ['bad', 'warning', 'muted', 'good'];

export class PoolsView {
  private readonly shares = new Map<string, Shares>();
  private readonly table = new Table<IRow>('pools', columns(), ({ pool, target }) => `${pool}\n${target.id}`, 'No pool has a target.');
  private run: number | undefined;

  render(model: Model, now: number): void {
    const pools = model.status?.hub?.pools ?? [];
    if (model.status?.startedAt !== this.run) this.shares.clear(); // another process counts anew
    this.run = model.status?.startedAt;
    byId('pools-box').hidden = pools.length === 0;
    const names = new Set(pools.map(({ name }) => name));
    for (const name of this.shares.keys()) if (!names.has(name)) this.shares.delete(name);
    const rows = pools.flatMap((pool) => this.rows(pool, now));
    rows.sort((a, b) => rank(a) - rank(b));
    this.table.render(rows.slice(0, rowsShown));
    const out = rows.filter(({ target }) => target.state !== 'up').length;
    const parts = [counted(pools.length, 'pool'), `${counted(rows.length, 'target')}, ${count(out)} out`];
    if (rows.length > rowsShown) parts.push(`${rowsShown} of ${count(rows.length)} targets shown`);
    setText(byId('pools-count'), parts.join(' · '));
  }

  private rows({ name, targets }: IPoolStatus, now: number): IRow[] {
    const shares = this.shares.get(name) ?? new Shares();
    this.shares.set(name, shares);
    shares.add(new Map(targets.map(({ id, totalStreams }) => [id, totalStreams])), now);
    const parts = shares.get();
    return targets.map((target) => ({ pool: name, target, share: parts.get(target.id) }));
  }
}

function rank({ target }: IRow): number {
  return order.indexOf(stateTones[target.state] ?? 'muted');
}

function columns(): IColumn<IRow>[] {
  return [
    { label: 'Target', className: 'name', isHeader: true, cell: (cell) => ({ target }) => setText(cell, target.id) },
    textColumn('Pool', ({ pool }) => pool, 'mono'),
    { label: 'State', className: 'state', cell: stateCell },
    textColumn('Streams', ({ target }) => count(target.activeStreams), 'number'),
    { label: 'New streams', className: 'share', cell: shareCell },
    textColumn('Failed', ({ target }) => count(target.failedStreams), 'number'),
    textColumn('Connect', ({ target }) => milliseconds(target.connectMs), 'number'),
    textColumn('Region', ({ target }) => target.region ?? '–'),
  ];
}

function stateCell(cell: HTMLElement) {
  const state = element('span', 'pill');
  const note = element('span', 'note');
  cell.append(state, note);
  return ({ target }: IRow) => {
    setState(state, stateTones[target.state] ?? 'muted', words[target.state] ?? target.state);
    const { checkError } = target;
    const check = checkError === null || target.state === 'up' ? '' : `Last check: ${checkError}. `;
    setText(note, check + adviceOf(target.state));
  };
}

/** Its part of the pool's new streams, of the last minute or since the page was opened. */
function shareCell(cell: HTMLElement) {
  const figure = element('span', 'figure');
  const part = svg('rect', { class: 'part', height: '6', width: '0' });
  const whole = svg('rect', { class: 'whole', height: '6', width: '100' });
  const viewBox = '0 0 100 6';
  cell.append(figure, svg('svg', { class: 'bar-of', viewBox, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, whole, part));
  return ({ share }: IRow) => {
    const percent = Math.round((share ?? 0) * 100);
    setText(figure, share === undefined ? 'none' : `${percent} %`);
    if (part.getAttribute('width') !== String(percent)) part.setAttribute('width', String(percent));
  };
}
