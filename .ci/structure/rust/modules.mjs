// The module tree of one target of a crate (lib.rs, main.rs), without its tests.
import { posix } from 'node:path';
import { readModule } from './items.mjs';
import { tokenize } from './lexer.mjs';
import { withoutTests } from './testcode.mjs';

/** @returns Map of module path ('' for the root, 'a::b') to { path, file, parent, children: Map, ...items } */
export function readModules(workspace, rootFile) {
  const modules = new Map();
  const content = (file) => readModule(withoutTests(tokenize(workspace.read(file))));
  const add = (path, parent, file, folder, items) => {
    const module = { ...items, path, parent, file, children: new Map() };
    modules.set(path, module);
    for (const child of items.children) {
      const childPath = path ? `${path}::${child.name}` : child.name;
      const inside = posix.join(folder, child.name);
      if (child.content) {
        module.children.set(child.name, add(childPath, module, file, inside, child.content));
        continue;
      }
      const candidates = child.path
        ? [posix.join(posix.dirname(file), child.path)]
        : [`${inside}.rs`, posix.join(inside, 'mod.rs')];
      const found = candidates.find((candidate) => workspace.has(candidate));
      if (found) module.children.set(child.name, add(childPath, module, found, inside, content(found)));
    }
    return module;
  };
  add('', undefined, rootFile, posix.dirname(rootFile), content(rootFile));
  return modules;
}

/** All module trees of the workspace: [{ crate, modules }]. Read once, since three rules want them. */
export function readTargets(workspace) {
  workspace.trees ??= workspace.packages.flatMap((crate) =>
    crate.targets.map((target) => ({ crate, target, modules: readModules(workspace, target.file) })),
  );
  return workspace.trees;
}
