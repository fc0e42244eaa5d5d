// No files import each other in a circle: inside a crate, and among TypeScript and scripts.
import { readTargets } from '../rust/modules.mjs';
import { references } from '../rust/references.mjs';
import { components } from '../components.mjs';
import { importsOf } from '../script/imports.mjs';

export function circles(workspace) {
  const files = new Set();
  const problems = [];
  let arrows = 0;
  const look = (house, graph) => {
    arrows += [...graph.values()].reduce((sum, targets) => sum + targets.size, 0);
    problems.push(
      ...components(graph)
        .filter((found) => found.length > 1)
        .map((found) => describe(house, found, graph)),
    );
  };
  for (const { crate, modules } of readTargets(workspace)) {
    for (const { file } of modules.values()) files.add(file);
    look(crate, arrowsOf(references(modules).filter(({ counts }) => counts)));
  }
  const scripts = importsOf(workspace);
  for (const { from, to } of scripts) files.add(from).add(to);
  look({ name: 'TypeScript and scripts', folder: '' }, arrowsOf(scripts));
  return { looked: [`${files.size} files with ${arrows} imports between them form no circle`], problems };
}

// Map of file to Map of file to Map of name to the first line that uses it.
function arrowsOf(found) {
  const graph = new Map();
  for (const { from, to, name, line } of found) {
    if (!graph.has(from)) graph.set(from, new Map());
    if (!graph.get(from).has(to)) graph.get(from).set(to, new Map());
    const names = graph.get(from).get(to);
    names.set(name, Math.min(line, names.get(name) ?? Infinity));
  }
  return graph;
}

function describe(crate, files, graph) {
  const sources = `${crate.folder}/src/`;
  const brief = (file) => file.replace(sources, '');
  const members = [...files].sort();
  const lines = members.flatMap((from) =>
    members
      .filter((to) => graph.get(from)?.has(to))
      .map((to) => {
        const names = [...graph.get(from).get(to)].map(([name, line]) => `${name} (line ${line})`);
        return `    ${brief(from)} -> ${brief(to)}: ${names.join(', ')}`;
      }),
  );
  return [
    `${crate.name}: a circle of ${files.length} files; move what ties them into a file below all of them`,
    ...lines,
  ].join('\n');
}
