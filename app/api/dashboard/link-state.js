// What a link's colour says: its state, and within `up` its role and its health.

export function stateOf(link) {
  if (link.state !== "up") {
    return link.state;
  }
  if (link.health === "degraded") {
    return "degraded";
  }
  return link.role === "standby" ? "standby" : "up";
}

/** Which links a running hand-off moves between: link id to "new" or "old". */
export function pathsOfHandoff(handoff, links) {
  const paths = new Map();
  if (handoff) {
    const old = new Set(handoff.from);
    for (const link of links) {
      if (link.id === handoff.to.link) {
        paths.set(link.id, "new");
      } else if (old.has(link.name)) {
        paths.set(link.id, "old");
      }
    }
  }
  return paths;
}
