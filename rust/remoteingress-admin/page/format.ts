// Figures as people read them.

const prefixes = ['', 'k', 'M', 'G', 'T', 'P'];

/** Three digits that count, with a decimal prefix: `1.25 M`. */
function scaled(value: number): string {
  let index = 0;
  let rest = Math.abs(value);
  while (rest >= 999.5 && index < prefixes.length - 1) {
    rest /= 1_000;
    index += 1;
  }
  const digits = index === 0 || rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2;
  return `${rest.toFixed(digits)} ${prefixes[index]}`;
}

export function bytes(count: number): string {
  return `${scaled(count)}B`;
}

export function bitRate(bytesPerSecond: number): string {
  return `${scaled(bytesPerSecond * 8)}bit/s`;
}

const grouped = new Intl.NumberFormat('en');

export function count(value: number): string {
  return grouped.format(value);
}

/** `1 edge`, `2 edges`. */
export function counted(value: number, one: string, several = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : several}`;
}

export function milliseconds(value: number | null): string {
  if (value === null) return 'not measured';
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

/** The two units that count most: `3 d 4 h`, `12 s`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** Time of day here, and before it the date where that isn't today's. */
export function clock(ms: number): string {
  const at = new Date(ms);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === new Date().toDateString()) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

export function transport(name: string | null): string {
  if (name === null) return 'none';
  return { tcpTls: 'TLS', quic: 'QUIC' }[name] ?? name;
}

/** `maxStreamsPerEdge` as words: `Max streams per edge`. */
export function words(name: string): string {
  const text = name.replace(/([a-z])([A-Z])/g, (_, before: string, after: string) => `${before} ${after.toLowerCase()}`);
  return text.charAt(0).toUpperCase() + text.slice(1);
}
