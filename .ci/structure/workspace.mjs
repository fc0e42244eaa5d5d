// The subject of the rules: the crates as cargo sees them, and the files that git knows. Tests hand in their own.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

export class Workspace {
  /**
   * @param root      absolute path of the workspace
   * @param packages  [{ name, folder, dependencies: [{ name, kind }], targets: [{ kind, file }] }]; paths from root
   * @param files     paths of all files that git doesn't ignore, relative to root
   * @param tree      function from a crate's name to the names of all crates in its normal and build tree
   */
  constructor({ root, packages, files, tree }) {
    Object.assign(this, { root, packages, files, tree });
    this.texts = new Map();
  }

  has(path) {
    return existsSync(join(this.root, path));
  }

  read(path) {
    if (!this.texts.has(path)) this.texts.set(path, readFileSync(join(this.root, path), 'utf8'));
    return this.texts.get(path);
  }

  find(name) {
    return this.packages.find((candidate) => candidate.name === name);
  }
}

/** The workspace in a folder, by cargo and git. */
export function openWorkspace(root) {
  const ask = (command, ...args) =>
    execFileSync(command, args, {
      cwd: root,
      encoding: 'utf8',
      maxBuffer: 1 << 26,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  const metadata = JSON.parse(ask('cargo', 'metadata', '--no-deps', '--format-version', '1', '--locked'));
  return new Workspace({
    root,
    packages: metadata.packages.map((found) => describe(found, root)),
    // A file that git knows and that a move has just taken away is no failure.
    files: ask('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard')
      .split('\0')
      .filter((path) => path && existsSync(join(root, path))),
    tree: (name) => {
      const options = ['--locked', '--package', name, '--edges', 'normal,build', '--prefix', 'none', '--format', '{p}'];
      const lines = ask('cargo', 'tree', ...options).split('\n');
      return [...new Set(lines.filter(Boolean).map((line) => line.split(' ')[0]))];
    },
  });
}

function describe(found, root) {
  const kinds = { lib: 'lib', rlib: 'lib', bin: 'bin' };
  return {
    name: found.name,
    folder: relative(root, dirname(found.manifest_path)),
    dependencies: found.dependencies.map(({ name, kind }) => ({ name, kind: kind ?? 'normal' })),
    targets: found.targets
      .filter(({ kind }) => kinds[kind[0]])
      .map(({ kind, src_path }) => ({ kind: kinds[kind[0]], file: relative(root, src_path) })),
  };
}
