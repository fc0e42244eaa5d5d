// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.
import type { TProxyProtocolTcp } from './ports.js';
import type { TPickReason } from './reasons.js';

/**
 * A pool: targets behind one name, see docs/pools.md.
 *
 * @example
 * const web: IPool = { strategy: 'leastConnections', targets: [{ host: '10.0.0.5', port: 80 }, { host: '10.0.0.6', port: 80 }] };
 */
export interface IPool {
  /**
   * How a target is chosen, see Strategies (docs/pools.md). Default: `"roundRobin"`; `"geo"` for a pool that isn't in
   * the configuration.
   */
  strategy?: TStrategy | undefined;
  /** Targets of the pool, besides those of routing.db, DNS and registrations. Default: `[]`. */
  targets?: IPoolTarget[] | undefined;
  /** Targets that DNS names. Default: none. */
  discover?: IDiscoverConfig | undefined;
  /**
   * Keeps a client at the target that it had, over TCP and UDP alike. Default: none; 600 s for a pool that isn't in the
   * configuration.
   */
  affinity?: IAffinity | undefined;
  /**
   * Further targets that a stream or flow tries where one refuses, fails or is silent. The client notices nothing: its
   * bytes wait. In all a pool retries at most 20 % of its dials and 10 per second. Default: 2. Range: 0 to 8.
   */
  retries?: number | undefined;
  /**
   * Time after which a target that hasn't answered the dial is raced: a second one is dialled as well, and the first to
   * answer gets the stream. 0 turns it off. Unit: ms. Default: 1000.
   */
  tryNextAfterMs?: number | undefined;
  /**
   * TCP only: gives a stream to the next target, with the client's first bytes again, where one resets it before it
   * sends a byte. Safe only for requests that may be carried out twice (docs/pools.md). Default: `false`.
   */
  resetBeforeReply?: boolean | undefined;
  /**
   * Time in which a target that comes back, or joins others, gets from a tenth to all of its share. Unit: s. Default: 0
   * = at once.
   */
  slowStartSecs?: number | undefined;
  /**
   * Targets that may be out because streams to them failed, in percent of the pool; the rest is used whatever happens.
   * Targets that checks or operators take out don't count. Default: 50. Range: 0 to 100.
   */
  maxEjectedPercent?: number | undefined;
  /**
   * Clients that wait for a place where all targets are at their hard limit. Default: none: they are refused at once.
   */
  queue?: IPoolQueue | undefined;
  /** Checks of the targets, besides what streams show. Default: none. */
  check?: IPoolCheck | undefined;
  /** Without `check`, time between two TCP checks of an ejected target. 0 turns them off. Unit: s. Default: 60. */
  recoveryIntervalSecs?: number | undefined;
  /**
   * `"geo"` only: leaves a region whose targets are all at their soft limit, rather than fill them to their hard one.
   * Default: `false`.
   */
  spillAtSoft?: boolean | undefined;
  /**
   * `"ipHash"` only: a client goes to its next target where its own has this much more than the mean load, for instance
   * 1.25. Default: none. Range: from 1.
   */
  boundedLoad?: number | undefined;
  /**
   * UDP flows whose target is dead or fails: `"move"` sends their next datagram to another one, `"stay"` leaves them.
   * Default: `"move"`.
   */
  udpUnhealthy?: TUdpUnhealthy | undefined;
}

/** How a pool chooses among the targets that take streams. */
export type TStrategy =
  /** The nearest to the client by region, of these the least loaded. */
  | 'geo'
  /** Each in turn, by weight. */
  | 'roundRobin'
  /** By chance, by weight. */
  | 'random'
  /** By the client's address, so that each client has its target; IPv6 clients by their /64. */
  | 'ipHash'
  /** The least loaded: streams over soft limit and weight. */
  | 'leastConnections'
  /** The better of two in connect time and streams. */
  | 'leastLatency'
  /** The less loaded of two that are drawn by weight. */
  | 'twoChoices';

/** A target of a pool. */
export interface IPoolTarget {
  /**
   * Name of the target in status, events and commands; its health, its counts and its clients are kept by it. Default:
   * `host:port`, or the host alone without `port`. Range: 1 to 128 bytes, once in its pool.
   */
  id?: string | undefined;
  /** Host of the target, as seen from the hub. Range: name or IP address. */
  host: string;
  /** Port of the target. Default: the listener's. */
  port?: number | undefined;
  /** Region in which it is: `sa`, `us`, `eu`, `ap`, or any other name. Default: none. */
  region?: string | undefined;
  /**
   * Country in which it is. Where any target of a pool has one, the client's own country comes before its region.
   * Default: none. Range: two letters.
   */
  country?: string | undefined;
  /** Share of new streams. 0 gives it no new clients. Default: 1. Range: 0 to 65535. */
  weight?: number | undefined;
  /**
   * Streams and flows that it handles comfortably: load is counted in these. Default: 100, or `hardLimit` where that is
   * less. Range: from 1.
   */
  softLimit?: number | undefined;
  /** Streams and flows that it has at most, exactly. Default: 0 = any number. */
  hardLimit?: number | undefined;
  /**
   * Targets of a higher number get new clients only while all of lower ones are out or full. Default: 0. Range: 0 to
   * 255.
   */
  priority?: number | undefined;
}

/** A client keeps its target while it comes again in time. */
export interface IAffinity {
  /**
   * How long a client's target is kept after its last new stream or flow. Unit: s. Default: 600. Range: 1 to 604,800.
   */
  ttlSecs?: number | undefined;
}

/** Clients that wait for a place at a target. */
export interface IPoolQueue {
  /** Clients that may wait. Default: 0 = none. */
  max?: number | undefined;
  /** How long each may wait. Unit: s. Default: 5. Range: from 1. */
  timeoutSecs?: number | undefined;
}

/** Checks of a pool's targets, see docs/pools.md. */
export interface IPoolCheck {
  /** `"tcp"` connects, `"http"` sends a GET, `"udp"` sends a datagram and expects another. */
  type: TCheckKind;
  /** Port to check. Default: the target's, which needs one then. */
  port?: number | undefined;
  /** `"http"`: path of the GET. Default: `"/"`. Range: begins with a slash, without spaces or control characters. */
  path?: string | undefined;
  /** `"http"`: value of the Host header. Default: the target's host. */
  host?: string | undefined;
  /**
   * `"http"`: statuses that are good. A redirect isn't followed. Default: `"200-399"`. Range: a status or two with a
   * hyphen, from 100 to 599.
   */
  status?: string | undefined;
  /** `"http"`: text that the first 16 KiB of the body must have. Default: none. Range: 1 to 1,024 bytes. */
  text?: string | undefined;
  /** `"udp"`: bytes of the datagram, in hexadecimal. Default: none: an empty datagram. Range: at most 1,024 bytes. */
  send?: string | undefined;
  /**
   * `"udp"`: bytes with which the answer begins, in hexadecimal. Without them anything would count as good. Default:
   * must be given. Range: 1 to 1,024 bytes.
   */
  expect?: string | undefined;
  /**
   * Pause between two checks of a target, ± 10 %. While its state is about to change it is 1 s at most. Unit: s.
   * Default: 10. Range: from 1.
   */
  intervalSecs?: number | undefined;
  /** A target that answers later has failed the check. Unit: s. Default: 2. Range: from 1. */
  timeoutSecs?: number | undefined;
  /** Failed checks in a row after which a target is down. Default: 3. Range: from 1. */
  fall?: number | undefined;
  /** Good checks in a row after which it is up again. Default: 2. Range: from 1. */
  rise?: number | undefined;
  /**
   * PROXY header that goes ahead, with the hub as its own client. Over UDP `"v1"` and `"v2"` are `"firstDatagram"`.
   * Default: that of the first port (docs/pools.md) that names the pool.
   */
  proxyProtocol?: TProxyProtocolTcp | undefined;
}

/** How a target is asked. */
export type TCheckKind =
  /** It accepts a connection. */
  | 'tcp'
  /** It answers a GET with a status that is wanted. */
  | 'http'
  /** It answers a datagram with the bytes that are expected. */
  | 'udp';

/** A name of DNS whose records are targets, see docs/pools.md. */
export interface IDiscoverConfig {
  /** Name to ask for, such as `_web._tcp.internal`. Range: DNS name. */
  name: string;
  /** `"address"` asks for A and AAAA, `"srv"` for SRV. Default: `"address"`. */
  type?: TDiscoverKind | undefined;
  /** Port of targets that addresses name; SRV has its own. Default: the listener's. */
  port?: number | undefined;
  /**
   * How long the targets stay while DNS says that the name has no records or doesn't exist. While it gives no answer,
   * or an error, they stay without end. Unit: s. Default: 300.
   */
  holdSecs?: number | undefined;
  /**
   * Servers to ask for `name`. Host names in SRV records are looked up by the system's resolver, not by these. Default:
   * the system's. Range: `address:port`.
   */
  servers?: string[] | undefined;
}

/** The type of the records that DNS is asked for. */
export type TDiscoverKind =
  /** A and AAAA: one target for each address. */
  | 'address'
  /** SRV: hosts with their ports, priorities and weights. */
  | 'srv';

/** The fate of UDP flows whose target is dead or fails. */
export type TUdpUnhealthy =
  /** They go over to another target. */
  | 'move'
  /** They stay until they end. */
  | 'stay';

/** Names of pools, by what a change did to them. */
export interface IPoolsChange {
  /** Pools that weren't there before. */
  added: string[];
  /** Pools that are there no more. */
  removed: string[];
  /** Pools of which something has changed. */
  changed: string[];
  /** Pools that are as before: nothing of them was touched. */
  unchanged: string[];
}

/** State of a pool. */
export interface IPoolStatus {
  /** Name of the pool. */
  name: string;
  /** How it chooses. */
  strategy: TStrategy;
  /** Streams and flows that its targets have now. */
  activeStreams: number;
  /** Streams and flows that were given a target, each counted once. */
  totalStreams: number;
  /** The same by why they got that target, see Reasons in `picks`. A reason that hasn't occurred is absent. */
  picks: Partial<Record<TPickReason, number>>;
  /** Dials beyond the first of a stream. */
  retries: number;
  /** Clients that wait for a place. */
  waiting: number;
  /** Clients that came back to the target that they had. */
  affinityHits: number;
  /** Clients whose target was gone, out or full, so that they got another one. */
  affinityBroken: number;
  /** Streams and flows that got no target, because the pool has none. */
  refusedEmpty: number;
  /** The same, because all targets were full. */
  refusedFull: number;
  /** The same, because no target takes streams, or those that were dialled failed. */
  refusedUnhealthy: number;
  /** Its lookups by DNS; null without `discover`. */
  discovery: IDiscoveryStatus | null;
  /** The targets, in the order of their ids. */
  targets: ITargetStatus[];
}

/** State of a target. */
export interface ITargetStatus {
  /** Id of the target in its pool. */
  id: string;
  /** Host of the target. */
  host: string;
  /** Port of the target; null: the listener's. */
  port: number | null;
  /** Where it comes from. */
  source: TTargetSource;
  /** Its region, if it has one. */
  region: string | null;
  /** Its country, if it has one. */
  country: string | null;
  /** `up` if it takes streams, else the reason why not. */
  state: TTargetState;
  /** State by the word of an operator, or of its row. */
  admin: TTargetAdmin;
  /** Time until it is tried again; null unless it is ejected. Unit: ms. */
  retryInMs: number | null;
  /** Failures in a row. */
  failures: number;
  /**
   * Why its last check failed, such as `refused` or `status 500, not 200-399`; null if that was good, or it isn't
   * checked.
   */
  checkError: string | null;
  /** Streams and flows that it has now. */
  activeStreams: number;
  /**
   * Streams and flows that it was chosen for so far, also those that failed. A stream that tries two targets counts at
   * both.
   */
  totalStreams: number;
  /** Those of them that failed. */
  failedStreams: number;
  /**
   * Time that a connect takes, over UDP the time to a flow's first answer: a slower one counts at once, faster ones
   * little by little; null before the first. Unit: ms.
   */
  connectMs: number | null;
  /** Share of new streams, as it is configured. */
  weight: number;
  /** The same while it starts slowly. */
  effectiveWeight: number;
  /** Streams that it handles comfortably. */
  softLimit: number;
  /** Streams that it has at most; 0: any number. */
  hardLimit: number;
  /** Targets of a higher number get new clients only while all of lower ones are out or full. */
  priority: number;
}

/** State of a pool's lookups by DNS. */
export interface IDiscoveryStatus {
  /** Name that is looked up. */
  name: string;
  /** How far the targets can be relied on. */
  state: TDiscoveryState;
  /** Why the last lookup gave nothing; null if it did. */
  error: string | null;
  /** Records that are no targets, since there are more than 256. */
  leftOut: number;
}

/** How far the targets that DNS names can be relied on. */
export type TDiscoveryState =
  /** No lookup has ended well yet, and there are no targets. */
  | 'unanswered'
  /** The targets are those of the last lookup. */
  | 'current'
  /** The last lookup gave nothing; the targets are those of an earlier one. */
  | 'held'
  /** The name has had no records for longer than `holdSecs`, and its targets are gone. */
  | 'emptied';

/** Where a target comes from. */
export type TTargetSource =
  /** The configuration, or a change of it at run time. */
  | 'config'
  /** A row of edgeProxy's database. */
  | 'routingDb'
  /** An answer of DNS. */
  | 'dns'
  /** It has registered itself. */
  | 'registered';

/** A target's state by an operator's word. */
export type TTargetAdmin =
  /** It takes streams. */
  | 'active'
  /** It takes no new clients; those that it has may come back while their affinity lasts. */
  | 'drain'
  /** It takes no streams. */
  | 'dead';

/** `up` if a target takes streams, else the reason why not. */
export type TTargetState =
  /** It takes streams. */
  | 'up'
  /** It has as many streams as its `hardLimit` lets it have. */
  | 'full'
  /** Its weight is 0: it takes no new clients. */
  | 'weightless'
  /** An operator has said `drain`. */
  | 'drain'
  /** DNS names it no more: it takes no new clients, and is removed within 30 s. */
  | 'leaving'
  /** An operator has said `dead`. */
  | 'dead'
  /** Its checks fail, or its row has `healthy` 0. */
  | 'down'
  /** Streams to it have failed; it is left alone for a while. */
  | 'ejected'
  /** It was left alone and is tried with one stream at a time, which is on its way. */
  | 'trial';

/** Parameters of `setTargetState`. */
export interface ITargetStateParams {
  /** Name of the pool. */
  pool: string;
  /** Id of the target. */
  target: string;
  /** State of the target from now on. */
  state: TTargetAdmin;
  /** With `"dead"`, resets the streams and ends the flows that it has, within a second. Default: `false`. */
  cut?: boolean | undefined;
}

/** Parameters of `explainPool`. */
export interface IExplainParams {
  /** Name of the pool. */
  pool: string;
  /** Address of the client. */
  client: string;
  /** Edge that the client comes to. Default: none: the hub's own region counts. */
  edgeId?: string | undefined;
}

/**
 * Why a client would get which target: a dry run that changes nothing.
 *
 * @example
 * const { targets } = await hub.explainPool({ pool: 'web', client: '192.0.2.1' });
 */
export interface IPoolExplained {
  /** Name of the pool. */
  pool: string;
  /** How it chooses. */
  strategy: TStrategy;
  /** Address of the client. */
  client: string;
  /** Country of the client; null if it isn't known. */
  country: string | null;
  /** Region of the client; null if it isn't known. */
  region: string | null;
  /** Edge that the client comes to; null if none was named. */
  edgeId: string | null;
  /** Region of that edge, or of the hub; null if neither has one. */
  localRegion: string | null;
  /** Target that the client had and keeps; null if none. */
  bound: string | null;
  /** Every target, the best first. */
  targets: ITargetExplained[];
}

/** Reasons for and against a target. */
export interface ITargetExplained {
  /** Id of the target. */
  id: string;
  /** `up` if it takes this client's stream, else the reason why not. */
  state: TTargetState;
  /** Time until it is tried again; null unless it is ejected. Unit: ms. */
  retryInMs: number | null;
  /** Targets of a higher number get new clients only while all of lower ones are out or full. */
  priority: number;
  /** Distance from the client, 0 is the nearest; null unless the strategy is `"geo"`. */
  tier: number | null;
  /** Its streams over its soft limit and weight. */
  load: number;
  /** Score by which `"geo"` chooses, the lowest first: 100 times the tier, and the load; null with other strategies. */
  score: number | null;
  /** Streams and flows that it has now. */
  activeStreams: number;
}

/** State of edgeProxy's database. */
export interface IRoutingDbStatus {
  /** Path of the file. */
  path: string;
  /** Number of the version in force, which counts up with each change; 0 before the first. */
  revision: number;
  /** Rows in force. */
  rows: number;
  /** Rows that are refused, at most 20 of them. */
  refused: IRefusedRow[];
  /** Rows that are refused. */
  refusedRows: number;
  /** Why the file can't be read, so that an earlier version stays in force; null while it can. */
  error: string | null;
}

/** A row of edgeProxy's database that can't be a target. */
export interface IRefusedRow {
  /** Its id; null if it has none. */
  id: string | null;
  /** Its place in the table, from 1. */
  row: number;
  /** What is wrong with it, as a sentence. */
  reason: string;
}

/** State of the database of countries. */
export interface IGeoStatus {
  /** Path of the file. */
  database: string;
  /** Time at which its data were put together; null before it was read. Unit: ms since 1970. */
  built: number | null;
  /** Networks whose country it knows; null before it was read. */
  networks: number | null;
  /** Why the file can't be read, so that earlier data stay in force; null while it can. */
  error: string | null;
}

/** Where clients are, by the country of their address, see docs/pools.md. */
export interface IGeoConfig {
  /**
   * Database in MaxMind's format that tells the country of an address; none is shipped. It is read again within 0.5 s
   * of a change; a file that is broken changes nothing. Default: none. Range: path, not empty.
   */
  database?: string | undefined;
  /**
   * Regions of countries, by their two letters, where they aren't those of the default table (docs/pools.md): `{ "TR":
   * "eu" }`. Default: `{}`.
   */
  regions?: Record<string, string> | undefined;
  /**
   * Region of clients whose country isn't known. Default: none: only the region of the edge that they came to counts.
   */
  fallbackRegion?: string | undefined;
}

/** Targets from edgeProxy's database, see docs/migrate-edgeproxy.md. */
export interface IRoutingDbConfig {
  /**
   * SQLite file with a table `backends`. It is only read; a change of it is in force within 0.5 s. A row that can't be
   * a target is refused alone, and a file that can't be read changes nothing. Range: path, not empty.
   */
  path: string;
  /**
   * PROXY header for targets of rows where the port doesn't give one. Over UDP `"v1"` and `"v2"` are `"firstDatagram"`.
   * Default: `"none"`, as edgeProxy has it.
   */
  proxyProtocol?: TProxyProtocolTcp | undefined;
}
