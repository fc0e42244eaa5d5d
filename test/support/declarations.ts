// TypeScript sources as their compiler sees them.
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** A member of a union of string literals: its text, and its documentation as one string. */
export interface IUnionMember {
  text: string;
  documentation: string;
}

/** The unions of string literals that a file declares, by name. */
export function readUnions(path: string): Map<string, IUnionMember[]> {
  const text = ts.sys.readFile(path);
  if (text === undefined) throw new Error(`there is no ${path}`);
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true);
  const unions = new Map<string, IUnionMember[]>();
  for (const statement of file.statements) {
    if (!ts.isTypeAliasDeclaration(statement) || !ts.isUnionTypeNode(statement.type)) continue;
    const members = statement.type.types.flatMap((member) => {
      if (!ts.isLiteralTypeNode(member) || !ts.isStringLiteral(member.literal)) return [];
      return { text: member.literal.text, documentation: commentBefore(text, member) };
    });
    unions.set(statement.name.text, members);
  }
  return unions;
}

/** The doc comment before a member of a union stands before its `|`. */
function commentBefore(text: string, member: ts.TypeNode): string {
  const [, comment = ''] = /\/\*\*((?:(?!\*\/)[^])*)\*\/\s*\|\s*$/.exec(text.slice(0, member.getStart())) ?? [];
  return comment.replace(/^\s*\*/gm, '').trim();
}
