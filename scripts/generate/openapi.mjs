// docs/openapi.json: the routes of the admin server as OpenAPI 3.1. Routes, queries, bodies and answers are types of
// remoteingress-config; what isn't JSON, and what holds for all of them, is said here.
import { readComment } from './schema.mjs';
import { describe, plain } from './typescript.mjs';

const securitySchemes = {
  bearer: { type: 'http', scheme: 'bearer', description: '`admin.token`, or the content of `admin.tokenFile`.' },
  basic: { type: 'http', scheme: 'basic', description: 'Any user, and the token as the password; for reads only.' },
};
/** The empty one: a unix socket, or a loopback address for which no token is configured. */
const readers = [{ bearer: [] }, { basic: [] }, {}];
const writers = [{ bearer: [] }];

const description = [
  'Health, metrics, status and changes of a hub or an edge, see docs/admin.md.',
  'A later version may add operations, fields and words: ignore those that you do not know.',
].join(' ');

const tags = {
  probes: 'Whether the process lives and works.',
  page: 'The status page for people.',
  state: 'What runs, how it is, and what happens.',
  edges: 'The allowed edges of a hub.',
  pools: 'The pools of a hub.',
  process: 'The process itself.',
};
const tagOf = {
  getHealth: 'probes',
  getReady: 'probes',
  getPage: 'page',
  getPageFile: 'page',
  getEdges: 'edges',
  getEdge: 'edges',
  putEdge: 'edges',
  deleteEdge: 'edges',
  createToken: 'edges',
  testEdge: 'edges',
  getPools: 'pools',
  getPool: 'pools',
  putPool: 'pools',
  deletePool: 'pools',
  setTargetState: 'pools',
  explainPool: 'pools',
  getBinding: 'pools',
  deleteBinding: 'pools',
  getGeo: 'pools',
  register: 'pools',
  heartbeat: 'pools',
  deregister: 'pools',
  getBackends: 'pools',
  getBackend: 'pools',
  drain: 'process',
};

const text = { type: 'string' };
/** Answers that no type describes. */
const contents = {
  getPage: { 'text/html': { schema: text } },
  getPageFile: { 'text/javascript': { schema: text }, 'text/css': { schema: text } },
  getHealth: { 'text/plain': { schema: text } },
  getReady: { 'text/plain': { schema: text } },
  getMetrics: { 'text/plain': { schema: text }, 'application/openmetrics-text': { schema: text } },
  streamEvents: { 'text/event-stream': { schema: text } },
  getOpenapi: { 'application/json': { schema: { type: 'object' } } },
};

/** Bodies: how they differ from the type whose fields they have. */
const bodies = {
  putEdge: { as: 'EdgeBody', optional: ['id', 'secret'], required: true },
  putPool: { as: 'Pool', required: true },
  register: { as: 'Registration', required: true },
  createToken: { as: 'TokenTarget', without: ['edgeId'], required: false, doc: 'Address at which an edge finds its hub.' },
};

/** Statuses of answers that aren't 200. */
const statusOf = { register: 201 };

const pathParameters = {
  id: 'Id of the edge.',
  name: 'Name of the file.',
  pool: 'Name of the pool.',
  target: 'Id of the target in its pool.',
  state: '`active`, `drain` or `dead`.',
  client: 'IP address of the client.',
  ip: 'IP address.',
  backend: 'Id of a target that has registered.',
};

/** What is shown is described where it is configured. */
const describedAt = {
  HubShown: 'HubConfig',
  TlsShown: 'HubTls',
  EdgeConfigShown: 'EdgeConfig',
  ListenShown: 'ListenTunnel',
  AdminShown: 'AdminConfig',
  AccessLogShown: 'AccessLogConfig',
  AllowedEdgeShown: 'AllowedEdge',
  DialShown: 'EdgeDial',
  PortShownTcpProxyProtocol: 'PortSpecTcpProxyProtocol',
  PortShownUdpProxyProtocol: 'PortSpecTcpProxyProtocol',
};

/** Answers with an error, by status: the codes, and why. */
const failures = {
  400: [['E_INVALID_CONFIG', 'E_INVALID_TOKEN', 'E_BAD_REQUEST'], 'The request is wrong; the message names the field.'],
  401: [['E_UNAUTHORIZED'], 'The token is missing or wrong.'],
  403: [['E_FORBIDDEN'], 'The server is not known by the name in the Host header, or takes no changes.'],
  404: [['E_UNKNOWN_EDGE', 'E_NOT_FOUND'], 'There is no such edge, pool, target or file, or this process runs an edge.'],
  408: [['E_BAD_REQUEST'], 'The request was not complete or answered within 30 s.'],
  413: [['E_BAD_REQUEST'], 'The body has more than 1 MiB.'],
  500: [['E_INTERNAL'], 'The server failed; any other code may come, too.'],
  503: [['E_NOT_RUNNING'], 'The process ends.'],
};

/** @returns [[path, text]] */
export function openapi(schema, read) {
  const { version } = JSON.parse(read('package.json'));
  const { rest } = schema;
  const document = {
    openapi: '3.1.0',
    info: { title: 'remoteingress admin server', version, description, license: { name: 'MIT', identifier: 'MIT' } },
    servers: [{ url: '/', description: 'Where `admin.listen` says.' }],
    tags: Object.entries(tags).map(([name, of]) => ({ name, description: of })),
    paths: pathsOf(rest),
    components: { securitySchemes, responses: failureResponses(rest), schemas: schemasOf(schema) },
  };
  const moved = JSON.stringify(document, undefined, 1).replaceAll('#/$defs/', '#/components/schemas/');
  return [['docs/openapi.json', `${moved}\n`]];
}

function pathsOf(rest) {
  const paths = {};
  for (const operation of rest.operations) {
    paths[operation.path] ??= {};
    paths[operation.path][operation.verb.toLowerCase()] = operationOf(rest, operation);
  }
  return paths;
}

function operationOf(rest, operation) {
  const { name, path, verb, query, body, answer, text: comment, Of } = operation;
  const [summary, more] = sentences(plain(comment));
  const onlyHub = Of === 'hub' ? 'A hub has it, an edge answers 404.' : '';
  const parameters = [...pathParametersOf(path), ...(query ? queryParameters(rest, query) : [])];
  const content = answer ? { 'application/json': { schema: answer } } : contents[name];
  return {
    operationId: name,
    tags: [tagOf[name] ?? 'state'],
    summary,
    ...optional('description', [more, onlyHub].filter(Boolean).join(' ')),
    security: isOpen(name) ? [] : verb === 'GET' ? readers : writers,
    ...optional('parameters', parameters),
    ...(body && { requestBody: requestBody(name) }),
    responses: { [statusOf[operation.name] ?? 200]: { description: 'Done.', content }, ...failuresOf({ ...operation, parameters }) },
  };
}

function isOpen(name) {
  return name === 'getHealth' || name === 'getReady';
}

function sentences(comment) {
  const [, first, rest] = /^(.*?\.)(?:\s+(.*))?$/s.exec(comment.replaceAll('e.g. ', ''));
  return [first, rest];
}

function optional(name, value) {
  return value.length > 0 ? { [name]: value } : {};
}

function pathParametersOf(path) {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => {
    return { name, in: 'path', required: true, description: pathParameters[name], schema: text };
  });
}

function queryParameters(rest, query) {
  return rest.fields(query.$ref.replace('#/$defs/', '')).map((field) => {
    const { description: _, isNullable: __, ...schema } = field.schema;
    return { name: field.name, in: 'query', required: field.isRequired, description: describe(field), schema };
  });
}

function requestBody(name) {
  const { as, required } = bodies[name];
  return { required, content: { 'application/json': { schema: { $ref: `#/$defs/${as}` } } } };
}

function failuresOf({ name, path, body, parameters, Of }) {
  if (name === 'getHealth') return refer(403);
  if (name === 'getReady') return { ...refer(403), 503: { description: 'Not ready.', content: contents.getReady } };
  const statuses = [401, 403, 408, 500, 503];
  if (parameters.length > 0) statuses.push(400);
  if (path.includes('{') || Of === 'hub') statuses.push(404);
  if (body) statuses.push(413);
  return refer(...statuses);
}

function refer(...statuses) {
  return Object.fromEntries(statuses.map((status) => [status, { $ref: `#/components/responses/${status}` }]));
}

function failureResponses(rest) {
  const known = rest.words('ErrorCode').map(({ word }) => word);
  const entries = Object.entries(failures).map(([status, [codes, why]]) => {
    const strange = codes.find((code) => !known.includes(code));
    if (strange) throw new Error(`remoteingress-config has no code ${strange}`);
    const told = `${codes.map((code) => `\`${code}\``).join(', ')}: ${why}`;
    return [status, { description: told, content: { 'application/json': { schema: rest.error } } }];
  });
  return Object.fromEntries(entries);
}

/** All types that bodies and answers have, by name. */
function schemasOf(schema) {
  const { rest } = schema;
  const schemas = {};
  for (const operation of rest.operations.filter(({ body }) => body)) {
    const name = operation.body.$ref.replace('#/$defs/', '');
    schemas[bodies[operation.name].as] = bodyOf(rest.definition(name), bodies[operation.name]);
  }
  const isUsed = (name) => name !== 'Operation' && !rest.operations.some(({ query, body }) => [query, body].some((one) => one?.$ref === `#/$defs/${name}`));
  for (const name of rest.names.filter(isUsed)) {
    const isRead = rest.isRead(name);
    const [read, written] = [rest.definition(name), rest.written(name)];
    if (isRead && written && JSON.stringify(sent(read)) !== JSON.stringify(sent(written))) {
      throw new Error(`${name} isn't written as it is read: docs/openapi.json needs two names`);
    }
    const described = describedAt[name] ? withComments(read, schema.definition(describedAt[name])) : read;
    schemas[name] = isRead && !written ? described : open(described);
  }
  const sorted = Object.entries(schemas).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(sorted.map(([name, one]) => [name, readable(one)]));
}

function bodyOf(definition, { optional: mayMiss = [], without = [], doc = definition.description }) {
  const properties = Object.entries(definition.properties).filter(([name]) => !without.includes(name));
  const required = (definition.required ?? []).filter((name) => ![...mayMiss, ...without].includes(name));
  const { required: _, ...rest } = definition;
  return { ...rest, description: doc, properties: Object.fromEntries(properties), ...optional('required', required) };
}

/** The schema, its fields described as those of the same name in another. */
function withComments(definition, other) {
  const described = ([name, field]) => {
    const found = field.description ?? other.properties[name]?.description;
    return [name, found === undefined ? field : { ...field, description: found }];
  };
  const fields = ({ properties = {}, ...rest }) => {
    const all = Object.fromEntries(Object.entries(properties).map(described));
    return { ...rest, ...(Object.keys(all).length > 0 && { properties: all }) };
  };
  const { anyOf } = definition;
  return { ...fields(definition), ...(anyOf && { anyOf: anyOf.map(fields) }) };
}

/** The schema without what a sender may leave out: an answer has all of it. */
function sent(value) {
  return mapped(value, (key, one) => (key === 'required' || key === 'default' ? undefined : one));
}

/** A later version may answer with more fields. */
function open(value) {
  return mapped(value, (key, one) => (key === 'additionalProperties' && one === false ? undefined : one));
}

/** Descriptions without links and with their columns as sentences. */
function readable(value) {
  return mapped(value, (key, one) => (key === 'description' && typeof one === 'string' ? describe(readComment(one)) : one));
}

function mapped(value, change) {
  return JSON.parse(JSON.stringify(value, (key, one) => change(key, one)));
}
