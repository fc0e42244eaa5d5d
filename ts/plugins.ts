// Every import from outside this package, in one place.
export * as crypto from 'node:crypto';
export { EventEmitter, once } from 'node:events';
export * as fs from 'node:fs';
export * as net from 'node:net';
export { default as path } from 'node:path';
export * as timers from 'node:timers/promises';
export * as url from 'node:url';

export * as smartrust from '@push.rocks/smartrust';
