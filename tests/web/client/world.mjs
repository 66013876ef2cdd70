// A world for the client in which the test decides everything: time, chance, the network, and what the browser tells.
//
// `inWorld(name, body)` is a test. Its clock stands still but for `world.passes(ms)`. Sockets are scripted by hand, or
// by `world.gateway` (gateway.mjs). Whatever the body does, it fails if the client reports an error that nobody asked
// about, or leaves a timer or a listener behind when it is closed.

import assert from "node:assert/strict";
import test from "node:test";

import "./document.mjs";
import { FakeGateway } from "./gateway.mjs";

// The sources, or what is built of them.
const { connect } = await import(process.env.CLIENT ?? "../../../clients/js/src/client.js");

export const GATEWAY = "http://gw.example:12080/";
export const START = Date.parse("2026-11-22T21:40:00.000Z");
export const ADDED = ["circuit_breaker.state", "heartbeat", "source.freshness"]; // the client's own patterns

const realImmediate = globalThis.setImmediate;

export function inWorld(name, body) {
  test(name, async () => {
    const world = new World();
    world.install();
    try {
      await body(world);
      await world.settles();
      assert.deepEqual(world.errors, [], "errors that were reported");
      assert.deepEqual(world.warnings, [], "warnings in the console");
      await world.closesAll();
      assert.deepEqual(world.timers, [], "timers that are left after close()");
      assert.equal(world.listeners, 0, "listeners at the window and the document that are left after close()");
    } finally {
      world.remove();
    }
  });
}

export const iso = (ms) => new Date(ms).toISOString();

export class World {
  random = 1 - 2 ** -53; // so that a back-off is its longest, unless a test says otherwise
  serverAheadMs = 0;
  sockets = [];
  streams = [];
  requests = [];
  errors = [];
  warnings = [];
  session = { status: 200, body: {} }; // or "away", "silent", or a function of the request
  events = 200; // the status of a stream of events
  answer = () => ({ status: 404, body: { detail: "no such path" } }); // of every other request
  gateway = new FakeGateway(this);

  #now = 5_000;
  #slept = 0;
  #timers = new Map();
  #frames = new Map();
  #ids = 0;
  #clients = [];
  #replaced = [];
  #targets = [];

  install() {
    this.#replace(globalThis, "setTimeout", (f, ms = 0, ...given) => this.#set(() => f(...given), ms));
    this.#replace(globalThis, "clearTimeout", (id) => this.#timers.delete(id));
    this.#replace(globalThis, "setInterval", () => assert.fail("the client needs no interval"));
    this.#replace(globalThis, "setImmediate", (f) => this.#frame(f));
    this.#replace(globalThis, "clearImmediate", (id) => this.#frames.delete(id));
    this.#replace(performance, "now", () => this.#now);
    this.#replace(Date, "now", () => START + this.#now - 5_000 + this.#slept);
    this.#replace(Math, "random", () => this.random);
    this.#replace(globalThis, "reportError", (error) => this.errors.push(error));
    this.#replace(AbortSignal, "timeout", (ms) => this.#timeout(ms));
    this.#replace(console, "warn", (...said) => this.warnings.push(said.join(" ")));
    this.#replace(globalThis, "fetch", () => assert.fail("options.fetch was not used"));
  }

  remove() {
    for (const client of this.#clients) client.close();
    for (const put of this.#replaced.reverse()) put();
  }

  // A window and a document, as a browser has them.
  isBrowser() {
    const window = counting(new EventTarget());
    const target = counting(new EventTarget());
    this.#targets = [window, target];
    const { document } = globalThis;
    this.#replace(document, "visibilityState", "visible");
    for (const name of ["addEventListener", "removeEventListener", "dispatchEvent"]) {
      this.#replace(globalThis, name, window[name].bind(window));
      this.#replace(document, name, target[name].bind(target));
    }
    this.#replace(globalThis, "window", globalThis);
    this.#replace(globalThis, "self", globalThis);
    this.#replace(globalThis, "navigator", { onLine: true });
    this.#replace(globalThis, "requestAnimationFrame", (f) => this.#frame(f));
    this.#replace(globalThis, "cancelAnimationFrame", (id) => this.#frames.delete(id));
  }

  async shows(state) {
    globalThis.document.visibilityState = state;
    globalThis.document.dispatchEvent(new Event("visibilitychange"));
    await this.settles();
  }

  async tells(name, properties = {}) {
    if (name === "online" || name === "offline") globalThis.navigator.onLine = name === "online";
    const target = name === "resume" || name === "freeze" ? globalThis.document : globalThis;
    target.dispatchEvent(Object.assign(new Event(name), properties));
    await this.settles();
  }

  connect(options = {}, url = GATEWAY) {
    const world = this;
    class WebSocket extends FakeWebSocket {
      constructor(...given) {
        super(world, ...given);
      }
    }
    const client = connect(url, { WebSocket, fetch: (...given) => this.#fetch(...given), ...options });
    this.#clients.push(client);
    return client;
  }

  get now() {
    return this.#now;
  }

  get wall() {
    return Date.now();
  }

  get serverTime() {
    return Date.now() + this.serverAheadMs;
  }

  // When the client's timers are due, in ms from now.
  get timers() {
    return [...this.#timers.values()].filter((it) => !it.isOurs).map(({ at }) => at - this.#now);
  }

  get listeners() {
    return this.#targets.reduce((sum, target) => sum + target.count, 0);
  }

  // Everything that needs no time happens.
  async settles() {
    for (let turn = 0; turn < 3; turn++) await new Promise((done) => realImmediate(done));
  }

  async passes(ms) {
    await this.settles();
    const end = this.#now + ms;
    for (;;) {
      const due = this.#next(end);
      if (!due) break;
      const [id, { f, at }] = due;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, at);
      f();
      await this.settles();
    }
    this.#now = end;
    await this.settles();
  }

  // The machine sleeps: the monotonic clock stands still meanwhile, and no timer runs.
  sleeps(ms) {
    this.#slept += ms;
  }

  // The page is drawn: what waited for an animation frame (in Node: setImmediate) is called.
  async draws() {
    await this.settles();
    const waiting = [...this.#frames.values()];
    this.#frames.clear();
    for (const f of waiting) f(this.#now);
    await this.settles();
  }

  // A timer of the world, which is none of the client's.
  later(ms, f) {
    const id = this.#set(f, ms);
    this.#timers.get(id).isOurs = true;
    return () => this.#timers.delete(id);
  }

  // The newest socket, which is being opened and waits for an answer.
  async opening() {
    await this.settles();
    const socket = this.sockets.at(-1);
    assert.ok(socket?.readyState === 0, `no socket is being opened, of ${this.sockets.length}`);
    return socket;
  }

  // How long it takes until the client tries again, by socket or by request, in ms; null if it does not in `withinMs`.
  // What it asks at this very moment is no attempt: that is how it finds out why the one before has failed.
  async untilNextAttempt(withinMs = 60_000) {
    await this.settles();
    const from = this.#now;
    let at = null;
    this.onattempt = () => {
      if (this.#now > from) at ??= this.#now;
    };
    for (let due = this.#next(from + withinMs); at === null && due; due = this.#next(from + withinMs)) {
      await this.passes(due[1].at - this.#now);
    }
    this.onattempt = null;
    return at === null ? null : Math.round(at - from);
  }

  async closesAll() {
    for (const client of this.#clients) client.close();
    await this.settles();
  }

  // The timer that is due first, if any is by then.
  #next(end) {
    let first = null;
    for (const entry of this.#timers) if (entry[1].at <= end && (!first || entry[1].at < first[1].at)) first = entry;
    return first;
  }

  #timeout(ms) {
    const control = new AbortController();
    this.later(ms, () => control.abort(new DOMException("it took too long", "TimeoutError")));
    return control.signal;
  }

  #frame(f) {
    this.#ids += 1;
    this.#frames.set(this.#ids, f);
    return this.#ids;
  }

  #set(f, ms) {
    assert.ok(ms <= 2 ** 31 - 1, `a timer of ${ms} ms, which a browser fires at once`);
    this.#ids += 1;
    this.#timers.set(this.#ids, { f, at: this.#now + Math.max(0, ms), isOurs: false });
    return this.#ids;
  }

  #replace(owner, name, value) {
    const before = Object.getOwnPropertyDescriptor(owner, name);
    const put = () => (before ? Object.defineProperty(owner, name, before) : delete owner[name]);
    this.#replaced.push(put);
    Object.defineProperty(owner, name, { value, configurable: true, writable: true });
  }

  async #fetch(input, init = {}) {
    const url = new URL(input);
    const headers = new Headers(init.headers);
    const request = { url, path: url.pathname, method: init.method ?? "GET", headers, signal: init.signal };
    request.body = init.body === undefined ? undefined : JSON.parse(init.body);
    this.requests.push(request);
    this.onattempt?.();
    if (init.signal?.aborted) throw init.signal.reason;
    if (url.pathname.endsWith("/api/v1/events") && request.method === "GET") return this.#stream(request);
    const isSession = url.pathname.endsWith("/api/v1/session");
    const script = isSession ? this.session : this.answer;
    const made = typeof script === "function" ? script(request) : script;
    if (made === "away") throw new TypeError("fetch failed");
    if (made === "silent") return never(init.signal);
    const body = isSession && made.status === 200 ? { ...this.#sessionFields(), ...made.body } : made.body;
    return new Response(JSON.stringify(body ?? {}), { status: made.status, headers: made.headers });
  }

  #sessionFields() {
    const open = { auth: "none", authenticated: true, roles: ["subscriber", "publisher", "admin"], types: null };
    return { version: "1.1.0", ...open, expires_at: null, status: "ready", retry_after_s: null, now: iso(this.serverTime) };
  }

  #stream(request) {
    if (this.events === "away") throw new TypeError("fetch failed");
    if (this.events === "silent") return never(request.signal);
    if (this.events !== 200) {
      const { status, ...rest } = typeof this.events === "object" ? this.events : { status: this.events };
      return new Response(JSON.stringify(rest.body ?? {}), { status, headers: rest.headers });
    }
    const stream = new FakeStream(request);
    this.streams.push(stream);
    if (this.gateway.isUp) queueMicrotask(() => this.gateway.attach(stream));
    return new Response(stream.body, { headers: { "Content-Type": "text/event-stream" } });
  }
}

function never(signal) {
  return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
}

function counting(target) {
  const [add, remove] = [target.addEventListener.bind(target), target.removeEventListener.bind(target)];
  const known = new Map();
  target.count = 0;
  target.addEventListener = (type, f, options) => {
    add(type, f, options);
    if (known.get(f)?.has(type)) return;
    known.set(f, (known.get(f) ?? new Set()).add(type));
    target.count += 1;
    options?.signal?.addEventListener("abort", () => target.removeEventListener(type, f));
  };
  target.removeEventListener = (type, f, options) => {
    remove(type, f, options);
    if (known.get(f)?.delete(type)) target.count -= 1;
  };
  return target;
}

// What a link to the client has in common, for who speaks as the gateway.
class FakeEnd extends EventTarget {
  subscriptions = new Set();

  welcomes({ epoch = "k3f9", seq = 400, resumed = false, subscriptions = null, heartbeatS = 10 } = {}) {
    const known = (subscriptions ?? this.types).slice().sort();
    this.subscriptions = new Set(known);
    this.says({
      type: "welcome",
      data: {
        client_id: "c1",
        protocol: 1,
        server: "tidegate/1.1.0",
        epoch,
        seq,
        resumed,
        subscriptions: known,
        heartbeat_interval_s: heartbeatS,
      },
    });
  }

  // Let in, with these values, and up to date.
  admits({ values = [], ...fields } = {}) {
    this.accepts();
    this.welcomes(fields);
    for (const value of values) this.says({ snapshot: true, ...value });
    this.syncs(fields.seq ?? 400, fields.epoch);
  }

  syncs(seq, epoch = "k3f9") {
    this.says({ type: "synced", data: { epoch, seq } });
  }

  get types() {
    return this.url.searchParams.get("types")?.split(",").filter(Boolean) ?? [];
  }

  // What the user of the client has asked for: without the client's own patterns.
  get asked() {
    return this.types.filter((type) => !ADDED.includes(type)).sort();
  }

  get since() {
    return this.url.searchParams.get("since");
  }
}

export class FakeWebSocket extends FakeEnd {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  readyState = 0;
  bufferedAmount = 0;
  protocol = "";
  sent = [];
  closedWith = null; // what the client closed it with
  answersPings = true;
  isSynced = false;
  #held = [];

  constructor(world, url, protocols = []) {
    super();
    this.world = world;
    this.url = new URL(url);
    this.protocols = [protocols].flat();
    counting(this);
    world.sockets.push(this);
    world.onattempt?.();
    if (world.gateway.isUp) queueMicrotask(() => world.gateway.attach(this));
  }

  // The client's side.

  send(text) {
    if (this.readyState === 0) throw new DOMException("still in CONNECTING state", "InvalidStateError");
    if (this.readyState !== 1) return;
    const message = JSON.parse(text);
    const { id } = message;
    assert.ok(Number.isInteger(id) || typeof id === "string", `the gateway takes no id like ${JSON.stringify(id)}`);
    this.sent.push(message);
    if (this.world.gateway.isUp) queueMicrotask(() => this.world.gateway.take(this, message));
    else if (message.type === "ping" && this.answersPings) this.#answers(message);
  }

  close(code, reason) {
    assert.ok(code === undefined || code === 1000 || (code >= 3000 && code <= 4999), `a browser refuses close(${code})`);
    if (this.readyState >= 2) return;
    this.readyState = 2;
    this.closedWith = { code, reason };
  }

  // The gateway's side.

  accepts() {
    if (this.readyState !== 0) return;
    this.readyState = 1;
    this.#tell(new Event("open"));
  }

  says(message) {
    if (this.readyState !== 1) return;
    this.lastId = message.id;
    const timed = { ...message, timestamp: message.timestamp ?? iso(this.world.serverTime) };
    this.#tell(Object.assign(new Event("message"), { data: JSON.stringify(timed) }));
  }

  // A pong does not overtake a synced.
  syncs(...given) {
    super.syncs(...given);
    this.isSynced = true;
    for (const ping of this.#held.splice(0)) this.#answers(ping);
  }

  #answers(ping) {
    if (this.isSynced) queueMicrotask(() => this.pongs(ping));
    else this.#held.push(ping);
  }

  pongs({ id }, timestamp = iso(this.world.serverTime)) {
    this.says({ type: "pong", timestamp, id, data: {} });
  }

  // The connection ends, as the browser tells it.
  ends(code = 1006, reason = "") {
    const wasOpening = this.readyState === 0;
    this.readyState = 3;
    if (wasOpening || code === 1006) this.#tell(new Event("error"));
    this.#tell(Object.assign(new Event("close"), { code, reason, wasClean: code !== 1006 }));
  }

  of(type) {
    return this.sent.filter((message) => message.type === type);
  }

  // The patterns of its newest `subscribe` or `unsubscribe`.
  newest(type) {
    const message = this.of(type).at(-1);
    return message && [...(message.data?.types ?? message.types)].sort();
  }

  // Those that could still tell the client something.
  get handlers() {
    return this.count + ["onmessage", "onclose"].filter((name) => typeof this[name] === "function").length;
  }

  #tell(event) {
    this[`on${event.type}`]?.(event);
    this.dispatchEvent(event);
  }
}

// An event stream of `fetch`, as the gateway writes it.
export class FakeStream extends FakeEnd {
  isOpen = true;
  #controller;

  constructor({ url, headers, signal }) {
    super();
    Object.assign(this, { url, headers, signal });
    this.body = new ReadableStream({
      start: (controller) => (this.#controller = controller),
      cancel: () => (this.isOpen = false),
    });
    signal?.addEventListener("abort", () => this.breaks(signal.reason));
  }

  accepts() {}

  get since() {
    return this.headers.get("Last-Event-ID") ?? this.url.searchParams.get("since");
  }

  says(message) {
    const timed = { timestamp: iso(Date.now()), ...message };
    const id = message.type === "synced" ? `${message.data.epoch}:${message.data.seq}` : null;
    this.writes(`event: ${message.type}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(timed)}\n\n`);
  }

  writes(text) {
    if (this.isOpen) this.#controller.enqueue(typeof text === "string" ? new TextEncoder().encode(text) : text);
  }

  ends() {
    if (this.isOpen) this.#controller.close();
    this.isOpen = false;
  }

  breaks(reason = new TypeError("network error")) {
    if (this.isOpen) this.#controller.error(reason);
    this.isOpen = false;
  }
}
