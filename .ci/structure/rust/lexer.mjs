// Rust source as tokens. Comments are left out, strings and characters are one token each.

const blank = /\s+|\/\/[^\n]*/y;
const kinds = [
  ['literal', /(?:b|c)?r(#*)"[\s\S]*?"\1|(?:b|c)?"(?:[^"\\]|\\[\s\S])*"/y],
  ['literal', /b?'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x..|.))'/uy],
  ['lifetime', /'[\p{L}_][\p{L}\p{N}_]*/uy],
  ['name', /(?:r#)?[\p{L}_][\p{L}\p{N}_]*/uy],
  ['literal', /\d\w*(?:\.\d\w*)?/y],
  ['mark', /::|[\s\S]/uy],
];

/** @returns [{ kind: 'literal' | 'lifetime' | 'name' | 'mark', text, line }] */
export function tokenize(source) {
  const tokens = [];
  let line = 1;
  for (let at = 0; at < source.length;) {
    const [kind, text] = skipped(source, at) ?? read(source, at);
    if (kind) tokens.push({ kind, text: text.startsWith('r#') && kind === 'name' ? text.slice(2) : text, line });
    line += text.split('\n').length - 1;
    at += text.length;
  }
  return tokens;
}

function skipped(source, at) {
  blank.lastIndex = at;
  const found = blank.exec(source);
  if (found) return [undefined, found[0]];
  return source.startsWith('/*', at) ? [undefined, blockComment(source, at)] : undefined;
}

// Block comments nest.
function blockComment(source, begin) {
  const edge = /\/\*|\*\//g;
  edge.lastIndex = begin;
  let depth = 0;
  for (let found = edge.exec(source); found; found = edge.exec(source)) {
    depth += found[0] === '/*' ? 1 : -1;
    if (depth === 0) return source.slice(begin, edge.lastIndex);
  }
  return source.slice(begin);
}

function read(source, at) {
  for (const [kind, pattern] of kinds) {
    pattern.lastIndex = at;
    const found = pattern.exec(source);
    if (found) return [kind, found[0]];
  }
  return ['mark', source[at]];
}

const opening = new Set(['(', '[', '{']);
const closings = new Set([')', ']', '}']);

export function opens(token) {
  return opening.has(token?.text);
}

export function closes(token) {
  return closings.has(token?.text);
}

/** The index of the bracket that closes the one at `open`. */
export function closing(tokens, open) {
  let depth = 0;
  for (let at = open; at < tokens.length; at++) {
    if (opens(tokens[at])) depth++;
    if (closes(tokens[at]) && --depth === 0) return at;
  }
  return tokens.length - 1;
}
