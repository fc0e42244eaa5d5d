// A chart per scenario: charts.mjs RESULTS DIRECTORY PART writes PART.NAME.svg there and prints the lines that show
// them. A bar is the median of the rounds, its whisker from the lowest to the highest. The background is transparent
// and the grey of the text is readable on white and on black.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { read } from './medians.mjs';

const [file, directory, part] = process.argv.slice(2);
const { peers, scenarios, values, median } = read(file);

const grey = '#7d8590';
const pale = '#a8b1bb';
const accent = '#2f81f7';
// Pixels.
const [panelWidth, labelWidth, barWidth, barHeight, titleHeight] = [440, 150, 210, 15, 22];

const four = (path) => ['down 1', 'down 16', 'up 1', 'up 16'].map((name) => [name, name.replace(' ', ''), path]);
/** [name, title, unit, whether more is better, panels: [title, scenario, path of the figure]] */
const charts = [
  ['bulk', 'Bulk', 'Gbit/s', true, four('gbit_s')],
  ['bulk-cpu', 'Bulk, CPU', 's per GB', false, four('cpu.cpu_s_per_gb')],
  ['conn', 'New connections', 'per s', true, [['', 'conn', 'per_s']]],
  ['conn-cpu', 'New connections, CPU', 'µs each', false, [['', 'conn', 'cpu.cpu_us_per_op']]],
  ['rtt1', 'Ping-pong, 1 connection, p50', 'ms', false, [['', 'rtt1', 'p50_ms']]],
  ['rtt64', 'Ping-pong, 64 connections', 'round trips per s', true, [['', 'rtt64', 'per_s']]],
  ['mixed', 'Ping-pong beside 8 bulk streams', 'ms', false, [['p50', 'mixed', 'rtt.p50_ms'], ['p99', 'mixed', 'rtt.p99_ms']]],
  ['slow', 'Ping-pong beside 8 slow readers, p99', 'ms', false, [['', 'slow', 'rtt.p99_ms']]],
  ['stalled', '8 bulk streams beside clients that never read', 'Gbit/s', true, [0, 1, 100].map((n) => [`${n} stalled`, `stalled${n}`, 'gbit_s'])],
  ['idle', 'Memory of 5,000 idle connections, edge + hub', 'KiB each', false, [['', 'idle', 'rss_kib_per_conn']]],
  ['udp', 'Datagrams there and back, 128 in flight', 'per s', true, most('per_s')],
  ['udp-cpu', 'Datagrams there and back, CPU', 'µs each', false, most('cpu.cpu_us_per_op')],
  ['exchanges', '16 KiB there and back, p99', 'ms', false, exchanges()],
  ['streams', 'A round trip beside idle streams, CPU', 'µs', false, held('some.cpu.cpu_us_per_op')],
  ['streams-all', 'A round trip on all streams in turn, CPU', 'µs', false, held('all.cpu.cpu_us_per_op')],
  ['streams-memory', 'Memory of a stream, edge + hub', 'KiB', false, held('rss_kib_per_conn')],
];

function most(path) {
  const measured = scenarios.filter((scenario) => /^udp-.*-max$/.test(scenario));
  return measured.map((scenario) => {
    const [, size, flows] = scenario.split('-');
    return [`${size} bytes, ${flows === '1' ? '1 flow' : `${flows} flows`}`, scenario, path];
  });
}

function exchanges() {
  const measured = scenarios.filter((scenario) => /^(open|closed)\d+$/.test(scenario));
  return measured.map((scenario) => [scenario.replace(/\d/, ' $&'), scenario, 'p99_ms']);
}

/** Here a bar is a number of streams, and a panel a peer. */
function held(path) {
  const measured = scenarios.filter((scenario) => /^streams\d+$/.test(scenario));
  if (measured.length === 0) return [];
  return peers.map((peer) => {
    const bars = measured.map((scenario) => bar(scenario.slice('streams'.length), peer, [scenario, path], true));
    return { title: peer, bars: bars.filter(Boolean) };
  });
}

for (const [name, title, unit, isMoreBetter, panels] of charts) {
  const drawn = panels.map((panel) => panel.bars ? panel : { title: panel[0], bars: bars(panel.slice(1)) });
  const filled = drawn.filter(({ bars }) => bars.length > 0);
  if (filled.length === 0) continue;
  const heading = `${title}: ${unit} (${isMoreBetter ? 'more' : 'less'} is better)`;
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, `${part}.${name}.svg`), chart(heading, filled));
  console.log(`\n![${heading}](charts/${part}.${name}.svg)`);
}

function bars(figure) {
  return peers.map((peer) => bar(peer, peer, figure, peer.startsWith('ours'))).filter(Boolean);
}

/** None where nothing was measured, or where nobody relays and so nothing is spent. */
function bar(label, peer, figure, isOurs) {
  const all = values(peer, figure);
  const middle = median(peer, figure);
  if (all.length === 0 || (peer === 'direct' && middle === 0)) return null;
  return { label, isOurs, isLimit: peer === 'direct', middle, lowest: Math.min(...all), highest: Math.max(...all) };
}

function chart(heading, panels) {
  const columns = Math.min(panels.length, 2);
  const width = columns * panelWidth;
  let [top, shapes] = [30, ''];
  for (let first = 0; first < panels.length; first += columns) {
    const row = panels.slice(first, first + columns);
    for (const [column, panel] of row.entries()) shapes += drawPanel(panel, column * panelWidth, top);
    top += Math.max(...row.map(({ bars }) => panelHeight(bars)));
  }
  const size = `width="${width}" height="${top}" viewBox="0 0 ${width} ${top}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" font-family="system-ui, sans-serif" font-size="12" fill="${grey}">
<title>${escape(heading)}</title>
${text(0, 16, heading, 'font-size="14" font-weight="600"')}
${shapes}</svg>
`;
}

function drawPanel({ title, bars }, left, top) {
  const relayed = bars.filter(({ isLimit }) => !isLimit).map(({ highest }) => highest);
  // A limit far above everyone would make all bars short: it is cut.
  const limit = Math.max(...bars.filter(({ isLimit }) => isLimit).map(({ highest }) => highest), 0);
  const most = Math.max(...relayed, 0);
  const full = relayed.length > 0 && limit > 1.5 * most ? 1.15 * most : Math.max(most, limit);
  const x = (value) => left + labelWidth + (Math.min(value, full) / (full || 1)) * barWidth;
  let shapes = title ? `${text(left, top + 13, title, 'font-weight="600"')}\n` : '';
  let y = top + (title ? titleHeight : 0);
  for (const { label, isOurs, middle, lowest, highest } of bars) {
    const isCut = highest > full;
    const [from, until, center] = [x(lowest), x(highest), y + barHeight / 2];
    shapes += `${text(left + labelWidth - 6, center + 4, label, `text-anchor="end"${isOurs ? ' font-weight="600"' : ''}`)}\n`;
    shapes += `<rect x="${left + labelWidth}" y="${y}" width="${round(x(middle) - left - labelWidth)}" height="${barHeight}" rx="2" fill="${isOurs ? accent : pale}" fill-opacity="0.7"/>\n`;
    if (!isCut && highest > lowest) {
      const ends = `M${round(from)} ${center - 3}v6M${round(from)} ${center}H${round(until)}M${round(until)} ${center - 3}v6`;
      shapes += `<path d="${ends}" stroke="${grey}" stroke-width="1.5" fill="none"/>\n`;
    }
    shapes += `${text(Math.max(until, x(middle)) + 6, center + 4, `${isCut ? '» ' : ''}${number(middle)}`)}\n`;
    y += barHeight + 5;
  }
  return shapes;
}

function panelHeight(bars) {
  return bars.length * (barHeight + 5) + titleHeight + 10;
}

function text(x, y, content, attributes = '') {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escape(content)}</text>`;
}

function number(value) {
  if (value >= 1000) return Math.round(value).toLocaleString('en-US');
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function round(value) {
  return Math.round(value * 10) / 10;
}

function escape(content) {
  return content.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
}
