// Elements of the page: made from text alone, so that no value is ever read as markup.
export function byId(id) {
    const node = document.getElementById(id);
    if (!node)
        throw new Error(`the page has no element #${id}`);
    return node;
}
export function element(tag, className = '', ...children) {
    const node = document.createElement(tag);
    if (className)
        node.className = className;
    node.append(...children);
    return node;
}
const svgNamespace = 'http://www.w3.org/2000/svg';
export function svg(tag, attributes, ...children) {
    const node = document.createElementNS(svgNamespace, tag);
    for (const [name, value] of Object.entries(attributes))
        node.setAttribute(name, value);
    node.append(...children);
    return node;
}
/** Touches the document only where the text is another: an unchanged cell costs no layout and no announcement. */
export function setText(node, text) {
    if (node.textContent !== text)
        node.textContent = text;
}
export function setClass(node, className) {
    if (node.getAttribute('class') !== className)
        node.setAttribute('class', className);
}
function icon(tone) {
    const use = svg('use', { href: `#icon-${tone}` });
    return svg('svg', { class: 'icon', 'aria-hidden': 'true' }, use);
}
/** A state as a word with an icon of its own shape; its colour only repeats them. */
export function setState(node, tone, word) {
    if (node.getAttribute('data-tone') === tone && node.textContent === word)
        return;
    node.setAttribute('data-tone', tone);
    node.replaceChildren(icon(tone), element('span', '', word));
}
/** A column of plain text. */
export function textColumn(label, text, className = '') {
    return { label, className, cell: (cell) => (item) => setText(cell, text(item)) };
}
/** The body of a table whose rows stay where they are while their cells change. */
export class Table {
    rows = new Map();
    isTaken = false;
    body;
    columns;
    keyOf;
    empty;
    constructor(bodyId, columns, keyOf, empty) {
        this.body = byId(bodyId);
        this.columns = columns;
        this.keyOf = keyOf;
        this.empty = empty;
    }
    render(items) {
        if (!this.isTaken) {
            this.body.replaceChildren(); // the rows that came with the page
            this.isTaken = true;
        }
        const focused = document.activeElement;
        const kept = new Set(items.map(this.keyOf));
        for (const [key, row] of this.rows) {
            if (kept.has(key))
                continue;
            row.node.remove();
            this.rows.delete(key);
        }
        let place = this.body.firstChild;
        for (const item of items) {
            const { node, updates } = this.row(this.keyOf(item));
            for (const update of updates)
                update(item);
            if (node === place)
                place = place.nextSibling;
            else
                this.body.insertBefore(node, place);
        }
        this.showEmptiness(items.length === 0);
        if (focused instanceof HTMLElement && focused !== document.activeElement && this.body.contains(focused)) {
            focused.focus({ preventScroll: true }); // its row was moved
        }
    }
    row(key) {
        const known = this.rows.get(key);
        if (known)
            return known;
        const node = element('tr');
        node.setAttribute('role', 'row');
        const updates = this.columns.map((column) => {
            const cell = element(column.isHeader ? 'th' : 'td', column.className);
            if (column.isHeader)
                cell.scope = 'row';
            cell.setAttribute('role', column.isHeader ? 'rowheader' : 'cell');
            cell.dataset['label'] = column.label;
            node.append(cell);
            return column.cell(cell);
        });
        const row = { node, updates };
        this.rows.set(key, row);
        return row;
    }
    showEmptiness(isEmpty) {
        const shown = this.body.querySelector(':scope > .empty');
        if (!isEmpty) {
            shown?.remove();
        }
        else if (!shown) {
            const cell = element('td', '', this.empty);
            cell.colSpan = this.columns.length;
            cell.setAttribute('role', 'cell');
            const row = element('tr', 'empty', cell);
            row.setAttribute('role', 'row');
            this.body.append(row);
        }
    }
}
