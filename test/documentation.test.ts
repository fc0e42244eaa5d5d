// The public names as an editor shows them: a text for each, and examples that compile.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { readPublicApi, root, typeErrors } from './support/declarations.js';

const { names, examples } = readPublicApi(join(root, 'dist_ts/index.d.ts'));

/** Names by which the others are found, so that the test notices if it sees too little. */
const known = [
  'RemoteIngressHub',
  'RemoteIngressHub.constructor',
  'RemoteIngressHub.updateAllowedEdges',
  'RemoteIngressEdge.start',
  'RemoteIngressEngine.stop',
  'RemoteIngressEngine.[Symbol.asyncDispose]',
  'RemoteIngressError.code',
  'IEventEmitter.on',
  'IHubLimits.maxPreAuth',
  'IHubEvents.edgeConnected',
  'IEdgeStatus.rejected',
  'IAbortSignal.aborted',
  'TUdpDropReason',
  'createSecret',
];

const withExample = [
  'RemoteIngressHub',
  'RemoteIngressHub.start',
  'RemoteIngressHub.updateAllowedEdges',
  'RemoteIngressHub.upsertEdges',
  'RemoteIngressHub.removeEdges',
  'RemoteIngressHub.updatePools',
  'RemoteIngressHub.setTargetState',
  'RemoteIngressHub.explainPool',
  'RemoteIngressHub.createConnectionToken',
  'RemoteIngressHub.getStatus',
  'RemoteIngressHub.selfTest',
  'RemoteIngressEdge',
  'RemoteIngressEdge.start',
  'RemoteIngressEdge.getStatus',
  'RemoteIngressEngine.stop',
  'RemoteIngressEngine.getMetrics',
  'RemoteIngressError',
  'IEventEmitter.on',
  'createSecret',
  'encodeConnectionToken',
  'decodeConnectionToken',
];

test('every public name is documented', () => {
  for (const name of known) assert.ok(names.has(name), `${name} is seen`);
  const mute = [...names].filter(([, text]) => text.trim().length < 10).map(([name]) => name);
  assert.deepEqual(mute, []);
});

test('the main names have an example', () => {
  const have = new Set(examples.map(([name]) => name));
  assert.deepEqual(withExample.filter((name) => !have.has(name)), []);
});

test('every example compiles', () => {
  const functions = examples.map(([, code], index) => {
    return `export async function example${index}(): Promise<void> {\n${code}\n}`;
  });
  const header = `
    import {
      createSecret, decodeConnectionToken, encodeConnectionToken, type IAllowedEdge, type IPool, RemoteIngressEdge,
      RemoteIngressError, RemoteIngressHub, type TTcpPort, type TUdpPort,
    } from '@serve.zone/remoteingress';
    declare const hub: RemoteIngressHub, edge: RemoteIngressEdge, token: string, secret: string;
  `;
  assert.deepEqual(typeErrors(header + functions.join('\n')), []);
});
