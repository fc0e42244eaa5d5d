// docs/openapi.json as generated: what is secret is only ever sent to the server.
import { strict as assert } from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from '../setup.mjs';

const read = (path) => readFileSync(join(root, path), 'utf8');
const document = JSON.parse(read('docs/openapi.json'));
const sources = 'rust/remoteingress-config/src';

/** The fields that hold a secret, of the types that a configuration is read as: name, and the attributes before it. */
function secretFields(source) {
  const structs = source.matchAll(/((?:^#\[[^\n]*\n)+)^[^\n]*struct \w+[^\n]*\{\n(.*?)^\}/gms);
  const read = [...structs].filter(([, attributes]) => attributes.includes('JsonSchema'));
  return read.flatMap(([, , fields]) => {
    const found = fields.matchAll(/((?:^ +(?:#\[|\)\]|feature|schemars)[^\n]*\n)*)^ +(?:pub )?(\w+): (?:Option<)?Secret>?,/gm);
    return [...found].map(([, attributes, name]) => ({ name: camelCase(name), attributes }));
  });
}

function camelCase(name) {
  return name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
}

/** Every property below a schema: the type that has it, its name and its schema. */
function* propertiesOf(document, value, type = '', seen = new Set()) {
  if (value === null || typeof value !== 'object') return;
  const name = value.$ref?.replace('#/components/schemas/', '');
  if (name) {
    if (seen.has(name)) return;
    seen.add(name);
    yield* propertiesOf(document, document.components.schemas[name], name, seen);
  }
  for (const [property, schema] of Object.entries(value.properties ?? {})) yield { type, name: property, schema };
  for (const inner of Object.values(value)) yield* propertiesOf(document, inner, type, seen);
}

const operations = (document) => Object.values(document.paths).flatMap(Object.values);
const sent = (document) => operations(document).flatMap(({ requestBody }) => [...propertiesOf(document, requestBody)]);
const answered = (document) => {
  const answers = operations(document).flatMap(({ responses }) => [...propertiesOf(document, responses)]);
  return [...answers, ...propertiesOf(document, document.components.responses)];
};

const all = readdirSync(join(root, sources), { recursive: true })
  .filter((path) => path.endsWith('.rs'))
  .flatMap((path) => secretFields(read(join(sources, path))));
const secretNames = new Set(all.map(({ name }) => name));

/** Not secret, though a field of this name is elsewhere: proxies without their login. And the token that is asked for. */
const harmless = ['proxy', 'hubProxy'];
const askedFor = { type: 'TokenCreated', name: 'token' };

function secretsAnswered(document) {
  const isHidden = ({ schema }) => {
    const values = schema.enum ?? [schema.const];
    return values.every((value) => value === '[redacted]' || value === null);
  };
  const isAskedFor = ({ type, name }) => type === askedFor.type && name === askedFor.name;
  return answered(document)
    .filter((property) => property.schema.writeOnly || (secretNames.has(property.name) && !harmless.includes(property.name)))
    .filter((property) => !isAskedFor(property) && !isHidden(property))
    .map(({ type, name }) => `${type}.${name}`);
}

test('every field that holds a secret is marked as one', () => {
  for (const known of ['secret', 'nextSecret', 'keyPem', 'token', 'proxy', 'hubProxy']) assert.ok(secretNames.has(known), known);
  const unmarked = all.filter(({ attributes }) => !attributes.includes('SecretText')).map(({ name }) => name);
  assert.deepEqual(unmarked, []);
  const careless = secretFields('#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]\nstruct A {\n    /// x\n    my_key: Secret,\n}\n');
  assert.deepEqual(careless, [{ name: 'myKey', attributes: '' }]);
});

test('what is sent and secret is writeOnly', () => {
  const secrets = sent(document).filter(({ name }) => secretNames.has(name));
  assert.deepEqual(new Set(secrets.map(({ type, name }) => `${type}.${name}`)), new Set(['EdgeBody.secret', 'EdgeBody.nextSecret', 'EdgeDial.proxy']));
  for (const { name, schema } of secrets) assert.equal(schema.writeOnly, true, name);
});

test('no answer holds a secret', () => {
  assert.deepEqual(secretsAnswered(document), []);
  const careless = structuredClone(document);
  careless.components.schemas.AllowedEdgeShown.properties.secret = { type: 'string' };
  careless.components.schemas.PortStatus.properties.other = { type: 'string', writeOnly: true };
  assert.deepEqual(new Set(secretsAnswered(careless)), new Set(['AllowedEdgeShown.secret', 'PortStatus.other']));
});

test('every operation has a sentence, a tag that is described, and a name of its own', () => {
  const tags = document.tags.map(({ name }) => name);
  const names = operations(document).map(({ operationId }) => operationId);
  assert.equal(new Set(names).size, names.length);
  for (const { operationId, summary, tags: own } of operations(document)) {
    assert.match(summary, /^[A-Z].*\.$/, operationId);
    assert.ok(own.length === 1 && tags.includes(own[0]), operationId);
  }
});

test('a change takes the bearer token alone', () => {
  for (const verbs of Object.values(document.paths)) {
    for (const [verb, { security, operationId }] of Object.entries(verbs)) {
      if (verb !== 'get') assert.deepEqual(security, [{ bearer: [] }], operationId);
    }
  }
});
