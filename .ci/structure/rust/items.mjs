// The items of one module: what it defines, what it imports, its child modules and its impl blocks.
import { closing, opens } from './lexer.mjs';
import { attribute } from './testcode.mjs';
import { readUse } from './usetree.mjs';

const modifiers = ['unsafe', 'async', 'default', 'extern', 'safe'];
const untilSemicolon = ['const', 'static', 'type'];
const defining = ['struct', 'enum', 'union', 'trait', 'fn', ...untilSemicolon];

/**
 * @returns {
 *   definitions: Map of name to [{ kind, line }],
 *   imports:     [{ segments, name, glob, line, visible, local }], local inside of a function,
 *   children:    [{ name, path, content }], content of a module that stands in this file,
 *   impls:       [{ type, ofTrait, methods, line }],
 *   code:        the tokens of everything but imports and child modules; `owner` is the impl around a token
 * }
 */
export function readModule(tokens, begin = 0, end = tokens.length) {
  const module = { definitions: new Map(), imports: [], children: [], impls: [], code: [] };
  for (let at = begin; at < end;) at = readItem(module, tokens, at);
  return module;
}

function readItem(module, tokens, begin) {
  let at = begin;
  let path;
  for (let open = attribute(tokens, at); open !== undefined; open = attribute(tokens, at)) {
    if (tokens[open + 1].text === 'path') path = tokens[open + 3]?.text.slice(1, -1);
    at = closing(tokens, open) + 1;
  }
  const visible = tokens[at]?.text === 'pub';
  if (visible) at = tokens[at + 1]?.text === '(' ? closing(tokens, at + 1) + 1 : at + 1;
  while (isModifier(tokens, at)) at++;
  if (at >= tokens.length) return at;
  const { text } = tokens[at];
  if (text === 'mod') return readChild(module, tokens, at, path);
  if (text === 'use') return readImport(module, tokens, at, { visible, local: false });
  if (text === 'crate') return endOf(tokens, at, true); // extern crate
  if (text === 'impl') return readImpl(module, tokens, at);
  if (text === 'macro_rules') return define(module, tokens, at, 'macro', 2);
  if (defining.includes(text) && tokens[at + 1]?.kind === 'name')
    return define(module, tokens, at, text, text === 'static' && tokens[at + 1].text === 'mut' ? 2 : 1);
  const to = opens(tokens[at]) ? closing(tokens, at) + 1 : at + 1;
  addCode(module, tokens, at, to);
  return to;
}

function isModifier(tokens, at) {
  const text = tokens[at]?.text;
  if (modifiers.includes(text)) return true;
  if (tokens[at]?.kind === 'literal') return tokens[at - 1]?.text === 'extern';
  return text === 'const' && ['fn', 'unsafe', 'async', 'extern'].includes(tokens[at + 1]?.text);
}

function readChild(module, tokens, at, path) {
  const name = tokens[at + 1].text;
  if (tokens[at + 2]?.text !== '{') {
    module.children.push({ name, path });
    return at + 3;
  }
  const close = closing(tokens, at + 2);
  module.children.push({ name, path, content: readModule(tokens.slice(at + 3, close)) });
  return close + 1;
}

function readImport(module, tokens, at, how) {
  const end = endOf(tokens, at, true);
  module.imports.push(...readUse(tokens, at + 1, end - 1).map((found) => ({ ...found, ...how })));
  return end;
}

function define(module, tokens, at, kind, nameAt) {
  const { text, line } = tokens[at + nameAt];
  if (!module.definitions.has(text)) module.definitions.set(text, []);
  module.definitions.get(text).push({ kind, line });
  const end = endOf(tokens, at, untilSemicolon.includes(kind));
  addCode(module, tokens, at, end);
  return end;
}

function readImpl(module, tokens, at) {
  const end = endOf(tokens, at, false);
  let open = at + 1;
  while (tokens[open].text !== '{') open = opens(tokens[open]) ? closing(tokens, open) + 1 : open + 1;
  const header = tokens.slice(tokens[at + 1].text === '<' ? endOfAngles(tokens, at + 1) : at + 1, open);
  const bound = header.findIndex((token) => token.text === 'where');
  const head = bound < 0 ? header : header.slice(0, bound);
  const ofTrait = head.findIndex((token, index) => token.text === 'for' && head[index + 1]?.text !== '<');
  const owner = { type: pathOf(head.slice(ofTrait + 1)), ofTrait: ofTrait >= 0, methods: [], line: tokens[at].line };
  let depth = 0;
  for (let inside = open; inside < end; inside++) {
    if (tokens[inside].text === '{') depth++;
    if (tokens[inside].text === '}') depth--;
    if (depth === 1 && tokens[inside].text === 'fn') owner.methods.push(tokens[inside + 1].text);
    tokens[inside].owner = owner;
  }
  module.impls.push(owner);
  addCode(module, tokens, at, end);
  return end;
}

function endOfAngles(tokens, begin) {
  let depth = 0;
  for (let at = begin; at < tokens.length; at++) {
    if (tokens[at].text === '<') depth++;
    if (tokens[at].text === '>' && !['-', '='].includes(tokens[at - 1].text) && --depth === 0) return at + 1;
  }
  return tokens.length;
}

function pathOf(tokens) {
  const begin = tokens.findIndex((token) => token.kind === 'name' && !['dyn', 'mut', 'const'].includes(token.text));
  const path = begin < 0 ? [] : [tokens[begin].text];
  for (let at = begin + 1; path.length > 0 && tokens[at]?.text === '::' && tokens[at + 1]?.kind === 'name'; at += 2)
    path.push(tokens[at + 1].text);
  return path;
}

function endOf(tokens, begin, atSemicolon) {
  for (let at = begin; at < tokens.length; at++) {
    if (tokens[at].text === ';') return at + 1;
    if (!opens(tokens[at])) continue;
    const isBlock = tokens[at].text === '{';
    at = closing(tokens, at);
    if (isBlock && !atSemicolon) return at + 1;
  }
  return tokens.length;
}

// Everything but the imports that stand in functions.
function addCode(module, tokens, begin, end) {
  for (let at = begin; at < end;) {
    const isImport =
      tokens[at].text === 'use' && /^[{};\])]$/.test(tokens[at - 1]?.text ?? ';') && tokens[at + 1]?.text !== '<';
    if (isImport) at = readImport(module, tokens, at, { visible: false, local: true });
    else module.code.push(tokens[at++]);
  }
}
