// Text that may stand where a host is named; rust/remoteingress-proto/src/token/host.rs is the same in Rust.
import * as plugins from './plugins.js';

const maxNameLength = 253;
/** A DNS label. */
const label = /^(?!-)[A-Za-z0-9_-]{1,63}(?<!-)$/;

/** The interface by which a link-local address is reached. */
const zoned = /^(fe[89ab][0-9a-f]:[^%]*)%[A-Za-z0-9._-]{1,15}$/i;

/** A DNS name or an IP address alone: no scheme, port or path, and a zone for link-local addresses only. */
export function isHost(text: string): boolean {
  const inBrackets = /^\[(.*)\]$/s.exec(text)?.[1];
  const address = inBrackets ?? text;
  if (inBrackets !== undefined || address.includes(':')) {
    const withoutZone = zoned.exec(address)?.[1] ?? address;
    return plugins.net.isIPv6(withoutZone) && !withoutZone.includes('%');
  }
  const name = text.endsWith('.') ? text.slice(0, -1) : text;
  const labels = name.split('.');
  // Nothing that ends in a number may be anything else than a complete address.
  if (/^\d*$/.test(labels.at(-1) ?? '')) return plugins.net.isIPv4(text);
  return name.length <= maxNameLength && labels.every((part) => label.test(part));
}
