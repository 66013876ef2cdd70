// Counts what the client's store holds: values by state, sources that are current, and what is worst. Decides nothing
// about freshness: it adds up the states that the client gives.

import { was } from "./words.js";

const SETTLED_MS = 2000; // the value of a source may come a moment later than the news that it is fresh
const BUILT_IN = new Set(["circuit_breaker.state", "source.freshness", "rpc_error", "notification", "heartbeat"]);

/**
 * The values that people look at: all but those the gateway itself publishes, and an empty list for each source that
 * has answered with no items, so that it has a row, too. @param {any} client @returns {any[]}
 */
export function values(client) {
  const told = client.store.list("*");
  const all = told.filter((/** @type {any} */ value) => !BUILT_IN.has(value.type));
  if (!client.position) return all; // the first values are still on their way
  const types = new Set(all.map((/** @type {any} */ { type }) => type));
  for (const value of told) if (value.type === "source.freshness" && !types.has(value.key)) all.push(...withoutItems(value, client.now()));
  return all;
}

/** One value, as `values` has it. @param {any} client @param {string} type @param {string} [key] @returns {any} */
export function valueOf(client, type, key) {
  return client.store.get(type, key) ?? (key ? undefined : values(client).find((value) => value.type === type && value.key === null));
}

/** @type {WeakMap<any, any[]>} */
const empty = new WeakMap();

/** @param {any} told Its `source.freshness`. @param {number} now @returns {any[]} */
function withoutItems(told, now) {
  const since = Date.parse(told.timestamp);
  if (now - since < SETTLED_MS || told.data?.as_of == null) return [];
  const { stale, as_of, error_code } = told.data;
  const isVouched = told.state !== "unvouched";
  const state = !isVouched ? "unvouched" : stale ? "stale" : "fresh";
  const value = { ...told, type: told.key, key: null, data: [], seq: null, stale, as_of, error_code, state, since: isVouched ? since : told.since };
  if (!empty.has(told)) empty.set(told, [Object.freeze(value)]);
  return empty.get(told) ?? [];
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
  // What the status said of sources without a value holds no longer than the connection.
  if (counts.unvouched) for (const type of sources.keys()) if (!seen.has(type)) sources.set(type, false);
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

/** @type {WeakMap<any, Map<string, any>>} */
const sourcesOf = new WeakMap(); // of each status, its sources by type

/** What the gateway's status says of a value's source; undefined if it has none. @param {any} page @param {any} value */
export function sourceOf({ status }, { type }) {
  if (!status) return undefined;
  if (!sourcesOf.has(status)) {
    sourcesOf.set(status, new Map(status.sources.map((/** @type {any} */ source) => [source.type, source])));
  }
  return sourcesOf.get(status)?.get(type);
}

/**
 * What the backend's newest error said, as far as it is known to be this source's; "" if it is not.
 * @param {any} page @param {any} value @param {string | null} code
 */
export function messageOf(page, value, code) {
  const told = page.errors.get(value.type);
  if (told) return told.code === code ? told.message : "";
  const backend = sourceOf(page, value)?.backend;
  const error = page.status?.breakers.find((/** @type {any} */ { name }) => name === backend)?.last_error;
  const isThis = (/** @type {any} */ source) => source.backend === backend && source.error_code === code;
  return code && error?.code === code && page.status.sources.filter(isThis).length === 1 ? error.message : "";
}

/** The polled value that is not current for longest, of those that no open breaker explains; undefined if there is none. @param {any} page @param {any[]} all */
export function worstAlone(page, all) {
  const alone = all.filter((value) => {
    const breaker = value.stale ? breakerOf(page, value) : undefined;
    return value.stale && (!breaker || breaker.state === "closed");
  });
  return alone.sort((a, b) => a.since - b.since)[0];
}

/**
 * The breaker that judges a value, as its state was last told; undefined if there is none. What was never answered
 * does not name its backend: the status does.
 * @param {any} page @param {any} value
 */
export function breakerOf(page, value) {
  const of = (/** @type {string} */ key) => page.client.store.get("circuit_breaker.state", key)?.data;
  const backend = value.source ?? sourceOf(page, value)?.backend;
  return of(`${backend}/${value.type}`) ?? of(backend);
}

/**
 * What is known of the backends that are not asked at present, the one that is down for longest first: the breaker's
 * state as last told, since when values behind it are not current, and why it was opened.
 * @param {any} page @param {any[]} all What `values` gave.
 * @returns {{ breaker: any, since: number, cause: string | null }[]}
 */
export function downBackends(page, all) {
  /** @type {Map<string, { breaker: any, since: number, cause: string | null }>} */
  const found = new Map();
  for (const value of all) {
    const breaker = value.stale ? breakerOf(page, value) : undefined;
    if (!breaker || breaker.state === "closed") continue;
    const known = found.get(breaker.breaker) ?? { breaker, since: value.since, cause: causeOf(page.status, breaker.breaker) };
    known.since = Math.min(known.since, value.since);
    known.cause = value.cause ?? known.cause;
    found.set(breaker.breaker, known);
  }
  return [...found.values()].sort((a, b) => a.since - b.since);
}

/** The code of a breaker's last error, from the gateway's status. @param {any} status @param {string} name @returns {string | null} */
export function causeOf(status, name) {
  return status?.breakers.find((/** @type {any} */ one) => one.name === name)?.last_error?.code ?? null;
}
