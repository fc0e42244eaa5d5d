// The crates of the workspace, from the bottom up: the one place that says which they are, what each may depend on and
// which are pure. A crate that isn't built yet does no harm here; one that isn't listed here fails the run.

/** A crate imports from groups before its own. Within a group none imports another, unless its `uses` says so. */
export const groups = [
  ['proto', 'proxy-protocol'],
  ['config'],
  ['core', 'upstream', 'routing', 'fec', 'os'],
  ['observe'],
  ['tunnel', 'store'],
  ['gateway', 'admin'],
  ['bin'],
];

/** Beside the groups: only tests and measurements use these. */
export const apart = ['testkit', 'bench'];

/** Crates without I/O: no runtime, socket, TLS, clock or chance. They are also built for wasm32. */
export const pure = ['proto', 'proxy-protocol', 'config', 'core', 'upstream', 'routing', 'fec'];

/** The workspace's crates that each one may depend on, in normal and build dependencies. */
export const uses = {
  proto: [],
  'proxy-protocol': [],
  config: ['proto', 'proxy-protocol'],
  core: ['proto', 'proxy-protocol', 'config'],
  upstream: ['proto', 'config'],
  routing: ['proto', 'proxy-protocol', 'config'],
  fec: ['proto'],
  os: ['proto', 'config'],
  observe: ['proto', 'config', 'core', 'upstream', 'routing', 'os'],
  tunnel: ['proto', 'proxy-protocol', 'config', 'core', 'fec', 'os', 'observe'],
  store: ['proto', 'config', 'core', 'upstream', 'routing', 'os', 'observe'],
  gateway: ['proto', 'proxy-protocol', 'config', 'core', 'upstream', 'routing', 'os', 'observe', 'tunnel', 'store'],
  admin: ['proto', 'config', 'core', 'upstream', 'routing', 'os', 'observe', 'tunnel', 'store'],
  bin: [...groups.slice(0, -1).flat()],
  testkit: ['proto', 'config', 'core', 'tunnel'],
  bench: [...pure, 'testkit'],
};

/** Crates that every crate may depend on for its tests, besides its `uses`. */
export const usesInTests = ['testkit'];

/** Crates of others that no pure crate may have in its tree. A `*` at the end stands for any rest. */
export const impure = [
  ...['tokio', 'tokio-*', 'async-*', 'mio', 'mio-*', 'socket2'],
  ...['quinn', 'quinn-*', 'hyper', 'hyper-*', 'h2', 'rustls', 'rustls-*'],
  ...['getrandom', 'rand', 'rand_*'],
];

/** Crates of others that nothing on a byte's way may have in its tree: they belong to the control plane. */
export const controlPlane = ['hyper', 'hyper-*', 'h2', 'axum', 'axum-*', 'rusqlite', 'libsqlite3-sys'];

/** Crates on a byte's way. Of one that depends on `mayBringControlPlane`, the engines' sources are read instead. */
export const dataPlane = ['tunnel', 'bin'];
export const mayBringControlPlane = ['store', 'gateway', 'admin'];

/** Folders of bin's sources that never import each other, and the files that may know all of them. */
export const engines = ['edge', 'hub', 'relay'];
export const knowEngines = ['main', 'command_line', 'ipc', 'engine'];

export const limits = { fileLines: 600, functionLines: 90, largestCrate: 0.35 };

const prefix = 'remoteingress-';

export function fullName(short) {
  return prefix + short;
}

/** The name in the lists above; undefined for a crate that they don't have. */
export function shortName(full) {
  const short = full.startsWith(prefix) ? full.slice(prefix.length) : undefined;
  return short !== undefined && Object.hasOwn(uses, short) ? short : undefined;
}

export function matches(name, patterns) {
  return patterns.some((pattern) => (pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern));
}
