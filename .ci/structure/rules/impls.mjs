// An inherent impl stands in the file that defines its type.
import { readTargets } from '../rust/modules.mjs';
import { resolve } from '../rust/resolve.mjs';

/** With `inTypesFolder`, child modules of the type's module count as its file (session/receive.rs for session.rs). */
export function impls(workspace, { inTypesFolder = false } = {}) {
  const problems = [];
  let seen = 0;
  for (const { modules } of readTargets(workspace)) {
    for (const module of modules.values()) {
      for (const { type, ofTrait, line, methods } of module.impls) {
        // A type that can't be found is made by a macro, or stands in a function: then it is in this file.
        const [found] = ofTrait ? [] : resolve(module, type);
        if (!found || found.kind === 'module') continue;
        seen++;
        const isBelow = inTypesFolder && module.path.startsWith(`${found.module.path}::`);
        if (found.file === module.file || isBelow) continue;
        const count = `${methods.length} function${methods.length === 1 ? '' : 's'}`;
        problems.push(
          `${module.file}:${line} has an impl of ${type.join('::')} (${count}), which ${found.file} defines: ` +
            'move the impl there, or make a type of its own of what it works on',
        );
      }
    }
  }
  return { looked: [`${seen} inherent impls stand in their type's file`], problems };
}
