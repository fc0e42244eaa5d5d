// npm run lint: formatting, lints, types and generated files of everything, without running it.
import { buildTypeScript, compile, installPackages, run, runNode, say } from './setup.mjs';

say('Formatting (cargo fmt --check)');
run('cargo', ['fmt', '--all', '--check']);

say('Rust lints (cargo clippy)');
run('cargo', ['clippy', '--workspace', '--all-targets', '--locked', '--', '-D', 'warnings']);

runNode('scripts/generate.mjs', '--check');

installPackages();
buildTypeScript(); // the tests import the package by its name, so its types must be there
say('Types of the tests (tsc --noEmit)');
compile('tsconfig.test.json', '--noEmit');
say('Types of the status page (tsc --noEmit)');
compile('rust/remoteingress-admin/page/tsconfig.json');

say('Clean');
