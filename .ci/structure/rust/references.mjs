// The files of a crate that each file uses, and the names by which it uses them.
import { resolve } from './resolve.mjs';

/**
 * @returns [{ from, to, name, line, fromModule, toModule, counts }]
 * A name that a module only hands on (`pub use child::Name`) doesn't count: whoever imports it from there uses the file
 * that defines it. The same goes for an import that only child modules read.
 */
export function references(modules) {
  const methods = methodsByType(modules);
  return [...modules.values()].flatMap((module) => {
    const found = [...ofImports(module), ...ofPaths(module, methods), ...ofGlobs(module)];
    return found.filter(({ from, to }) => from !== to);
  });
}

function reference(module, target, line, counts = true) {
  const name = target.member && target.file === target.module.file ? `${target.name}::${target.member}` : target.name;
  return {
    from: module.file,
    to: target.file,
    name,
    line,
    fromModule: module.path,
    toModule: target.module.path,
    counts,
  };
}

function ofImports(module) {
  return module.imports
    .filter(({ glob }) => !glob)
    .flatMap(({ segments, name, line, visible }) =>
      resolve(module, segments)
        .filter(({ kind }) => kind !== 'module')
        .map((target) => reference(module, target, line, isUsed(module, name, target, visible))),
    );
}

// A trait is used by being in scope.
function isUsed(module, name, target, visible) {
  if (!visible && (name === '_' || target.kind === 'trait')) return true;
  return module.code.some((token, at) => isMention(module.code, at, name));
}

function isMention(code, at, name) {
  if (code[at].kind !== 'name' || code[at].text !== name) return false;
  const before = code[at - 1]?.text;
  const after = code[at + 1]?.text;
  return before !== '.' && before !== '::' && before !== 'fn' && before !== 'let' && after !== ':';
}

function ofPaths(module, methods) {
  const { code } = module;
  const found = [];
  for (let at = 0; at < code.length; at++) {
    if (code[at].kind !== 'name' || ['.', '::'].includes(code[at - 1]?.text)) continue;
    const path = pathAt(code, at);
    const { line, owner } = code[at];
    const own = owner && (code[at].text === 'Self' || isCallOnSelf(code, at)) ? resolve(module, owner.type) : undefined;
    if (own) {
      const method = code[at].text === 'Self' ? path[1] : code[at + 2].text;
      found.push(...own.flatMap((type) => ofMethod(module, type, method, methods, line)));
    } else if (path.length > 1) {
      for (const target of resolve(module, path).filter(({ kind }) => kind !== 'module')) {
        found.push(reference(module, target, line), ...ofMethod(module, target, target.member, methods, line));
      }
    }
  }
  return found;
}

function pathAt(code, begin) {
  const path = [code[begin].text];
  for (let at = begin + 1; code[at]?.text === '::' && code[at + 1]?.kind === 'name'; at += 2)
    path.push(code[at + 1].text);
  return path;
}

function isCallOnSelf(code, at) {
  return code[at].text === 'self' && code[at + 1]?.text === '.' && code[at + 3]?.text === '(';
}

// A method that stands in another file than its type is used where it is called.
function ofMethod(module, type, method, methods, line) {
  const place = methods.get(`${type.file} ${type.name}`)?.get(method);
  if (!place || place.file === type.file) return [];
  const target = { file: place.file, module: place, name: `${type.name}::${method}` };
  return [reference(module, target, line)];
}

function methodsByType(modules) {
  const types = new Map();
  for (const module of modules.values()) {
    for (const { type, ofTrait, methods } of module.impls) {
      const [found] = ofTrait ? [] : resolve(module, type);
      if (!found || found.kind === 'module') continue;
      const key = `${found.file} ${found.name}`;
      if (!types.has(key)) types.set(key, new Map());
      for (const method of methods) types.get(key).set(method, module);
    }
  }
  return types;
}

// Names that came with `use other::*`.
function ofGlobs(module) {
  if (!module.imports.some(({ glob }) => glob)) return [];
  const known = new Set([
    ...module.definitions.keys(),
    ...module.children.keys(),
    ...module.imports.map(({ name }) => name),
  ]);
  return module.code
    .filter(({ kind, text }, at) => kind === 'name' && !known.has(text) && isMention(module.code, at, text))
    .flatMap(({ text, line }) =>
      resolve(module, [text])
        .filter(({ kind }) => kind !== 'module')
        .map((target) => reference(module, target, line)),
    );
}
