// The unions of reasons and codes: each member is documented, and the package's own codes are those of docs/errors.md.
// `npm run generate -- --check` holds the others to the Rust types.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readUnions, root } from './support/declarations.js';

const unions = readUnions(join(root, 'ts/interfaces/reasons.ts'));
const wrapper = readUnions(join(root, 'ts/classes.remoteingresserror.ts'));

test('the codes of the package are those of docs/errors.md', () => {
  const [, section = ''] = readFileSync(join(root, 'docs/errors.md'), 'utf8').split('\n## From the TypeScript package\n');
  const documented = [...section.matchAll(/^\| `(E_\w+)` \|/gm)].map(([, code]) => code!);
  const members = wrapper.get('TWrapperErrorCode')!.map(({ text }) => text);
  assert.deepEqual(documented.sort(), members.sort());
});

test('every member has a line of documentation', () => {
  for (const [name, members] of [...unions, ...wrapper]) {
    for (const { text, documentation } of members) {
      assert.match(documentation, /^[^]{10,}\.$/, `${name}: '${text}'`);
    }
  }
});
