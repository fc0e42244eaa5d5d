// No committed file names a path of the machine that someone worked on.

// Not `/home/…`, which stands for any home.
const place = new RegExp(String.raw`(?<![\w.~$}-])/(?:${['work', 'root', 'home'].join('|')})/[\w.-]`);
const binary = /\.(png|ico|woff2?|gz|zst)$/;

export function places(workspace) {
  const texts = workspace.files.filter((path) => !binary.test(path));
  const problems = texts.flatMap((path) =>
    workspace
      .read(path)
      .split('\n')
      .flatMap((line, index) => {
        const found = place.exec(line);
        return found
          ? [`${path}:${index + 1} names a path of a workplace (${found[0]}…): say it relative to the repository`]
          : [];
      }),
  );
  return { looked: [`${texts.length} text files name no path of a workplace`], problems };
}
