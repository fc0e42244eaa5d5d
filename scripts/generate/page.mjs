// The script of the admin server's status page, compiled file by file; `npm run lint` checks its types.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { root } from '../setup.mjs';

const folder = 'rust/remoteingress-admin/page';

/** Paths and texts of the compiled modules. */
export function* page(read) {
  const { compilerOptions } = ts.readConfigFile(join(root, folder, 'tsconfig.json'), ts.sys.readFile).config;
  const { options } = ts.convertCompilerOptionsFromJson(compilerOptions, join(root, folder));
  for (const name of readdirSync(join(root, folder)).filter((name) => name.endsWith('.ts'))) {
    const { outputText } = ts.transpileModule(read(join(folder, name)), { compilerOptions: { ...options, noEmit: false } });
    if (isEmpty(outputText)) continue; // types only
    yield [join(folder, 'out', name.replace(/\.ts$/, '.js')), outputText];
  }
}

function isEmpty(text) {
  return text.replace(/\/\/.*|export \{\};/g, '').trim() === '';
}
