// Counts what the client's store holds: values by state, sources that are current, and what is worst. Decides nothing
// about freshness: it adds up the states that the client gives.

import { was } from "./words.js";

const BUILT_IN = new Set(["circuit_breaker.state", "source.freshness", "rpc_error", "notification", "heartbeat"]);

/** The values that people look at: all but those the gateway itself publishes. @param {any} client @returns {any[]} */
export function values(client) {
  return client.store.list("*").filter((/** @type {any} */ value) => !BUILT_IN.has(value.type));
}

/** Whether a backend is polled for it, and so whether it can be current at all. @param {any} value */
export function isPolled(value) {
  return was(value) !== "published";
}

/** Whether it belongs to what needs attention. @param {any} value */
export function isTrouble(value) {
  return value.state !== "fresh" && value.state !== "published";
}

/**
 * @param {any[]} all What `values` gave.
 * @param {any} status The gateway's status, or null: it names sources that have sent nothing at all.
 * @returns {Counts}
 */
export function count(all, status) {
  const counts = { all: all.length, trouble: 0, fresh: 0, published: 0, unvouched: 0, sources: 0, notCurrent: 0, stale: 0 };
  /** @type {Map<string, boolean>} */
  const sources = new Map();
  for (const source of status?.sources ?? []) sources.set(source.type, !source.stale);
  const seen = new Set();
  for (const value of all) {
    if (isTrouble(value)) counts.trouble += 1;
    else if (value.state === "fresh") counts.fresh += 1;
    else counts.published += 1;
    if (value.state === "unvouched") counts.unvouched += 1;
    if (value.state === "stale") counts.stale += 1;
    if (!isPolled(value)) continue;
    const isFresh = value.state === "fresh";
    sources.set(value.type, seen.has(value.type) ? Boolean(sources.get(value.type)) && isFresh : isFresh);
    seen.add(value.type);
  }
  counts.sources = sources.size;
  for (const isCurrent of sources.values()) if (!isCurrent) counts.notCurrent += 1;
  return counts;
}

/**
 * @typedef {object} Counts
 * @property {number} all @property {number} trouble @property {number} fresh @property {number} published
 * @property {number} unvouched @property {number} stale
 * @property {number} sources @property {number} notCurrent
 */

/** The breaker that judges a value, as its state was last told; undefined if there is none. @param {any} client @param {any} value */
export function breakerOf(client, value) {
  const of = (/** @type {string} */ key) => client.store.get("circuit_breaker.state", key);
  return of(`${value.source}/${value.type}`) ?? of(value.source);
}

/** The breakers that are not closed, the one open for longest first. @param {any} client @returns {any[]} */
export function openBreakers(client) {
  return client.store
    .list("circuit_breaker.state")
    .filter(({ data }) => data && data.state !== "closed")
    .sort((a, b) => Date.parse(a.data.opened_at ?? a.timestamp) - Date.parse(b.data.opened_at ?? b.timestamp));
}
