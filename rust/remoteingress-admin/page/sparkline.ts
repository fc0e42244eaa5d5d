// A line of the last minute without axes: the figure beside it says what it means.
import { element, setText, svg } from './dom.js';
import { bitRate } from './format.js';
import { samplesShown } from './rates.js';

const width = 120;
const height = 24;

/** Fills `parent` with a sparkline and its figure, and returns the function that moves both on. */
export function sparkline(parent: Element, direction: 'in' | 'out'): (samples: number[]) => void {
  const area = svg('path', { class: 'area' });
  const line = svg('path', { class: 'line' });
  const viewBox = `0 0 ${width} ${height}`;
  const picture = svg(
    'svg',
    { class: `spark ${direction}`, viewBox, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    area,
    line,
  );
  const figure = element('span', 'figure');
  parent.replaceChildren(figure, picture);
  return (samples) => {
    setText(figure, bitRate(samples.at(-1) ?? 0));
    const path = linePath(samples);
    if (line.getAttribute('d') === path) return;
    line.setAttribute('d', path);
    area.setAttribute('d', path && `${path}V${height}H${x(0, samples.length)}Z`);
  };
}

function x(index: number, length: number): string {
  return (width - ((length - 1 - index) * width) / (samplesShown - 1)).toFixed(1);
}

function linePath(samples: number[]): string {
  if (samples.length < 2) return '';
  const top = Math.max(...samples, 1_000); // below 8 kbit/s it stays near the ground
  const points = samples.map((sample, index) => {
    return `${x(index, samples.length)},${(height - 1 - (sample / top) * (height - 3)).toFixed(1)}`;
  });
  return `M${points.join('L')}`;
}
