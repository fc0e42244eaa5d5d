// Splits a list of edges into parts that each fit into a request.
import type { IAllowedEdge } from './interfaces/index.js';

/** Half of the longest request: an edge that alone takes more gets a part of its own. */
const maxPartBytes = 512 * 1024;

/** The same edges in the same order; one part where they fit into one request. */
export function partsOf(edges: IAllowedEdge[]): IAllowedEdge[][] {
  const parts: IAllowedEdge[][] = [[]];
  let bytes = 0;
  for (const edge of edges) {
    const more = Buffer.byteLength(JSON.stringify(edge)) + 1;
    if (bytes > 0 && bytes + more > maxPartBytes) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)?.push(edge);
    bytes += more;
  }
  return parts;
}
