// The tables of the reference pages. A page keeps its prose; what stands between the two comments
// `<!-- generated: name -->` and `<!-- end -->` is written here.
import { nameOf } from './schema.mjs';

/** The tables of a page, by the name in its comment. */
const tables = {
  'docs/configuration.md': {
    hub: (schema) => settings(schema, 'HubConfig'),
    'allowed edge': (schema) => settings(schema, 'AllowedEdge'),
    dial: (schema) => settings(schema, 'EdgeDial'),
    'port specification': (schema) => settings(schema, 'PortSpecTcpProxyProtocol'),
    'limits of the hub': (schema) => settings(schema, 'HubLimits'),
    edge: (schema) => settings(schema, 'EdgeConfig'),
    'admin server': (schema) => settings(schema, 'AdminConfig', 'admin.'),
    'access log': (schema) => settings(schema, 'AccessLogConfig', 'accessLog.'),
    'limits of the edge': (schema) => settings(schema, 'EdgeLimits'),
  },
  'docs/pools.md': {
    pool: (schema) => settings(schema, 'Pool'),
    target: (schema) => settings(schema, 'PoolTarget'),
    affinity: (schema) => settings(schema, 'Affinity', 'affinity.'),
    queue: (schema) => settings(schema, 'PoolQueue', 'queue.'),
    check: (schema) => settings(schema, 'PoolCheck', 'check.'),
    discovery: (schema) => settings(schema, 'DiscoverConfig', 'discover.'),
    geography: (schema) => settings(schema, 'GeoConfig', 'geo.'),
    routingDb: (schema) => settings(schema, 'RoutingDbConfig', 'routingDb.'),
    registration: (schema) => settings(schema.rest, 'Registration'),
  },
  'docs/status.md': {
    hub: (schema) => counts(schema, 'HubStatus'),
    'connected edge': (schema) => counts(schema, 'ConnectedEdge'),
    pool: (schema) => counts(schema, 'PoolStatus'),
    discovery: (schema) => counts(schema, 'DiscoveryStatus', 'discovery.'),
    'states of discovery': (schema) => reasons(schema, 'DiscoveryState'),
    target: (schema) => counts(schema, 'TargetStatus'),
    'states of a target': (schema) => reasons(schema, 'TargetState'),
    'routing.db': (schema) => counts(schema, 'RoutingDbStatus', 'routingDb.'),
    geography: (schema) => counts(schema, 'GeoStatus', 'geo.'),
    'unreachable edge': (schema) => counts(schema, 'UnreachableEdge'),
    edge: (schema) => counts(schema, 'EdgeStatus'),
    port: (schema) => counts(schema, 'PortStatus'),
    udp: (schema) => counts(schema, 'UdpStatus', 'udp.'),
    'reasons of a hub': (schema) => reasons(schema, 'HubRefusalReason'),
    'reasons of an edge': (schema) => reasons(schema, 'EdgeRefusalReason'),
    'reasons of udp': (schema) => reasons(schema, 'UdpDropReason', 'At'),
    'reasons of picks': (schema) => reasons(schema, 'PickReason'),
  },
  'docs/events.md': {
    events: (schema) => table(['event', 'of', 'data', 'description'], schema.events.map(eventCells(schema))),
    'reasons of streamClosed': (schema) => reasons(schema, 'StreamCloseReason'),
    'reasons of edgeRejected': (schema) => reasons(schema, 'TunnelRefusalReason'),
  },
  'docs/errors.md': { codes: errorCodes },
  'docs/operations.md': { checks: (schema) => reasons(schema, 'CheckName') },
  'docs/admin.md': { paths: (schema) => operations(schema.rest) },
  'docs/ipc.md': { methods, version: (schema) => `The version of this interface is ${schema.ipcVersion}.` },
};

/** @returns [[path, text]] */
export function pages(schema, read) {
  return Object.entries(tables).map(([path, parts]) => [path, fill(path, read(path), parts, schema)]);
}

/** The page with each of its blocks made by the part of that name. */
export function fill(path, page, parts, schema) {
  const missing = new Set(Object.keys(parts));
  const text = page.replace(/(<!-- generated: ([^>]+) -->\n).*?(<!-- end -->)/gs, (_, begin, name, end) => {
    const part = parts[name];
    if (!part) throw new Error(`${path}: nothing is generated for ${name}`);
    missing.delete(name);
    return `${begin}\n${part(schema)}\n\n${end}`;
  });
  if (missing.size > 0) throw new Error(`${path} has no place for ${[...missing].join(', ')}`);
  return text;
}

/** Fields that a user writes. */
function settings(schema, name, prefix = '') {
  const rows = fieldRows(schema, name, prefix).map(({ field, path, isOptional }) => [
    `\`${path}\``,
    wordFor(schema, field.schema),
    field.Unit ?? '',
    field.Default ?? (isOptional ? '' : 'required'),
    field.Range ?? rangeOf(schema, field.schema),
    field.text,
  ]);
  return table(['field', 'type', 'unit', 'default', 'range', 'description'], rows);
}

/** The fields of an object; those of `tls`, which has no section of its own, stand in its place. */
function fieldRows(schema, name, prefix) {
  return schema.fields(name).flatMap((field) => {
    if (nameOf(field.schema) === 'HubTls') return fieldRows(schema, 'HubTls', `${prefix}${field.name}.`);
    return [{ field, path: prefix + field.name, isOptional: !field.isRequired }];
  });
}

/** Fields that a user reads. */
function counts(schema, name, prefix = '') {
  const rows = schema.fields(name).map((field) => {
    const words = wordsOf(schema, field.schema);
    const isTold = words.every((word) => field.text.includes(`"${word}"`));
    const choice = words.length > 0 && !isTold ? `${words.map(quoted).join(' or ')}. ` : '';
    const orNull = field.isNullable && field.isRequired ? ' or null' : '';
    const type = wordFor(schema, field.schema) + orNull;
    return [`\`${prefix}${field.name}\``, type, field.Unit ?? '', choice + field.text];
  });
  return table(['field', 'type', 'unit', 'description'], rows);
}

function reasons(schema, name, ...columns) {
  const rows = schema.words(name).map((reason) => [
    `\`${reason.word}\``,
    ...columns.map((column) => reason[column]),
    reason.text,
  ]);
  return table(['reason', ...columns.map((column) => column.toLowerCase()), 'description'], rows);
}

function eventCells(schema) {
  return ({ name, Of, data, text }) => [`\`${name}\``, Of, `\`${shapeOf(schema, data)}\``, text];
}

function errorCodes(schema) {
  const rows = schema.words('ErrorCode').map((code) => [`\`${code.word}\``, code.text, code.Tried, code['To do']]);
  return table(['code', 'meaning', 'what was tried', 'what to do'], rows);
}

const links = {
  HubConfig: '[hub](configuration.md#hub)',
  EdgeConfig: '[edge](configuration.md#edge)',
  EdgesParams: '`{ edges }`: a list of [allowed edges](configuration.md#allowed-edge)',
  EdgesPartParams: '`{ set, edges }`: a number, and a list of [allowed edges](configuration.md#allowed-edge)',
  PoolsParams: '`{ pools }`: [pools](pools.md#pool) by their names',
  AllowedEdgesChange: '`{ added, removed, changed, unchanged }`: lists of edge ids',
};

function methods(schema) {
  const cell = (value) => {
    const name = nameOf(value);
    if (!name) return '[status](status.md)'; // either of two types
    return links[name] ?? `\`${shapeOf(schema, name)}\``;
  };
  const rows = schema.commands.map((command) => [
    `\`${command.word}\``,
    cell(command.params),
    cell(command.result),
    command.text,
  ]);
  return table(['method', 'params', 'result', 'description'], rows);
}

function operations(rest) {
  const rows = rest.operations.map(({ verb, path, query, answer, Of, text }) => {
    const fields = query ? `?${rest.fields(nameOf(query)).map(({ name }) => `${name}=`).join('&')}` : '';
    const shape = answer && nameOf(answer) !== 'Nothing' ? `\`${shapeOf(rest, nameOf(answer))}\`` : '';
    return [`\`${verb} ${path}${fields}\``, Of, shape, text];
  });
  return table(['path', 'of', 'answer', 'description'], rows);
}

/** The names of an object's fields: `{ edgeId, otherAddress? }`. */
function shapeOf(schema, name) {
  const fields = schema.fields(name).map((field) => field.name + (field.isRequired ? '' : '?'));
  return fields.length === 0 ? '{}' : `{ ${fields.join(', ')} }`;
}

function wordFor(schema, value) {
  const name = nameOf(value);
  if (name) {
    const { type, anyOf } = schema.definition(name);
    if (anyOf) return anyOf.map((member) => wordFor(schema, member)).join(' or ');
    return wordsOf(schema, value).length > 0 ? 'string' : type;
  }
  return { array: 'list' }[value.type] ?? value.type;
}

function wordsOf(schema, value) {
  return (nameOf(value) ? schema.words(nameOf(value)) : undefined)?.map(({ word }) => word) ?? [];
}

function rangeOf(schema, value) {
  const { minimum, maximum } = value;
  if (minimum === undefined) return wordsOf(schema, value).map(quoted).join(', ');
  return maximum === undefined ? `from ${minimum}` : `${minimum} to ${maximum}`;
}

function quoted(word) {
  return `\`"${word}"\``;
}

export function table(head, rows) {
  const escaped = (cell = '') => cell.replaceAll('|', '\\|');
  const row = (cells) => `| ${cells.map(escaped).join(' | ')} |`.replaceAll('|  |', '| |');
  return [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
}
