// Keeps one connection to the gateway: when to try, by which transport, with which token.

import { Backoff } from "./backoff.js";
import { Clock } from "./clock.js";
import { Life } from "./life.js";
import { eventStreamLink, webSocketLink } from "./links.js";
import { Position } from "./position.js";
import { askSession } from "./session.js";
import { Tokens } from "./tokens.js";

/** @import { Options, Session, Status } from "../../../src/tidegate/web/client.d.ts" */
/** @import { End, Link } from "./links.js" */

/**
 * @typedef {{ patterns(): string[], covered(types: readonly string[]): void, received(message: any): void, synced(): void,
 *   changed(before: Status): void, missed(reason: string): void, forgive(): void }} Owner `covered`: what the token
 *   covers; `forgive`: another token may cover what was refused
 */

const FINAL = [400, 403, 421, 1002, 1003, 1007, 1009, 1010, 4403]; // another attempt would end the same way
/** @type {Record<number, number>} */
const FLOOR_S = { 1013: 5, 4429: 5, 4408: 1 };
const UNCONNECTED = { retryAt: null, transport: null, roundTripMs: null };
const SILENT = "the gateway is silent";
const PING_EVERY_MS = 30_000;
const STUCK_MS = 2000; // an attempt this old when the browser tells something may hang on a network that is gone

export class Connector {
  position = new Position();
  clock = new Clock();
  tokens;
  /** @type {Session | null} */
  session = null;
  /** @type {Status} */
  status;
  /** @type {Link | null} */
  link = null;
  #base;
  #options;
  #owner;
  #run = new AbortController(); // the newest attempt and its connection; what older ones still bring is ignored
  #backoff;
  #life = new Life({ quiet: () => this.#quiet(), ping: () => this.ping(), dead: () => this.#dead() });
  #timer = /** @type {any} */ (0); // of the next attempt, or of the next token
  #dueAt = 0;
  #openedAt = 0;
  #welcomedAt = 0; // 0: not yet
  #pingedAt = 0;
  #looks = false; // ask for the session first: browsers delay a WebSocket by seconds after others have failed
  #blocked = 0; // how often the session could be read and no WebSocket opened
  #isSse;
  #refusals = 0; // of tokens, since the last connection
  /** @type {End | null} */
  #said = null; // what the gateway said of an end that is near
  #slowTimes = 0;

  /** @param {URL} base @param {Options} options @param {Owner} owner */
  constructor(base, options, owner) {
    this.#base = base;
    this.#options = options;
    this.#owner = owner;
    this.#backoff = new Backoff(options.backoff);
    this.tokens = new Tokens(options.token);
    this.#isSse = this.#prefersSse;
    this.position.text = options.since ?? null;
    const begin = { since: this.clock.now(), clockOffsetMs: 0, attempt: 0, resumed: false, reason: null, code: null };
    this.status = Object.freeze({ state: "connecting", ...begin, ...UNCONNECTED });
  }

  get isConnected() {
    return this.#welcomedAt > 0;
  }

  get #Socket() {
    return this.#options.WebSocket ?? globalThis.WebSocket;
  }

  get #prefersSse() {
    return this.#options.transport === "sse" || !this.#Socket;
  }

  /** @returns {typeof fetch} */
  get fetch() {
    const get = this.#options.fetch ?? globalThis.fetch;
    // Who is redirected to would see the token.
    return (url, init) => get(url, { ...init, redirect: "error" });
  }

  get headers() {
    return /** @type {Record<string, string>} */ (this.tokens.text ? { Authorization: `Bearer ${this.tokens.text}` } : {});
  }

  /** @param {Partial<Status>} [change] */
  async attempt(change) {
    this.#drop();
    const { signal } = (this.#run = new AbortController());
    this.set({ state: "connecting", attempt: this.#backoff.failures + 1, retryAt: null, ...change });
    try {
      const text = await this.tokens.read(this.#refusals ? "expired" : "connect", signal);
      if (signal.aborted) return;
      if (this.#refusals && (!text || text === this.tokens.text)) return this.refuse(this.status.reason, 4401);
      this.#useToken(text);
      const end = this.#looks && (await this.#look(signal));
      if (signal.aborted) return;
      if (end) this.#ended(end, signal);
      else this.#open(signal);
    } catch (error) {
      if (!signal.aborted) this.#wait(String(error));
    }
  }

  // Now, whatever has been: somebody wants it.
  restart() {
    this.#backoff.failures = this.#refusals = 0;
    this.#owner.forgive();
    this.attempt();
  }

  /** @param {Partial<Status>} change */
  set(change) {
    const before = this.status;
    const wasLive = before.state === "live";
    const isLive = (change.state ?? before.state) === "live";
    const since = isLive === wasLive ? before.since : this.clock.now() - (wasLive ? this.#life.silentMs : 0);
    this.status = Object.freeze({ ...before, since, clockOffsetMs: this.clock.offsetMs, ...change });
    this.#owner.changed(before);
  }

  /** No attempt from now on. @param {Status["state"]} state @param {string | null} reason @param {number | null} [code] */
  stop(state, reason, code = null) {
    this.#drop();
    this.set({ state, reason, code, ...UNCONNECTED }); // last: a listener may try again, or close
  }

  /** @param {string | null} reason @param {number} code */
  refuse(reason, code) {
    this.#backoff.failures = this.#refusals = 0;
    this.stop("refused", reason, code);
  }

  /** @param {any} message */
  send(message) {
    if (this.isConnected) this.link?.send?.(JSON.stringify(message));
  }

  ping() {
    this.#pingedAt = performance.now();
    this.send({ type: "ping", id: `${this.#pingedAt}` });
  }

  /** The page is shown, or online again: try within `withinMs`. @param {string} cause @param {number} withinMs */
  hear(cause, withinMs) {
    const { state, retryAt } = this.status;
    this.clock.woke();
    this.#life.check();
    if (state === "paused") {
      if (cause === "shown") this.attempt();
    } else if (this.isConnected) {
      if (this.#life.silentHeartbeats >= 1.5) this.probe();
    } else {
      const isStuck = state === "connecting" && this.link && performance.now() - this.#openedAt >= STUCK_MS;
      if (retryAt !== null || isStuck) this.#tryEarly(this.#backoff.early(cause, withinMs), isStuck);
    }
  }

  probe() {
    this.#life.probe(3000);
  }

  #drop() {
    this.#run.abort();
    clearTimeout(this.#timer);
    this.#life.stop();
    this.link?.close();
    this.link = this.#said = null;
    this.#welcomedAt = 0;
  }

  // A position is given up where it stands for less than what is wanted now, and no later snapshot makes up for that.
  /** @param {string | null} text */
  #useToken(text) {
    if (!this.tokens.take(text)) return;
    this.#owner.forgive();
    this.#forget("token_changed");
  }

  /** @param {string} reason */
  #forget(reason) {
    const { position } = this;
    if (position.text === null && !position.owesGap) return;
    position.text = null;
    position.owesGap = false;
    this.#owner.missed(reason);
  }

  /** @param {AbortSignal} signal */
  #open(signal) {
    const { position, tokens } = this;
    const wanted = this.#owner.patterns();
    position.patterns ??= wanted; // of a position from before
    if (position.owesGap) this.#forget("interrupted");
    if (this.#isSse && wanted.some((pattern) => !position.patterns?.includes(pattern))) this.#forget("patterns_changed");
    if (signal.aborted) return;
    const resumed = position.patterns.filter((pattern) => wanted.includes(pattern));
    const url = new URL(this.#isSse ? "api/v1/events" : "ws", this.#base);
    url.searchParams.set("types", (position.text === null || this.#isSse ? wanted : resumed).join(","));
    if (position.text !== null) url.searchParams.set("since", position.text);
    const isInQuery = !this.#isSse && tokens.text !== null && this.#options.tokenIn === "query";
    if (isInQuery) url.searchParams.set("token", tokens.text ?? "");
    /** @type {(call: (what?: any) => void) => (what?: any) => void} */
    const guarded = (call) => (what) => void (signal.aborted || call(what));
    const events = {
      frame: guarded((text) => this.#frame(text)),
      alive: guarded(() => this.#life.heard()),
      end: guarded((end) => this.#ended(end, signal)),
    };
    this.#openedAt = performance.now();
    this.#life.opens(1000 * (this.#options.connectTimeoutS ?? 10));
    if (this.#isSse) this.link = eventStreamLink(this.fetch, url, this.headers, events);
    else {
      const protocols = isInQuery ? [] : tokens.protocols;
      try {
        this.link = webSocketLink(this.#Socket, url, protocols, events);
      } catch {
        this.#ended({ opened: false }, signal); // what a page of https may not open
      }
    }
  }

  /** @param {string} text */
  #frame(text) {
    const { signal } = this.#run;
    try {
      this.#take(JSON.parse(text), signal);
    } catch {
      if (signal.aborted) return;
      this.#wait(`expected a message, got ${`${text}`.slice(0, 40)}`);
      this.#forget("interrupted"); // its position may be taken, and the rest of it not
    }
  }

  /** @param {any} message @param {AbortSignal} signal */
  #take(message, signal) {
    const { type, id, data } = message;
    if (typeof type !== "string") throw new TypeError();
    const awaited = this.position.awaitsSynced;
    this.#life.heard();
    if (signal.aborted) return;
    this.position.take(message);
    if (type === "welcome") this.#welcomed(message);
    else if (type === "pong") this.#ponged(message);
    else if (type === "connection_error") this.#said = { reason: data.message, code: data.code };
    else if (type === "error" && id === "auth") this.set({ reason: `${data.code}: ${data.message}` });
    else if (type === "notification" && data.retry_after_ms) {
      this.#backoff.notWithin(data.retry_after_ms);
      this.#said = { reason: data.message };
    }
    this.#owner.received(message);
    if (signal.aborted) return; // a listener has closed it, or begun anew
    if ((awaited || type === "synced") && !this.position.awaitsSynced) this.#synced();
    // A frame may have been under way since before the silence; the answer to a ping has not.
    if (this.status.state === "quiet" && (id === `${this.#pingedAt}` || this.#isSse)) this.set({ state: "live", reason: null });
    if (performance.now() - this.#pingedAt > PING_EVERY_MS) this.ping();
  }

  /** @param {any} message */
  #welcomed({ timestamp, data }) {
    this.clock.begins(timestamp);
    this.#welcomedAt = performance.now();
    this.#looks = false;
    if (!this.#isSse) this.#blocked = 0;
    this.#backoff.admitted();
    this.#life.welcomed(1000 * data.heartbeat_interval_s);
    this.#renewLater();
    this.set({ transport: this.#isSse ? "sse" : "websocket", resumed: data.resumed });
    this.ping(); // a gateway that is too old for "synced" answers behind the snapshots
  }

  /** @param {any} message */
  #ponged({ id, timestamp }) {
    const sentAt = this.#pingedAt;
    if (id === `${sentAt}`) this.set({ roundTripMs: Math.round(10 * this.clock.sample(timestamp, sentAt)) / 10 });
  }

  #synced() {
    this.#refusals = 0;
    this.#owner.synced();
    if (this.status.state === "connecting") this.set({ state: "live", reason: null, code: null });
  }

  #quiet() {
    if (this.status.state === "live") this.set({ state: "quiet", reason: SILENT });
  }

  #dead() {
    this.#quiet(); // after a silence nothing is vouched for, however short the loss may turn out to be
    if (this.link) this.#wait(SILENT); // no listener has ended it
  }

  // How a connection, or an attempt, ended decides what follows.
  /** @param {End} end @param {AbortSignal} signal */
  #ended(end, signal) {
    const { code, status, reason, retryAfterS, opened } = { ...end, ...this.#said };
    const words = reason || `closed with ${code}`;
    const number = code ?? status ?? 0;
    if (number === 4401 || number === 401) this.#expired(words);
    else if (status === 403 && !this.#looks) {
      this.#looks = true; // the session says which patterns the token covers
      this.attempt();
    } else if (FINAL.includes(number)) this.refuse(words, number);
    else if (opened === false) this.#neverOpened(signal).catch((error) => this.#wait(String(error)));
    else {
      if (number === 4408 && ++this.#slowTimes === 3) console.warn(`tidegate: too slow: ${this.position.subscribed}`);
      this.#wait(words, FLOOR_S[number] ?? retryAfterS, number || null);
    }
  }

  /** @param {AbortSignal} signal */
  async #neverOpened(signal) {
    this.#life.stop();
    const end = !this.#looks && (await this.#look(signal));
    if (signal.aborted) return;
    if (end) return this.#ended(end, signal);
    this.#looks = true;
    this.#blocked += 1;
    if (this.#blocked > 1 && this.#options.transport !== "websocket") {
      this.#isSse = true;
      this.#blocked = 1;
    }
    this.#wait("no WebSocket gets through");
  }

  // Why no stream would be let in; nothing if one would.
  /** @param {AbortSignal} signal */
  async #look(signal) {
    const { session, end } = await askSession(this.fetch, this.#base, this.headers);
    if (signal.aborted) return undefined;
    if (session?.auth) {
      this.session = session;
      if (session.authenticated && session.types) this.#owner.covered(session.types);
    }
    return end;
  }

  /** @param {string} reason */
  #expired(reason) {
    this.#refusals += 1;
    if (!this.tokens.canChange) this.refuse(reason, 4401);
    else if (this.#refusals > 1 || this.#backoff.early("expired", 0) === null) this.#wait(reason, 0, 4401);
    else this.attempt({ reason });
  }

  /** @param {string} reason @param {number} [floorS] @param {number | null} [code] */
  #wait(reason, floorS = 0, code = null) {
    const { isConnected } = this;
    if (isConnected) this.#isSse = this.#prefersSse;
    this.#looks ||= !isConnected;
    this.#backoff.notWithin(1000 * floorS);
    const at = this.#backoff.next(isConnected ? performance.now() - this.#welcomedAt : 0);
    const state = globalThis.navigator?.onLine === false ? "offline" : "waiting";
    const change = { state, reason: this.#said?.reason ?? reason, code, ...UNCONNECTED };
    this.#drop();
    this.#tryAt(at, /** @type {Partial<Status>} */ (change));
  }

  /** @param {number | null} at @param {unknown} isStuck */
  #tryEarly(at, isStuck) {
    if (at !== null && (isStuck || at < this.#dueAt)) this.#tryAt(at);
  }

  /** @param {number} at @param {Partial<Status>} [change] */
  #tryAt(at, change) {
    clearTimeout(this.#timer);
    this.#dueAt = at;
    const inMs = Math.max(0, at - performance.now());
    this.#timer = setTimeout(() => this.attempt(), inMs);
    this.set({ ...change, retryAt: this.clock.now() + inMs });
  }

  #renewLater() {
    clearTimeout(this.#timer);
    const inMs = this.tokens.renewInMs(this.clock.now());
    const { signal } = this.#run;
    if (inMs !== null && this.link?.send) this.#timer = setTimeout(() => this.#renew(signal), inMs);
  }

  /** @param {AbortSignal} signal */
  async #renew(signal) {
    const token = await this.tokens.read("expiring", signal).catch(() => null);
    if (signal.aborted || !token || token === this.tokens.text) return;
    if (this.tokens.take(token)) this.#owner.forgive();
    this.send({ type: "auth", id: "auth", data: { token } });
    this.#renewLater();
  }
}
