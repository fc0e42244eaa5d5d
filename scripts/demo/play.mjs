// The demo itself: builds the scene, shows what it does, stays up, and leaves nothing behind.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSecret, RemoteIngressEdge, RemoteIngressHub } from '@serve.zone/remoteingress';
import { ask, askUdp, startTraffic } from './client.mjs';
import { startTarget } from './target.mjs';
import { startUdpTarget } from './udptarget.mjs';

const color = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code) => (text) => (color ? `\x1b[${code}m${text}\x1b[0m` : text);
const [bold, dim, green, red] = [paint(1), paint(2), paint(32), paint(31)];

/** On loopback an edge is connected within milliseconds; beyond this something is broken. */
const connectTimeoutMs = 10_000;

const say = (text = '') => console.log(text);
const row = (name, text) => say(`  ${bold(name.padEnd(8))}${text}`);

export async function playDemo(seconds) {
  const interrupted = new AbortController();
  const onSignal = () => {
    if (interrupted.signal.aborted) process.exit(130); // asked twice: at once
    interrupted.abort();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);

  const cleanUps = [];
  const onStop = (cleanUp) => cleanUps.unshift(cleanUp);
  try {
    const scene = await build(onStop);
    for (const address of ['127.0.0.1', '127.0.0.2', '127.1.2.3']) await show(scene, address, interrupted.signal);
    await showUdp(scene, '127.0.0.2', interrupted.signal);
    say(`\n  The same over QUIC (transportMode: 'quic'), after a restart of the edge:\n`);
    await scene.edge.stop();
    await connectEdge(scene, { transportMode: 'quic' });
    await show(scene, '127.0.0.2', interrupted.signal);
    await showUdp(scene, '127.0.0.2', interrupted.signal);
    say(`\n  The other way round, as behind carrier-grade NAT: the hub dials the edge.\n`);
    await turnRound(scene);
    await show(scene, '127.0.0.2', interrupted.signal);
    await showUdp(scene, '127.0.0.2', interrupted.signal);
    await stayUp(scene, seconds, interrupted.signal, onStop);
  } catch (error) {
    if (interrupted.signal.aborted) return; // what was under way has failed because of that
    say(`\n  ${red('✗')} ${error.code ? `${error.code}: ` : ''}${error.message}`);
    process.exitCode = 1;
  } finally {
    for (const cleanUp of cleanUps) await cleanUp();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    say(dim('\n  stopped: hub, edge and targets are gone\n'));
  }
}

async function build(onStop) {
  say(`\n  ${bold('client ──► edge ══ one encrypted tunnel ══► hub ──► target')}\n`);

  const targets = new Map();
  for (const id of ['a', 'b', 'c']) targets.set(id, await startTarget());
  onStop(() => Promise.all([...targets.values()].map((target) => target.stop())));
  const udpTarget = await startUdpTarget();
  onStop(() => udpTarget.stop());
  const ports = [...targets].map(([id, target]) => `${id} :${target.port}`).join(', ');
  row('targets', `three HTTP servers in a pool (${ports}) and a UDP server (:${udpTarget.port}); all read the PROXY header`);

  const stateDir = mkdtempSync(join(tmpdir(), 'remoteingress-demo-'));
  onStop(() => rmSync(stateDir, { recursive: true, force: true }));
  const hub = showErrors('hub', new RemoteIngressHub());
  onStop(() => hub.stop());
  const { tunnelPort } = await hub.start({
    tunnelPort: 0,
    bindAddress: '127.0.0.1',
    stateDir,
    drainTimeoutSecs: 1,
    pools: {
      // A target that has failed is looked at every second, so that the demo needn't wait for a minute.
      web: {
        recoveryIntervalSecs: 1,
        // A target that leaves resets those that it hasn't accepted yet; these requests may go to another one.
        resetBeforeReply: true,
        targets: [...targets].map(([id, { port }]) => ({ id, host: '127.0.0.1', port })),
      },
    },
  });
  row('hub', `waits for edges at 127.0.0.1:${tunnelPort}`);

  const [port, udpPort] = await Promise.all([freePort(), freeUdpPort()]);
  const listenPorts = [{ port, pool: 'web' }];
  const listenPortsUdp = [{ port: udpPort, targetPort: udpTarget.port, proxyProtocol: 'everyDatagram' }];
  const entry = { id: 'demo-edge', secret: createSecret(), listenPorts, listenPortsUdp, stunIntervalSecs: 0 };
  await hub.updateAllowedEdges([entry]);
  const token = await hub.createConnectionToken('demo-edge', { hubHost: '127.0.0.1' });

  const edge = showErrors('edge', new RemoteIngressEdge());
  onStop(() => edge.stop());
  const scene = { hub, entry, edge, token, port, udpPort, targets };
  await connectEdge(scene);
  row('edge', `connected, listens for clients at ${green(`http://127.0.0.1:${port}/`)} and at UDP port ${udpPort}`);

  say(`\n  An edge needs nothing but this token (it holds the hub's address and key, and the edge's secret):\n`);
  say(`  ${dim(token)}\n`);
  return scene;
}

/** Lets the hub dial: the edge gets another token, which says where it listens for its hub. */
async function turnRound(scene) {
  const { hub, edge, entry } = scene;
  await edge.stop();
  const dial = { host: '127.0.0.1', port: await freePort() };
  await hub.updateAllowedEdges([{ ...entry, dial }]);
  scene.token = await hub.createConnectionToken(entry.id);
  await connectEdge(scene);
}

/** Starts the edge and waits until its ports are open. */
async function connectEdge({ edge, token }, settings = {}) {
  const assigned = once(edge, 'portsAssigned', { signal: AbortSignal.timeout(connectTimeoutMs) });
  assigned.catch(() => {}); // where the start fails, nobody waits for it
  await edge.start({ token, bindAddress: '127.0.0.1', stunServers: [], drainTimeoutSecs: 1, ...settings });
  const [{ ports }] = await assigned.catch(() => {
    throw new Error("the edge hasn't reached its hub in time");
  });
  const failed = ports.find(({ state }) => state !== 'bound');
  if (failed) throw new Error(`the edge can't listen on port ${failed.port}: ${failed.error?.message}`);
}

/** Nothing should go wrong here; if it does, its reason belongs on the screen. */
function showErrors(name, engine) {
  engine.on('log', ({ level, message }) => {
    if (level === 'error') say(`  ${red('!')} ${name}: ${message}`);
  });
  return engine;
}

/** A real request through the tunnel; the target must have seen the client's own address and port. */
async function show({ port }, address, interrupted) {
  const { status, text, seen, own } = await ask(port, address, { signal: interrupted }).catch((error) => {
    throw interrupted.aborted ? error : new Error(`no answer to a request from ${address}: ${error.message}`);
  });
  if (status !== 200 || seen !== own) throw new Error(`the target saw ${seen}, the client was ${own}`);
  say(`  ${green('✓')} request from ${own.padEnd(18)} target answers: ${text.trim()}`);
}

/** The same with a datagram. */
async function showUdp({ udpPort }, address, interrupted) {
  const { text, own } = await askUdp(udpPort, address, 'hello', interrupted).catch((error) => {
    throw interrupted.aborted ? error : new Error(`no answer to a datagram from ${address}: ${error.message}`);
  });
  if (!text.startsWith(`You are ${own} `)) throw new Error(`the target says: ${text}; the client was ${own}`);
  say(`  ${green('✓')} datagram from ${own.padEnd(17)} target answers: ${text}`);
}

/** When target b leaves, and comes back; in a short demo it doesn't. */
const leavesAt = 2;
const returnsAt = 5;

async function stayUp({ hub, edge, port, targets }, seconds, interrupted, onStop) {
  const traffic = startTraffic(port);
  onStop(() => traffic.stop());
  const end = seconds === Infinity ? 'until Ctrl-C' : `for ${seconds} s`;
  say(`\n  Now with steady traffic ${end}; try \`curl http://127.0.0.1:${port}/\` yourself.\n`);

  let last = [await edge.getStatus(), await hub.getStatus()];
  for (let second = 1; second <= seconds && (await tick(interrupted)); second += 1) {
    const now = [await edge.getStatus(), await hub.getStatus()];
    say(`  ${liveLine(second, last, now)}`);
    last = now;
    if (second === leavesAt) {
      await targets.get('b').leave();
      say(dim('         target b has left: its clients go to a and c'));
    }
    if (second === returnsAt) {
      targets.set('b', await startTarget(targets.get('b').port));
      say(dim('         target b is back'));
    }
  }
  const [failure] = traffic.failures;
  if (failure) throw new Error(`${traffic.failures.length} requests failed, the first: ${failure}`);
}

function liveLine(second, [last, hubBefore], [now, hubNow]) {
  const inward = bytes(now.bytesIn - last.bytesIn);
  const outward = bytes(now.bytesOut - last.bytesOut);
  const rtt = now.rttMs === null ? '–' : `${now.rttMs.toFixed(2)} ms`;
  return [
    dim(`${second} s`.padStart(6)),
    `streams: ${bold(String(now.activeStreams).padStart(2))} open, ${`${now.totalStreams} in all`.padEnd(12)}`,
    `in ${bold(inward)}/s`,
    `out ${bold(outward)}/s`,
    `round trip ${bold(rtt)}`,
    targetsLine(hubBefore, hubNow),
  ].join(dim(' │ '));
}

/** The pool's targets: how many streams each got in the last second, or why it gets none. */
function targetsLine({ pools: [before] }, { pools: [now] }) {
  const part = ({ id, state, totalStreams }) => {
    const share = totalStreams - (before.targets.find((one) => one.id === id)?.totalStreams ?? 0);
    return state === 'up' ? `${green('●')} ${id} ${String(share).padStart(2)}/s` : `${red('○')} ${id} ${state}`;
  };
  return now.targets.map(part).join('  ');
}

function bytes(count) {
  const text = count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(2)} MB`;
  return text.padStart(9);
}

/** A second later true, after an interruption false. */
function tick(interrupted) {
  return new Promise((resolve) => {
    if (interrupted.aborted) return void resolve(false);
    const onAbort = () => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      interrupted.removeEventListener('abort', onAbort);
      resolve(true);
    }, 1_000);
    interrupted.addEventListener('abort', onAbort, { once: true });
  });
}

/** A port that the kernel has just given out; the edge binds it in a moment. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The same for UDP. */
async function freeUdpPort() {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  await new Promise((resolve) => socket.close(resolve));
  return port;
}
