// No file, function or crate is too large to be read as one thing.
import { limits } from '../crates.mjs';
import { functionsOf } from '../script/functions.mjs';
import { rustFunctionsOf } from '../rust/functions.mjs';

const readers = { rs: rustFunctionsOf, ts: functionsOf, mjs: functionsOf, sh: () => [] };

export function sizes(workspace) {
  const sources = workspace.files.filter((path) => readers[ending(path)]);
  const functions = sources.flatMap((path) =>
    readers[ending(path)](workspace.read(path)).map((one) => ({ ...one, path })),
  );
  const [largest] = sharesOf(workspace);
  const share = largest
    ? `, ${largest.name} is the largest crate with ${percent(largest.share)} of the Rust lines`
    : '';
  return {
    looked: [`${sources.length} files and ${functions.length} functions are small enough${share}`],
    problems: [...ofFiles(workspace, sources), ...ofFunctions(functions), ...ofCrate(largest)],
  };
}

function ofFiles(workspace, paths) {
  return paths
    .map((path) => ({ path, lines: lineCount(workspace.read(path)) }))
    .filter(({ lines }) => lines > limits.fileLines)
    .map(({ path, lines }) => `${path} has ${lines} lines, at most ${limits.fileLines} are allowed: split it by task`);
}

function ofFunctions(functions) {
  const allowed = limits.functionLines;
  return functions
    .filter(({ length }) => length > allowed)
    .map(
      ({ path, line, name, length }) =>
        `${path}:${line} ${name} has ${length} lines, at most ${allowed} are allowed: make its parts functions`,
    );
}

function ofCrate(largest) {
  if (!largest || largest.share < limits.largestCrate) return [];
  const allowed = `less than ${percent(limits.largestCrate)} is allowed`;
  return [`${largest.name} has ${percent(largest.share)} of the Rust lines, ${allowed}: make a part of it a crate`];
}

function ending(path) {
  return /\.([a-z]+)$/.exec(path)?.[1];
}

function lineCount(text) {
  return text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
}

function sharesOf(workspace) {
  const crates = workspace.packages.map(({ name, folder }) => ({
    name,
    lines: workspace.files
      .filter((path) => path.startsWith(`${folder}/src/`) && path.endsWith('.rs'))
      .reduce((sum, path) => sum + lineCount(workspace.read(path)), 0),
  }));
  const all = crates.reduce((sum, { lines }) => sum + lines, 0);
  return crates.map(({ name, lines }) => ({ name, share: lines / all })).sort((a, b) => b.share - a.share);
}

function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}
