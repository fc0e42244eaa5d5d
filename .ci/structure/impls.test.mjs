import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { impls } from './rules/impls.mjs';
import { crate, scene, showsFailure } from './scene.mjs';

const core = (files) => ({ files: crate('core', { 'lib.rs': 'mod session; mod flows;', ...files }) });
const elsewhere = core({
  'session.rs': 'mod receive; pub struct Session<T>(T);',
  'session/receive.rs': 'use super::Session;\nimpl<T: Fn() -> u8> Session<T> where T: Copy { fn a() {} fn b() {} }',
  'flows.rs': 'use crate::session;\nimpl session::Session<u8> { fn c() {} }',
});

showsFailure("an impl stands in another file than its type, a child's or any other", impls, {
  broken: elsewhere,
  mended: core({
    'session.rs': 'pub struct Session<T>(T); impl<T> Session<T> { fn a() {} }',
    'flows.rs': `use crate::session::Session;
      trait Flows { fn c(&self) -> impl Sized; }
      impl<T> Flows for Session<T> { fn c(&self) -> impl Sized {} }
      impl<F: for<'a> Fn(&'a u8)> From<F> for Session<u8> { }
      made! { pub struct Made; }
      impl Made { }
      #[cfg(test)] impl Session<u8> { fn d() {} }`,
  }),
  says: [
    /session\/receive\.rs:2 has an impl of Session \(2 functions\), which .*\/session\.rs defines/,
    /flows\.rs:2 has an impl of session::Session \(1 function\)/,
  ],
});

test("where it is asked for, a type's folder counts as its file", (context) => {
  const { problems } = impls(scene(context, elsewhere), { inTypesFolder: true });
  assert.equal(problems.length, 1);
  assert.match(problems[0], /flows\.rs:2/);
});
