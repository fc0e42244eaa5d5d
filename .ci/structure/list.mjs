// For scripts: node .ci/structure/list.mjs pure|libraries prints the names of the crates that exist, one per line.
import { fileURLToPath } from 'node:url';
import { fullName, pure } from './crates.mjs';
import { openWorkspace } from './workspace.mjs';

const { packages } = openWorkspace(fileURLToPath(new URL('../..', import.meta.url)));
const lists = {
  pure: ({ name }) => pure.map(fullName).includes(name),
  libraries: ({ targets }) => targets.some(({ kind }) => kind === 'lib'),
};
const belongs = lists[process.argv[2]];
if (!belongs) {
  console.error(`usage: node .ci/structure/list.mjs ${Object.keys(lists).join('|')}`);
  process.exit(2);
}
console.log(
  packages
    .filter(belongs)
    .map(({ name }) => name)
    .join('\n'),
);
