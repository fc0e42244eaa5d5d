// The names that one `use` declaration brings in.
import { closing } from './lexer.mjs';

/** @returns [{ segments, name, glob, line }] of the tokens between `use` and its semicolon */
export function readUse(tokens, begin, end, before = []) {
  const segments = [...before];
  for (let at = begin; at < end; at++) {
    const { text, kind, line } = tokens[at];
    if (text === '{')
      return splitAtCommas(tokens, at + 1, closing(tokens, at)).flatMap(([from, to]) =>
        readUse(tokens, from, to, segments),
      );
    if (text === '*') return [{ segments, name: '*', glob: true, line }];
    if (text === 'as') return [brought(segments, tokens[at + 1].text, line)];
    if (kind === 'name') segments.push(text);
  }
  return segments.length > before.length ? [brought(segments, undefined, tokens[end - 1].line)] : [];
}

// `use a::b::{self}` brings in b.
function brought(segments, alias, line) {
  const path = segments.length > 1 && segments.at(-1) === 'self' ? segments.slice(0, -1) : segments;
  return { segments: path, name: alias ?? path.at(-1), glob: false, line };
}

function splitAtCommas(tokens, begin, end) {
  const parts = [];
  let from = begin;
  for (let at = begin; at < end; at++) {
    if (tokens[at].text === '{') at = closing(tokens, at);
    else if (tokens[at].text === ',') {
      parts.push([from, at]);
      from = at + 1;
    }
  }
  return [...parts, [from, end]].filter(([first, last]) => first < last);
}
