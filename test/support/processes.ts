// Looks at processes through /proc.
import { readdirSync, readFileSync } from 'node:fs';

/** The direct children of a process, by default of this one. */
export function childPids(parent = process.pid): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && parentOf(name) === parent)
    .map(Number);
}

export function isAlive(pid: number): boolean {
  const state = stat(String(pid))?.[0];
  return state !== undefined && state !== 'Z'; // a zombie only waits for its parent to notice
}

function parentOf(pid: string): number {
  return Number(stat(pid)?.[1] ?? -1);
}

/** The fields of /proc/PID/stat after the command name, which may contain anything. */
function stat(pid: string): string[] | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
  } catch {
    return undefined;
  }
}
