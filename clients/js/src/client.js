// Follows a gateway's events: over WebSocket, or over SSE where no WebSocket gets through. Keeps the newest value of each
// type and key, and says of each whether the gateway vouches for it at this moment. docs/javascript.md explains its use,
// docs/protocol.md the protocol. Runs in browsers, workers and Node.

import { safely } from "./calling.js";
import { Connector } from "./connector.js";
import { refusal } from "./links.js";
import { OWN_TYPES, PATTERN, covers, matches, matchesAny } from "./patterns.js";
import { Queue } from "./queue.js";
import { Values, isCurrent } from "./values.js";

/** @import { Event, Gap, Options, Pattern, Status, Store, TypeMap, Until, Value } from "../../../src/tidegate/web/client.d.ts" */

const SHORT = ["connecting", "waiting", "offline"]; // a loss may turn out to be short
const REOPEN_MS = 200; // until an event stream with other patterns is asked for
const FINAL = ["refused", "closed"];
const EVENTS_WITHOUT_SEQ = ["heartbeat", "notification"];

/** What the gateway answered to `publish`, if it did not take it. */
export class TidegateError extends Error {
  /** @param {string} message @param {number} status of HTTP @param {number | null} retryAfterS */
  constructor(message, status, retryAfterS) {
    super(message);
    this.name = "TidegateError";
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/**
 * A client of one gateway. `connect` makes it.
 * @template {TypeMap} [T=any]
 */
export class Client {
  #connector;
  #values;
  /** @type {Map<string, number>} */
  #patterns = new Map();
  /** @type {Set<{ pattern: string, call: (event: any) => void }>} */
  #listeners = new Set();
  /** @type {Set<{ pattern: string, isGood: boolean, call: (value: Value) => void }>} */
  #turns = new Set();
  /** @type {Set<(gap: Gap) => void>} */
  #gaps = new Set();
  /** @type {Set<(status: Status) => void>} */
  #statuses = new Set();
  #ended = new AbortController();
  #graceTimer = /** @type {any} */ (0);
  #hiddenTimer = /** @type {any} */ (0);
  #reopenMs = REOPEN_MS;
  #reopenTimer = /** @type {any} */ (0); // to ask again, or by another stream
  /** @type {Set<() => void>} */
  #queues = new Set(); // what ends those that `events` has made
  /** @type {Set<() => void>} */
  #settling = new Set(); // called when something may have become ready
  #isPlanned = false; // a look at the patterns comes in this turn of the event loop
  /** @type {string[] | null} */
  #asked = null; // what was subscribed to or unsubscribed from, and is not answered yet
  #askId = 0;
  #oneByOne = false; // of several patterns one was refused
  #uncovered = new Set(); // patterns that the token does not cover
  #base;
  #options;
  /** @type {Store} */
  store;

  /** @param {URL} base @param {Options} options */
  constructor(base, options) {
    this.#base = base;
    this.#options = options;
    this.#values = new Values(
      (type) => this.#patterns.has(type) || matchesAny([...this.#patterns.keys()], type),
      (type) => matchesAny(this.#connector.position.subscribed, type),
      (value, isGood) => this.#turn(value, isGood),
    );
    this.#connector = new Connector(base, options, {
      patterns: () => this.#wanted(),
      received: (message) => this.#received(message),
      synced: () => this.#synced(),
      changed: (before) => this.#changed(before),
      covered: (types) => this.#covered(types),
      forgive: () => this.#uncovered.clear(),
      missed: (reason) => this.#miss({ reason, requested: null, skipped: {} }),
    });
    const values = this.#values;
    this.store = Object.freeze({
      get: (/** @type {string} */ type, /** @type {string} */ key) => values.get(type, key),
      list: (/** @type {string} */ pattern) => values.list(pattern),
      subscribe: (/** @type {string} */ pattern, /** @type {() => void} */ changed) => this.#watch(pattern, changed),
    });
    this.#listen();
    queueMicrotask(() => this.#ended.signal.aborted || this.#connector.attempt());
  }

  /** A new frozen object at each change. */
  get status() {
    return this.#connector.status;
  }

  /** The newest answer of `/api/v1/session` that this client asked for; it does so after a failed attempt. */
  get session() {
    return this.#connector.session;
  }

  /** What `since` takes; null while there is none. */
  get position() {
    return this.#connector.position.text;
  }

  /** The server's clock, in ms. */
  now() {
    return this.#connector.clock.now();
  }

  /** Seconds since the value was asked for; null if it never was. @param {Value} value */
  age({ as_of }) {
    return as_of === null ? null : Math.max(0, (this.now() - Date.parse(as_of)) / 1000);
  }

  /**
   * Calls `listener` with each event. What is known already it gets at once, as snapshots. Returns what ends that.
   * @template {Pattern<T>} P
   * @param {P} pattern @param {(event: Event<T, P>) => void} listener @param {Until} [until]
   */
  on(pattern, listener, { signal } = {}) {
    const entry = { pattern, call: listener };
    const off = this.#hold(pattern, () => this.#listeners.delete(entry), signal);
    this.#listeners.add(entry);
    queueMicrotask(() => {
      for (const event of this.#values.events(pattern)) {
        if (this.#listeners.has(entry)) safely(() => listener({ ...event, snapshot: true }));
      }
    });
    return off;
  }

  /**
   * The events, for `for await`. More than `buffer` waiting: the oldest are dropped, or, with "latest", first older
   * ones of the same type and key; a gap with the reason "local" says so. Ends with the client, or `signal`.
   * @template {Pattern<T>} P
   * @param {P} pattern @param {Until & { buffer?: number, overflow?: "latest" | "drop-oldest" }} [options]
   * @returns {AsyncIterableIterator<Event<T, P> | Gap>}
   */
  events(pattern, { signal, buffer = 1000, overflow = "drop-oldest" } = {}) {
    const queue = new Queue(buffer, overflow === "latest");
    const push = (/** @type {any} */ item) => queue.push(item);
    const offs = [this.on(pattern, push), this.onGap(push)];
    const end = () => {
      for (const off of offs) off();
      this.#queues.delete(end);
      signal?.removeEventListener("abort", end);
      queue.end();
    };
    this.#queues.add(end);
    signal?.addEventListener("abort", end);
    if (signal?.aborted || this.#ended.signal.aborted) end();
    const over = async () => (end(), { done: /** @type {const} */ (true), value: undefined });
    return { next: () => queue.next(), return: over, [Symbol.asyncIterator]() { return this; } };
  }

  /**
   * Calls `f` when a value ceases to be current, with the reason, and at once for those that are not.
   * @param {string} pattern @param {(value: Value, reason: string) => void} f
   */
  onStale(pattern, f) {
    const call = (/** @type {Value} */ value) =>
      f(value, value.state === "unvouched" ? "DISCONNECTED" : (value.error_code ?? "UNKNOWN"));
    const off = this.#onTurn(pattern, false, call);
    queueMicrotask(() => {
      for (const value of this.#values.list(pattern)) if (!isCurrent(value)) safely(() => call(value));
    });
    return off;
  }

  /** Calls `f` when a value is current again. @param {string} pattern @param {(value: Value) => void} f */
  onFresh(pattern, f) {
    return this.#onTurn(pattern, true, f);
  }

  /** @param {(gap: Gap) => void} f */
  onGap(f) {
    this.#gaps.add(f);
    return () => void this.#gaps.delete(f);
  }

  /** @param {(status: Status) => void} f */
  onStatus(f) {
    this.#statuses.add(f);
    return () => void this.#statuses.delete(f);
  }

  /**
   * Resolves when it is live and all current values are there. Rejects when it is refused or closed.
   * @param {Until} [until] @returns {Promise<void>}
   */
  ready({ signal } = {}) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const { state, reason } = this.status;
        if (signal?.aborted) reject(signal.reason);
        else if (FINAL.includes(state)) reject(new Error(`${state}: ${reason}`));
        else if (state === "live" && this.#isSettled) resolve();
        else return;
        this.#settling.delete(look);
        signal?.removeEventListener("abort", look);
      };
      this.#settling.add(look);
      signal?.addEventListener("abort", look);
      look();
    });
  }

  /** Tries now, without waiting, also after a refusal. */
  reconnect() {
    if (!this.#ended.signal.aborted) this.#connector.restart();
  }

  /**
   * Publishes an event, and resolves to its position. Rejects with `TidegateError` if the gateway does not take it.
   * @param {string} type @param {any} data @param {{ key?: string, retain?: boolean, ttlS?: number }} [options]
   * @returns {Promise<string>}
   */
  async publish(type, data, { key, retain, ttlS } = {}) {
    const connector = this.#connector;
    connector.tokens.text ??= await connector.tokens.read("connect", this.#ended.signal);
    const body = JSON.stringify({ type, data, key, retain, ttl_s: ttlS });
    const headers = { ...connector.headers, "Content-Type": "application/json" };
    const answer = await connector.fetch(new URL("api/v1/events", this.#base), { method: "POST", headers, body });
    if (!answer.ok) {
      const { reason = "", retryAfterS = 0 } = await refusal(answer);
      throw new TidegateError(reason, answer.status, retryAfterS || null);
    }
    const { epoch, seq } = await answer.json();
    return `${epoch}:${seq}`;
  }

  /** For good. Values stay readable, and are not vouched for any more. */
  close() {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    for (const end of [...this.#queues]) end();
    clearTimeout(this.#hiddenTimer);
    clearTimeout(this.#reopenTimer);
    this.#connector.stop("closed", "closed");
  }

  /** @param {string} pattern @param {() => void} changed */
  #watch(pattern, changed) {
    const stop = this.#values.watch(pattern, changed);
    return this.#hold(pattern, stop);
  }

  /** @param {string} pattern @param {boolean} isGood @param {(value: Value) => void} call */
  #onTurn(pattern, isGood, call) {
    const entry = { pattern, isGood, call };
    this.#turns.add(entry);
    return this.#hold(pattern, () => this.#turns.delete(entry));
  }

  // Patterns are counted: a pattern is subscribed to as long as anybody holds it.
  /** @param {string} pattern @param {() => void} ended @param {AbortSignal} [signal] */
  #hold(pattern, ended, signal) {
    if (!PATTERN.test(pattern)) throw new TypeError(`expected a pattern like a.b, a.* or *, got ${pattern}`);
    this.#patterns.set(pattern, (this.#patterns.get(pattern) ?? 0) + 1);
    this.#values.reveal(pattern);
    this.#plan();
    let isOver = false;
    const off = () => {
      if (isOver) return;
      isOver = true;
      ended();
      signal?.removeEventListener("abort", off);
      const left = /** @type {number} */ (this.#patterns.get(pattern)) - 1;
      if (left) this.#patterns.set(pattern, left);
      else this.#patterns.delete(pattern);
      this.#plan();
    };
    if (signal?.aborted) queueMicrotask(off);
    signal?.addEventListener("abort", off);
    return off;
  }

  #wanted() {
    return [...new Set([...this.#patterns.keys(), ...OWN_TYPES])].filter((pattern) => !this.#uncovered.has(pattern)).sort();
  }

  /** @param {readonly string[]} types */
  #covered(types) {
    for (const pattern of this.#patterns.keys()) {
      if (![...types, ...OWN_TYPES].some((cover) => covers(cover, pattern))) this.#uncovered.add(pattern);
    }
  }

  // What is asked for in one turn goes out as one message.
  #plan() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    queueMicrotask(() => {
      this.#isPlanned = false;
      this.#subscribe();
    });
  }

  // Brings what is subscribed to in line with what is wanted: one message at a time.
  #subscribe() {
    const { position, isConnected, link } = this.#connector;
    if (!isConnected || this.#asked || position.awaitsSynced) return;
    this.#values.show();
    const wanted = this.#wanted();
    const removed = position.subscribed.filter((pattern) => !wanted.includes(pattern));
    const added = wanted.filter((pattern) => !position.subscribed.includes(pattern));
    if (!removed.length && !added.length) {
      this.#reopenMs = REOPEN_MS;
      this.#settled();
    } else if (!link?.send) {
      this.#asked = added;
      this.#reopenTimer = setTimeout(() => link === this.#connector.link && this.#connector.attempt(), this.#reopenMs);
      this.#reopenMs *= 2; // a gateway may never give the patterns that it was asked for
    } else if (removed.length) {
      this.#ask("unsubscribe", removed);
    } else {
      this.#ask("subscribe", this.#oneByOne ? added.slice(0, 1) : added);
      this.#connector.ping(); // a gateway that is too old for "synced" answers behind the snapshots
    }
  }

  get #isSettled() {
    return !this.#isPlanned && !this.#asked && !this.#connector.position.awaitsSynced;
  }

  #settled() {
    for (const look of [...this.#settling]) look();
  }

  /** @param {string} type @param {string[]} types */
  #ask(type, types) {
    this.#asked = types;
    this.#askId += 1;
    this.#connector.send({ type, id: this.#askId, data: { types } });
  }

  /** @param {any} message */
  #received(message) {
    const { type, data } = message;
    if (message.seq || EVENTS_WITHOUT_SEQ.includes(type)) this.#event(message);
    else if (type === "welcome") {
      this.#asked = null; // the URL has said all that was wanted
      if (!data.resumed) this.#values.newRound();
    } else if (type === "gap") {
      if (data.reason !== "slow_consumer") this.#values.newRound();
      this.#miss(data);
    } else if (type === "unsubscribed") {
      // Without an id nobody asked: the token covers less. That may come among values, and before another answer.
      if (message.id !== undefined) this.#asked = null;
      if (!this.#connector.position.awaitsSynced) this.#values.synced();
      this.#plan();
    } else if (type === "error" && this.#asked && message.id === this.#askId) this.#refused(data);
  }

  /** @param {any} event */
  #event(event) {
    this.#values.take(event);
    for (const listener of [...this.#listeners]) {
      if (this.#listeners.has(listener) && matches(listener.pattern, event.type)) safely(() => listener.call(event));
    }
  }

  #synced() {
    this.#values.synced();
    this.#answered();
  }

  #answered() {
    this.#asked = null;
    this.#plan();
  }

  // All patterns of a message are refused together: ask for each alone.
  /** @param {{ code: string, message: string, retryable: boolean }} error */
  #refused({ code, message, retryable }) {
    const [pattern, ...others] = /** @type {string[]} */ (this.#asked);
    if (retryable) return void (this.#reopenTimer = setTimeout(() => this.#answered(), 1000));
    this.#oneByOne ||= others.length > 0;
    if (!others.length) {
      this.#uncovered.add(pattern);
      this.#connector.set({ reason: `${code}: ${message}` });
    }
    this.#answered();
  }

  /** @param {Omit<Gap, "type" | "valuesComplete">} gap */
  #miss(gap) {
    const whole = { type: /** @type {const} */ ("gap"), ...gap, valuesComplete: true };
    for (const f of [...this.#gaps]) safely(() => f(whole));
  }

  /** @param {Value} value @param {boolean} isGood */
  #turn(value, isGood) {
    for (const turn of [...this.#turns]) {
      if (turn.isGood === isGood && matches(turn.pattern, value.type)) safely(() => turn.call(value));
    }
  }

  /** @param {Status} before */
  #changed(before) {
    const { state, since } = this.status;
    if (state !== before.state) {
      if (state === "live") this.#vouch(true, 0);
      else if (!SHORT.includes(state)) this.#vouch(false, since);
      else if (before.state === "live") {
        this.#values.vouch(true, since, true);
        this.#graceTimer = setTimeout(() => this.#vouch(false, since), this.#options.graceMs ?? 2000);
      }
    }
    for (const f of [...this.#statuses]) safely(() => f(this.status));
    this.#settled();
  }

  /** @param {boolean} vouched @param {number} since */
  #vouch(vouched, since) {
    clearTimeout(this.#graceTimer);
    this.#values.vouch(vouched, since);
  }

  #listen() {
    const { signal } = this.#ended;
    const { signal: owner, closeWhenHiddenS = null } = this.#options;
    owner?.addEventListener("abort", () => this.close(), { signal });
    if (owner?.aborted) queueMicrotask(() => this.close());
    const connector = this.#connector;
    const shown = () => connector.hear("shown", 250);
    const pause = (/** @type {string} */ why) => {
      if (!FINAL.includes(this.status.state)) connector.stop("paused", why);
    };
    const hidden = () => {
      clearTimeout(this.#hiddenTimer);
      this.#values.tell(); // a frame that was asked for is not painted as long as it is hidden
      if (document.visibilityState === "visible") shown();
      else if (closeWhenHiddenS !== null) {
        this.#hiddenTimer = setTimeout(() => pause("hidden"), 1000 * closeWhenHiddenS);
      }
    };
    /** @type {(target: any, name: string, call: (event: any) => void) => void} */
    const listen = (target, name, call) => target?.addEventListener?.(name, call, { signal });
    listen(globalThis, "online", () => connector.hear("online", 2000));
    listen(globalThis, "offline", () => connector.probe());
    listen(globalThis, "pageshow", shown);
    listen(globalThis, "pagehide", ({ persisted }) => persisted && pause("left"));
    listen(globalThis.document, "visibilitychange", hidden);
    listen(globalThis.document, "resume", shown);
  }
}

/**
 * Connects to the gateway at `url`; by default to the one that this module was loaded from.
 * @template {TypeMap} [T=any]
 * @param {string | URL} [url] of http(s) or ws(s) @param {Options} [options] @returns {Client<T>}
 */
export function connect(url = new URL(".", import.meta.url), options = {}) {
  const { href } = new URL(url, globalThis.location?.href ?? import.meta.url);
  const base = new URL(href.replace(/^ws/, "http"));
  if (!base.protocol.startsWith("http")) throw new TypeError(`expected a gateway, got ${url}`);
  return new Client(new URL(base.pathname.replace(/(\/ws)?\/?$/, "/"), base), options);
}
