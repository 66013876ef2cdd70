import { Backoff } from "./backoff.js";
import { Clock } from "./clock.js";
import { Life } from "./life.js";
import { eventStreamLink, webSocketLink } from "./links.js";
import { OWN_TYPES, covers } from "./patterns.js";
import { Position } from "./position.js";

/** @import { Options, Status } from "../../../src/tidegate/web/client.d.ts" */
/** @import { End, Link, LinkEvents } from "./links.js" */

/**
 * @typedef {{ patterns(): string[], received(message: any): void, synced(): void, changed(before: Status): void,
 *   missed(reason: string): void }} Owner
 */

const FINAL = new Set([1002, 1003, 1007, 1009, 1010, 4403]); // another attempt would end the same way
const FLOOR_S = new Map([[1013, 5], [4429, 5], [4408, 1]]);
const PING_EVERY_MS = 30_000;
const STUCK_MS = 2000; // an attempt this old when the browser tells something may hang on a network that is gone

/** The payload of a JSON Web Token; null if it is something else. @param {string | null} token */
function claims(token) {
  try {
    const [, payload] = /** @type {string} */ (token).split(".");
    return JSON.parse(atob(payload.replace(/-/g, "+").replace(/_/g, "/")));
  } catch {
    return null;
  }
}

// Keeps one connection to the gateway: when to try, by which transport, with which token.
export class Connector {
  position = new Position();
  clock = new Clock();
  /** @type {any} */
  session = null;
  /** @type {Status} */
  status;
  /** @type {string | null} */
  token = null;
  refusedPatterns = new Set();
  /** @type {Link | null} */
  link = null;
  #base;
  #options;
  #owner;
  #run = new AbortController(); // the newest attempt and its connection; what older ones still bring is ignored
  #backoff;
  #life = new Life({ quiet: () => this.#quiet(), ping: () => this.ping(), dead: (reason) => this.#wait(reason) });
  #waitTimer = /** @type {any} */ (0);
  #renewTimer = /** @type {any} */ (0);
  #dueAt = 0;
  #openedAt = 0;
  #welcomedAt = 0; // 0: not yet
  #pingedAt = 0;
  /** @type {Map<number, number>} */
  #pings = new Map();
  #looks = false; // ask for the session first: browsers delay a WebSocket by seconds after others have failed
  #blocked = 0; // how often the session could be read and no WebSocket opened
  #isSse;
  #refusals = 0; // of tokens, since the last connection
  /** @type {"connect" | "expired"} */
  #askFor = "connect";
  #coverage = "";
  /** @type {string | null} */
  #offered = null; // the token of an `auth` that is not answered yet
  /** @type {string | null} */
  #said = null; // what the gateway said of an end that is near
  /** @type {number[]} */
  #slowAt = [];

  /** @param {URL} base @param {Options} options @param {Owner} owner */
  constructor(base, options, owner) {
    this.#base = base;
    this.#options = options;
    this.#owner = owner;
    this.#backoff = new Backoff(options.backoff ?? {});
    this.#isSse = options.transport === "sse" || !this.#Socket;
    this.position.text = options.since ?? null;
    this.status = Object.freeze({
      ...{ state: "connecting", since: this.clock.now(), attempt: 0, retryAt: null, reason: null, code: null },
      ...{ transport: null, resumed: false, clockOffsetMs: 0, roundTripMs: null },
    });
  }

  get #Socket() {
    return this.#options.WebSocket ?? globalThis.WebSocket;
  }

  get isConnected() {
    return this.#welcomedAt !== 0;
  }

  /** @param {string | URL} path @param {RequestInit} [init] */
  fetch(path, init = {}) {
    const get = this.#options.fetch ?? globalThis.fetch;
    const headers = { ...init.headers, ...(this.token && { Authorization: `Bearer ${this.token}` }) };
    return get(new URL(path, this.#base), { ...init, headers });
  }

  async attempt() {
    const { signal } = this.#begin();
    try {
      const token = await this.readToken(this.#askFor, signal);
      if (signal.aborted) return;
      const isRefused = this.#askFor === "expired" && (token === null || token === this.token);
      if (isRefused) return this.refuse(this.status.reason, 4401);
      this.#askFor = "connect";
      this.token = token;
      if (this.#looks && !(await this.#look(signal))) return;
      if (!signal.aborted) this.#open(signal);
    } catch (error) {
      if (!signal.aborted) this.#wait(String(error));
    }
  }

  // Now, whatever has been: somebody wants it.
  restart() {
    this.#backoff.failures = this.#refusals = 0;
    this.refusedPatterns.clear();
    this.#askFor = "connect";
    this.attempt();
  }

  /** @param {Partial<Status>} change */
  set(change) {
    const before = this.status;
    const isLive = (change.state ?? before.state) === "live";
    const wasLive = before.state === "live";
    const since = isLive === wasLive ? before.since : this.clock.now() - (wasLive ? this.#life.silentMs : 0);
    this.status = Object.freeze({ ...before, since, clockOffsetMs: this.clock.offsetMs, ...change });
    this.#owner.changed(before);
  }

  /** No attempt from now on. @param {"refused" | "paused" | "closed"} state @param {Partial<Status>} [change] */
  stop(state, change = {}) {
    this.set({ state, retryAt: null, transport: null, roundTripMs: null, ...change });
    this.#drop();
  }

  /** @param {string | null} reason @param {number} code */
  refuse(reason, code) {
    this.#backoff.failures = 0;
    this.stop("refused", { reason, code });
  }

  /** @param {any} message */
  send(message) {
    if (this.link?.canSend && this.isConnected) this.link.send(JSON.stringify(message));
  }

  ping() {
    const id = this.#pings.size + 1;
    this.#pingedAt = performance.now();
    this.#pings.set(id, this.#pingedAt);
    this.send({ type: "ping", id });
  }

  /** The page is shown, or online again. @param {string} cause @param {number} withinMs */
  hear(cause, withinMs) {
    const { state, retryAt } = this.status;
    this.clock.woke();
    if (state === "paused") return void this.attempt();
    this.#life.check();
    if (this.isConnected) {
      if (this.#life.silentHeartbeats >= 1.5) this.#life.probe(3000);
      return;
    }
    const isStuck = state === "connecting" && this.link && performance.now() - this.#openedAt >= STUCK_MS;
    if (retryAt === null && !isStuck) return;
    const at = this.#backoff.early(cause, withinMs);
    if (at !== null && (isStuck || at < this.#dueAt)) this.#tryAt(at);
  }

  /** @param {number} withinMs */
  probe(withinMs) {
    this.#life.probe(withinMs);
  }

  /** @param {"connect" | "expired" | "expiring"} reason @param {AbortSignal} signal @returns {Promise<string | null>} */
  async readToken(reason, signal) {
    const { token = null } = this.#options;
    return typeof token === "function" ? ((await token({ reason, signal })) ?? null) : token;
  }

  #begin() {
    this.#drop();
    this.#run = new AbortController();
    this.set({ state: "connecting", attempt: this.#backoff.failures + 1, retryAt: null });
    return this.#run;
  }

  #drop() {
    this.#run.abort();
    for (const timer of [this.#waitTimer, this.#renewTimer]) clearTimeout(timer);
    this.#life.stop();
    this.link?.close();
    this.link = null;
    this.#welcomedAt = 0;
    this.#said = null;
    this.#pings.clear();
  }

  /** @param {AbortSignal} signal */
  #open(signal) {
    const wanted = this.#owner.patterns();
    this.#renounce(wanted);
    const { text, patterns } = this.position;
    const url = new URL(this.#isSse ? "api/v1/events" : "ws", this.#base);
    url.searchParams.set("types", (text === null || this.#isSse ? wanted : patterns).join(","));
    if (text !== null) url.searchParams.set("since", text);
    /** @type {(call: (what?: any) => void) => (what?: any) => void} */
    const guarded = (call) => (what) => void (signal.aborted || call(what));
    const events = {
      frame: guarded((/** @type {string} */ data) => this.#frame(data)),
      alive: guarded(() => this.#life.heard()),
      end: guarded((/** @type {End} */ end) => this.#ended(end, signal)),
    };
    this.#openedAt = performance.now();
    this.#life.opens(1000 * (this.#options.connectTimeoutS ?? 10));
    this.link = this.#isSse ? this.#openStream(url, events) : this.#openSocket(url, events);
  }

  /** @param {URL} url @param {LinkEvents} events */
  #openSocket(url, events) {
    url.protocol = url.protocol.replace("http", "ws");
    if (this.token === null) return webSocketLink(this.#Socket, url, [], events);
    if (this.#options.tokenIn === "query") {
      url.searchParams.set("token", this.token);
      return webSocketLink(this.#Socket, url, [], events);
    }
    const encoded = btoa(this.token).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
    return webSocketLink(this.#Socket, url, ["tidegate.v1", `tidegate.token.${encoded}`], events);
  }

  /** @param {URL} url @param {LinkEvents} events */
  #openStream(url, events) {
    return eventStreamLink((to, init) => this.fetch(/** @type {URL} */ (to), init), url, events);
  }

  // A position is given up where it says less than what is wanted now, and no later snapshot would make up for it.
  /** @param {string[]} wanted */
  #renounce(wanted) {
    const { position } = this;
    const payload = claims(this.token);
    const coverage = payload ? JSON.stringify([payload.types, payload.roles]) : String(this.token);
    const isFirst = !this.#coverage;
    if (coverage !== this.#coverage) this.refusedPatterns.clear();
    if (isFirst && position.text !== null) position.patterns = wanted;
    const isMore = this.#isSse && wanted.some((pattern) => !position.patterns.includes(pattern));
    if (position.text !== null && ((!isFirst && coverage !== this.#coverage) || isMore)) {
      position.text = null;
      this.#owner.missed(isMore ? "patterns_changed" : "token_changed");
    }
    this.#coverage = coverage;
  }

  /** @param {string} text */
  #frame(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#wait(`expected a message of a gateway, got ${text.slice(0, 40)}`);
    }
    this.#life.heard();
    const awaited = this.position.awaitsSynced;
    this.position.take(message);
    const { type, data } = message;
    if (type === "welcome") this.#welcomed(message);
    else if (type === "pong") this.#ponged(message);
    else if (type === "connection_error") this.#said = data.message;
    else if (type === "authenticated") this.#renewed();
    else if (type === "error" && message.id === "auth") this.set({ reason: `${data.code}: ${data.message}` });
    else if (type === "notification" && data.retry_after_ms) {
      this.#backoff.notWithin(data.retry_after_ms);
      this.#said = data.message;
    }
    this.#owner.received(message);
    if ((awaited || type === "synced") && !this.position.awaitsSynced) this.#synced();
    if (this.status.state === "quiet") this.#isItBack(type);
    else if (performance.now() - this.#pingedAt > PING_EVERY_MS) this.ping();
  }

  /** @param {any} message */
  #welcomed({ timestamp, data }) {
    this.clock.sample(timestamp, this.#openedAt);
    this.#welcomedAt = performance.now();
    this.#backoff.admitted();
    this.#looks = false;
    if (!this.#isSse) this.#blocked = 0;
    this.#life.welcomed(1000 * data.heartbeat_interval_s);
    this.#renewLater();
    this.set({ transport: this.#isSse ? "sse" : "websocket", resumed: data.resumed });
    this.ping(); // a gateway that is too old for "synced" answers behind the snapshots
  }

  /** @param {any} message */
  #ponged({ id, timestamp }) {
    const sentAt = this.#pings.get(id);
    if (sentAt === undefined) return;
    this.#pings.clear();
    this.set({ roundTripMs: Math.round(this.clock.sample(timestamp, sentAt) * 10) / 10 });
  }

  #synced() {
    this.#refusals = 0;
    this.#owner.synced();
    if (this.status.state === "connecting") this.set({ state: "live", reason: this.#uncovered, code: null });
  }

  get #uncovered() {
    const refused = [...this.refusedPatterns];
    return refused.length ? `this token does not cover ${refused.join(", ")}` : null;
  }

  #quiet() {
    if (this.status.state === "live") this.set({ state: "quiet", reason: "the gateway is silent" });
  }

  // A frame may have been under way since before the silence; the answer to a ping has not.
  /** @param {string} type */
  #isItBack(type) {
    if (type === "pong" || this.#isSse) this.set({ state: "live", reason: null });
    else if (performance.now() - this.#pingedAt > 1000) this.ping();
  }

  /** @param {End} end @param {AbortSignal} signal */
  #ended({ code = 0, status = 0, reason, retryAfterS = 0, opened }, signal) {
    const words = this.#said ?? (reason || (code ? `closed with ${code}` : "closed"));
    if (code === 4401 || status === 401) this.#expired(words);
    else if (FINAL.has(code) || [400, 403, 421].includes(status)) this.refuse(words, code || status);
    else if (!opened && !this.#isSse) this.#neverOpened(signal);
    else {
      if (code === 4408) this.#readSlowly();
      this.#wait(words, FLOOR_S.get(code) ?? retryAfterS, code || status || null);
    }
  }

  // A browser cannot read why a handshake was refused: the session says it.
  /** @param {AbortSignal} signal */
  async #neverOpened(signal) {
    this.#life.stop();
    if (!this.#looks && !(await this.#look(signal))) return;
    if (signal.aborted) return;
    this.#looks = true;
    this.#blocked += 1;
    if (this.#blocked >= 2 && this.#options.transport !== "websocket") {
      this.#isSse = true;
      this.#blocked = 1;
    }
    this.#wait("no WebSocket gets through");
  }

  // Whether a stream would be let in; if not, what follows has been done.
  /** @param {AbortSignal} signal */
  async #look(signal) {
    const { status, retryAfterS, body } = await this.#readSession();
    if (signal.aborted) return false;
    this.#looks = true;
    if (status === 403 || status === 421) this.refuse(body.detail ?? `HTTP ${status}`, status);
    else if (status === 401 || body.authenticated === false) this.#expired("this gateway asks for a token");
    else if (status !== 200) this.#wait(body.detail ?? `HTTP ${status}`, retryAfterS, status || null);
    else if (body.authenticated && !body.roles.includes("subscriber")) this.refuse("this token lacks the role subscriber", 403);
    else if (body.retry_after_s) this.#wait(`the gateway is ${body.status}`, body.retry_after_s, 503);
    else {
      const types = body.authenticated ? body.types : null;
      for (const pattern of types ? this.#owner.patterns() : []) {
        const isOwn = OWN_TYPES.includes(pattern);
        if (!isOwn && !types.some((/** @type {string} */ cover) => covers(cover, pattern))) this.refusedPatterns.add(pattern);
      }
      return true;
    }
    return false;
  }

  async #readSession() {
    const signal = AbortSignal.timeout(5000);
    try {
      let answer = await this.fetch("api/v1/session", { signal });
      if (answer.status === 404) answer = await this.fetch("api/v1/status", { signal }); // a gateway before 1.1
      const body = await answer.json().catch(() => ({}));
      if (answer.ok && body.auth) this.session = body;
      return { status: answer.status, retryAfterS: Number(answer.headers.get("Retry-After")) || 0, body };
    } catch {
      const why = (await this.#answersOthers()) ? " by pages of this origin: is it in its allowed_origins?" : "";
      return { status: 0, retryAfterS: 0, body: { detail: `the gateway cannot be reached${why}` } };
    }
  }

  // Browsers hide refusals of an origin. An answer that cannot be read still shows that somebody is there.
  async #answersOthers() {
    if (!globalThis.location || globalThis.location.origin === this.#base.origin) return false;
    const get = this.#options.fetch ?? globalThis.fetch;
    const asked = get(new URL("healthz", this.#base), { mode: "no-cors", signal: AbortSignal.timeout(5000) });
    return asked.then(() => true, () => false);
  }

  /** @param {string} reason */
  #expired(reason) {
    this.#refusals += 1;
    this.#askFor = "expired";
    this.set({ reason });
    if (typeof this.#options.token !== "function") this.refuse(reason, 4401);
    else if (this.#refusals === 1) this.attempt();
    else this.#wait(reason, 0, 4401);
  }

  #readSlowly() {
    const now = performance.now();
    this.#slowAt = [...this.#slowAt.filter((at) => now - at < 300_000), now];
    if (this.#slowAt.length !== 3) return;
    console.warn(`tidegate: this page reads too slowly, and was cut off: ${this.position.subscribed.join(", ")}`);
  }

  /** @param {string} reason @param {number} [floorS] @param {number | null} [code] */
  #wait(reason, floorS = 0, code = null) {
    const words = this.#said ?? reason;
    const livedMs = this.isConnected ? performance.now() - this.#welcomedAt : 0;
    if (this.isConnected && this.#options.transport !== "sse" && this.#Socket) this.#isSse = false;
    this.#backoff.notWithin(1000 * floorS);
    if (!this.isConnected) this.#looks = true;
    const at = this.#backoff.next(livedMs);
    const state = globalThis.navigator?.onLine === false ? "offline" : "waiting";
    const retryAt = this.clock.now() + at - performance.now();
    this.set({ state, retryAt, reason: words, code, transport: null, roundTripMs: null });
    this.#drop();
    this.#tryAt(at);
  }

  /** @param {number} at */
  #tryAt(at) {
    clearTimeout(this.#waitTimer);
    this.#dueAt = at;
    const inMs = Math.max(0, at - performance.now());
    if (this.status.retryAt !== null) this.set({ retryAt: this.clock.now() + inMs });
    this.#waitTimer = setTimeout(() => this.attempt(), inMs);
  }

  #renewLater() {
    clearTimeout(this.#renewTimer);
    const expires = claims(this.token)?.exp;
    if (typeof expires !== "number" || typeof this.#options.token !== "function" || !this.link?.canSend) return;
    const leftMs = 1000 * expires - this.clock.now();
    const inMs = Math.max(leftMs - Math.max(30_000, leftMs / 10), leftMs / 2, 0);
    const { signal } = this.#run;
    this.#renewTimer = setTimeout(() => this.#renew(signal), Math.min(inMs, 2 ** 31 - 1));
  }

  /** @param {AbortSignal} signal */
  async #renew(signal) {
    const token = await this.readToken("expiring", signal).catch(() => null);
    if (signal.aborted || token === null || token === this.token) return;
    this.#offered = token;
    this.send({ type: "auth", id: "auth", data: { token } });
  }

  #renewed() {
    this.token = this.#offered ?? this.token;
    const payload = claims(this.token);
    this.#coverage = payload ? JSON.stringify([payload.types, payload.roles]) : String(this.token);
    this.#renewLater();
  }
}
