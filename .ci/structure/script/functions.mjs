// Lengths of the functions of a TypeScript or JavaScript file: declarations, methods and arrows with a block.
import { tokenize } from './lexer.mjs';

const statements = ['if', 'for', 'while', 'switch', 'catch', 'with', 'await'];
const pairs = { ')': '(', ']': '[', '}': '{', '>': '<' };

/** @returns [{ name, line, length }] */
export function functionsOf(source) {
  const tokens = tokenize(source);
  const open = [];
  const found = [];
  tokens.forEach(({ text, line }, at) => {
    if (text === '{') open.push(at);
    if (text !== '}') return;
    const head = headOf(tokens, open.pop());
    if (head) found.push({ ...head, length: line - head.line + 1 });
  });
  return found;
}

// The text before a block: `name(…) {`, `name(…): Type {` or `(…) => {`.
function headOf(tokens, block) {
  if (block === undefined) return undefined;
  if (tokens[block - 1]?.text === '=>') return { name: 'an arrow function', line: tokens[block - 1].line };
  const close = tokens[block - 1]?.text === ')' ? block - 1 : beforeType(tokens, block - 1);
  if (close === undefined) return undefined;
  const begin = openingOf(tokens, close);
  const before = skipTypeParameters(tokens, begin - 1);
  const { text, kind, line } = tokens[before] ?? {};
  if (kind !== 'name' || statements.includes(text)) return undefined;
  return { name: text === 'function' ? 'a function' : text, line };
}

// From the end of a return type to the bracket before its colon.
function beforeType(tokens, end) {
  for (let at = end; at >= 0; at--) {
    const { text, kind } = tokens[at];
    if (text === ':') return tokens[at - 1]?.text === ')' ? at - 1 : undefined;
    if (pairs[text]) at = openingOf(tokens, at);
    else if (kind === 'mark' && !'|&.,'.includes(text)) return undefined;
  }
  return undefined;
}

function skipTypeParameters(tokens, at) {
  return tokens[at]?.text === '>' ? openingOf(tokens, at) - 1 : at;
}

function openingOf(tokens, close) {
  const end = tokens[close].text;
  let depth = 0;
  for (let at = close; at >= 0; at--) {
    if (tokens[at].text === end) depth++;
    if (tokens[at].text === pairs[end] && --depth === 0) return at;
  }
  return 0;
}
