// Lengths of the functions of a Rust file.
import { closing, opens, tokenize } from './lexer.mjs';

/** @returns [{ name, line, length }], from the line of `fn` to that of the closing bracket */
export function rustFunctionsOf(source) {
  const tokens = tokenize(source);
  const found = [];
  tokens.forEach(({ text, line }, at) => {
    if (text !== 'fn' || tokens[at + 1]?.kind !== 'name') return;
    let open = at + 2;
    while (open < tokens.length && !['{', ';'].includes(tokens[open].text))
      open = opens(tokens[open]) ? closing(tokens, open) + 1 : open + 1;
    if (tokens[open]?.text !== '{') return;
    found.push({ name: tokens[at + 1].text, line, length: tokens[closing(tokens, open)].line - line + 1 });
  });
  return found;
}
