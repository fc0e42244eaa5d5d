// Events as they are iterated over, and the streams that are open.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RemoteIngressHub } from '@serve.zone/remoteingress';
import { edgeId, startScene } from './support/scene.js';
import { client, roundTrip, visit } from './support/sockets.js';

test('events are iterated over until the hub stops', async (t) => {
  const { hub, ports } = await startScene(t);
  const stream = hub.events(['streamOpened', 'streamClosed']);
  await hub.getStatus(); // the subscription went before this
  await visit(t, ports[0]!);
  const first = await stream.next();
  const second = await stream.next();
  assert.deepEqual([first.value?.event, second.value?.event], ['streamOpened', 'streamClosed']);
  await stream.return();
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
  assert.equal(hub.listenerCount('streamOpened'), 0);

  const controller = new AbortController();
  const aborted = hub.events(['edgeConnected'], { signal: controller.signal });
  const waiting = aborted.next();
  controller.abort();
  assert.equal((await waiting).done, true);

  const names: string[] = [];
  const reading = (async () => {
    for await (const { event } of hub.events(['edgeDisconnected'])) names.push(event);
  })();
  await hub.stop();
  await reading;
  assert.ok(names.length <= 1);
  assert.throws(() => hub.events(['edgeDisconected' as 'edgeDisconnected']), { code: 'E_INVALID_ARGUMENT' });
  assert.throws(() => hub.events([]), { code: 'E_INVALID_ARGUMENT' });
});

test('events that wait too long are counted', () => {
  const hub = new RemoteIngressHub();
  const stream = hub.events(['log']);
  for (let number = 0; number < 10_005; number += 1) {
    hub.emit('log', { level: 'info', message: `${number}`, target: '', fields: {} });
  }
  return (async () => {
    assert.deepEqual((await stream.next()).value, { event: 'eventsDropped', data: { count: 5 } });
    const next = (await stream.next()).value;
    assert.equal(next?.event === 'log' && next.data.message, '5');
    await stream.return();
  })();
});

test('streams that are open are listed', async (t) => {
  const { hub, edge, ports } = await startScene(t);
  await roundTrip(await client(t, ports[0]!));
  const [atHub, atEdge] = await Promise.all([hub.getStreams({ edgeId }), edge.getStreams()]);
  assert.equal(atHub.total, 1);
  assert.equal(atHub.streams[0]?.id, atEdge.streams[0]?.id);
  await assert.rejects(hub.getStreams({ limit: 0 }), { code: 'E_BAD_REQUEST' });
});
