// The newest value of each type and key, and whether the gateway vouches for it.

import { nextFrame, safely } from "./calling.js";
import { OWN_TYPES, matches } from "./patterns.js";

/** @import { Value } from "../../../src/tidegate/web/client.d.ts" */

const NOT_KEPT = ["heartbeat", "notification", "rpc_error"];
const OPEN = "CIRCUIT_BREAKER_OPEN";

/**
 * @typedef {{ type: string, key: string | null, event: any, round: number, since: number, changedAt: number,
 *   state: any, good: boolean | null, value: Value | null }} Entry `event` is null while the source was never answered
 */

/** @param {Pick<Value, "state">} value */
export const isCurrent = ({ state }) => state === "fresh" || state === "published";

export class Values {
  /** @type {Map<string, Map<string | null, Entry>>} */
  #types = new Map();
  /** @type {Map<string, readonly Value[]>} */
  #lists = new Map(); // by pattern, while nothing in them changes
  /** @type {Set<{ pattern: string, changed: () => void }>} */
  #watchers = new Set();
  /** @type {Set<{ pattern: string, changed: () => void }>} */
  #due = new Set(); // watchers to call before the next frame
  #round = 0; // what came before the newest round has not been confirmed since
  #vouched = false;
  #isGrace = false; // the connection is lost, but so short that old values still count
  #cutOffAt = 0;
  #wants;
  #isFollowed;
  #turned;

  /**
   * @param {(type: string) => boolean} wants which types are shown
   * @param {(type: string) => boolean} isFollowed of which types the gateway tells
   * @param {(value: Value, isGood: boolean) => void} turned a value became current, or ceased to be
   */
  constructor(wants, isFollowed, turned) {
    this.#wants = wants;
    this.#isFollowed = isFollowed;
    this.#turned = turned;
  }

  /** @param {any} event */
  take(event) {
    const { type, key = null, seq, gone, data } = event;
    if (NOT_KEPT.includes(type) || !this.#isFollowed(type)) return;
    if (OWN_TYPES.includes(type) && (typeof key !== "string" || !data)) throw new TypeError();
    const before = this.#find(type, key);
    if (gone) this.#remove(type, key);
    else if (!before?.event || before.round !== this.#round || !(seq < before.event.seq)) this.#keep(event, before);
    if (type === "source.freshness") this.#freshen(event);
    if (type === "circuit_breaker.state") this.#breaks(key);
  }

  // Snapshots of everything follow; what is then not among them has gone.
  newRound() {
    this.#round += 1;
    if (!this.#isGrace) this.#judgeAll();
  }

  // All snapshots have come. Forgets what was not among them, and what the gateway does not tell of any more: it may
  // change and go without a word, also if somebody wants it again by now.
  synced() {
    for (const { type, key, round } of this.#entries("*")) {
      if (round !== this.#round || !this.#isFollowed(type)) this.#remove(type, key);
    }
  }

  /** @param {boolean} vouched @param {number} cutOffAt @param {boolean} [isGrace] */
  vouch(vouched, cutOffAt, isGrace = false) {
    this.#vouched = vouched;
    this.#isGrace = isGrace;
    this.#cutOffAt = cutOffAt;
    this.#judgeAll();
  }

  // Sources that were never answered, of patterns that are new.
  show() {
    for (const { event } of this.#entries("source.freshness")) this.#never(event);
  }

  // Of a pattern that somebody follows now: what was kept for the client itself is to be listed.
  /** @param {string} pattern */
  reveal(pattern) {
    OWN_TYPES.forEach((type) => matches(pattern, type) && this.#touch(type));
  }

  /** @param {string} type @param {string | null} [key] */
  get(type, key) {
    const entry = this.#wants(type) ? this.#find(type, key || null) : undefined;
    return entry && this.#value(entry);
  }

  /** @param {string} pattern */
  list(pattern) {
    const known = this.#lists.get(pattern);
    if (known) return known;
    const shown = this.#entries(pattern).filter(({ type }) => this.#wants(type));
    const values = Object.freeze(shown.map((entry) => this.#value(entry)));
    this.#lists.set(pattern, values);
    return values;
  }

  /** @param {string} pattern */
  events(pattern) {
    return this.#entries(pattern).flatMap(({ event }) => (event ? [event] : []));
  }

  /** @param {string} pattern @param {() => void} changed */
  watch(pattern, changed) {
    const watcher = { pattern, changed };
    this.#watchers.add(watcher);
    return () => {
      this.#watchers.delete(watcher);
      this.#due.delete(watcher);
    };
  }

  /** @param {string} type @param {string | null} key */
  #find(type, key) {
    return this.#types.get(type)?.get(key);
  }

  /** @param {string} pattern */
  #entries(pattern) {
    return [...this.#types].flatMap(([type, keys]) => (matches(pattern, type) ? [...keys.values()] : []));
  }

  /** @param {any} event @param {Entry | undefined} before */
  #keep(event, before) {
    const { type, key = null, timestamp } = event;
    const at = Date.parse(timestamp);
    const told = this.#find("source.freshness", type)?.event;
    const turnedAt = told && told.data.stale === event.stale ? Date.parse(told.timestamp) : at;
    const isFirst = !before?.event;
    const hasTurned = isFirst || before.event.stale !== event.stale;
    const hasChanged = isFirst || JSON.stringify(before.event.data) !== JSON.stringify(event.data);
    const since = hasTurned ? turnedAt : before.since;
    this.#put({ type, key, event, since, changedAt: hasChanged ? at : before.changedAt }, before);
    if (key !== null && this.#find(type, null)?.event === null) this.#remove(type, null);
  }

  /** @param {Pick<Entry, "type" | "key" | "event" | "since" | "changedAt">} told @param {Entry | undefined} before */
  #put(told, before) {
    const { type, key } = told;
    const keys = this.#types.get(type) ?? new Map();
    const entry = { ...told, round: this.#round, good: before?.good ?? null, state: null, value: null };
    this.#types.set(type, keys.set(key, entry));
    this.#judge(entry);
  }

  /** @param {string} type @param {string | null} key */
  #remove(type, key) {
    const keys = this.#types.get(type);
    if (!keys?.delete(key)) return;
    if (!keys.size) this.#types.delete(type);
    this.#touch(type);
    if (OWN_TYPES.includes(type)) this.#entries("*").forEach((entry) => this.#renew(entry)); // their reasons are others now
  }

  // Its source became fresh or stale.
  /** @param {any} told */
  #freshen(told) {
    for (const entry of this.#entries(told.key)) {
      if (entry.event?.stale === told.data.stale) entry.since = Date.parse(told.timestamp);
      this.#renew(entry);
    }
    this.#never(told);
  }

  // A source that was never answered is a value without an event.
  /** @param {any} told */
  #never({ key: type, timestamp, gone, data }) {
    const keys = this.#types.get(type);
    const before = keys?.get(null);
    const isOurs = before?.event === null;
    if (gone || !data.stale || data.as_of !== null) {
      if (isOurs) this.#remove(type, null);
    } else if (this.#wants(type) && (!keys || isOurs)) {
      const at = Date.parse(timestamp);
      this.#put({ type, key: null, event: null, since: isOurs ? before.since : at, changedAt: at }, before);
    }
  }

  // What is behind it tells its reason.
  /** @param {string | null} breaker */
  #breaks(breaker) {
    for (const entry of this.#entries("*")) if (breaker?.startsWith(entry.event?.source)) this.#renew(entry);
  }

  /** What its value says has changed. @param {Entry} entry */
  #renew(entry) {
    entry.value = null;
    this.#touch(entry.type);
  }

  #judgeAll() {
    for (const entry of this.#entries("*")) this.#judge(entry);
  }

  /** @param {Entry} entry */
  #judge(entry) {
    const { state: before, good: wasGood } = entry;
    entry.state = this.#state(entry);
    if (entry.state !== before) this.#renew(entry);
    if (wasGood === null && !this.#vouched) return; // nothing was vouched for yet that could cease to be
    entry.good = isCurrent(entry);
    if (wasGood !== entry.good && !(wasGood === null && entry.good)) this.#turned(this.#value(entry), entry.good);
  }

  /** @param {Entry} entry @returns {Value["state"]} */
  #state({ event, round }) {
    if (!this.#vouched || (round !== this.#round && !this.#isGrace)) return "unvouched";
    if (event === null) return "never";
    if (event.stale) return event.expired ? "expired" : "stale";
    return event.stale === false ? "fresh" : "published";
  }

  /** @param {Entry} entry @returns {Value} */
  #value(entry) {
    const { type, key, event, state, changedAt, since } = entry;
    const { data = null, stale = null, as_of = null, source = null, seq = null, timestamp = "" } = event ?? { stale: true };
    return (entry.value ??= Object.freeze({
      type, key, data, state, stale, as_of, source, seq, timestamp, changedAt, ...this.#why(entry), // prettier-ignore
      since: state === "unvouched" ? this.#cutOffAt : since,
    }));
  }

  // Why it is stale: the newest of its event and source.freshness. All values behind a breaker tell what that says.
  /** @param {Entry} entry */
  #why({ event, type }) {
    if (event && !event.stale) return { error_code: null, cause: null, retry_at: null };
    const { cause = null, retry_at = null, seq = 0, source } = event ?? {};
    const told = this.#find("source.freshness", type)?.event;
    const code = (told?.data.stale && told.seq > seq ? told.data : event)?.error_code ?? null;
    const find = (/** @type {string} */ name) => this.#find("circuit_breaker.state", name)?.event.data;
    const breaker = find(`${source}/${type}`) ?? find(source);
    if (!breaker || breaker.state === "closed") return { error_code: code, cause, retry_at };
    return { error_code: OPEN, cause: cause ?? (code === OPEN ? null : code), retry_at: breaker.retry_at };
  }

  /** @param {string} type */
  #touch(type) {
    for (const pattern of this.#lists.keys()) if (matches(pattern, type)) this.#lists.delete(pattern);
    for (const watcher of this.#watchers) {
      if (!matches(watcher.pattern, type)) continue;
      if (!this.#due.size) nextFrame(() => this.tell());
      this.#due.add(watcher);
    }
  }

  tell() {
    const due = [...this.#due];
    this.#due.clear();
    for (const { changed } of due) safely(changed);
  }
}
