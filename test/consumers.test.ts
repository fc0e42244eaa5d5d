// The packed package in an empty project, under compilers old and new.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { root } from './support/declarations.js';

const run = promisify(execFile);

/** Names of the compilers in `devDependencies`, from the oldest that is supported to the newest there is. */
const compilers = ['typescript-5.4', 'typescript', 'typescript-latest'];

/** Nothing that is installed near this repository may be found from here, so it is a directory of its own. */
const directory = mkdtempSync(join(tmpdir(), 'remoteingress-consumers-'));
const empty = join(directory, 'empty');
const withNode = join(directory, 'with-node');

/** Each test tells the version that it met. */
function versionOf(compiler: string): string {
  return (JSON.parse(readFileSync(installed(compiler, 'package.json'), 'utf8')) as { version: string }).version;
}

function installed(...names: string[]): string {
  return join(root, 'node_modules', ...names);
}

before(async () => {
  const npm = process.env['npm_execpath']; // set where npm runs us
  const [command, ...args] = npm ? [process.execPath, npm] : ['npm'];
  const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', directory];
  const { stdout } = await run(command!, [...args, ...pack], { cwd: root, maxBuffer: 2 ** 24 });
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }];

  const home = join(empty, 'node_modules/@serve.zone/remoteingress');
  mkdirSync(home, { recursive: true });
  await run('tar', ['-xzf', join(directory, filename), '--strip-components=1', '-C', home]);
  cpSync(installed('@push.rocks'), join(empty, 'node_modules/@push.rocks'), { recursive: true });
  cpSync(join(root, 'test/fixtures/consumer'), empty, { recursive: true });
  writeFileSync(join(empty, 'package.json'), '{}');
  cpSync(empty, withNode, { recursive: true });
  for (const name of ['@types', 'undici-types']) {
    cpSync(installed(name), join(withNode, 'node_modules', name), { recursive: true });
  }
});
after(() => rmSync(directory, { recursive: true, force: true }));

/** The language alone, without the declarations of a browser that are there by default. */
const withoutBrowser = ['--target', 'es2022', '--lib', 'es2022'];

/** Fails with the compiler's own words. */
async function compile(compiler: string, cwd: string, ...args: string[]): Promise<void> {
  const tsc = installed(compiler, 'bin/tsc');
  const options = ['--strict', '--module', 'nodenext', '--noEmit'];
  await run(process.execPath, [tsc, ...options, ...args], { cwd }).catch(({ message, stdout }) => {
    assert.fail(`${message}\n${stdout}`);
  });
}

// Two at a time: each is a process of its own that does nothing but compute.
describe('declarations', { concurrency: 2 }, () => {
  for (const compiler of compilers) {
    test(`TypeScript ${versionOf(compiler)}: an empty project compiles with the compiler's defaults`, async () => {
      await compile(compiler, empty, 'main.mts');
    });

    test(`TypeScript ${versionOf(compiler)}: an empty project compiles without any types of its platform`, async () => {
      await compile(compiler, empty, ...withoutBrowser, 'bare.mts');
    });
  }

  // Declarations themselves are checked above; to check Node's own as well would take longer than all of that.
  for (const compiler of compilers.filter((name) => name !== 'typescript')) {
    test(`TypeScript ${versionOf(compiler)}: a project with the types of Node compiles`, async () => {
      const options = [...withoutBrowser, '--types', 'node', '--skipLibCheck'];
      await compile(compiler, withNode, ...options, 'main.mts', 'node.mts');
    });
  }
});

test('the packed package runs', async () => {
  const script = `
    import { RemoteIngressHub } from '@serve.zone/remoteingress';
    const hub = new RemoteIngressHub();
    console.log(typeof (await hub.start({ tunnelPort: 0, bindAddress: '127.0.0.1' })).tunnelPort);
    await hub.stop();`;
  const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'REMOTEINGRESS_BIN'));
  const node = [process.execPath, ['--input-type=module', '--eval', script]] as const;
  const { stdout } = await run(...node, { cwd: empty, env: environment });
  assert.equal(stdout, 'number\n');
});
