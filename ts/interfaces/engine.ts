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
