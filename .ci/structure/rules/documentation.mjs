// Every library crate asks for documentation of its public items and of its unsafe blocks.
import { posix } from 'node:path';

const lints = [
  { group: 'rust', name: 'missing_docs', inSource: 'missing_docs' },
  { group: 'clippy', name: 'undocumented_unsafe_blocks', inSource: 'clippy::undocumented_unsafe_blocks' },
];

export function documentation(workspace) {
  const libraries = workspace.packages.filter(({ targets }) => targets.some(({ kind }) => kind === 'lib'));
  return {
    looked: [`${libraries.length} library crates ask for ${lints.map(({ name }) => name).join(' and ')}`],
    problems: libraries.flatMap((crate) => [...gaps(crate, workspace)]),
  };
}

function* gaps(crate, workspace) {
  const manifest = posix.join(crate.folder, 'Cargo.toml');
  const inherits = section(workspace.read(manifest), 'lints').workspace === 'true';
  const { file } = crate.targets.find(({ kind }) => kind === 'lib');
  for (const { group, name, inSource } of lints) {
    const shared = section(workspace.read('Cargo.toml'), `workspace.lints.${group}`)[name] ?? '';
    const isShared = inherits && /^"?(warn|deny|forbid)/.test(shared);
    const own = new RegExp(`^#!\\[(warn|deny|forbid)\\([^)]*\\b${inSource}\\b`, 'm');
    if (isShared || own.test(workspace.read(file))) continue;
    yield inherits
      ? `${crate.name} doesn't ask for ${name}: add ${name} = "warn" to [workspace.lints.${group}] in Cargo.toml`
      : `${crate.name} doesn't ask for ${name}: add [lints] workspace = true to ${manifest}`;
  }
}

// The keys of one section of a TOML file, as far as Cargo.toml of this workspace needs it.
function section(text, title) {
  const lines = text.split('\n').map((line) => line.replace(/\s+#.*$/, '').trim());
  const begin = lines.indexOf(`[${title}]`);
  if (begin < 0) return {};
  const rest = lines.slice(begin + 1);
  const end = rest.findIndex((line) => line.startsWith('['));
  const pairs = rest.slice(0, end < 0 ? undefined : end).map((line) => /^([\w.-]+)\s*=\s*(.+)$/.exec(line));
  return Object.fromEntries(pairs.filter(Boolean).map(([, key, value]) => [key, value]));
}
