// Each crate depends only on crates below it; pure crates have no I/O in their tree, the data plane no control plane.
import * as table from '../crates.mjs';

const place = '.ci/structure/crates.mjs';

export function layers(workspace) {
  const trees = [...ofTrees(workspace)];
  const problems = [
    ...workspace.packages.flatMap((crate) => [...ofWorkspace(crate, workspace)]),
    ...trees.flatMap((tree) => tree.problems),
  ];
  if (!table.pure.some((short) => workspace.find(table.fullName(short)))) {
    problems.push(`${place} names no pure crate that exists: mend its list`);
  }
  return {
    looked: [`${workspace.packages.length} crates depend only on crates below them`, ...trees.map(({ line }) => line)],
    problems,
  };
}

function* ofWorkspace(crate, workspace) {
  const short = table.shortName(crate.name);
  if (short === undefined) {
    yield `${crate.name} (${crate.folder}) isn't listed: give it a group and its \`uses\` in ${place}`;
    return;
  }
  for (const { name, kind } of crate.dependencies) {
    if (!workspace.find(name) || name === crate.name) continue;
    const isForTests = kind === 'dev';
    const allowed = isForTests ? [...table.uses[short], ...table.usesInTests] : table.uses[short];
    if (allowed.map(table.fullName).includes(name)) continue;
    const mine = allowed.filter((other) => workspace.find(table.fullName(other)));
    yield (
      `${crate.folder}/Cargo.toml: ${crate.name} must not depend on ${name}${isForTests ? ' for its tests' : ''}: ` +
      `of this workspace it may use ${mine.join(', ') || 'nothing'}; move what it needs there, or what needs it up`
    );
  }
}

function* ofTrees(workspace) {
  for (const short of table.pure) {
    yield* ofTree(workspace, short, table.impure, 'runtime, socket or TLS');
  }
  const mayBring = table.mayBringControlPlane.map(table.fullName);
  for (const short of table.dataPlane) {
    const crate = workspace.find(table.fullName(short));
    const isLetOff = crate?.dependencies.some(({ name }) => mayBring.includes(name));
    if (!isLetOff) yield* ofTree(workspace, short, table.controlPlane, 'HTTP or database');
  }
}

function* ofTree(workspace, short, patterns, without) {
  const name = table.fullName(short);
  if (!workspace.find(name)) return;
  const tree = workspace.tree(name);
  const found = tree.filter((other) => table.matches(other, patterns));
  yield {
    line: `${name}: ${tree.length} crates, no ${without} among them`,
    problems: found.map((other) => {
      const show = `cargo tree -p ${name} -e normal,build -i ${other}`;
      return `${name}: ${other} must not be in its tree; \`${show}\` shows who brings it`;
    }),
  };
}
