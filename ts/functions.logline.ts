// Reads one line of the binary's stderr.
import { isObject } from './functions.arguments.js';
import type { ILogEvent } from './interfaces/index.js';

const levels = ['trace', 'debug', 'info', 'warn', 'error'] as const;

/** The binary logs JSON lines; whatever else stands on stderr (a panic's text) is an error message. */
export function parseLogLine(line: string): ILogEvent {
  const parsed = parseObject(line);
  if (!parsed) return { level: 'error', message: line, target: 'stderr', fields: {} };
  const name = typeof parsed['level'] === 'string' ? parsed['level'].toLowerCase() : '';
  const { message, ...fields } = isObject(parsed['fields']) ? parsed['fields'] : {};
  return {
    level: levels.find((level) => level === name) ?? 'info',
    message: typeof message === 'string' ? message : '',
    target: typeof parsed['target'] === 'string' ? parsed['target'] : '',
    fields,
  };
}

function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
