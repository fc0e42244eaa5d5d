// Hub and edge of the real binary, through the public interface.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import {
  createSecret,
  decodeConnectionToken,
  encodeConnectionToken,
  type IPortsEvent,
  RemoteIngressEdge,
  RemoteIngressError,
  RemoteIngressHub,
} from '@serve.zone/remoteingress';
import { edgeId, startScene } from './support/scene.js';
import {
  client,
  freePorts,
  freeUdpPort,
  listen,
  roundTrip,
  tunnelRelay,
  udpEchoTarget,
  udpSocket,
  visit,
} from './support/sockets.js';
import { eventually, nextEvent } from './support/waiting.js';

const loopback = { bindAddress: '127.0.0.1', drainTimeoutSecs: 1 };

/** An error with this code whose message names this field or thing. */
function fails(code: string, mentions = '') {
  return (error: unknown) => {
    assert.ok(error instanceof RemoteIngressError, `${error}`);
    assert.equal(error.code, code, error.message);
    assert.ok(error.message.includes(mentions), `"${error.message}" should name ${mentions}`);
    return true;
  };
}

test('the target sees the address of each client', async (t) => {
  const {
    ports: [port = 0],
    target,
  } = await startScene(t);
  for (const address of ['127.0.0.1', '127.0.0.2', '127.1.2.3']) {
    const own = await visit(t, port, address);
    const [ip, clientPort] = own.split(' ');
    assert.equal(ip, address);
    assert.equal(target.lines.at(-1), `PROXY TCP4 ${ip} 127.0.0.1 ${clientPort} ${port}`);
  }
});

test('the status of hub and edge has the documented shape', async (t) => {
  const { hub, edge, tunnelPort, ports } = await startScene(t);
  const [port = 0] = ports;
  const socket = await client(t, port);
  await roundTrip(socket, 'x'.repeat(1_000));

  const status = await eventually('the hub counts', 5_000, async () => {
    const now = await hub.getStatus();
    return now.connectedEdges[0]?.bytesOut === 1_000 && now;
  });
  const { connectedEdges, hubPin, memoryBudget, ...rest } = status;
  assert.deepEqual(rest, { running: true, draining: false, tunnelPort, rejected: {}, eventsDropped: 0, accessLogLost: 0, unreachableEdges: [], pools: [], bindings: 0, routingDb: null, geo: null });
  assert.equal(Buffer.from(hubPin!, 'base64url').length, 32);
  assert.ok(memoryBudget.limitBytes > memoryBudget.usedBytes);
  assert.equal(connectedEdges.length, 1);
  const { remoteAddress, connectedAt, sessions, sessionsByTransport, rttMs, version, ...edgeRest } = connectedEdges[0]!;
  const boundPort = { protocol: 'tcp', port, state: 'bound' };
  const udp = { activeFlows: 0, datagramsIn: 0, datagramsOut: 0, dropped: {} };
  assert.deepEqual(edgeRest, {
    edgeId,
    draining: false,
    dialledBy: 'edge',
    proxy: null,
    transport: 'tcpTls',
    activeStreams: 1,
    activeStreamsByTransport: { tcpTls: 1, quic: 0 },
    queuedBytes: { control: 0, datagrams: 0, data: 0, sustained: 0 },
    resumed: 0,
    totalStreams: 1,
    bytesIn: 1_000,
    bytesOut: 1_000,
    publicIp: null,
    udp,
    ports: [boundPort],
  });
  assert.match(remoteAddress, /^127\.0\.0\.1:\d+$/);
  assert.ok(Math.abs(Date.now() - connectedAt) < 60_000);
  assert.ok(sessions >= 1);
  assert.deepEqual(sessionsByTransport, { tcpTls: sessions, quic: 0 });
  assert.ok(rttMs === null || rttMs >= 0);
  assert.match(version, /^\d+\.\d+\.\d+/);

  const { sessions: edgeSessions, sessionsByTransport: byTransport, rttMs: edgeRtt, ...edgeStatus } =
    await edge.getStatus();
  const { memoryBudget: edgeBudget, ...counted } = edgeStatus;
  assert.ok(edgeBudget.limitBytes > edgeBudget.usedBytes);
  assert.deepEqual(counted, {
    running: true,
    edgeId,
    hubAddress: `127.0.0.1:${tunnelPort}`,
    draining: false,
    connected: true,
    dialledBy: 'edge',
    proxy: null,
    transport: 'tcpTls',
    transportReason: null,
    publicIp: null,
    activeStreams: 1,
    activeStreamsByTransport: { tcpTls: 1, quic: 0 },
    queuedBytes: { control: 0, datagrams: 0, data: 0, sustained: 0 },
    totalStreams: 1,
    bytesIn: 1_000,
    bytesOut: 1_000,
    listenPorts: [port],
    listenPortsUdp: [],
    ports: [boundPort],
    reconnects: 0,
    resumed: 0,
    heldClients: 0,
    udp,
    rejected: {},
    eventsDropped: 0,
    accessLogLost: 0,
  });
  assert.equal(edgeSessions, sessions);
  assert.deepEqual(byTransport, sessionsByTransport);
  assert.ok(edgeRtt === null || edgeRtt >= 0);
});

test('hub and edge tell their metrics as OpenMetrics text', async (t) => {
  const { hub, edge, ports } = await startScene(t);
  for (const engine of [hub, edge]) {
    assert.match(await engine.getMetrics(), /^remoteingress_first_byte_seconds_count\{.*\} 0$/m);
  }
  await roundTrip(await client(t, ports[0]!), 'x'.repeat(1_000));
  for (const [engine, role] of [[hub, 'hub'], [edge, 'edge']] as const) {
    const labels = `role="${role}",edge="${edgeId}"`;
    const text = await eventually('the bytes are counted', 5_000, async () => {
      const now = await engine.getMetrics();
      return now.includes(`remoteingress_stream_payload_bytes_total{${labels},direction="out"} 1000\n`) && now;
    });
    assert.ok(text.includes(`remoteingress_edge_connected{${labels}} 1\n`));
    assert.ok(text.includes(`remoteingress_first_byte_seconds_count{role="${role}"} 1\n`));
    assert.ok(text.includes(`remoteingress_restarts_total{role="${role}"} 0\n`));
    assert.ok(text.endsWith('# EOF\n'));
  }
});

test('TCP and UDP clients reach their targets over QUIC', async (t) => {
  const udpTarget = await udpEchoTarget(t);
  const udpPort = await freeUdpPort();
  const { hub, edge, ports, target } = await startScene(t, {
    listenPortsUdp: [{ port: udpPort, targetPort: udpTarget.port, proxyProtocol: 'everyDatagram' }],
    hubConfig: { congestionController: 'bbr' },
    edgeConfig: { transportMode: 'quic' },
  });
  const [port = 0] = ports;
  const socket = await client(t, port);
  await roundTrip(socket, 'x'.repeat(100_000));
  assert.match(target.lines.at(-1)!, new RegExp(`^PROXY TCP4 127.0.0.1 127.0.0.1 ${socket.localPort} ${port}$`));

  const udpClient = await udpSocket(t);
  // Nothing is in the way that could lose one; the largest travels in fragments.
  for (const size of [0, 1, 1_200, 20_000]) {
    const answered = once(udpClient, 'message', { signal: AbortSignal.timeout(5_000) });
    udpClient.send(Buffer.alloc(size, size % 251), udpPort, '127.0.0.1');
    const [answer] = await answered;
    assert.deepEqual(answer, Buffer.alloc(size, size % 251));
  }
  const own = `127.0.0.1:${udpClient.address().port}`;
  assert.deepEqual(udpTarget.clients, [own, own, own, own]);

  const boundPorts = [
    { protocol: 'tcp', port, state: 'bound' },
    { protocol: 'udp', port: udpPort, state: 'bound' },
  ];
  const counted = { activeFlows: 1, datagramsIn: 4, datagramsOut: 4, dropped: {} };
  const atEdge = await edge.getStatus();
  assert.equal(atEdge.transport, 'quic');
  assert.equal(atEdge.transportReason, null);
  assert.deepEqual(atEdge.activeStreamsByTransport, { tcpTls: 0, quic: 1 });
  assert.deepEqual(atEdge.ports, boundPorts);
  assert.deepEqual(atEdge.listenPortsUdp, [udpPort]);
  assert.deepEqual(atEdge.udp, counted);
  const [atHub] = (await hub.getStatus()).connectedEdges;
  assert.equal(atHub?.transport, 'quic');
  assert.deepEqual(atHub.activeStreamsByTransport, { tcpTls: 0, quic: 1 });
  assert.deepEqual(atHub.ports, boundPorts);
  assert.deepEqual(atHub.udp, counted);
});

test('quicWithFallback tells of the way to TLS and back', async (t) => {
  const { hub, edge, ports, token } = await startScene(t);
  const fields = decodeConnectionToken(token);
  assert.ok(fields.hubPort !== undefined);
  const relay = await tunnelRelay(t, fields.hubPort);
  await edge.stop();
  const assigned = nextEvent(edge, 'portsAssigned');
  await edge.start({
    token: encodeConnectionToken({ ...fields, hubPort: relay.port }),
    transportMode: 'quicWithFallback',
    quicProbeIntervalSecs: 1,
    quicStableSecs: 1,
    workers: 1,
    ...loopback,
    stunServers: [],
  });
  await assigned;
  assert.equal((await edge.getStatus()).transport, 'quic');

  relay.carriesUdp = false;
  const fellBack = await nextEvent(edge, 'transportChanged', 20_000);
  assert.equal(fellBack.transport, 'tcpTls');
  assert.ok(fellBack.reason);
  const socket = await client(t, ports[0]!);
  await roundTrip(socket);
  const status = await edge.getStatus();
  assert.equal(status.transport, 'tcpTls');
  assert.equal(status.transportReason, fellBack.reason);
  assert.deepEqual(status.activeStreamsByTransport, { tcpTls: 1, quic: 0 });

  relay.carriesUdp = true;
  const returned = await nextEvent(edge, 'transportChanged', 30_000);
  assert.equal(returned.transport, 'quic');
  await roundTrip(await client(t, ports[0]!));
  await roundTrip(socket); // it finishes where it began
  assert.deepEqual((await edge.getStatus()).activeStreamsByTransport, { tcpTls: 1, quic: 1 });
  assert.equal((await hub.getStatus()).connectedEdges[0]?.transport, 'quic');
});

test('events tell of the tunnel, its ports and its streams', async (t) => {
  const { hub, edge, target, entry, ports, token } = await startScene(t);
  const [port = 0] = ports;
  await edge.stop();

  const expected = {
    edgeConnected: nextEvent(hub, 'edgeConnected'),
    portsApplied: nextEvent(hub, 'portsApplied'),
    tunnelConnected: nextEvent(edge, 'tunnelConnected'),
    portsAssigned: nextEvent(edge, 'portsAssigned'),
  };
  await edge.start({ token, ...loopback, stunServers: [] });
  const connected = await expected.edgeConnected;
  assert.equal(connected.edgeId, edgeId);
  assert.equal(connected.transport, 'tcpTls');
  const boundPort = { protocol: 'tcp', port, state: 'bound' };
  assert.deepEqual((await expected.portsApplied).ports, [boundPort]);
  const tunnel = await expected.tunnelConnected;
  assert.equal(tunnel.resumed, false);
  assert.equal(tunnel.transport, 'tcpTls');
  const assigned = await expected.portsAssigned;
  assert.deepEqual(assigned.ports, [boundPort]);

  const opened = nextEvent(hub, 'streamOpened');
  const closed = nextEvent(hub, 'streamClosed');
  const openedOnEdge = nextEvent(edge, 'streamOpened');
  const closedOnEdge = nextEvent(edge, 'streamClosed');
  await Promise.all([hub.getStatus(), edge.getStatus()]); // the subscriptions went before these
  const own = (await visit(t, port)).replace(' ', ':');
  const { streamId, id, ...stream } = await opened;
  assert.match(id ?? '', /^[0-9a-f]{16}-[0-9a-f]+$/);
  assert.deepEqual(stream, {
    edgeId,
    clientAddress: own,
    protocol: 'tcp',
    port,
    listenerIp: '127.0.0.1',
    target: `127.0.0.1:${target.port}`,
  });
  assert.deepEqual(await closed, { edgeId, streamId, id, bytesIn: 4, bytesOut: 4, reason: 'finished' });
  const onEdge = await openedOnEdge;
  assert.deepEqual([onEdge.clientAddress, onEdge.id], [own, id]);
  const endOnEdge = await closedOnEdge;
  assert.deepEqual([endOnEdge.reason, endOnEdge.id], ['finished', id]);

  const [added = 0] = await freePorts(1);
  const updated = nextEvent(edge, 'portsUpdated');
  await hub.updateAllowedEdges([
    { ...entry, listenPorts: [...entry.listenPorts, { port: added, targetPort: target.port }] },
  ]);
  const { generation, ports: all } = await updated;
  assert.ok(generation > assigned.generation);
  assert.deepEqual(all.map((status) => status.port).sort(), [port, added].sort());

  const gone = nextEvent(hub, 'edgeDisconnected');
  await edge.stop();
  assert.equal((await gone).edgeId, edgeId);
});

test('a refused config names the field, and nothing is started', async (t) => {
  const hub = new RemoteIngressHub();
  t.after(() => hub.stop());
  const edge = (extra: object) => ({ edges: [{ id: 'a', secret: createSecret(), ...extra }] });
  const refused: [string, string, object][] = [
    ['E_INVALID_CONFIG', 'tunnelPort', { tunnelPort: 65_536 }],
    ['E_INVALID_CONFIG', 'tunelPort', { tunelPort: 1 }],
    ['E_INVALID_CONFIG', 'limits.maxStreamz', { limits: { maxStreamz: 1 } }],
    ['E_INVALID_CONFIG', 'edges[0].id', edge({ id: '' })],
    ['E_INVALID_CONFIG', 'edges[0].secret', edge({ secret: '' })],
    ['E_INVALID_CONFIG', 'edges[0].listenPorts[0]', edge({ listenPorts: [0] })],
    ['E_INVALID_CONFIG', 'edges[0].listenPorts[1]', edge({ listenPorts: [80, '20-10'] })],
    ['E_INVALID_CONFIG', 'edges[0].listenPorts[1]', edge({ listenPorts: ['80-90', { port: 85 }] })],
    [
      'E_INVALID_CONFIG',
      'edges[0].listenPorts[4096]',
      edge({ listenPorts: Array.from({ length: 4_097 }, (_, n) => 2 * n + 1) }),
    ],
    ['E_INVALID_CONFIG', 'edges[0].listenPorts[0].targetPort', edge({ listenPorts: [{ port: 80, targetPort: 0 }] })],
    [
      'E_INVALID_CONFIG',
      'edges[0].listenPorts[0].proxyProtocol',
      edge({ listenPorts: [{ port: 80, proxyProtocol: 'v3' }] }),
    ],
    ['E_INVALID_CONFIG', 'targetHost', { targetHost: '169.254.169.254' }],
    [
      'E_INVALID_CONFIG',
      'tls.certPem: no certificate; certPem is PEM text',
      { tls: { certPem: 'c.pem', keyPem: 'k.pem' } },
    ],
    ['E_INVALID_CONFIG', 'edges[0].listenPortsUdp[1]', edge({ listenPortsUdp: [53, '50-60'] })],
    ['E_INVALID_CONFIG', 'congestionController', { congestionController: 'reno' }],
    ['E_INVALID_CONFIG', 'udpIdleTimeoutSecs', { udpIdleTimeoutSecs: 0 }],
  ];
  for (const [code, field, config] of refused) {
    await assert.rejects(hub.start({ tunnelPort: 0, ...loopback, ...config }), fails(code, field), field);
    await assert.rejects(hub.getStatus(), fails('E_NOT_RUNNING'));
  }

  await hub.start({ tunnelPort: 0, ...loopback });
  await assert.rejects(
    hub.updateAllowedEdges(edge({ listenPorts: [70_000] }).edges),
    fails('E_INVALID_CONFIG', 'edges[0].listenPorts[0]'),
  );
  await assert.rejects(
    hub.updateAllowedEdges(edge({ listenPorts: [{ port: 80, targetHost: '169.254.169.254' }] }).edges),
    fails('E_INVALID_CONFIG', 'edges[0].listenPorts[0].targetHost'),
  );
  await assert.rejects(hub.updateAllowedEdges(undefined as never), fails('E_INVALID_CONFIG', 'edges: is missing'));
  await assert.rejects(
    hub.createConnectionToken('nobody', { hubHost: 'hub.example.com' }),
    fails('E_UNKNOWN_EDGE', 'nobody'),
  );
});

test('a refused edge config has its code', async (t) => {
  const edge = new RemoteIngressEdge();
  t.after(() => edge.stop());
  const parts = { hubHost: '127.0.0.1', edgeId: 'a', secret: createSecret() };
  const refused: [string, string, object][] = [
    ['E_INVALID_TOKEN', '', { token: 'nonsense' }],
    ['E_INVALID_CONFIG', 'secret', { ...parts, secret: undefined }],
    ['E_INVALID_CONFIG', 'hubPins[0]', { ...parts, hubPins: ['short'] }],
    ['E_INVALID_CONFIG', 'allowedPorts.tcp[0]', { ...parts, allowedPorts: { tcp: ['x'] } }],
    ['E_INVALID_CONFIG', 'transportMode', { ...parts, transportMode: 'udp' }],
    ['E_INVALID_CONFIG', 'quicProbeIntervalSecs', { ...parts, quicProbeIntervalSecs: 0 }],
  ];
  for (const [code, field, config] of refused) {
    await assert.rejects(edge.start({ ...loopback, ...config } as never), fails(code, field), `${code} ${field}`);
  }
});

test('a tunnel port that is taken is E_ADDRESS_IN_USE', async (t) => {
  const tunnelPort = await listen(t, createServer());
  await assert.rejects(
    new RemoteIngressHub().start({ tunnelPort, ...loopback }),
    fails('E_ADDRESS_IN_USE', `${tunnelPort}`),
  );
});

test('a listen port that is taken is reported; the others are bound', async (t) => {
  const { hub, edge, entry, ports, target } = await startScene(t);
  const taken = await listen(t, createServer());
  const applied = nextEvent(hub, 'portsApplied');
  await hub.updateAllowedEdges([
    { ...entry, listenPorts: [...entry.listenPorts, { port: taken, targetPort: target.port }] },
  ]);
  const status = (await applied).ports;
  assert.equal(status.find(({ port }) => port === ports[0])?.state, 'bound');
  const failed = status.find(({ port }) => port === taken);
  assert.equal(failed?.state, 'failed');
  assert.equal(failed?.error?.code, 'E_ADDRESS_IN_USE');
  assert.deepEqual((await edge.getStatus()).ports.find(({ port }) => port === taken)?.state, 'failed');
  await visit(t, ports[0]!);
});

test('the same edges again change nothing', async (t) => {
  const { hub, entry, ports } = await startScene(t);
  const socket = await client(t, ports[0]!);
  await roundTrip(socket);
  const unexpected: string[] = [];
  hub.on('portsApplied', () => unexpected.push('portsApplied'));
  hub.on('edgeDisconnected', () => unexpected.push('edgeDisconnected'));
  for (let i = 0; i < 3; i += 1) {
    assert.deepEqual(await hub.updateAllowedEdges([entry]), {
      added: [],
      removed: [],
      changed: [],
      unchanged: [edgeId],
    });
  }
  await roundTrip(socket);
  assert.deepEqual(unexpected, []);
});

test('8,000 edges of three ports are one update, and single changes touch nobody else', async (t) => {
  const { hub, entry, ports } = await startScene(t);
  const socket = await client(t, ports[0]!);
  const others = Array.from({ length: 8_000 }, (_, i) => {
    return { id: `other-${i}`, secret: createSecret(), listenPorts: [443, 8080, { port: 22, targetPort: 2222 }] };
  });
  const change = await hub.updateAllowedEdges([entry, ...others]);
  assert.equal(change.added.length, others.length);
  assert.deepEqual(change.unchanged, [edgeId]);
  const wrong = { ...others[0]!, id: 'wrong', listenPorts: [70_000] };
  await assert.rejects(
    hub.updateAllowedEdges([...others, wrong]),
    fails('E_INVALID_CONFIG', `edges[${others.length}].listenPorts[0]`),
  );
  const upserted = await hub.upsertEdges([{ ...others[0]!, listenPorts: [] }, { ...others[0]!, id: 'one-more' }]);
  assert.deepEqual([upserted.changed, upserted.added], [['other-0'], ['one-more']]);
  const { removed, unknown } = await hub.removeEdges(['other-1', 'nobody']);
  assert.deepEqual([removed, unknown], [['other-1'], ['nobody']]);
  await roundTrip(socket);
});

test('a changed secret cuts that edge within a second', async (t) => {
  const { hub, entry, ports } = await startScene(t);
  const socket = await client(t, ports[0]!);
  await roundTrip(socket);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  const gone = nextEvent(hub, 'edgeDisconnected', 1_000);
  const change = await hub.updateAllowedEdges([{ ...entry, secret: createSecret() }]);
  assert.deepEqual(change.changed, [edgeId]);
  await gone;
  assert.deepEqual((await hub.getStatus()).connectedEdges, []);
  await nextEvent(hub, 'edgeRejected');
  await closed;
});

test('a removed edge is cut within a second and stays out', async (t) => {
  const { hub } = await startScene(t);
  const gone = nextEvent(hub, 'edgeDisconnected', 1_000);
  // The first session to be cut may ask again before the last one is gone.
  const rejected = nextEvent(hub, 'edgeRejected');
  const change = await hub.updateAllowedEdges([]);
  assert.deepEqual(change.removed, [edgeId]);
  await Promise.all([gone, rejected]);
  assert.deepEqual((await hub.getStatus()).connectedEdges, []);
});

test('a rotated secret cuts nothing', async (t) => {
  const { hub, entry, ports } = await startScene(t);
  const socket = await client(t, ports[0]!);
  await roundTrip(socket);
  const next = createSecret();
  await hub.updateAllowedEdges([{ ...entry, nextSecret: next }]);
  await roundTrip(socket);
  await hub.updateAllowedEdges([{ ...entry, secret: next, nextSecret: entry.secret }]);
  await roundTrip(socket);
});

test('changed ports touch only those ports', async (t) => {
  const {
    hub,
    edge,
    entry,
    ports: [kept = 0, removed = 0, added = 0],
  } = await startScene(t, { portCount: 3 });
  const [keptEntry = 0, removedEntry = 0, addedEntry = 0] = entry.listenPorts;
  await hub.updateAllowedEdges([{ ...entry, listenPorts: [keptEntry, removedEntry] }]);
  await eventually('two ports', 5_000, async () => (await edge.getStatus()).listenPorts.length === 2);
  const onKept = await client(t, kept);
  const onRemoved = await client(t, removed);
  await Promise.all([roundTrip(onKept), roundTrip(onRemoved)]);

  const isApplied = (event: IPortsEvent) => event.ports.some(({ port, state }) => port === added && state === 'bound');
  const applied = nextEvent(hub, 'portsApplied', 5_000, isApplied);
  await hub.updateAllowedEdges([{ ...entry, listenPorts: [keptEntry, addedEntry] }]);
  await applied;
  await roundTrip(onKept);
  await roundTrip(onRemoved); // its listener is gone, its stream runs on
  await visit(t, kept);
  await visit(t, added);
  await assert.rejects(client(t, removed), { code: 'ECONNREFUSED' });
});

test('allowedPorts of the edge win over the hub', async (t) => {
  const {
    hub,
    edge,
    ports: [allowed = 0, forbidden = 0],
    entry,
    token,
  } = await startScene(t, { portCount: 2 });
  await edge.stop();
  const applied = nextEvent(hub, 'portsApplied');
  await edge.start({ token, ...loopback, stunServers: [], allowedPorts: { tcp: [allowed] } });
  const { ports } = await applied;
  assert.equal(entry.listenPorts.length, 2);
  assert.equal(ports.find(({ port }) => port === allowed)?.state, 'bound');
  assert.equal(ports.find(({ port }) => port === forbidden)?.error?.code, 'E_PORT_NOT_ALLOWED');
});

for (const end of ['hub', 'edge'] as const) {
  for (const [how, options] of [
    ['timeoutMs', { timeoutMs: 100 }],
    ['signal', { signal: AbortSignal.abort() }],
  ] as const) {
    test(`a stop of the ${end} that ${how} cuts short resets the clients at once`, async (t) => {
      const drainTimeoutSecs = 30;
      const scene = await startScene(t, { hubConfig: { drainTimeoutSecs }, edgeConfig: { drainTimeoutSecs } });
      const socket = await client(t, scene.ports[0]!);
      await roundTrip(socket);
      let failure: NodeJS.ErrnoException | undefined;
      socket.once('error', (error) => (failure = error));
      await scene[end].stop(options);
      await eventually('the client is cut off', 5_000, () => socket.closed);
      // A proper end would make half an answer look whole.
      assert.equal(failure?.code, 'ECONNRESET');
    });
  }
}

test('while it stops, calls are refused with the reason', async (t) => {
  const { hub, ports } = await startScene(t, { hubConfig: { drainTimeoutSecs: 30 } });
  await roundTrip(await client(t, ports[0]!)); // an open stream, for which the drain waits
  const cut = new AbortController();
  const stop = hub.stop({ signal: cut.signal });
  await assert.rejects(hub.getStatus(), fails('E_NOT_RUNNING', 'stopping'));
  cut.abort();
  await stop;
  await assert.rejects(hub.getStatus(), fails('E_NOT_RUNNING', 'not started'));
});

test('a wrong secret is told to both sides', async (t) => {
  const { hub, tunnelPort } = await startScene(t);
  const intruder = new RemoteIngressEdge();
  t.after(() => intruder.stop());
  const rejected = nextEvent(hub, 'edgeRejected');
  const disconnected = nextEvent(intruder, 'tunnelDisconnected');
  await intruder.start({
    hubHost: '127.0.0.1',
    hubPort: tunnelPort,
    edgeId,
    secret: createSecret(),
    ...loopback,
    stunServers: [],
  });
  assert.equal((await rejected).reason, 'authFailed');
  assert.equal((await disconnected).code, 'E_AUTH_FAILED');
  assert.equal((await hub.getStatus()).rejected['authFailed'], 1);
});
