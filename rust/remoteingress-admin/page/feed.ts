// The page's line to its admin server: server-sent events for what changes, a question every two seconds for streams.
import type { IEdgeList, IEvent, IEventList, IStatus, IStreamList } from './answers.js';

const streamsPollMs = 2_000;
const absentPollMs = 60_000;
const edgesPollMs = 30_000;
const answerMs = 5_000;
const retryMs = 2_000;
/** Several edges that come or go together cost one question. */
const edgesPauseMs = 300;

export interface IListener {
  status(status: IStatus): void;
  event(event: IEvent): void;
  edges(edges: IEdgeList): void;
  /** Null where the server has no such list. */
  streams(streams: IStreamList | null): void;
  /** False as soon as the server doesn't answer any more. */
  isLive(isLive: boolean): void;
}

export class Feed {
  private source: EventSource | undefined;
  private edgesTimer = 0;
  private isHub: boolean;
  private readonly listener: IListener;

  constructor(listener: IListener, isHub: boolean) {
    this.listener = listener;
    this.isHub = isHub;
  }

  start(): void {
    this.listen();
    void this.pollStreams();
    if (this.isHub) void this.pollEdges();
  }

  private listen(): void {
    const source = new EventSource('api/v1/events/stream?status');
    this.source = source;
    source.addEventListener('open', () => {
      this.listener.isLive(true);
      void this.askEvents(); // also those of the time without a connection
      if (this.isHub) void this.askEdges();
    });
    source.addEventListener('status', ({ data }: MessageEvent<string>) => {
      this.listener.isLive(true);
      this.listener.status(JSON.parse(data) as IStatus);
    });
    source.addEventListener('event', ({ data }: MessageEvent<string>) => {
      const event = JSON.parse(data) as IEvent;
      this.listener.event(event);
      if (this.isHub && event.event.startsWith('edge')) this.askEdgesSoon();
    });
    source.addEventListener('error', () => {
      this.listener.isLive(false);
      // After an answer that isn't a stream of events the browser gives up.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.listen(), retryMs);
    });
  }

  private async pollStreams(): Promise<void> {
    const streams = document.hidden ? undefined : await this.ask<IStreamList>('api/v1/streams?limit=50');
    if (streams !== undefined) this.listener.streams(streams);
    setTimeout(() => void this.pollStreams(), streams === null ? absentPollMs : streamsPollMs);
  }

  private async pollEdges(): Promise<void> {
    const isKnown = await this.askEdges();
    setTimeout(() => void this.pollEdges(), isKnown ? edgesPollMs : retryMs);
  }

  private askEdgesSoon(): void {
    if (this.edgesTimer !== 0) return;
    this.edgesTimer = setTimeout(() => {
      this.edgesTimer = 0;
      void this.askEdges();
    }, edgesPauseMs);
  }

  private async askEdges(): Promise<boolean> {
    const edges = await this.ask<IEdgeList>('api/v1/edges');
    if (edges) this.listener.edges(edges);
    return Boolean(edges);
  }

  private async askEvents(): Promise<void> {
    const list = await this.ask<IEventList>('api/v1/events');
    for (const event of list?.events ?? []) this.listener.event(event);
  }

  /** Null where the server has nothing at the path, nothing where it doesn't answer. */
  private async ask<T>(path: string): Promise<T | null | undefined> {
    try {
      const answer = await fetch(path, { signal: AbortSignal.timeout(answerMs), cache: 'no-store' });
      if (answer.ok) return (await answer.json()) as T;
      if (answer.status === 404) return null;
    } catch {
      // A server that is gone: said below.
    }
    if (this.source?.readyState !== EventSource.OPEN) this.listener.isLive(false);
    return undefined;
  }
}
