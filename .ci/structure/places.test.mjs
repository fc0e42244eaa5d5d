import { places } from './rules/places.mjs';
import { showsFailure } from './scene.mjs';

const home = (name) => ['', name, 'me/project'].join('/');

showsFailure("a file names someone's folder", places, {
  broken: { files: { 'a.md': `fine\nsee ${home('home')}`, 'b.mjs': `'${home('root')}'`, 'c.rs': `"${home('work')}"` } },
  mended: { files: { 'a.md': 'in `/home/…`, target/work/x, https://example.org/home/x and ~/work/x' } },
  says: [/a\.md:2 names a path of a workplace/, /b\.mjs:1/, /c\.rs:1/],
});
