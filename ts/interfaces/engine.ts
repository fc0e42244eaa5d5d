// Generated from the types of rust/remoteingress-config by `npm run generate`; edit those.

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
