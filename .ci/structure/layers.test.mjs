import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { apart, groups, pure, uses } from './crates.mjs';
import { layers } from './rules/layers.mjs';
import { crate, showsFailure } from './scene.mjs';

const files = Object.assign(
  {},
  ...['proto', 'config', 'core', 'os', 'tunnel', 'testkit'].map((name) => crate(name, { 'lib.rs': '' })),
);

showsFailure('a crate depends on one above it', layers, {
  broken: { files, dependencies: { proto: ['config'], tunnel: ['core', 'os'] } },
  mended: { files, dependencies: { config: ['proto'], tunnel: ['core', 'os'] } },
  says: [
    /remoteingress-proto\/Cargo\.toml: remoteingress-proto must not depend on remoteingress-config: .* it may use nothing/,
  ],
});

showsFailure('a crate depends on one beside it', layers, {
  broken: { files, dependencies: { core: ['os'] } },
  mended: { files, dependencies: { core: ['config'] } },
  says: [/remoteingress-core must not depend on remoteingress-os: .* it may use proto, config;/],
});

showsFailure('only tests depend on testkit', layers, {
  broken: { files, dependencies: { tunnel: ['testkit'] } },
  mended: {
    files,
    dependencies: { testkit: ['tunnel'] },
    testDependencies: { tunnel: ['testkit'], proto: ['testkit'] },
  },
  says: [/remoteingress-tunnel must not depend on remoteingress-testkit/],
});

showsFailure('tests depend on nothing else that the crate itself may not use', layers, {
  broken: { files, testDependencies: { core: ['tunnel'] } },
  mended: { files, testDependencies: { core: ['proto'] } },
  says: [/remoteingress-core must not depend on remoteingress-tunnel for its tests/],
});

showsFailure('a pure crate has a runtime in its tree', layers, {
  broken: { files, trees: { core: ['bytes', 'quinn-proto', 'tokio'] } },
  mended: { files, trees: { core: ['bytes'], tunnel: ['quinn-proto', 'tokio'] } },
  says: [/remoteingress-core: quinn-proto must not be in its tree; `cargo tree/, /remoteingress-core: tokio must not/],
});

showsFailure('the tunnel has HTTP in its tree', layers, {
  broken: { files, trees: { tunnel: ['h2'] } },
  mended: { files, trees: { tunnel: ['h3-like'] } },
  says: [/remoteingress-tunnel: h2 must not be in its tree/],
});

showsFailure('a crate that nobody listed', layers, {
  broken: { files: { ...files, ...crate('surprise', { 'lib.rs': '' }) } },
  mended: { files },
  says: [/remoteingress-surprise \(rust\/remoteingress-surprise\) isn't listed/],
});

test('the list keeps to its own groups', () => {
  const order = groups.flat();
  assert.deepEqual(Object.keys(uses).sort(), [...order, ...apart].sort());
  for (const [index, group] of groups.entries()) {
    const below = groups.slice(0, index).flat();
    for (const name of group)
      assert.deepEqual(
        uses[name].filter((other) => !below.includes(other)),
        [],
        name,
      );
  }
  for (const name of pure)
    assert.deepEqual(
      uses[name].filter((other) => !pure.includes(other)),
      [],
      name,
    );
});
