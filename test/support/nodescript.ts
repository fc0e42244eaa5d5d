// Runs a piece of JavaScript in a Node of its own, with the package under test at hand.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Beyond what any of these scripts needs; one that doesn't end by itself is a failure. */
const deadlineMs = 20_000;

export function startNodeScript(script: string, args: string[] = []): ChildProcessByStdio<null, Readable, Readable> {
  const nodeArgs = ['--input-type=module', '--eval', script, '--', ...args];
  return spawn(process.execPath, nodeArgs, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Settles when the script has ended by itself with exit code 0. */
export async function nodeScript(script: string, args: string[] = []): Promise<{ stdout: string; stderr: string }> {
  const child = startNodeScript(script, args);
  const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
  const [[exitCode, signal], stdout, stderr] = await Promise.all([
    once(child, 'exit') as Promise<[number | null, string | null]>,
    text(child.stdout),
    text(child.stderr),
  ]);
  clearTimeout(timer);
  if (signal) throw new Error(`the script didn't end by itself\n${stdout}\n${stderr}`);
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}\n${stdout}\n${stderr}`);
  return { stdout, stderr };
}
