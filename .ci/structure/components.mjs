// Strongly connected components (Tarjan): the nodes that reach each other.

/** @param graph Map of node to an iterable of nodes, a Map's keys count. @returns [[node]] */
export function components(graph) {
  const order = new Map();
  const low = new Map();
  const stack = [];
  const waiting = new Set();
  const found = [];
  const visit = (node) => {
    order.set(node, order.size);
    low.set(node, order.get(node));
    stack.push(node);
    waiting.add(node);
    for (const next of graph.get(node)?.keys() ?? []) {
      if (!order.has(next)) visit(next);
      if (waiting.has(next)) low.set(node, Math.min(low.get(node), low.get(next)));
    }
    if (low.get(node) !== order.get(node)) return;
    const members = stack.splice(stack.indexOf(node));
    for (const member of members) waiting.delete(member);
    found.push(members);
  };
  for (const node of graph.keys()) if (!order.has(node)) visit(node);
  return found;
}
