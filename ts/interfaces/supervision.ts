// Events that this package adds to those of the binary.

/** Data of `log`. */
export interface ILogEvent {
  /** Severity. */
  level: 'trace' | 'debug' | 'info' | 'warn' | 'error';
  /** The line, for a person. */
  message: string;
  /** The part of the program that speaks. */
  target: string;
  /** Where the binary logs an event, `event` is its name and `data` its data, as JSON inside a string. */
  fields: Record<string, unknown>;
}

/** Data of `restarted`. */
export interface IRestartedEvent {
  /** Tries that this restart took; 1 = the first one worked. */
  attempt: number;
  /** End of the binary, as a sentence. */
  reason: string;
}

/** Events of the package itself, at a hub and an edge alike. */
export interface ISupervisionEvents {
  /** The binary had died; it runs again with the last configuration. */
  restarted: [IRestartedEvent];
  /** The binary, or the part of this package that keeps it running, has logged a line. */
  log: [ILogEvent];
}
