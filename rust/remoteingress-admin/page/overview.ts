// The figures at the top, and on an edge the facts about its hub.
import type { IEdgeStatus, IStatus } from './answers.js';
import { byId, setClass, setState, setText } from './dom.js';
import { setFacts } from './edges.js';
import { count, counted, duration, milliseconds, transport } from './format.js';
import type { Model } from './model.js';
import { sparkline } from './sparkline.js';

export class Overview {
  private readonly in = sparkline(byId('tile-in'), 'in');
  private readonly out = sparkline(byId('tile-out'), 'out');

  render(model: Model): void {
    const { status } = model;
    if (!status) return;
    this.in(model.total.in);
    this.out(model.total.out);
    setText(byId('version'), status.version);
    this.age(status);
    const refused = Object.values(model.refusals()).reduce((sum, times) => sum + times, 0);
    setText(byId('tile-refused'), count(refused));
    if (status.hub) this.renderHub(model);
    if (status.edge) this.renderEdge(status.edge);
  }

  age(status: IStatus): void {
    setText(byId('uptime'), duration(Date.now() - status.startedAt));
  }

  private renderHub(model: Model): void {
    const edges = [...model.edges.values()];
    const connected = edges.flatMap((edge) => edge.connected ?? []);
    setText(byId('tile-edges'), count(connected.length));
    setText(byId('tile-edges-note'), `of ${counted(edges.length, 'edge')}`);
    setClass(byId('tile-edges-box'), connected.length < edges.length ? 'tile alarming' : 'tile');
    const streams = connected.reduce((sum, edge) => sum + edge.activeStreams, 0);
    const flows = connected.reduce((sum, edge) => sum + edge.udp.activeFlows, 0);
    setText(byId('tile-streams'), count(streams));
    setText(byId('tile-streams-note'), `and ${counted(flows, 'UDP flow')}`);
    const failed = connected.reduce((sum, { ports }) => sum + ports.filter(({ state }) => state === 'failed').length, 0);
    setText(byId('tile-failed'), count(failed));
    setClass(byId('tile-failed-box'), failed > 0 ? 'tile warning' : 'tile');
  }

  private renderEdge(edge: IEdgeStatus): void {
    setState(byId('hub-state'), edge.connected ? 'good' : 'bad', edge.connected ? 'Connected' : 'Away');
    setText(byId('tile-rtt'), milliseconds(edge.rttMs));
    setText(byId('tile-rtt-note'), edge.connected ? `over ${transport(edge.transport)}` : 'no session');
    setText(byId('tile-streams'), count(edge.activeStreams));
    setText(byId('tile-streams-note'), `and ${counted(edge.udp.activeFlows, 'UDP flow')}`);
    setText(byId('tile-held'), count(edge.heldClients));
    setClass(byId('tile-held-box'), edge.heldClients > 0 ? 'tile warning' : 'tile');
    setFacts(byId('hub-facts'), hubFacts(edge));
  }
}

function hubFacts(edge: IEdgeStatus): [string, string][] {
  const open = edge.activeStreamsByTransport;
  const facts: [string, string][] = [
    ['Address', edge.hubAddress ?? 'none: the hub dials'],
    ['Transport', transport(edge.transport)],
    ['Round trip', milliseconds(edge.rttMs)],
    ['Sessions', count(edge.sessions)],
    ['Reconnects', `${count(edge.reconnects)}, resumed ${count(edge.resumed)}`],
    ['Dialled by', edge.dialledBy],
    ['Public address', edge.publicIp ?? 'unknown'],
    ['Streams', `${count(open.tcpTls)} over TLS, ${count(open.quic)} over QUIC, ${count(edge.totalStreams)} in all`],
    ['UDP datagrams', `${count(edge.udp.datagramsIn)} in, ${count(edge.udp.datagramsOut)} out`],
  ];
  if (edge.transportReason) facts.push(['Last change of transport', edge.transportReason]);
  if (edge.proxy) facts.push(['Proxy', edge.proxy]);
  for (const [reason, dropped] of Object.entries(edge.udp.dropped)) {
    facts.push(['Datagrams dropped', `${count(dropped)} ${reason}`]);
  }
  return facts;
}
