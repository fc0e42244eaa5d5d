// Everything a user of the package may name. `management.ts` is not among it: that is between us and the binary.
export type * from './calls.js';
export type * from './edge.js';
export type * from './emitter.js';
export type * from './engine.js';
export type * from './events.js';
export type * from './hub.js';
export type * from './pools.js';
export type * from './ports.js';
export type * from './reasons.js';
export type * from './supervision.js';
