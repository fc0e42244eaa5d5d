// The unions of ts/interfaces/reasons.ts, held to the Rust sources and to docs/ipc.md.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readUnions, root } from './support/declarations.js';

const unions = readUnions(join(root, 'ts/interfaces/reasons.ts'));
const wrapper = readUnions(join(root, 'ts/classes.remoteingresserror.ts'));
const contract = readFileSync(join(root, 'docs/ipc.md'), 'utf8');

/** The Rust sources but their tests, by path. Found by content below, so that files may move. */
const rust = readdirSync(join(root, 'rust'), { recursive: true, encoding: 'utf8' })
  .filter((path) => /^[\w-]+\/src\/.*\.rs$/.test(path) && !/(^|\/)tests(\.rs|\/)/.test(path))
  .map((path) => {
    const text = readFileSync(join(root, 'rust', path), 'utf8');
    return { path, text: text.split('#[cfg(test)]\nmod tests {')[0]! };
  });

function words(name: string): string[] {
  const members = unions.get(name) ?? wrapper.get(name);
  assert.ok(members, `${name} is a union`);
  return members.map(({ text }) => text);
}

/** The part of the Rust sources that `start` begins, up to the end of its block. */
function block(start: RegExp): string {
  const found = rust.flatMap(({ text }) => (start.test(text) ? text.slice(text.search(start)) : []));
  assert.equal(found.length, 1, `one Rust file has ${start}`);
  return found[0]!.split('\n}\n')[0]!;
}

const literals = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, word]) => word!);
const names = (text: string) => literals(text, /=> "(\w+)"/g);
const sorted = (list: string[]) => [...new Set(list)].sort();

/** Reasons that a side counts where it refuses. */
function counted(side: 'edge' | 'hub'): string[] {
  const sources = rust.filter(({ path }) => path.includes(`/${side}/`)).map(({ text }) => text);
  return literals(sources.join('\n'), /(?:refusals\s*\.count|refuse)\((?:AbortCode::\w+, )?"(\w+)"\)/g);
}

test('error codes are those of the binary, and of docs/ipc.md', () => {
  const table = literals(block(/^codes! \{/m), /"(E_\w+)"/g);
  assert.deepEqual(words('TBinaryErrorCode'), table);
  const [binary = '', added = ''] = contract.split('\n`E_BAD_REQUEST`')[1]!.split('The wrapper adds');
  assert.deepEqual(words('TBinaryErrorCode').slice(1), literals(binary, /`(E_\w+)`/g));
  assert.deepEqual(words('TWrapperErrorCode').sort(), literals(added, /`(E_\w+)`/g).sort());
  const ports = literals(block(/PortFailure \{/), /= \d+ "(\w+)"/g);
  const codes = ports.map((reason) => `E_${reason.replace(/[A-Z]/g, '_$&').toUpperCase()}`);
  assert.deepEqual(sorted(words('TPortErrorCode')), sorted(codes));
});

test('words of streams, ports and transports are those of the binary', () => {
  const aborts = names(block(/^impl AbortCode \{/m));
  assert.deepEqual(sorted(words('TStreamCloseReason')), sorted(['finished', ...aborts]));
  assert.deepEqual(sorted(words('TTransport')), sorted(names(block(/^impl Transport \{/m))));
  assert.deepEqual(sorted(words('TProtocol')), sorted(names(block(/^impl Protocol \{/m))));
  assert.deepEqual(sorted(words('TPortState')), sorted(names(block(/^pub\(crate\) fn port_json/m))));
});

test('reasons of dropped datagrams are those of the binary', () => {
  assert.deepEqual(words('TUdpDropReason'), literals(block(/^reasons! \{/m), /"(\w+)",/g));
});

test('reasons of refusals are those of the binary', () => {
  const edge = [...names(block(/Self::Connections => "maxConnections"/)), ...counted('edge')];
  assert.deepEqual(sorted(words('TEdgeRefusalReason')), sorted(edge));

  // Which of the refusals of a handshake are never counted, and which aborts of a stream the hub gives, the code's
  // flow decides: those two lists stand here.
  const codes = names(block(/^impl RefuseCode \{/m));
  const tunnel = [...codes.filter((code) => code !== 'overloaded'), 'protocol'];
  assert.deepEqual(sorted(words('TTunnelRefusalReason')), sorted(tunnel));
  const targets = ['unknownListener', 'clientRefused', 'targetRefused', 'targetUnreachable'];
  const hub = [...names(block(/Self::PreAuth => "maxPreAuth"/)), ...counted('hub'), ...tunnel, ...targets];
  assert.deepEqual(sorted(words('THubRefusalReason')), sorted(hub));
});

test('every member has a line of documentation', () => {
  for (const [name, members] of [...unions, ...wrapper]) {
    for (const { text, documentation } of members) {
      assert.match(documentation, /^[^\n]{10,}\.$/, `${name}: '${text}'`);
    }
  }
});
