// What the page knows: the last status, and what it has seen since it was opened.
import type { IConnectedEdge, IEdgeList, IEvent, IPortStatus, IStatus, IUnreachableEdge } from './answers.js';
import { Rates } from './rates.js';

const eventsKept = 200;
/** The server sends a status every second while it changes; after this long without one nothing moves. */
const quietMs = 1_600;

export type TEdgeState = 'away' | 'unreachable' | 'portFailed' | 'connected';

export interface IEdge {
  id: string;
  state: TEdgeState;
  connected: IConnectedEdge | null;
  unreachable: IUnreachableEdge | null;
  /** Time since when it is away, where the page saw it go. */
  awaySince: number | null;
  rates: Rates;
}

const order: TEdgeState[] = ['away', 'unreachable', 'portFailed', 'connected'];
const names = new Intl.Collator('en', { numeric: true });

export class Model {
  status: IStatus | undefined;
  readonly edges = new Map<string, IEdge>();
  readonly total = new Rates();
  events: IEvent[] = [];
  /** Edges whose state is another than before, in words to be read out. */
  private changes: string[] = [];
  private sampledAt = 0;
  private refusedAtStart: Record<string, number> | undefined;

  takeStatus(status: IStatus, now: number): void {
    if (this.status && this.status.startedAt !== status.startedAt) this.forgetRun();
    const isFirst = this.status === undefined;
    this.status = status;
    this.sampledAt = now;
    this.refusedAtStart ??= { ...this.refusals() };
    if (status.edge) this.total.add(status.edge.bytesIn, status.edge.bytesOut, now);
    if (status.hub) this.takeEdges(status.hub.connectedEdges, status.hub.unreachableEdges, now, isFirst);
  }

  /** The server says nothing while nothing changes: then nothing has moved either. */
  tick(now: number): boolean {
    if (!this.status || now - this.sampledAt < quietMs) return false;
    this.sampledAt = now - quietMs + 1_000;
    if (this.status.edge) this.total.add(this.status.edge.bytesIn, this.status.edge.bytesOut, now);
    for (const edge of this.edges.values()) {
      if (edge.connected) edge.rates.add(edge.connected.bytesIn, edge.connected.bytesOut, now);
      else edge.rates.zero();
    }
    if (this.status.hub) this.sumRates();
    return true;
  }

  /** Without an answer nothing is known, so a gap must not become one high sample. */
  pause(): void {
    this.total.pause();
    for (const edge of this.edges.values()) edge.rates.pause();
  }

  /** Edges that the hub allows: those that have never come are listed, those that aren't allowed any more aren't. */
  takeAllowed({ edges }: IEdgeList): void {
    const allowed = new Set(edges.map(({ id }) => id));
    for (const [id, edge] of this.edges) if (!allowed.has(id) && !edge.connected) this.edges.delete(id);
    for (const id of allowed) this.edge(id);
  }

  takeEvent(event: IEvent): void {
    if (event.event === 'streamOpened' || event.event === 'streamClosed') return; // they have a table of their own
    if (this.events.some(({ seq }) => seq === event.seq)) return;
    this.events.push(event);
    this.events.sort((a, b) => b.seq - a.seq);
    this.events.length = Math.min(this.events.length, eventsKept);
  }

  /** Those that need attention first. */
  sortedEdges(): IEdge[] {
    return [...this.edges.values()].sort(
      (a, b) => order.indexOf(a.state) - order.indexOf(b.state) || names.compare(a.id, b.id),
    );
  }

  takeChanges(): string[] {
    const changes = this.changes;
    this.changes = [];
    return changes;
  }

  announce(text: string): void {
    this.changes.push(text);
  }

  refusals(): Record<string, number> {
    return this.status?.hub?.rejected ?? this.status?.edge?.rejected ?? {};
  }

  refusedSinceOpened(reason: string): number {
    return (this.refusals()[reason] ?? 0) - (this.refusedAtStart?.[reason] ?? 0);
  }

  private edge(id: string): IEdge {
    let edge = this.edges.get(id);
    if (!edge) {
      edge = { id, state: 'away', connected: null, unreachable: null, awaySince: null, rates: new Rates() };
      this.edges.set(id, edge);
    }
    return edge;
  }

  private takeEdges(connected: IConnectedEdge[], unreachable: IUnreachableEdge[], now: number, isFirst: boolean): void {
    const connectedById = new Map(connected.map((edge) => [edge.edgeId, edge]));
    const unreachableById = new Map(unreachable.map((edge) => [edge.edgeId, edge]));
    for (const id of [...connectedById.keys(), ...unreachableById.keys()]) this.edge(id);
    for (const edge of this.edges.values()) {
      const wasConnected = edge.connected !== null;
      const before = edge.state;
      edge.connected = connectedById.get(edge.id) ?? null;
      edge.unreachable = unreachableById.get(edge.id) ?? null;
      edge.state = stateOf(edge);
      if (edge.connected) {
        edge.awaySince = null;
        edge.rates.add(edge.connected.bytesIn, edge.connected.bytesOut, now);
      } else {
        if (wasConnected) edge.awaySince = Date.now();
        edge.rates.pause();
      }
      if (before !== edge.state && !isFirst) this.changes.push(`Edge ${edge.id}: ${stateWords[edge.state]}`);
    }
    this.sumRates();
  }

  private sumRates(): void {
    const edges = [...this.edges.values()];
    this.total.push(
      edges.reduce((sum, { rates }) => sum + rates.inNow, 0),
      edges.reduce((sum, { rates }) => sum + rates.outNow, 0),
    );
  }

  /** Another process answers now: its events are numbered from the start. */
  private forgetRun(): void {
    this.events = [];
    this.refusedAtStart = undefined;
    this.pause();
  }
}

export const stateWords: Record<TEdgeState, string> = {
  away: 'Away',
  unreachable: 'Unreachable',
  portFailed: 'Port failed',
  connected: 'Connected',
};

function stateOf(edge: IEdge): TEdgeState {
  if (!edge.connected) return edge.unreachable ? 'unreachable' : 'away';
  return edge.connected.ports.some(({ state }) => state === 'failed') ? 'portFailed' : 'connected';
}

/** Neighbouring ports in the same state: a range is one line. */
export interface IPortGroup {
  edgeId: string;
  ports: string;
  first: IPortStatus;
  count: number;
}

export function groupPorts(edgeId: string, ports: IPortStatus[]): IPortGroup[] {
  const groups: { last: IPortStatus; group: IPortGroup }[] = [];
  for (const port of ports) {
    const current = groups.at(-1);
    if (current && port.port === current.last.port + 1 && isAlike(port, current.last)) {
      current.last = port;
      current.group.count += 1;
      current.group.ports = `${current.group.first.port}–${port.port}`;
    } else {
      groups.push({ last: port, group: { edgeId, ports: String(port.port), first: port, count: 1 } });
    }
  }
  return groups.map(({ group }) => group);
}

function isAlike(a: IPortStatus, b: IPortStatus): boolean {
  const { code = '', message = '' } = a.error ?? {};
  return (
    a.protocol === b.protocol &&
    a.state === b.state &&
    a.bindAddress === b.bindAddress &&
    code === (b.error?.code ?? '') &&
    message === (b.error?.message ?? '')
  );
}
