// The status page of a hub or an edge: keeps up to date what the server has rendered.
import type { IEdgeList, IEvent, IStatus, IStreamList } from './answers.js';
import { byId, setState, setText } from './dom.js';
import { EdgesView } from './edges.js';
import { EventsView } from './events.js';
import { Feed, type IListener } from './feed.js';
import { clock } from './format.js';
import { Model } from './model.js';
import { Overview } from './overview.js';
import { PoolsView } from './pools.js';
import { PortsView } from './ports.js';
import { ProblemsView } from './problems.js';
import { RefusalsView } from './refusals.js';
import { StreamsView } from './streams.js';

const tickMs = 1_000;
const announcedAtOnce = 3;

class Page implements IListener {
  private readonly isHub = document.documentElement.dataset['role'] === 'hub';
  private readonly model = new Model();
  private readonly problemsView = new ProblemsView();
  private readonly overview = new Overview();
  private readonly edgesView = this.isHub ? new EdgesView(() => this.renderEdges()) : undefined;
  private readonly poolsView = this.isHub ? new PoolsView() : undefined;
  private readonly portsView = new PortsView(this.isHub);
  private readonly streamsView = new StreamsView(this.isHub);
  private readonly refusalsView = new RefusalsView();
  private readonly eventsView = new EventsView();
  /** Without the allowed edges, those that are away would vanish for a moment. */
  private hasAllowed = !this.isHub;
  private live: boolean | undefined;
  private wasConnected: boolean | undefined;
  private eventsPending = false;

  start(): void {
    new Feed(this, this.isHub).start();
    setInterval(() => this.tick(), tickMs);
  }

  status(status: IStatus): void {
    this.model.takeStatus(status, performance.now());
    const isConnected = status.edge?.connected;
    if (this.wasConnected !== undefined && isConnected !== this.wasConnected) {
      this.model.announce(isConnected ? 'Hub: connected' : 'Hub: away');
    }
    this.wasConnected = isConnected;
    this.render();
  }

  event(event: IEvent): void {
    this.model.takeEvent(event);
    if (this.eventsPending) return; // many that come together are drawn once
    this.eventsPending = true;
    setTimeout(() => {
      this.eventsPending = false;
      this.eventsView.render(this.model.events);
      if (this.model.status?.edge) this.problemsView.render(this.model); // an event may say why the hub is away
    });
  }

  edges(edges: IEdgeList): void {
    this.model.takeAllowed(edges);
    this.hasAllowed = true;
    this.render();
  }

  streams(streams: IStreamList | null): void {
    this.streamsView.render(streams);
  }

  isLive(isLive: boolean): void {
    if (isLive === this.live) return;
    this.live = isLive;
    document.documentElement.dataset['live'] = String(isLive);
    setState(byId('live'), isLive ? 'good' : 'bad', isLive ? 'Live' : 'No connection');
    const alert = byId('alert');
    alert.hidden = isLive;
    const since = `No answer from the admin server since ${clock(Date.now())}.`;
    setText(alert, isLive ? '' : `${since} All figures are from before; the page keeps trying.`);
    if (!isLive) this.model.pause();
  }

  private tick(): void {
    if (this.live === false) return;
    if (this.model.tick(performance.now())) this.render();
    else if (this.model.status) this.overview.age(this.model.status);
  }

  private render(): void {
    const { status } = this.model;
    if (!status || !this.hasAllowed) return;
    this.problemsView.render(this.model);
    this.overview.render(this.model);
    this.refusalsView.render(this.model);
    this.renderEdges();
    this.poolsView?.render(this.model, performance.now());
    if (status.edge) this.portsView.render([{ id: '', ports: status.edge.ports }]);
    this.announce();
    document.documentElement.dataset['ready'] = 'true';
  }

  private renderEdges(): void {
    if (!this.edgesView || !this.model.status) return;
    const edges = this.model.sortedEdges();
    this.edgesView.render(edges);
    this.portsView.render(edges.map(({ id, connected }) => ({ id, ports: connected?.ports ?? [] })));
    const away = edges.filter(({ state }) => state === 'away' || state === 'unreachable').length;
    document.title = `${away > 0 ? `(${away} away) ` : ''}Hub · remoteingress`;
  }

  /** For those who don't see the colours change; many changes at once are one sentence. */
  private announce(): void {
    const changes = this.model.takeChanges();
    if (changes.length === 0) return;
    const more = changes.length - announcedAtOnce;
    const text = changes.slice(0, announcedAtOnce).join('. ');
    setText(byId('announcements'), more > 0 ? `${text}. And ${more} more changes.` : `${text}.`);
  }
}

new Page().start();
