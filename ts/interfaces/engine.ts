// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.
import type { TProtocol, TTransport } from './reasons.js';

/** How the end that dials chooses the transport of the tunnel. */
export type TTransportMode =
  /** TLS over TCP. */
  | 'tcpTls'
  /** QUIC over UDP, and nothing else. */
  | 'quic'
  /** QUIC where it gets through, else TLS over TCP; back to QUIC when that works again. */
  | 'quicWithFallback';

/** Streams that are open now, by transport. */
export interface IStreamsByTransport {
  /** Streams over TLS. */
  tcpTls: number;
  /** Streams over QUIC. */
  quic: number;
}

/** Sessions that have a connection, by its transport. */
export interface ISessionsByTransport {
  /** Sessions over TLS. */
  tcpTls: number;
  /** Sessions over QUIC. */
  quic: number;
}

/** Bytes that wait to be sent into the tunnel, by their place in the order of sending. */
export interface IQueuedBytes {
  /** Control messages, which go ahead of streams. */
  control: number;
  /** Datagrams, each with 64 bytes beside its own. They wait for at most 500 ms. */
  datagrams: number;
  /** Payload of new and ordinary streams. */
  data: number;
  /** Payload of streams that have moved much for long: they go last, with a guaranteed share. */
  sustained: number;
}

/** Memory that streams and their buffers may have, and have. */
export interface IMemoryBudget {
  /** Bytes that the workers have taken of the budget; what they keep in reserve, up to 2 MiB each, is among them. */
  usedBytes: number;
  /** The whole budget in bytes. */
  limitBytes: number;
}

/** The method by which QUIC finds out how fast an end may send. */
export type TCongestionController =
  /** By loss, as TCP does (RFC 9438). */
  | 'cubic'
  /** By rate and round trip: half the latency on a line that loses packets, but experimental. */
  | 'bbr';

/** How lines of the log look. */
export type TLogFormat =
  /** For people. */
  | 'text'
  /** For programs. */
  | 'json';

/** A server of health, metrics, status and changes over HTTP, see docs/admin.md. */
export interface IAdminConfig {
  /**
   * Unix socket (a path with a `/`) that only this process's user may use, or an address with its port. With port 0 the
   * system chooses one, which the log tells. Range: path of at most 107 bytes, or `address:port`.
   */
  listen: string;
  /**
   * Token that callers must send. Every write needs it; reads need it over TCP once it is set. It is required where
   * `listen` is neither a unix socket nor a loopback address. Default: none. Range: at least 16 bytes of visible ASCII
   * characters.
   */
  token?: string | undefined;
  /**
   * The same in a file, which is read again at SIGHUP; a line end after the token is ignored. Default: none. Range:
   * path, not empty.
   */
  tokenFile?: string | undefined;
  /**
   * Names by which browsers and programs may call the server, besides its own address and `localhost`. Another name is
   * refused, because a foreign page could have pointed it here (DNS rebinding). Default: `[]`. Range: at most 16 names
   * or IP addresses, without a port.
   */
  allowedHosts?: string[] | undefined;
}

/** A line of JSON for each stream and flow that has ended, see docs/operations.md. */
export interface IAccessLogConfig {
  /**
   * File that the lines are added to, or `stderr`. It is opened anew at SIGHUP. It is a regular file or a character
   * device like `/dev/null`; anything else, such as a FIFO, is refused. Range: path, not empty.
   */
  path: string;
  /**
   * Share of streams that are written. Whether one is follows from its id: edge and hub write the same ones. Default:
   * `1`. Range: more than 0, at most 1.
   */
  sample?: number | undefined;
}

/** Tier of a stream in the order of sending. */
export type TStreamTier =
  /** The stream has moved little of late, and goes first. */
  | 'data'
  /** The stream moves much for a while already, and leaves others the way. */
  | 'sustained';

/** Party or thing that a stream waits for. */
export type TWaitsFor =
  /** The session has no connection now, or its hub hasn't said Welcome yet. */
  | 'tunnel'
  /** The connection to the target is being made. */
  | 'dial'
  /** The client doesn't read what waits for it. */
  | 'client'
  /** The target doesn't read what waits for it. */
  | 'target'
  /** The other end of the tunnel gives no credit for more. */
  | 'window'
  /** Bytes wait for their turn in the tunnel's connection, or for memory. */
  | 'link';

/**
 * Parameters of `getStreams`.
 *
 * @example
 * const { streams, total } = await hub.getStreams({ edgeId: 'edge-1', limit: 10 });
 */
export interface IStreamsParams {
  /** Only the streams of this edge. */
  edgeId?: string | undefined;
  /** Streams that the answer holds at most, from 1 to 10,000. Default: `100`. */
  limit?: number | undefined;
}

/** Result of `getStreams`. */
export interface IStreamList {
  /** Streams and flows that are open, the oldest first. */
  streams: IStreamStatus[];
  /** Number of all that are open, also of those beyond the limit. */
  total: number;
}

/** A stream or flow that is open. */
export interface IStreamStatus {
  /** Id that is the same at edge and hub; null at an edge whose hub doesn't know the stream yet. */
  id: string | null;
  /** Number of the stream, as in `streamOpened`; null for a flow. */
  streamId: number | null;
  /** Id of the edge that the client came to. */
  edgeId: string;
  /** Protocol of the listener's port. */
  protocol: TProtocol;
  /** Address of the client, as `address:port`. */
  clientAddress: string;
  /** The listener's port. */
  port: number;
  /** Address of the edge that the client connected to. */
  listenerIp: string;
  /** Target, as `host:port`; null at an edge. */
  target: string | null;
  /** Transport of the session that carries the stream. */
  transport: TTransport;
  /** Time at which the stream was opened, in milliseconds since 1970. Unit: ms. */
  openedAt: number;
  /** Bytes of payload from the client towards the target. */
  bytesIn: number;
  /** Bytes of payload from the target towards the client. */
  bytesOut: number;
  /** Tier of the stream in the order of sending; null for a flow, whose datagrams have a queue of their own. */
  tier: TStreamTier | null;
  /** Party or thing that the stream waits for; null while nothing holds it up. */
  waitsFor: TWaitsFor | null;
}

/** All checks of one run. */
export interface IDoctorReport {
  /** The checks, those of this machine first. */
  checks: ICheck[];
}

/** One check. */
export interface ICheck {
  /** Name of the check. Several checks may have the same name, for instance one per target. */
  name: TCheckName;
  /** How it went. */
  state: TCheckState;
  /** What was seen. */
  seen: string;
  /** What to do; null where nothing is to be done. */
  advice: string | null;
}

/** How a check went. */
export type TCheckState =
  /** Nothing is to be done. */
  | 'ok'
  /** It works, or may work, but not as well or as safely as it could. */
  | 'warning'
  /** It doesn't work like this. */
  | 'failure';

/** Name of a check. */
export type TCheckName =
  /** The files are there and hold a configuration; what of it is accepted but shouldn't stay. */
  | 'configuration'
  /** Files with secrets can be read and written by their owner only. */
  | 'fileMode'
  /** The private key in `stateDir` or `tls` can be used, and nobody else can read or replace it. */
  | 'keyFile'
  /**
   * The machine's clock shows a year in which this program is in use, and is later than the last change of each file
   * that was read. No other clock is asked.
   */
  | 'clock'
  /** The process may have as many descriptors as its limits promise to streams. */
  | 'descriptors'
  /** The kernel grants the buffers that a UDP socket of many peers asks for. */
  | 'socketBuffers'
  /** An edge may open ports below 1024, as far as `allowedPorts` has some. */
  | 'lowPorts'
  /** The tunnel port is free for TCP and UDP, or this same hub or edge has it. */
  | 'tunnelPort'
  /** A name has an address. */
  | 'nameResolution'
  /** The other end's tunnel port takes a connection over TCP, and speaks TLS and the tunnel's protocol. */
  | 'tcp'
  /** The other end's tunnel port takes a connection over QUIC, which is UDP. */
  | 'quic'
  /** The other end shows the key that is pinned, or a certificate of the name that is verified. */
  | 'pin'
  /** The hub accepts this edge's id and secret. The session itself isn't begun. */
  | 'proof'
  /** Time that a packet takes to the other end and back. */
  | 'roundTrip'
  /**
   * The MTU of the route to the other end, as this machine's kernel knows it, is at least what QUIC needs. No packet is
   * sent to try it, so a smaller MTU further on is seen only if the kernel has learned of it.
   */
  | 'pathMtu'
  /** A target takes a connection. */
  | 'target'
  /** A target keeps a connection that begins with a PROXY header. */
  | 'proxyHeader'
  /** The edge has a session with a connection: its version, transport and streams. */
  | 'session'
  /** The edge has opened its ports. */
  | 'ports'
  /** Packets on the way to the edge that were lost and sent again. */
  | 'loss'
  /** What one stream in the last tier moves to the edge, beside the traffic that is there. */
  | 'throughputToEdge'
  /** What one stream in the last tier moves from the edge, beside the traffic that is there. */
  | 'throughputFromEdge';
