// TypeScript sources as their compiler sees them.
import { join } from 'node:path';
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

/** The package as an editor shows it: its declarations, as a program that imports it would have them. */
export interface IPublicApi {
  /** Every public name, members as `RemoteIngressHub.start`, with its documentation as one string. */
  names: Map<string, string>;
  /** The code of each `@example`, by the name that it belongs to. */
  examples: [string, string][];
}

/** Follows the declarations from `entry` to everything that a user can reach. */
export function readPublicApi(entry: string): IPublicApi {
  const program = ts.createProgram([entry], { module: ts.ModuleKind.NodeNext, strict: true, types: [] });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(entry);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`${entry} exports nothing`);

  const api: IPublicApi = { names: new Map(), examples: [] };
  const seen = new Set<ts.Node>();
  const isOurs = (node: ts.Node) => !program.isSourceFileDefaultLibrary(node.getSourceFile());

  const note = (name: string, symbol: ts.Symbol) => {
    api.names.set(name, ts.displayPartsToString(symbol.getDocumentationComment(checker)));
    for (const tag of symbol.getJsDocTags(checker)) {
      if (tag.name === 'example') api.examples.push([name, ts.displayPartsToString(tag.text)]);
    }
  };
  const follow = (symbol: ts.Symbol, name: string) => {
    const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    for (const declaration of target.declarations ?? []) {
      if (seen.has(declaration) || !isOurs(declaration) || ts.isTypeParameterDeclaration(declaration)) continue;
      seen.add(declaration);
      note(name, target);
      visit(declaration, name);
    }
  };
  const visit = (node: ts.Node, owner: string) => {
    ts.forEachChild(node, (child) => {
      if (ts.isIdentifier(child) || ts.isPrivateIdentifier(child)) return;
      if (ts.isConstructorDeclaration(child)) noteConstructor(child, owner);
      else if ((ts.isTypeElement(child) || ts.isClassElement(child)) && child.name && !isPrivate(child)) {
        const member = checker.getSymbolAtLocation(child.name);
        if (member) note(`${owner}.${child.name.getText()}`, member);
      }
      if (ts.isTypeReferenceNode(child) || ts.isExpressionWithTypeArguments(child)) {
        const name = ts.isTypeReferenceNode(child) ? child.typeName : child.expression;
        const symbol = checker.getSymbolAtLocation(name);
        if (symbol) follow(symbol, name.getText());
      }
      visit(child, owner);
    });
  };
  const noteConstructor = (node: ts.ConstructorDeclaration, owner: string) => {
    const documentation = checker.getSignatureFromDeclaration(node)?.getDocumentationComment(checker);
    api.names.set(`${owner}.constructor`, ts.displayPartsToString(documentation));
  };
  for (const symbol of checker.getExportsOfModule(module)) follow(symbol, symbol.name);
  return api;
}

function isPrivate(node: ts.TypeElement | ts.ClassElement): boolean {
  return node.name !== undefined && ts.isPrivateIdentifier(node.name);
}

/** The compiler's errors in `text`, a module that imports the package. */
export function typeErrors(text: string): string[] {
  const path = join(root, 'dist_test/typed.mts');
  const options: ts.CompilerOptions = {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ESNext,
    strict: true,
    noEmit: true,
    types: ['node'],
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, getSourceFile } = host;
  host.fileExists = (name) => name === path || fileExists(name);
  host.getSourceFile = (name, version, ...rest) =>
    name === path ? ts.createSourceFile(name, text, version) : getSourceFile(name, version, ...rest);
  const program = ts.createProgram([path], options, host);
  return ts
    .getPreEmitDiagnostics(program, program.getSourceFile(path))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}
