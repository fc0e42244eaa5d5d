const streamsPollMs = 2_000;
const absentPollMs = 60_000;
const edgesPollMs = 30_000;
const answerMs = 5_000;
const retryMs = 2_000;
/** Several edges that come or go together cost one question. */
const edgesPauseMs = 300;
export class Feed {
    source;
    edgesTimer = 0;
    isHub;
    listener;
    constructor(listener, isHub) {
        this.listener = listener;
        this.isHub = isHub;
    }
    start() {
        this.listen();
        void this.pollStreams();
        if (this.isHub)
            void this.pollEdges();
    }
    listen() {
        const source = new EventSource('api/v1/events/stream?status');
        this.source = source;
        source.addEventListener('open', () => {
            this.listener.isLive(true);
            void this.askEvents(); // also those of the time without a connection
            if (this.isHub)
                void this.askEdges();
        });
        source.addEventListener('status', ({ data }) => {
            this.listener.isLive(true);
            this.listener.status(JSON.parse(data));
        });
        source.addEventListener('event', ({ data }) => {
            const event = JSON.parse(data);
            this.listener.event(event);
            if (this.isHub && event.event.startsWith('edge'))
                this.askEdgesSoon();
        });
        source.addEventListener('error', () => {
            this.listener.isLive(false);
            // After an answer that isn't a stream of events the browser gives up.
            if (source.readyState === EventSource.CLOSED)
                setTimeout(() => this.listen(), retryMs);
        });
    }
    async pollStreams() {
        const streams = document.hidden ? undefined : await this.ask('api/v1/streams?limit=50');
        if (streams !== undefined)
            this.listener.streams(streams);
        setTimeout(() => void this.pollStreams(), streams === null ? absentPollMs : streamsPollMs);
    }
    async pollEdges() {
        const isKnown = await this.askEdges();
        setTimeout(() => void this.pollEdges(), isKnown ? edgesPollMs : retryMs);
    }
    askEdgesSoon() {
        if (this.edgesTimer !== 0)
            return;
        this.edgesTimer = setTimeout(() => {
            this.edgesTimer = 0;
            void this.askEdges();
        }, edgesPauseMs);
    }
    async askEdges() {
        const edges = await this.ask('api/v1/edges');
        if (edges)
            this.listener.edges(edges);
        return Boolean(edges);
    }
    async askEvents() {
        const list = await this.ask('api/v1/events');
        for (const event of list?.events ?? [])
            this.listener.event(event);
    }
    /** Null where the server has nothing at the path, nothing where it doesn't answer. */
    async ask(path) {
        try {
            const answer = await fetch(path, { signal: AbortSignal.timeout(answerMs), cache: 'no-store' });
            if (answer.ok)
                return (await answer.json());
            if (answer.status === 404)
                return null;
        }
        catch {
            // A server that is gone: said below.
        }
        if (this.source?.readyState !== EventSource.OPEN)
            this.listener.isLive(false);
        return undefined;
    }
}
