// The examples of test/fixtures/ipc.json as TypeScript, so that the compiler holds them to the interfaces.

const fixture = 'test/fixtures/ipc.json';

/** @returns [[path, text]] */
export function examples(read) {
  const { commands, events, status } = JSON.parse(read(fixture));
  const text = `// Generated from ${fixture} by \`npm run generate\`; edit that.
import type { IEdgeEvents, IEdgeStatus, IHubEvents, IHubStatus } from '@serve.zone/remoteingress';
import type { IReady, TCommands } from '../../dist_ts/interfaces/management.js';

type TCommandExample = {
  [M in keyof TCommands]: { method: M; params: TCommands[M]['params']; result: TCommands[M]['result'] };
}[keyof TCommands];

type TEvents = { [E in keyof IHubEvents]: IHubEvents[E][0] } & { [E in keyof IEdgeEvents]: IEdgeEvents[E][0] };

type TEventExample =
  | { [E in keyof TEvents]: { event: E; data: TEvents[E] } }[keyof TEvents]
  | { event: 'ready'; data: IReady };

export const commandExamples: TCommandExample[] = ${literal(commands)};

export const statusExamples: { hub: IHubStatus; edge: IEdgeStatus } = ${literal(status)};

export const eventExamples: TEventExample[] = ${literal(events)};
`;
  return [['test/support/ipcexamples.ts', text]];
}

/** JSON is TypeScript; each example has a line. */
function literal(examples) {
  const isList = Array.isArray(examples);
  const key = (name) => (isList ? '' : `${name}: `);
  const lines = Object.entries(examples).map(([name, value]) => `  ${key(name)}${JSON.stringify(value)},`);
  return [isList ? '[' : '{', ...lines, isList ? ']' : '}'].join('\n');
}
