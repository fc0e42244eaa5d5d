// Brings a fresh clone into a state that can run: npm packages, the binary, compiled TypeScript. Needs nothing
// installed beyond Node, Rust and a C compiler, and skips what is up to date.
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

export function say(text) {
  console.log(`\n▸ ${text}`);
}

/** Runs a command in the repository; where it fails, so does this script, with the same exit code. */
export function run(command, args, options = {}) {
  const { status, signal, error, stdout } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (error?.code === 'ENOENT') stop(missingTool(command));
  if (error) stop(`${command}: ${error.message}`);
  if (status !== 0)
    stop(`${[command, ...args].join(' ')} ${signal ? `was ended by ${signal}` : `failed`}`, status ?? 1);
  return stdout;
}

export function runNode(...args) {
  run(process.execPath, args);
}

function stop(message, exitCode = 1) {
  console.error(`\n✗ ${message}`);
  process.exit(exitCode);
}

function missingTool(command) {
  const hints = { cargo: ' Rust is needed to build the binary: https://rustup.rs' };
  return `${command} isn't installed or not in PATH.${hints[command] ?? ''}`;
}

/** npm packages, as the lock file says. */
export function installPackages() {
  const installed = join(root, 'node_modules/.package-lock.json'); // npm writes it when it is done
  if (existsSync(installed) && changedAt(installed) >= changedAt(join(root, 'package-lock.json'))) return;
  say('Installing npm packages (npm ci)');
  const npm = process.env.npm_execpath; // set when npm runs us: then the same npm, wherever it is
  if (npm) runNode(npm, 'ci');
  else run('npm', ['ci']);
}

/** The release build of the binary, under the name by which the package looks for it. */
export function buildBinary() {
  say('Building the binary (cargo build --release; the first time takes some minutes)');
  run('cargo', ['build', '--release', '--locked', '--package', 'remoteingress-bin']);
  const built = join(cargoTargetDirectory(), 'release/remoteingress-bin');
  const shipped = join(root, 'dist_rust', `remoteingress-bin_${platform()}`);
  mkdirSync(join(root, 'dist_rust'), { recursive: true });
  // A binary that is running can't be written to, but it can be replaced.
  copyFileSync(built, `${shipped}.new`);
  chmodSync(`${shipped}.new`, 0o755);
  renameSync(`${shipped}.new`, shipped);
}

/** `ts/` into `dist_ts/`, without leftovers of files that are gone. */
export function buildTypeScript() {
  say('Compiling TypeScript (ts → dist_ts)');
  rmSync(join(root, 'dist_ts'), { recursive: true, force: true });
  compile('tsconfig.json');
}

/** `test/` into `dist_test/`; needs `dist_ts/`. */
export function buildTests() {
  say('Compiling the tests (test → dist_test)');
  rmSync(join(root, 'dist_test'), { recursive: true, force: true });
  compile('tsconfig.test.json');
}

export function compile(project, ...args) {
  runNode('node_modules/typescript/bin/tsc', '--project', project, ...args);
}

export function buildAll() {
  installPackages();
  buildBinary();
  buildTypeScript();
}

function platform() {
  const arch = { x64: 'amd64', arm64: 'arm64' }[process.arch] ?? process.arch;
  return `${process.platform}_${arch}`;
}

/** Whatever the environment or cargo's configuration make of it. */
function cargoTargetDirectory() {
  const args = ['metadata', '--format-version', '1', '--no-deps', '--locked'];
  const stdio = ['ignore', 'pipe', 'inherit'];
  return JSON.parse(run('cargo', args, { stdio, encoding: 'utf8' })).target_directory;
}

function changedAt(path) {
  return statSync(path).mtimeMs;
}
