// Clients in front of the pools: each connects, says a byte, and waits for the number of the target that answers.
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

const host = '127.0.0.1';
const giveUpMs = 15_000;

/**
 * One client: `{ target, ms, begun }` of who answered and when, in ms of `performance.now()`; `target` is undefined and
 * `failure` says why where nobody did. `socket` is still open if `holds`.
 */
export function visit(port, holds = false) {
  return new Promise((resolve) => {
    const begun = performance.now();
    const socket = connect({ port, host, noDelay: true });
    const done = (result) => {
      clearTimeout(timer);
      resolve({ ms: performance.now() - begun, begun, ...result });
      if (holds && !result.failure) return;
      socket.removeAllListeners('data');
      if (result.failure) socket.destroy();
      else socket.end();
    };
    const timer = setTimeout(() => done({ failure: 'timeout' }), giveUpMs);
    socket.on('error', ({ code }) => done({ failure: code }));
    socket.on('close', () => done({ failure: 'closed' }));
    socket.once('data', (data) => done({ target: data[0], socket }));
    socket.write('?');
  });
}

/** `count` clients, each after the other. */
export async function visitInTurn(port, count) {
  const visits = [];
  for (let n = 0; n < count; n += 1) visits.push(await visit(port));
  return visits;
}

/** `count` clients that stay, opened each after the other. */
export async function hold(port, count) {
  const visits = [];
  for (let n = 0; n < count; n += 1) visits.push(await visit(port, true));
  return visits;
}

/** Ends those that stayed, and waits a little so that whoever is between has heard it. */
export async function release(visits) {
  for (const { socket } of visits) socket?.destroy();
  await pause(300);
}

/** How many of those that stayed still get an answer. */
export async function answering(visits) {
  const asked = visits.map(({ socket }) => {
    if (!socket || socket.destroyed) return false;
    const answered = new Promise((resolve) => socket.once('data', () => resolve(true)).once('close', () => resolve(false)));
    socket.write('?');
    return Promise.race([answered, pause(2_000, false, { ref: false })]);
  });
  return (await Promise.all(asked)).filter(Boolean).length;
}

/** Clients that come at a steady rate, whatever becomes of the others. Each is told to `seen`; `until` may end it early. */
export async function visitSteadily(port, perSec, secs, { until = () => false, seen = (result) => result } = {}) {
  const visits = [];
  const begun = performance.now();
  while (visits.length < perSec * secs && !until()) {
    const due = Math.min(perSec * secs, Math.floor(((performance.now() - begun) / 1000) * perSec));
    while (visits.length < due) visits.push(visit(port).then(seen));
    await pause(2);
  }
  return Promise.all(visits);
}

/** The value that `share` of the numbers don't exceed. */
export function quantile(numbers, share) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN;
}

export const answered = (visits) => visits.filter(({ failure }) => !failure);
export const failed = (visits) => visits.filter(({ failure }) => failure);

/** ms of those that were answered. */
export const times = (visits) => answered(visits).map(({ ms }) => ms);
