// The management interface as both languages have it: test/fixtures/ipc.json, whose examples the compiler has held to
// the interfaces of this package (test/support/ipcexamples.ts), as a Rust test holds them to its types.
import { type IEdgeEvents, type IHubEvents, RemoteIngressError } from '@serve.zone/remoteingress';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { managementProtocolVersion, type TMethod } from '../dist_ts/interfaces/management.js';
import { commandExamples, eventExamples, statusExamples } from './support/ipcexamples.js';

const fixture = JSON.parse(readFileSync(new URL('../test/fixtures/ipc.json', import.meta.url), 'utf8')) as {
  commands: unknown;
  events: unknown;
  status: unknown;
  answers: { error?: string }[];
};

/** Records, so that the compiler finds a name that is missing and one that is too many. */
const eventNames: Record<Exclude<keyof IHubEvents | keyof IEdgeEvents, 'log' | 'restarted'> | 'ready', true> = {
  edgeConnected: true,
  edgeDisconnected: true,
  edgeKeyChanged: true,
  edgeRejected: true,
  edgeUnreachable: true,
  discoveryFailed: true,
  eventsDropped: true,
  geoFailed: true,
  geoReloaded: true,
  poolEmpty: true,
  poolFull: true,
  poolUnhealthy: true,
  portsApplied: true,
  portsAssigned: true,
  portsUpdated: true,
  publicIpDiscovered: true,
  ready: true,
  routingFailed: true,
  routingReloaded: true,
  streamClosed: true,
  streamOpened: true,
  targetDown: true,
  targetRefused: true,
  targetUp: true,
  transportChanged: true,
  tunnelConnected: true,
  tunnelDisconnected: true,
};

const methods: Record<TMethod, true> = {
  addAllowedEdges: true,
  beginAllowedEdges: true,
  commitAllowedEdges: true,
  createConnectionToken: true,
  explainPool: true,
  getMetrics: true,
  getStatus: true,
  getStreams: true,
  ping: true,
  removeEdges: true,
  selfTest: true,
  setTargetState: true,
  startEdge: true,
  startHub: true,
  stop: true,
  subscribe: true,
  updateAllowedEdges: true,
  updatePools: true,
  upsertEdges: true,
};

test('the examples that the compiler has seen are those of the fixture', () => {
  assert.deepEqual(commandExamples, fixture.commands);
  assert.deepEqual(eventExamples, fixture.events);
  assert.deepEqual(statusExamples, fixture.status);
});

test('every event and every method has an example', () => {
  const names = (list: string[]) => [...new Set(list)].sort();
  assert.deepEqual(names(eventExamples.map(({ event }) => event)), Object.keys(eventNames).sort());
  assert.deepEqual(names(commandExamples.map(({ method }) => method)), Object.keys(methods).sort());
});

test('the version in ready is the one that this package speaks', () => {
  const ready = eventExamples.find(({ event }) => event === 'ready');
  assert.equal(ready?.event === 'ready' && ready.data.protocolVersion, managementProtocolVersion);
});

test('an error in an answer becomes its code and message', () => {
  const error = RemoteIngressError.fromAnswer(fixture.answers[1]?.error ?? '');
  assert.equal(error?.code, 'E_UNKNOWN_EDGE');
  for (const { event, data } of eventExamples) {
    if (event === 'tunnelDisconnected') assert.equal(RemoteIngressError.fromAnswer(`${data.code}: x`)?.code, data.code);
  }
});
