import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { sizes } from './rules/sizes.mjs';
import { showsFailure } from './scene.mjs';
import { functionsOf } from './script/functions.mjs';

const lines = (count, text = '') => `${text}\n`.repeat(count);
const rust = (inside) =>
  `fn brackets() -> [u8; 2] {\n    let _ = ('{', "{{", r#"{"{"#, b'{', '\\'');\n    /* { /* { */ */ // {\n${inside}}\n`;
const script = (inside) =>
  `class A {\n  read<T>(from: { a: T }): Promise<T[]> {\n    const text = \`{ \${[{}].map(() => '}')} {\`; // {\n    return /[/{]\\{/.test(text);\n${inside}  }\n}\n`;

showsFailure('a file is too long', sizes, {
  broken: { files: { 'a.sh': lines(601), 'b.md': lines(9_000) } },
  mended: { files: { 'a.sh': lines(600), 'b.md': lines(9_000) } },
  says: [/a\.sh has 601 lines, at most 600 are allowed/],
});

showsFailure('a Rust function is too long, whatever its strings say', sizes, {
  broken: { files: { 'a.rs': rust(lines(87)) + rust('') } },
  mended: { files: { 'a.rs': rust(lines(86)) + rust('') } },
  says: [/a\.rs:1 brackets has 91 lines, at most 90 are allowed/],
});

showsFailure('a TypeScript function is too long, whatever its strings say', sizes, {
  broken: { files: { 'a.ts': script(lines(87)), 'b.mjs': `run(async () => {\n${lines(89)}});\n` } },
  mended: { files: { 'a.ts': script(lines(86)), 'b.mjs': `run(async () => {\n${lines(88)}});\n` } },
  says: [/a\.ts:2 read has 91 lines/, /b\.mjs:1 an arrow function has 91 lines/],
});

const shares = (tunnel) => ({
  files: Object.fromEntries(
    [
      ['a', 40],
      ['b', 40],
      ['tunnel', tunnel],
    ].map(([name, count]) => [`rust/remoteingress-${name}/src/lib.rs`, lines(count)]),
  ),
});
const even = shares(40);
even.files['rust/remoteingress-tunnel/tests/large.rs'] = lines(500);

showsFailure('a crate has too much of the whole', sizes, {
  broken: shares(60),
  mended: even,
  says: [/remoteingress-tunnel has 42\.9 % of the Rust lines, less than 35\.0 % is allowed/],
});

test('what counts as a function in TypeScript', () => {
  const source = `if (a) { } else { } for (;;) { } type T = { a: 1 };
    function one(): void { } const two = (): { a: 1 } => { }; class C { constructor() { } get three(): A | B { return {}; } }
    export default async function* four<T extends {}>() { switch (b) { } try { } catch (e) { } }`;
  assert.deepEqual(
    functionsOf(source)
      .map(({ name }) => name)
      .sort(),
    ['an arrow function', 'constructor', 'four', 'one', 'three'],
  );
});
