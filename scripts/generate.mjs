// npm run generate: TypeScript's interfaces, the tables of the reference pages and the tests' typed examples, from the
// types of remoteingress-config; and the script of the status page. With `--check` it writes nothing, and fails where a file isn't as it would write it.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { examples } from './generate/examples.mjs';
import { openapi } from './generate/openapi.mjs';
import { pages } from './generate/pages.mjs';
import { Schema } from './generate/schema.mjs';
import { sources } from './generate/sources.mjs';
import { installPackages, root, run, say } from './setup.mjs';

const isCheck = process.argv.includes('--check');
installPackages();
const { page } = await import('./generate/page.mjs'); // needs the TypeScript compiler
say(isCheck ? 'Generated files are up to date' : 'Generating types and reference pages');

const read = (path) => readFileSync(join(root, path), 'utf8');
const schema = new Schema(JSON.parse(printSchema()));
const files = new Map([...sources(schema), ...pages(schema, read), ...examples(read), ...openapi(schema, read), ...page(read)]);
const stale = [...files].filter(([path, text]) => text !== readIfThere(path));

if (!isCheck) for (const [path, text] of stale) writeFileSync(join(root, path), text);
for (const [path] of stale) console.log(isCheck ? `${path} isn't what npm run generate writes` : `wrote ${path}`);
console.log(`${files.size - stale.length} of ${files.size} files were up to date`);
if (isCheck && stale.length > 0) process.exit(1);

function printSchema() {
  const example = ['--package', 'remoteingress-config', '--features', 'schema', '--example', 'schema'];
  const options = { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' };
  return run('cargo', ['run', '--quiet', '--locked', ...example], options);
}

function readIfThere(path) {
  try {
    return read(path);
  } catch {
    return undefined;
  }
}
