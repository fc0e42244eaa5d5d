import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { fill, table } from './pages.mjs';
import { Schema } from './schema.mjs';

const block = (name, text) => `<!-- generated: ${name} -->\n${text}<!-- end -->`;

test('a block is filled, whatever it held, and the text around it stays', () => {
  const parts = { one: () => 'first', two: () => 'second' };
  for (const before of ['', '\n', '\nold\n\n']) {
    const page = `a\n${block('one', before)}\nb\n${block('two', before)}\nc`;
    const expected = `a\n${block('one', '\nfirst\n\n')}\nb\n${block('two', '\nsecond\n\n')}\nc`;
    assert.equal(fill('a.md', page, parts), expected);
  }
});

test('a block without a part and a part without a block are errors', () => {
  assert.throws(() => fill('a.md', block('one', ''), {}), /a\.md: nothing is generated for one/);
  assert.throws(() => fill('a.md', '', { one: () => '' }), /a\.md has no place for one/);
});

test('a bar in a cell ends no cell', () => {
  assert.equal(table(['a', 'b'], [['`x | y`', undefined]]), '| a | b |\n| --- | --- |\n| `x \\| y` | |');
});

test('a command has the comment of the method of its name, in whichever order they come', () => {
  const method = (word) => ({ const: word, description: `Does ${word}.` });
  const read = { Method: { oneOf: ['stop', 'ping'].map(method) } };
  const schema = new Schema({ read, written: {}, commands: [{ name: 'ping' }, { name: 'stop' }] });
  assert.deepEqual(
    schema.commands.map(({ name, text }) => [name, text]),
    [
      ['ping', 'Does ping.'],
      ['stop', 'Does stop.'],
    ],
  );
  const strange = new Schema({ read, written: {}, commands: [{ name: 'fly' }] });
  assert.throws(() => strange.commands, /no method fly/);
});
