// The imports between files of TypeScript and JavaScript, types among them.
import { posix } from 'node:path';

const statement = /^(?:import|export)\b[^;]*?\bfrom\s+'(\.[^']*)'|^import\s+'(\.[^']*)'/gm;

/** @returns [{ from, to, name, line }], as for Rust; a name is what stands between `import` and `from` */
export function importsOf(workspace) {
  const files = new Set(workspace.files.filter((path) => /\.(?:ts|mjs)$/.test(path)));
  return [...files].flatMap((from) => {
    const text = workspace.read(from);
    return [...text.matchAll(statement)].flatMap((match) => {
      const path = posix.join(posix.dirname(from), match[1] ?? match[2]);
      // TypeScript names what it compiles to.
      const to = [path, path.replace(/\.js$/, '.ts')].find((candidate) => files.has(candidate));
      const named = /\{([^}]*)\}/.exec(match[0])?.[1] ?? '*';
      const names = named.split(',').map((one) => one.trim());
      return to ? [{ from, to, name: names.filter(Boolean).join(', '), line: text.slice(0, match.index).split('\n').length }] : [];
    });
  });
}
