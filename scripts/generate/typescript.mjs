// Types of the schema as TypeScript.
import { nameOf } from './schema.mjs';

/** Names that don't follow from the Rust type's own. */
const names = {
  ErrorCode: 'TBinaryErrorCode',
  Nothing: 'TNothing',
  PortShapeTcpProxyProtocol: 'TTcpPort',
  PortShapeUdpProxyProtocol: 'TUdpPort',
  PortSpecTcpProxyProtocol: 'IPortObject<TProxyProtocolTcp>',
  PortSpecUdpProxyProtocol: 'IPortObject<TProxyProtocolUdp>',
  PortText: 'TPortRange',
  TcpProxyProtocol: 'TProxyProtocolTcp',
  UdpProxyProtocol: 'TProxyProtocolUdp',
};

/** First line of every generated file. */
export const header = '// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.';

/** The name of a Rust type in TypeScript: an interface begins with I, another type with T. */
export function nameInTypeScript(schema, name) {
  if (names[name]) return names[name];
  if (schema.events.some((event) => event.data === name && name !== 'Ready')) return `I${name}Event`;
  return `${schema.definition(name).type === 'object' ? 'I' : 'T'}${name}`;
}

/** The type of a value. */
export function typeOf(schema, value) {
  if (nameOf(value)) return nameInTypeScript(schema, nameOf(value));
  if (value.anyOf) return value.anyOf.map((member) => typeOf(schema, member)).join(' | ');
  if (value.type === 'array') return `${typeOf(schema, value.items)}[]`;
  if (value.propertyNames) return `Partial<Record<${typeOf(schema, value.propertyNames)}, number>>`;
  if (value.additionalProperties) return `Record<string, ${typeOf(schema, value.additionalProperties)}>`;
  const plain = { integer: 'number', number: 'number', string: 'string', boolean: 'boolean' }[value.type];
  if (!plain) throw new Error(`no type for ${JSON.stringify(value)}`);
  return plain;
}

/** A comment of one or several lines. */
export function commentLines(text, indent = '', example = []) {
  if (text.length + indent.length + 7 <= 120 && example.length === 0) return [`${indent}/** ${text} */`];
  const lines = wrapped(text, 120 - indent.length - 3);
  const more = example.length === 0 ? [] : ['', '@example', ...example];
  return [`${indent}/**`, ...[...lines, ...more].map((line) => `${indent} * ${line}`.trimEnd()), `${indent} */`];
}

/** Units that the text doesn't tell already: it names the things that a field counts. */
const toldUnits = ['s', 'ms', 'MiB', 'ms since 1970', 'connections/s', 'clients/s', 'bytes per byte', '`address:port`'];

/** The description of a field, with its unit, default and range. */
export function describe({ text, Unit, Default, Range }, isThere = false) {
  const facts = [
    toldUnits.includes(Unit) && `Unit: ${Unit}.`,
    Default && !isThere && Default !== 'see below' && `Default: ${Default}.`,
    Range && !/^\[[^\]]*\]\([^)]*\)$/.test(Range) && `Range: ${Range}.`,
  ];
  return plain([text, ...facts.filter(Boolean)].join(' '));
}

/** An interface; `only` and `required` name fields, for a view of a larger type. */
export function interfaceOf(schema, name, { as, doc, example, only, required, without, types = {} } = {}) {
  const isRead = schema.isRead(name);
  const isWanted = (field) => (only?.includes(field) ?? true) && !without?.includes(field);
  const fields = schema.fields(name).filter((field) => isWanted(field.name));
  const lines = fields.flatMap((field) => {
    const isThere = field.isRequired || required?.includes(field.name);
    const type = types[field.name] ?? typeOf(schema, field.schema);
    const orNull = isThere && field.isNullable && !isRead ? ' | null' : '';
    const orUndefined = !isThere && isRead ? ' | undefined' : '';
    const declaration = `  ${field.name}${isThere ? '' : '?'}: ${type}${orNull}${orUndefined};`;
    return [...commentLines(describe(field, isThere), '  '), declaration];
  });
  const head = commentLines(doc ?? describe(schema.comment(name)), '', example);
  return [...head, `export interface ${as ?? nameInTypeScript(schema, name)} {`, ...lines, '}', ''];
}

/** A union of fixed words. */
export function unionOf(schema, name) {
  const members = schema.words(name).map(({ word, text }) => [...commentLines(plain(text), '  '), `  | '${word}'`]);
  const declaration = `export type ${nameInTypeScript(schema, name)} =`;
  return [...commentLines(describe(schema.comment(name))), declaration, `${members.flat().join('\n')};`, ''];
}

/** A type that is one of several others. */
export function aliasOf(schema, name, { doc, example } = {}) {
  const type = typeOf(schema, { anyOf: schema.definition(name).anyOf });
  const head = commentLines(doc ?? describe(schema.comment(name)), '', example);
  return [...head, `export type ${nameInTypeScript(schema, name)} = ${type};`, ''];
}

/** Text without links: a page is named by its path, and a part of the same page by its title alone. */
export function plain(text) {
  return text.replace(/\[((?:`[^`]*`|[^\]`])+)\]\(([^)#]*)(?:#[^)]*)?\)/g, (_, title, page) => {
    const path = page.startsWith('../') ? page.slice(3) : `docs/${page}`;
    if (page === '') return title;
    return title === page ? path : `${title} (${path})`;
  });
}

function wrapped(text, width) {
  const lines = [''];
  for (const word of text.split(' ')) {
    const line = lines.pop();
    if (line === '') lines.push(word);
    else if (line.length + 1 + word.length <= width) lines.push(`${line} ${word}`);
    else lines.push(line, word);
  }
  return lines;
}
