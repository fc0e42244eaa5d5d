// From a path in Rust source to the file that defines what it names, through re-exports.

/**
 * What a path names, seen from a module: [{ kind: 'module', module } | { kind, name, file, module, member }].
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

// It must be there, or rustc would complain: then a macro made it.
function unknown(module, name) {
  return { kind: 'unknown', name, file: module.file, module };
}

// Undefined where the module has no such name, empty where the name is imported from another crate.
function find(module, name, { seen, inside = false }) {
  const key = `${module.path} ${name}`;
  if (seen.has(key)) return undefined;
  const deeper = new Set(seen).add(key);
  const found = [];
  let imported = false;
  if (module.children.has(name)) found.push({ kind: 'module', module: module.children.get(name) });
  for (const { kind } of module.definitions.get(name) ?? []) found.push({ kind, name, file: module.file, module });
  for (const { segments } of module.imports.filter((one) => one.name === name && (inside || !one.local))) {
    imported = true;
    found.push(...resolve(module, segments, deeper));
  }
  if (found.length > 0 || imported) return found;
  return throughGlobs(module, name, deeper, inside);
}

function throughGlobs(module, name, seen, inside) {
  for (const { segments } of module.imports.filter((one) => one.glob && (inside || !one.local))) {
    for (const { kind, module: where } of resolve(module, segments, seen)) {
      const found = kind === 'module' ? find(where, name, { seen }) : undefined;
      if (found) return found;
    }
  }
  return undefined;
}
