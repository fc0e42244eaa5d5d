// The schema that remoteingress-config prints, read: types by name, their fields and words, and their comments.

/** Lines such as `Unit: s · Default: 30`, and paragraphs such as `To do: …`, are columns of their own. */
const column = /^(Unit|Default|Range|At|Of|Tried|To do): /;

/** A comment, taken apart: `text` describes, the other properties are named as in the comment. */
export function readComment(comment = '') {
  const paragraphs = comment.split('\n\n').map((paragraph) => paragraph.replaceAll('\n', ' '));
  const text = paragraphs.filter((paragraph) => !column.test(paragraph)).join(' ');
  const facts = paragraphs.filter((paragraph) => column.test(paragraph));
  const parts = facts.flatMap((paragraph) => paragraph.split(' · '));
  const pairs = parts.map((part) => [column.exec(part)?.[1], part.replace(column, '')]);
  const unknown = pairs.find(([name]) => name === undefined);
  if (unknown) throw new Error(`a column without a name: ${unknown[1]}`);
  return { text, ...Object.fromEntries(pairs) };
}

export class Schema {
  #document;

  constructor(document) {
    this.#document = document;
  }

  get ipcVersion() {
    return this.#document.ipcVersion;
  }

  get commands() {
    const methods = this.words('Method');
    return this.#document.commands.map((command) => {
      const method = methods.find(({ word }) => word === command.name);
      if (!method) throw new Error(`remoteingress-config has no method ${command.name}`);
      return { ...command, ...method };
    });
  }

  /** The routes of the admin server, with types of their own. */
  get rest() {
    return new Schema(this.#document.rest);
  }

  /** The operations of the admin server, each with the comment of its word. */
  get operations() {
    const words = this.words('Operation');
    return this.#document.operations.map((operation) => {
      return { ...operation, ...words.find(({ word }) => word === operation.name) };
    });
  }

  /** The schema of an answer with an error. */
  get error() {
    return this.#document.error;
  }

  /** A type by name, as it is written; undefined if it isn't. */
  written(name) {
    return this.#document.written[name];
  }

  /** A type by name; where it is both read and written, what is read. */
  definition(name) {
    const found = this.#document.read[name] ?? this.#document.written[name];
    if (!found) throw new Error(`remoteingress-config has no type ${name}`);
    return found;
  }

  isRead(name) {
    return name in this.#document.read;
  }

  /** Names of all types. */
  get names() {
    return [...new Set([this.#document.read, this.#document.written].flatMap(Object.keys))];
  }

  comment(name) {
    return readComment(this.definition(name).description);
  }

  /** The fields of an object: name, whether it must be there, whether it may be null, its schema, its comment. */
  fields(name) {
    const { properties = {}, required = [] } = this.definition(name);
    return Object.entries(properties).map(([field, schema]) => {
      const { isNullable, ...bare } = withoutNull(schema);
      const comment = readComment(schema.description);
      return { name: field, isRequired: required.includes(field), isNullable, schema: bare, ...comment };
    });
  }

  /** The members of a type that is one of several fixed words; undefined for any other. */
  words(name) {
    const { oneOf } = this.definition(name);
    if (!oneOf?.every((member) => 'const' in member)) return undefined;
    return oneOf.map((member) => ({ word: member.const, ...readComment(member.description) }));
  }

  /** The events: name, type of the data, comment. */
  get events() {
    return this.definition('Event').oneOf.map(({ description, properties }) => ({
      name: properties.event.const,
      data: nameOf(properties.data),
      ...readComment(description),
    }));
  }
}

/** The type that a schema refers to. */
export function nameOf(schema) {
  return schema.$ref?.replace('#/$defs/', '');
}

function withoutNull(schema) {
  const { anyOf, type } = schema;
  if (Array.isArray(type)) {
    return { ...schema, type: type.find((name) => name !== 'null'), isNullable: type.includes('null') };
  }
  const others = anyOf?.filter((member) => member.type !== 'null');
  if (others?.length === 1) return { ...others[0], isNullable: true };
  return { ...schema, isNullable: false };
}
