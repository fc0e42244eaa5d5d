// Takes tests out of a file's tokens: whatever stands under #[cfg(test)] or #[test].
import { closes, closing, opens } from './lexer.mjs';

const whole = ['mod', 'fn', 'impl', 'struct', 'enum', 'union', 'trait', 'extern', 'macro_rules'];
const modifiers = ['pub', 'unsafe', 'async', 'default'];

export function withoutTests(tokens) {
  const kept = [];
  for (let at = 0; at < tokens.length;) {
    const open = attribute(tokens, at);
    if (open === undefined) {
      kept.push(tokens[at++]);
      continue;
    }
    const close = closing(tokens, open);
    const isTest = namesTest(tokens.slice(open + 1, close));
    if (isTest && tokens[at + 1].text === '!') return [];
    if (!isTest) kept.push(...tokens.slice(at, close + 1));
    at = isTest ? endOfItem(tokens, close + 1) : close + 1;
  }
  return kept;
}

/** The index of the bracket of `#[` or `#![` at `at`. */
export function attribute(tokens, at) {
  if (tokens[at]?.text !== '#') return undefined;
  const open = tokens[at + 1]?.text === '!' ? at + 2 : at + 1;
  return tokens[open]?.text === '[' ? open : undefined;
}

function namesTest(tokens) {
  const text = tokens.map((token) => token.text).join('');
  return /^(\w+::)*test$|^cfg\(test\)$|^cfg\(all\((.*,)?test(,.*)?\)\)$/.test(text);
}

// An item ends with its block or semicolon; a field, a variant or an arm with its comma.
function endOfItem(tokens, begin) {
  let at = begin;
  for (let open = attribute(tokens, at); open !== undefined; open = attribute(tokens, at))
    at = closing(tokens, open) + 1;
  while (modifiers.includes(tokens[at]?.text)) at = tokens[at + 1]?.text === '(' ? closing(tokens, at + 1) + 1 : at + 1;
  const isWhole = whole.includes(tokens[at]?.text) || (tokens[at]?.text === 'const' && tokens[at + 1]?.text === 'fn');
  for (; at < tokens.length; at++) {
    if (closes(tokens[at])) return at;
    if (tokens[at].text === ';' || (tokens[at].text === ',' && !isWhole)) return at + 1;
    if (!opens(tokens[at])) continue;
    const isBlock = tokens[at].text === '{';
    at = closing(tokens, at);
    if (isBlock && isWhole) return at + 1;
  }
  return at;
}
