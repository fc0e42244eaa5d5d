// From a path in Rust source to the file that defines what it names, through re-exports.

/**
 * Things that a path names, seen from a module: [{ kind: 'module', module } | { kind, name, file, module, member }].
 * Empty where it leads out of the crate. `member` is what follows a type: a method, a variant.
 */
export function resolve(module, segments, seen = new Set()) {
  let at = 0;
  let options;
  const root = (from) => (from.parent ? root(from.parent) : from);
  for (let from = module; at < segments.length && ['crate', 'self', 'super'].includes(segments[at]); at++) {
    if (segments[at] === 'crate') from = root(from);
    if (segments[at] === 'super') from = from.parent ?? from;
    options = [{ kind: 'module', module: from }];
  }
  options ??= find(module, segments[at++], { seen, inside: true }) ?? [];
  for (; at < segments.length && options.length > 0; at++) {
    const inside = options.filter(({ kind }) => kind === 'module');
    if (inside.length === 0) return options.map((option) => ({ ...option, member: option.member ?? segments[at] }));
    options = inside.flatMap(
      ({ module: where }) => find(where, segments[at], { seen }) ?? [unknown(where, segments[at])],
    );
  }
  return options;
}

// It must be there, or rustc would fail: then a macro made it.
function unknown(module, name) {
  return { kind: 'unknown', name, file: module.file, module };
}

// Undefined where the module has no such name, empty where the name is imported from another crate. `seen` has the
// imports that are being followed: `use decode::decode` finds the module by its first name and not itself again.
function find(module, name, { seen, inside = false }) {
  const found = [];
  if (module.children.has(name)) found.push({ kind: 'module', module: module.children.get(name) });
  for (const { kind } of module.definitions.get(name) ?? []) found.push({ kind, name, file: module.file, module });
  const imports = module.imports.filter((one) => one.name === name && (inside || !one.local));
  for (const one of imports.filter((candidate) => !seen.has(candidate))) {
    found.push(...resolve(module, one.segments, new Set(seen).add(one)));
  }
  return found.length > 0 || imports.length > 0 ? found : throughGlobs(module, name, seen, inside);
}

function throughGlobs(module, name, seen, inside) {
  const globs = module.imports.filter((one) => one.glob && (inside || !one.local) && !seen.has(one));
  for (const one of globs) {
    const deeper = new Set(seen).add(one);
    for (const { kind, module: where } of resolve(module, one.segments, deeper)) {
      const found = kind === 'module' ? find(where, name, { seen: deeper }) : undefined;
      if (found) return found;
    }
  }
  return undefined;
}
