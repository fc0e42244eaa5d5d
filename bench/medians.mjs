// The results of one part of bench/run, and their medians over the rounds.
import { readFileSync } from 'node:fs';

/** `rounds(peer, scenario)`: the results in their order, null for one that failed; none where it didn't run. */
export function read(file) {
  const results = new Map();
  for (const line of readFileSync(file, 'utf8').trim().split('\n')) {
    const { peer, name, result } = JSON.parse(line);
    if (!results.has(peer)) results.set(peer, new Map());
    const scenarios = results.get(peer);
    scenarios.set(name, [...(scenarios.get(name) ?? []), result.failed ? null : result]);
  }
  const rounds = (peer, scenario) => results.get(peer)?.get(scenario) ?? [];

  /** The numbers of one figure, [scenario, path in the result], from the rounds that have it. */
  const values = (peer, [scenario, path]) =>
    rounds(peer, scenario)
      .map((result) => path.split('.').reduce((value, key) => value?.[key], result))
      .filter((value) => typeof value === 'number');

  return {
    peers: [...results.keys()],
    scenarios: [...new Set([...results.values()].flatMap((scenarios) => [...scenarios.keys()]))],
    rounds,
    values,
    median: (peer, figure) => median(values(peer, figure)),
  };
}

/** NaN of nothing. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length === 0 ? NaN : (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
}

/** A markdown table; none without rows. */
export function print(title, head, rows) {
  if (rows.length === 0) return;
  console.log(`\n### ${title}\n`);
  console.log(`| ${head.join(' | ')} |`);
  console.log(`|---|${'---:|'.repeat(head.length - 1)}`);
  for (const row of rows) console.log(`| ${row.join(' | ')} |`);
}
