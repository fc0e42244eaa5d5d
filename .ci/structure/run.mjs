// node .ci/structure/run.mjs: the rules of how this repository is built. One line per rule says what it looked at; for
// a broken rule, a list says what is wrong, where, and what to do.
import { fileURLToPath } from 'node:url';
import { circles } from './rules/circles.mjs';
import { documentation } from './rules/documentation.mjs';
import { enginesApart } from './rules/engines.mjs';
import { impls } from './rules/impls.mjs';
import { layers } from './rules/layers.mjs';
import { places } from './rules/places.mjs';
import { purity } from './rules/purity.mjs';
import { sizes } from './rules/sizes.mjs';
import { openWorkspace } from './workspace.mjs';

const rules = { layers, engines: enginesApart, purity, circles, impls, documentation, sizes, places };

const workspace = openWorkspace(fileURLToPath(new URL('../..', import.meta.url)));
let broken = 0;
for (const [name, rule] of Object.entries(rules)) {
  const { looked, problems } = rule(workspace);
  broken += problems.length;
  const list = [`broken in ${problems.length} place(s)`, ...problems.map((text) => `  ${text}`)].join('\n');
  for (const line of problems.length > 0 ? [list] : looked) console.log(`${name}: ${line}`);
}
if (broken > 0) {
  console.error(`\nBroken in ${broken} place(s). The first line of a file in .ci/structure/rules/ says its rule`);
  process.exit(1);
}
