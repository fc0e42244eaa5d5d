import { circles } from './rules/circles.mjs';
import { crate, showsFailure } from './scene.mjs';

const core = (files) => ({ files: crate('core', files) });
const root = 'mod a; mod b;';

showsFailure('two files import each other, one by a nested tree and one by a path', circles, {
  broken: core({
    'lib.rs': root,
    'a.rs': 'use crate::{b::{Two as Second, self}};\npub struct One(Second);',
    'b.rs': 'pub struct Two;\nfn f() -> u8 { super::a::One::count() }',
  }),
  mended: core({
    'lib.rs': root,
    'a.rs': 'use crate::b::Two;\npub struct One(Two);',
    'b.rs':
      '// crate::a::One\npub struct Two;\nconst TEXT: &str = "crate::a::One";\n#[cfg(test)]\nmod tests { use crate::a::One; }',
  }),
  says: [
    /remoteingress-core: a circle of 2 files.*\n    a\.rs -> b\.rs: Two \(line 1\)\n    b\.rs -> a\.rs: One::count \(line 2\)$/,
  ],
});

showsFailure('a circle of three through a name that the parent hands on', circles, {
  broken: core({
    'lib.rs': 'mod p;',
    'p.rs': 'mod x; mod y; mod z; pub use x::X; pub use y::Y; pub use z::Z;',
    'p/x.rs': 'use super::Y; pub struct X(Y);',
    'p/y.rs': 'use super::{Z}; pub struct Y(Z);',
    'p/z.rs': 'use crate::p::X; pub struct Z(X);',
  }),
  // Each child imports the parent, which hands names on and uses none of them.
  mended: core({
    'lib.rs': 'mod p;',
    'p.rs': 'mod x; mod y; mod z; pub use x::X; pub use y::Y; pub use z::Z;',
    'p/x.rs': 'use super::Y; pub struct X(Y);',
    'p/y.rs': 'use super::{Z}; pub struct Y(Z);',
    'p/z.rs': 'pub struct Z;',
  }),
  says: [
    /a circle of 3 files.*\n    p\/x\.rs -> p\/y\.rs: Y \(line 1\)\n    p\/y\.rs -> p\/z\.rs: Z \(line 1\)\n    p\/z\.rs -> p\/x\.rs: X \(line 1\)$/,
  ],
});

showsFailure("a parent calls a method that its child adds to the parent's type", circles, {
  broken: core({
    'lib.rs': 'mod session;',
    'session.rs': 'mod receive;\npub struct Session;\nimpl Session {\n    fn run(&self) { self.receive() }\n}',
    'session/receive.rs': 'use super::Session;\nimpl Session { pub(super) fn receive(&self) {} }',
  }),
  mended: core({
    'lib.rs': 'mod session;',
    'session.rs':
      'mod receive;\nuse receive::Inbox;\npub struct Session(Inbox);\nimpl Session {\n    fn run(&self) { self.0.receive() }\n}',
    'session/receive.rs': 'pub struct Inbox;\nimpl Inbox { pub(super) fn receive(&self) {} }',
  }),
  says: [
    /session\.rs -> session\/receive\.rs: Session::receive \(line 4\)\n    session\/receive\.rs -> session\.rs: Session \(line 1\)$/,
  ],
});

showsFailure('a circle through a glob, and an x/mod.rs', circles, {
  broken: core({
    'lib.rs': root,
    'a/mod.rs': 'use crate::b::*;\npub struct One;\nfn f() -> Two { Two }',
    'b.rs': 'pub struct Two;\nfn f(_: crate::a::One) {}',
  }),
  mended: core({
    'lib.rs': root,
    'a/mod.rs': 'use crate::b::*;\npub struct One;',
    'b.rs': 'pub struct Two;\nfn f(_: crate::a::One) {}',
  }),
  says: [/a\/mod\.rs -> b\.rs: Two \(line 3\)/],
});

const edge = 'use super::decode;\npub struct Edge;\nfn f() { decode() }';

showsFailure('names are followed to the file that defines them, where a module has the same name', circles, {
  broken: core({
    'lib.rs': 'mod p;',
    'p.rs': 'mod decode; mod edge; use self::decode::decode;',
    'p/decode.rs': 'pub fn decode(_: super::edge::Edge) {}',
    'p/edge.rs': edge,
  }),
  mended: core({
    'lib.rs': 'mod p;',
    'p.rs': 'mod decode; mod edge; use self::decode::decode; use edge::Edge; fn f(_: Edge) { decode() }',
    'p/decode.rs': 'pub fn decode() {}',
    'p/edge.rs': edge,
  }),
  says: [/p\/decode\.rs -> p\/edge\.rs: Edge \(line 1\)\n    p\/edge\.rs -> p\/decode\.rs: decode \(line 1\)$/],
});

showsFailure('two files of TypeScript take types from each other', circles, {
  broken: {
    files: {
      'ts/one.ts': "// One.\nimport type {\n  Two,\n} from './two.js';\nexport type One = Two;",
      'ts/two.ts': "import type { One } from './one.js';\nexport type Two = { one: One };",
    },
  },
  mended: {
    files: {
      'ts/one.ts': "import type { Two } from './two.js';\nimport { three } from 'three';\nexport * from './index.js';",
      'ts/two.ts': '// import { One } from \'./one.js\';\nexport type Two = number;',
    },
  },
  says: [/TypeScript and scripts: a circle of 2 files.*\n    ts\/one\.ts -> ts\/two\.ts: Two \(line 2\)\n    ts\/two\.ts -> ts\/one\.ts: One \(line 1\)$/],
});
