// For the tests of the rules: a made-up workspace in a folder that goes away with the test.
import { strict as assert } from 'node:assert';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { Workspace } from './workspace.mjs';

/**
 * Each rule is shown to fail: it must refuse the workspace `broken` with messages that match `says`, one each, and must
 * pass `mended`. Both are { files: { path: text }, dependencies: { crate: [name] },
 * testDependencies: { crate: [name] }, trees: { crate: [name] } }, crates by their short names.
 */
export function showsFailure(title, rule, { broken, mended, says }) {
  test(title, (context) => {
    const { problems } = rule(scene(context, broken));
    assert.equal(problems.length, says.length, `expected ${says.length} problems:\n${problems.join('\n')}`);
    says.forEach((pattern, index) => assert.match(problems[index], pattern));
    const { looked, problems: left } = rule(scene(context, mended));
    assert.deepEqual(left, []);
    assert.ok(looked.length > 0);
  });
}

export function scene(context, { files = {}, dependencies = {}, testDependencies = {}, trees = {} }) {
  const root = mkdtempSync(join(tmpdir(), 'structure-'));
  context.after(() => rmSync(root, { recursive: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const paths = Object.keys(files);
  const folders = new Set(paths.map((path) => /^rust\/[^/]+/.exec(path)?.[0]).filter(Boolean));
  const packages = [...folders].map((folder) => {
    const name = folder.slice('rust/'.length);
    const short = name.replace('remoteingress-', '');
    const named = (list, kind) => (list ?? []).map((other) => ({ name: `remoteingress-${other}`, kind }));
    const targets = [
      ['lib', `${folder}/src/lib.rs`],
      ['bin', `${folder}/src/main.rs`],
    ];
    return {
      name,
      folder,
      dependencies: [...named(dependencies[short], 'normal'), ...named(testDependencies[short], 'dev')],
      targets: targets.filter(([, file]) => paths.includes(file)).map(([kind, file]) => ({ kind, file })),
    };
  });
  const tree = (name) => [name, ...(trees[name.replace('remoteingress-', '')] ?? [])];
  return new Workspace({ root, packages, files: paths, tree });
}

/** The files of a crate: paths without their `rust/remoteingress-…/src/`. */
export function crate(short, files) {
  return Object.fromEntries(
    Object.entries(files).map(([path, text]) => [`rust/remoteingress-${short}/src/${path}`, text]),
  );
}
