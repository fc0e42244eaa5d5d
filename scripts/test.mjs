// npm test: the Rust suites, then the TypeScript suites against the release binary.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildAll, buildTests, root, run, runNode, say } from './setup.mjs';

buildAll();
buildTests();

say('Rust tests (cargo test --workspace)');
// Most end-to-end tests wait for their turn, for a place or for a timeout: none of them keeps a thread from the others.
const env = { RUST_TEST_THREADS: '64', ...process.env };
run('cargo', ['test', '--workspace', '--locked'], { env });

say('Tests of the generator (node --test)');
runNode('--test', ...['generate', 'openapi'].map((name) => `scripts/generate/${name}.test.mjs`));

say('TypeScript tests (node --test)');
const suites = readdirSync(join(root, 'dist_test')).filter((name) => name.endsWith('.test.js'));
runNode('--enable-source-maps', '--test', ...suites.map((name) => join('dist_test', name)));

say('All tests passed');
