// npm run build: everything that the npm package ships.
import { buildAll, say } from './setup.mjs';

buildAll();
say('Built: dist_ts/ and dist_rust/');
