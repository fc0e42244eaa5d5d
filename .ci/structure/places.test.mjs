import { places } from './rules/places.mjs';
import { showsFailure } from './scene.mjs';

const home = (name, rest = 'me/project') => ['', name, rest].join('/');

showsFailure("a file names someone's folder", places, {
  broken: { files: { 'a.md': `fine\nsee ${home('home')}`, 'b.mjs': `'${home('root')}'`, 'c.rs': `"${home('work')}"` } },
  mended: {
    files: { 'a.md': `in ${home('home', '…')}, target${home('work')}, https://example.org${home('home')}, ~${home('work')}` },
  },
  says: [/a\.md:2 names a path of a workplace/, /b\.mjs:1/, /c\.rs:1/],
});
