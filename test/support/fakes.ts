// Writes fake binaries into temporary directories.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

const source = new URL('../../test/support/fakebinary.mjs', import.meta.url);

export interface IJournalEntry {
  start?: number;
  argv?: string[];
  env?: Record<string, string>;
  method?: string;
  params?: Record<string, unknown>;
}

export interface IFakeBinary {
  binaryPath: string;
  /** Everything that all runs have seen so far. */
  journal(): IJournalEntry[];
  /** Lets the next run, and no later one, end before it is ready. */
  failNext(): void;
}

export function fakeBinary(test: TestContext, ...faults: string[]): IFakeBinary {
  const directory = temporaryDirectory(test);
  const binaryPath = join(directory, 'binary.mjs');
  const run = `run(${JSON.stringify(directory)}, ${JSON.stringify(faults)});`;
  const script = `#!${process.execPath}\nimport { run } from ${JSON.stringify(source.href)};\n${run}\n`;
  writeFileSync(binaryPath, script, { mode: 0o755 });
  const journalPath = join(directory, 'journal.jsonl');
  writeFileSync(journalPath, '');
  return {
    binaryPath,
    journal: () =>
      readFileSync(journalPath, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as IJournalEntry),
    failNext: () => writeFileSync(join(directory, 'fail'), ''),
  };
}

export function temporaryDirectory(test: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'remoteingress-test-'));
  test.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
