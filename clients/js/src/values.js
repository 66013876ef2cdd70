// The newest value of each type and key, and whether the gateway vouches for it.

import { nextFrame, safely } from "./calling.js";
import { matches } from "./patterns.js";

/** @import { Value } from "../../../src/tidegate/web/client.d.ts" */

const NOT_KEPT = new Set(["heartbeat", "notification", "rpc_error"]);

/**
 * @typedef {{ type: string, key: string | null, event: any, round: number, since: number, changedAt: number,
 *   good: boolean | null, value: Value | null }} Entry `event` is null while the source was never answered
 */

/** Whether two values of JSON are equal. @param {any} a @param {any} b @returns {boolean} */
function isSame(a, b) {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b || Array.isArray(a) !== Array.isArray(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && isSame(a[name], b[name]));
}

export class Values {
  /** @type {Map<string, Map<string | null, Entry>>} */
  #types = new Map();
  /** @type {Map<string, any>} */
  #freshness = new Map(); // the newest source.freshness of each source
  /** @type {Map<string, any>} */
  #breakers = new Map();
  /** @type {Map<string, readonly Value[] | null>} */
  #lists = new Map(); // by pattern; null: something in it has changed
  /** @type {Set<{ pattern: string, changed: () => void, isDirty: boolean }>} */
  #watchers = new Set();
  #isScheduled = false;
  #round = 0; // what came before the newest round has not been confirmed since
  #vouched = false;
  #isGrace = false; // the connection is lost, but so short that old values still count
  #cutOffAt = 0;
  #turned;
  #wanted;

  /**
   * @param {(type: string) => boolean} wanted which types are kept
   * @param {(value: Value, isGood: boolean) => void} turned a value became fresh, or ceased to be
   */
  constructor(wanted, turned) {
    this.#wanted = wanted;
    this.#turned = turned;
  }

  /** @param {any} event */
  take(event) {
    const { type, key = null } = event;
    if (type === "source.freshness") this.#freshen(event);
    if (type === "circuit_breaker.state") this.#breaks(event);
    if (NOT_KEPT.has(type) || !this.#wanted(type)) return;
    const before = this.#types.get(type)?.get(key);
    if (event.gone) this.#remove(type, key);
    else if (!before?.event || before.round !== this.#round || !(event.seq < before.event.seq)) this.#keep(event, before);
  }

  // Snapshots of everything follow; what is then not among them has gone.
  newRound() {
    this.#round += 1;
    if (!this.#isGrace) this.#judgeAll();
  }

  // All snapshots have come.
  synced() {
    for (const [type, { round }] of this.#freshness) if (round !== this.#round) this.#freshness.delete(type);
    for (const [name, { round }] of this.#breakers) if (round !== this.#round) this.#breakers.delete(name);
    for (const { type, key, round } of this.#entries("*")) if (round !== this.#round) this.#remove(type, key);
  }

  /** @param {boolean} vouched @param {number} cutOffAt @param {boolean} [isGrace] */
  vouch(vouched, cutOffAt, isGrace = false) {
    const isKnown = this.#vouched === vouched && this.#isGrace === isGrace;
    this.#vouched = vouched;
    this.#isGrace = isGrace;
    this.#cutOffAt = cutOffAt;
    if (!isKnown) this.#judgeAll();
  }

  // Sources that were never answered, of patterns that are new.
  show() {
    for (const event of this.#freshness.values()) this.#never(event.data.type);
  }

  // Forgets what is not wanted any more.
  sift() {
    for (const type of [...this.#types.keys()]) {
      if (this.#wanted(type)) continue;
      for (const key of [...(this.#types.get(type)?.keys() ?? [])]) this.#remove(type, key);
    }
  }

  /** @param {string} type @param {string | null} [key] */
  get(type, key) {
    const entry = this.#types.get(type)?.get(key || null);
    return entry && this.#value(entry);
  }

  /** @param {string} pattern */
  list(pattern) {
    const before = this.#lists.get(pattern);
    if (before) return before;
    const values = Object.freeze(this.#entries(pattern).map((entry) => this.#value(entry)));
    this.#lists.set(pattern, values);
    return values;
  }

  /** @param {string} pattern */
  events(pattern) {
    return this.#entries(pattern).flatMap(({ event }) => (event ? [event] : []));
  }

  /** @param {string} pattern @param {() => void} changed */
  watch(pattern, changed) {
    const watcher = { pattern, changed, isDirty: false };
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** @param {string} pattern */
  #entries(pattern) {
    const types = [...this.#types.keys()].filter((type) => matches(pattern, type));
    return types.flatMap((type) => [.../** @type {Map<string | null, Entry>} */ (this.#types.get(type)).values()]);
  }

  /** @param {any} event @param {Entry | undefined} before */
  #keep(event, before) {
    const { type, key = null, timestamp } = event;
    const at = Date.parse(timestamp);
    const told = this.#freshness.get(type);
    const since = told && told.data.stale === event.stale ? Date.parse(told.timestamp) : at;
    const hasTurned = !before?.event || before.event.stale !== event.stale;
    const hasChanged = !before?.event || !isSame(before.event.data, event.data);
    this.#put({
      ...{ type, key, event, round: this.#round, value: null, good: before?.good ?? null },
      since: hasTurned ? since : before.since,
      changedAt: hasChanged ? at : before.changedAt,
    });
    if (key !== null && this.#types.get(type)?.get(null)?.event === null) this.#remove(type, null);
  }

  /** @param {Entry} entry */
  #put(entry) {
    const keys = this.#types.get(entry.type) ?? new Map();
    this.#types.set(entry.type, keys.set(entry.key, entry));
    this.#judge(entry);
    this.#touch(entry.type);
  }

  /** @param {string} type @param {string | null} key */
  #remove(type, key) {
    const keys = this.#types.get(type);
    if (!keys?.delete(key)) return;
    if (!keys.size) this.#types.delete(type);
    this.#touch(type);
  }

  /** @param {any} event */
  #freshen(event) {
    const { type, stale } = event.data;
    if (event.gone) this.#freshness.delete(event.key);
    else this.#freshness.set(type, { ...event, round: this.#round });
    for (const entry of this.#types.get(type)?.values() ?? []) {
      if (entry.event?.stale === stale) entry.since = Date.parse(event.timestamp);
      entry.value = null;
    }
    this.#touch(type);
    this.#never(type);
  }

  // A source that was never answered is a value without an event.
  /** @param {string} type */
  #never(type) {
    const told = this.#freshness.get(type);
    const before = this.#types.get(type)?.get(null);
    const isNever = told?.data.stale && told.data.as_of === null && this.#wanted(type);
    if (!isNever) {
      if (before?.event === null) this.#remove(type, null);
    } else if (!this.#types.has(type) || before?.event === null) {
      const at = Date.parse(told.timestamp);
      const since = before?.since ?? at;
      this.#put({ type, key: null, event: null, round: told.round, since, changedAt: at, good: before?.good ?? null, value: null });
    }
  }

  /** @param {any} event */
  #breaks(event) {
    if (event.gone) this.#breakers.delete(event.key);
    else this.#breakers.set(event.key, { ...event.data, round: this.#round });
    for (const entry of this.#entries("*")) {
      if (!String(event.key).startsWith(this.#source(entry))) continue;
      entry.value = null;
      this.#touch(entry.type);
    }
  }

  #judgeAll() {
    for (const entry of this.#entries("*")) {
      entry.value = null;
      this.#judge(entry);
    }
    for (const type of this.#types.keys()) this.#touch(type);
  }

  /** @param {Entry} entry */
  #isVouched({ round }) {
    return this.#vouched && (round === this.#round || this.#isGrace);
  }

  /** @param {Entry} entry */
  #judge(entry) {
    const good = this.#isVouched(entry) && entry.event !== null && !entry.event.stale;
    const wasGood = entry.good;
    if (wasGood === null && !this.#vouched) return; // nothing was vouched for yet that could cease to be
    entry.good = good;
    if (good !== wasGood && !(good && wasGood === null)) this.#turned(this.#value(entry), good);
  }

  /** @param {Entry} entry @returns {Value["state"]} */
  #state(entry) {
    if (!this.#isVouched(entry)) return "unvouched";
    if (entry.event === null) return "never";
    if (entry.event.expired) return "expired";
    if (entry.event.stale) return "stale";
    return entry.event.stale === false ? "fresh" : "published";
  }

  /** @param {Entry} entry @returns {Value} */
  #value(entry) {
    if (entry.value) return entry.value;
    const { type, key, event, changedAt } = entry;
    const state = this.#state(entry);
    const told = event ?? this.#freshness.get(type) ?? {};
    entry.value = Object.freeze({
      ...{ type, key, state, changedAt, ...this.#why(entry) },
      data: event ? event.data : null,
      stale: event ? (event.stale ?? null) : true,
      as_of: event?.as_of ?? null,
      source: told.source ?? null,
      seq: told.seq ?? null,
      timestamp: told.timestamp ?? "",
      since: state === "unvouched" ? this.#cutOffAt : entry.since,
    });
    return entry.value;
  }

  // Why it is stale: the newest of its event and source.freshness. All values behind a breaker tell what that says.
  /** @param {Entry} entry */
  #why(entry) {
    const { event, type } = entry;
    if (event && !event.stale) return { error_code: null, cause: null, retry_at: null };
    const told = this.#freshness.get(type);
    const isNewer = told?.data.stale && !(event?.seq > told.seq);
    const code = (isNewer ? told.data : event)?.error_code ?? null;
    const source = this.#source(entry);
    const breaker = this.#breakers.get(`${source}/${type}`) ?? this.#breakers.get(source);
    const cause = event?.cause ?? null;
    if (!breaker || breaker.state === "closed") return { error_code: code, cause, retry_at: event?.retry_at ?? null };
    const open = "CIRCUIT_BREAKER_OPEN";
    return { error_code: open, cause: cause ?? (code === open ? null : code), retry_at: breaker.retry_at };
  }

  /** The backend. @param {Entry} entry */
  #source({ event, type }) {
    return (event ?? this.#freshness.get(type))?.source;
  }

  /** @param {string} type */
  #touch(type) {
    for (const pattern of this.#lists.keys()) if (matches(pattern, type)) this.#lists.set(pattern, null);
    for (const watcher of this.#watchers) {
      if (!matches(watcher.pattern, type)) continue;
      watcher.isDirty = true;
      this.#schedule();
    }
  }

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    nextFrame(() => this.#tell());
  }

  #tell() {
    this.#isScheduled = false;
    for (const watcher of [...this.#watchers]) {
      if (!watcher.isDirty) continue;
      watcher.isDirty = false;
      safely(watcher.changed);
    }
  }
}
