// Which event types a pattern matches.

export const PATTERN = /^(\*|[a-z0-9_-]+(\.[a-z0-9_-]+)*(\.\*)?)$/;

// What the client itself needs; no token has to cover it.
export const OWN_TYPES = ["circuit_breaker.state", "heartbeat", "source.freshness"];

/** @param {string} pattern @param {string} type */
export const matches = (pattern, type) =>
  pattern === type || pattern === "*" || (pattern.endsWith(".*") && type.startsWith(pattern.slice(0, -1)));

/** @param {string[]} patterns @param {string} type */
export const matchesAny = (patterns, type) => patterns.some((pattern) => matches(pattern, type));

/** Whether it matches all that `pattern` matches. @param {string} cover @param {string} pattern */
export const covers = (cover, pattern) => cover === pattern || matches(cover, pattern.replace(/\*$/, "x"));
