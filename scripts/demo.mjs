// npm run demo: a hub, an edge and an HTTP target on loopback, with real requests through the tunnel.
import { parseArgs } from 'node:util';
import { buildAll } from './setup.mjs';

const usage = 'usage: npm run demo [-- --seconds N]     without N it runs until Ctrl-C, or 10 s where nobody watches (no terminal)';

let seconds = process.stdout.isTTY ? Infinity : 10;
try {
  const { values } = parseArgs({ options: { seconds: { type: 'string' }, help: { type: 'boolean', short: 'h' } } });
  if (values.help) {
    console.log(usage);
    process.exit(0);
  }
  if (values.seconds !== undefined) seconds = Number(values.seconds);
  if (!(seconds >= 0)) throw new Error(`--seconds ${values.seconds}: not a number of seconds`);
} catch (error) {
  console.error(`${error.message}\n${usage}`);
  process.exit(2);
}

buildAll();
const { playDemo } = await import('./demo/play.mjs');
await playDemo(seconds);
