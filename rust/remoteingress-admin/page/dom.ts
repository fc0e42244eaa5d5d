// Elements of the page: made from text alone, so that no value is ever read as markup.

export type TTone = 'good' | 'warning' | 'bad' | 'muted';

export function byId(id: string): HTMLElement {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no element #${id}`);
  return node;
}

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = '',
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

const svgNamespace = 'http://www.w3.org/2000/svg';

export function svg(tag: string, attributes: Record<string, string>, ...children: Node[]): SVGElement {
  const node = document.createElementNS(svgNamespace, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Touches the document only where the text is another: an unchanged cell costs no layout and no announcement. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node: Element, className: string): void {
  if (node.getAttribute('class') !== className) node.setAttribute('class', className);
}

function icon(tone: TTone): SVGElement {
  const use = svg('use', { href: `#icon-${tone}` });
  return svg('svg', { class: 'icon', 'aria-hidden': 'true' }, use);
}

/** A state as a word with an icon of its own shape; its colour only repeats them. */
export function setState(node: Element, tone: TTone, word: string): void {
  if (node.getAttribute('data-tone') === tone && node.textContent === word) return;
  node.setAttribute('data-tone', tone);
  node.replaceChildren(icon(tone), element('span', '', word));
}

export interface IColumn<T> {
  label: string;
  className?: string;
  /** The cell that names its row. */
  isHeader?: boolean;
  /** Fills a new cell and returns the function that keeps it up to date. */
  cell(cell: HTMLTableCellElement): (item: T) => void;
}

/** A column of plain text. */
export function textColumn<T>(label: string, text: (item: T) => string, className = ''): IColumn<T> {
  return { label, className, cell: (cell) => (item) => setText(cell, text(item)) };
}

interface IRow<T> {
  node: HTMLTableRowElement;
  updates: ((item: T) => void)[];
}

/** The body of a table whose rows stay where they are while their cells change. */
export class Table<T> {
  private readonly rows = new Map<string, IRow<T>>();
  private isTaken = false;
  private readonly body: HTMLElement;
  private readonly columns: IColumn<T>[];
  private readonly keyOf: (item: T) => string;
  private readonly empty: string;

  constructor(bodyId: string, columns: IColumn<T>[], keyOf: (item: T) => string, empty: string) {
    this.body = byId(bodyId);
    this.columns = columns;
    this.keyOf = keyOf;
    this.empty = empty;
  }

  render(items: T[]): void {
    if (!this.isTaken) {
      this.body.replaceChildren(); // the rows that came with the page
      this.isTaken = true;
    }
    const focused = document.activeElement;
    const kept = new Set(items.map(this.keyOf));
    for (const [key, row] of this.rows) {
      if (kept.has(key)) continue;
      row.node.remove();
      this.rows.delete(key);
    }
    let place = this.body.firstChild;
    for (const item of items) {
      const { node, updates } = this.row(this.keyOf(item));
      for (const update of updates) update(item);
      if (node === place) place = place.nextSibling;
      else this.body.insertBefore(node, place);
    }
    this.showEmptiness(items.length === 0);
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.body.contains(focused)) {
      focused.focus({ preventScroll: true }); // its row was moved
    }
  }

  private row(key: string): IRow<T> {
    const known = this.rows.get(key);
    if (known) return known;
    const node = element('tr');
    node.setAttribute('role', 'row');
    const updates = this.columns.map((column) => {
      const cell = element(column.isHeader ? 'th' : 'td', column.className);
      if (column.isHeader) cell.scope = 'row';
      cell.setAttribute('role', column.isHeader ? 'rowheader' : 'cell');
      cell.dataset['label'] = column.label;
      node.append(cell);
      return column.cell(cell);
    });
    const row = { node, updates };
    this.rows.set(key, row);
    return row;
  }

  private showEmptiness(isEmpty: boolean): void {
    const shown = this.body.querySelector(':scope > .empty');
    if (!isEmpty) {
      shown?.remove();
    } else if (!shown) {
      const cell = element('td', '', this.empty);
      cell.colSpan = this.columns.length;
      cell.setAttribute('role', 'cell');
      const row = element('tr', 'empty', cell);
      row.setAttribute('role', 'row');
      this.body.append(row);
    }
  }
}
