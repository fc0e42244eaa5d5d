// TypeScript and JavaScript as tokens, precise enough to match brackets. Comments are left out; a string, a regular
// expression and a template with everything inside it are one token each.

const kinds = [
  ['', /\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\//y],
  ['literal', /'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*"/y],
  ['name', /#?[\p{L}_$][\p{L}\p{N}_$]*/uy],
  ['literal', /\d[\w.]*/y],
  ['mark', /=>|\?\.|[\s\S]/y],
];
const regex = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
const beforeRegex = /^(?:[([{},;:=!&|?+*%<>~^-]|=>|return|typeof|case|of|in|await|yield)$/;

/** @returns [{ kind: 'literal' | 'name' | 'mark', text, line }] */
export function tokenize(source) {
  const tokens = [];
  let line = 1;
  for (let at = 0; at < source.length;) {
    const [kind, text] = read(source, at, tokens.at(-1));
    if (kind) tokens.push({ kind, text, line });
    line += text.split('\n').length - 1;
    at += text.length;
  }
  return tokens;
}

function read(source, at, last) {
  if (source[at] === '`') return ['literal', source.slice(at, endOfTemplate(source, at))];
  for (const [kind, pattern] of kinds) {
    const found = match(pattern, source, at);
    if (!found) continue;
    if (found !== '/') return [kind, found];
    const literal = !last || beforeRegex.test(last.text) ? match(regex, source, at) : undefined;
    return literal ? ['literal', literal] : [kind, found];
  }
  return ['mark', source[at]];
}

function match(pattern, source, at) {
  pattern.lastIndex = at;
  return pattern.exec(source)?.[0];
}

function endOfTemplate(source, begin) {
  for (let at = begin + 1; at < source.length; at++) {
    if (source[at] === '\\') at++;
    else if (source[at] === '`') return at + 1;
    else if (source.startsWith('${', at)) at = endOfInsertion(source, at + 2);
  }
  return source.length;
}

// The index of the bracket that ends `${ … }`.
function endOfInsertion(source, begin) {
  let depth = 1;
  let last = { text: '{' };
  for (let at = begin; at < source.length;) {
    const [kind, text] = read(source, at, last);
    if (text === '{') depth++;
    if (text === '}' && --depth === 0) return at;
    if (kind) last = { text };
    at += text.length;
  }
  return source.length;
}
