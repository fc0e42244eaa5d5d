// The pure crates' clippy.toml is one text, and forbids what can't be seen in a list of dependencies.
import { posix } from 'node:path';
import { fullName, pure } from '../crates.mjs';

const types = [
  'fs::File',
  'net::TcpListener',
  'net::TcpStream',
  'net::UdpSocket',
  'thread::Builder',
  'thread::JoinHandle',
  'thread::Thread',
];
const methods = [
  'thread::spawn',
  'thread::scope',
  'thread::sleep',
  'time::Instant::now',
  'time::Instant::elapsed',
  'time::SystemTime::now',
  'time::SystemTime::elapsed',
];

export function purity(workspace) {
  const crates = pure.map((short) => workspace.find(fullName(short))).filter(Boolean);
  const paths = crates.map(({ folder }) => posix.join(folder, 'clippy.toml'));
  const [first] = paths;
  const problems = paths.flatMap((path) => {
    if (!workspace.has(path)) return [`${path} is missing: copy ${first}`];
    if (workspace.read(path) !== workspace.read(first))
      return [`${path} differs from ${first}: all pure crates have one text`];
    return [];
  });
  if (first && workspace.has(first))
    problems.push(...[...gaps(workspace.read(first))].map((text) => `${first} ${text}`));
  return {
    looked: [
      `${paths.length} pure crates share one clippy.toml, against ${types.length} types and ${methods.length} functions`,
    ],
    problems,
  };
}

function* gaps(text) {
  for (const [list, names] of [
    ['disallowed-types', types],
    ['disallowed-methods', methods],
  ]) {
    const part = new RegExp(`^${list} = \\[([^\\]]*)\\]`, 'm').exec(text)?.[1] ?? '';
    const lines = part
      .split('\n')
      .filter((line) => !line.trim().startsWith('#'))
      .join('\n');
    for (const name of names) {
      if (!lines.includes(`"std::${name}"`)) yield `doesn't forbid std::${name}: add it to ${list}, with a reason`;
    }
  }
}
