import { readFileSync } from 'node:fs';
import { purity } from './rules/purity.mjs';
import { crate, showsFailure } from './scene.mjs';

const good = readFileSync(new URL('../../rust/remoteingress-proto/clippy.toml', import.meta.url), 'utf8');
const workspace = (proto, config) => ({
  files: {
    ...crate('proto', { 'lib.rs': '' }),
    ...crate('config', { 'lib.rs': '' }),
    'rust/remoteingress-proto/clippy.toml': proto,
    ...(config && { 'rust/remoteingress-config/clippy.toml': config }),
  },
});
const without = (text, name) =>
  text
    .split('\n')
    .filter((line) => !line.includes(name))
    .join('\n');
const mended = workspace(good, good);

showsFailure("a pure crate's clippy.toml differs", purity, {
  broken: workspace(good, `${good}\nallow-expect-in-tests = true`),
  mended,
  says: [/remoteingress-config\/clippy\.toml differs from rust\/remoteingress-proto\/clippy\.toml/],
});

showsFailure('a pure crate has none', purity, {
  broken: workspace(good),
  mended,
  says: [/remoteingress-config\/clippy\.toml is missing: copy rust\/remoteingress-proto\/clippy\.toml/],
});

showsFailure('it lets a socket and the clock through', purity, {
  broken: workspace(...Array(2).fill(without(without(good, 'UdpSocket'), 'Instant::now'))),
  mended,
  says: [/doesn't forbid std::net::UdpSocket: add it to disallowed-types/, /doesn't forbid std::time::Instant::now/],
});
