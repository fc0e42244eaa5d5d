// In the binary and in core, edge, hub and relay don't know each other; only the files above them know them all. What
// stands below them knows none: either end may dial, and either may accept.
import { controlPlane, engines, fullName, knowEngines, mayBringControlPlane } from '../crates.mjs';
import { readTargets } from '../rust/modules.mjs';
import { references } from '../rust/references.mjs';

const outside = [...controlPlane.filter((name) => !name.includes('*')), ...['gateway', 'admin'].map(fullName)].map(
  (name) => name.replaceAll('-', '_'),
);

export function enginesApart(workspace) {
  const problems = new Set();
  let files = 0;
  for (const { crate, modules } of readTargets(workspace)) {
    if (crate.name === fullName('core')) for (const text of betweenEngines(modules)) problems.add(text);
    if (crate.name === fullName('tunnel')) for (const text of ofCoresEngines(modules)) problems.add(text);
    if (crate.name !== fullName('bin')) continue;
    const inEngines = [...modules.values()].filter(({ path }) => engines.includes(top(path)));
    files += new Set(inEngines.map(({ file }) => file)).size;
    for (const text of [...betweenEngines(modules), ...ofControlPlane(inEngines)]) problems.add(text);
  }
  return {
    looked: [
      `${files} files of ${engines.join(', ')}: none imports another's, only ${knowEngines.join(', ')} know them`,
    ],
    problems: [...problems],
  };
}

function top(path) {
  return path.split('::')[0];
}

function* betweenEngines(modules) {
  for (const { from, name, line, fromModule, toModule } of references(modules)) {
    const [user, used] = [top(fromModule), top(toModule)];
    if (!engines.includes(used) || used === user) continue;
    if (engines.includes(user)) {
      yield `${from}:${line} ${user}/ imports ${name} of ${used}/: move what both need below them`;
    } else if (user !== '' && !knowEngines.includes(user)) {
      yield `${from}:${line} imports ${name} of ${used}/, which stands above it: only ${knowEngines.join(', ')} may`;
    }
  }
}

function* ofCoresEngines(modules) {
  for (const { file, imports, code } of modules.values()) {
    const paths = [
      ...imports.map(({ segments, line }) => ({ path: segments, line })),
      ...code.map(({ text, line }, at) => ({ path: [text, code[at + 2]?.text], line })),
    ];
    for (const { path, line } of paths.filter(({ path: [crate] }) => crate === 'remoteingress_core')) {
      if (engines.includes(path[1])) {
        yield `${file}:${line} uses ${path[1]}/ of ${path[0]}: move it to that crate's uplink/ or entrance/`;
      }
    }
  }
}

// Crates that the binary's dependencies bring for the control plane aren't for the engines.
function* ofControlPlane(modules) {
  for (const { file, code, imports } of modules) {
    const named = [
      ...imports.map(({ segments, line }) => ({ name: segments[0], line })),
      ...code.filter((token, at) => code[at + 1]?.text === '::').map(({ text, line }) => ({ name: text, line })),
    ];
    for (const { name, line } of named.filter((one) => outside.includes(one.name))) {
      yield `${file}:${line} uses ${name}: the data plane reads snapshots that ${mayBringControlPlane.join(', ')} make`;
    }
  }
}
