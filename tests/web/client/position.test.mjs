// The vectors of docs/vectors, held against the client through what others see of it: the URL that it opens, the
// messages that it sends, and its `position`.
//
// A vector knows nothing of listeners. This client asks for what somebody listens to: so after a cut it asks again for a
// pattern whose subscribe was not answered, and no more for one that nobody wants. Where a vector leaves the patterns to
// the gateway, this client names them. Its own three patterns are told to it, and left out where it is compared.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";

import { ADDED, inWorld } from "./world.mjs";

const DIRECTORY = new URL("../../../docs/vectors/", import.meta.url);
const ANSWERS = { subscribed: "subscribe", unsubscribed: "unsubscribe", authenticated: "auth", pong: "ping" };

for (const file of readdirSync(DIRECTORY).filter((name) => name.endsWith(".json"))) {
  const { about, url, steps } = JSON.parse(readFileSync(new URL(file, DIRECTORY), "utf8"));
  inWorld(`vector ${file}: ${about}`, async (world) => {
    await new Run(world, url, steps).holds();
  });
}

class Run {
  wanted = new Map(); // by pattern: how to end it
  ids = new Map(); // of this connection: what the vector calls a message, and the message
  ended = new Set();
  unsynced = null; // the connection on which the patterns `later` are due with the first `synced`
  later = [];

  constructor(world, url, steps) {
    Object.assign(this, { world, steps });
    const query = new URL(url, "ws://gateway").searchParams;
    const first = steps.find(({ receive }) => receive?.type === "welcome")?.receive.data.subscriptions;
    const types = query.has("types") ? list(query.get("types")) : first;
    const since = query.get("since") ?? undefined;
    this.client = world.connect({ since, transport: "websocket", token: steps.some(isAuth) ? () => jwt(world) : undefined });
    for (const type of types) this.want(type);
  }

  async holds() {
    await this.opens();
    for (const [index, step] of this.steps.entries()) {
      this.where = `step ${index + 1}`;
      if (step.send) await this.send(step.send);
      else if (step.receive) await this.receive(step.receive, step.position);
      else await this.cut(step.cut);
    }
  }

  want(type) {
    if (!this.wanted.has(type)) this.wanted.set(type, this.client.on(type, () => {}));
  }

  async opens() {
    this.socket = await this.world.opening();
    this.socket.accepts();
    this.socket.answersPings = false;
    this.ids = new Map();
  }

  async send({ type, id, data }) {
    const before = this.socket.sent.length;
    if (type === "subscribe") for (const pattern of data.types) this.want(pattern);
    if (type === "unsubscribe") for (const pattern of data.types) this.end(pattern);
    await this.world.settles();
    if (type === "auth") await this.world.passes(21_000);
    this.ids.set(`${type} ${id}`, before);
  }

  end(pattern) {
    this.wanted.get(pattern)();
    this.wanted.delete(pattern);
  }

  async receive(message, position) {
    const { type, data } = message;
    const told = { ...message, timestamp: undefined, data: { ...data } }; // by the clock of this world
    if (typeof data !== "object") told.data = data;
    if (type === "welcome") told.data.subscriptions = [...new Set([...data.subscriptions, ...ADDED])].sort();
    if (type in ANSWERS && data.types) told.data.types = [...new Set([...data.types, ...ADDED])].sort();
    if (type in ANSWERS || type === "error") told.id = this.idOf(message);
    if (type === "authenticated") for (const gone of this.missing(told.data.types)) this.forget(gone);
    if (type === "error") this.forget("b");
    this.socket.says(told);
    await this.world.settles();
    assert.equal(this.client.position, position, `${this.where}, ${type}`);
    if (type === "synced" || type === "pong") this.asksForTheRest();
    if (this.asked().some((pattern) => this.ended.has(pattern))) this.refuses();
    else if (this.unsynced === this.socket) assert.deepEqual(this.asked(), [], `${this.where}: too early`);
  }

  // The gateway does not let it have that pattern. It asks again after a renewal, since somebody listens.
  forget(pattern) {
    this.wanted.delete(pattern);
    this.ended.add(pattern);
  }

  refuses() {
    const { id } = this.socket.of("subscribe").at(-1);
    this.socket.says({ type: "error", id, data: { code: "FORBIDDEN", message: "not covered", retryable: false } });
  }

  missing(types) {
    return [...this.wanted.keys()].filter((pattern) => !types.includes(pattern));
  }

  // The id that the client gave to the message that this one answers.
  idOf({ type, id }) {
    const asked = ANSWERS[type] ?? "subscribe";
    const from = this.ids.get(`${asked} ${id}`) ?? 0;
    const candidates = this.socket.sent.slice(type === "pong" ? 0 : from).filter((message) => message.type === asked);
    const found = type === "pong" ? candidates.at(-1) : candidates[0];
    const mayBeMissing = ["subscribed", "unsubscribed", "pong"].includes(type); // it does not pipeline as a vector may
    assert.ok(found || mayBeMissing, `${this.where}: nothing was sent that is answered by ${type}`);
    return found?.id ?? "of the vector";
  }

  asked() {
    return (this.socket.newest("subscribe") ?? []).filter((type) => !ADDED.includes(type));
  }

  asksForTheRest() {
    if (this.unsynced !== this.socket) return;
    const asked = this.asked().filter((pattern) => !this.ended.has(pattern));
    assert.deepEqual(asked, this.later, `${this.where}: what it asks for after the synced`);
    this.unsynced = null;
  }

  async cut({ url, subscribe }) {
    this.socket.ends(1006);
    await this.world.untilNextAttempt();
    await this.opens();
    const query = new URL(url, "ws://gateway").searchParams;
    const since = query.get("since");
    const isWanted = (pattern) => this.wanted.has(pattern) && !ADDED.includes(pattern);
    const wanted = [...this.wanted.keys()].filter(isWanted).sort();
    const expected = since === null ? wanted : list(query.get("types")).filter(isWanted).sort();
    assert.equal(this.socket.since, since, this.where);
    assert.deepEqual(this.socket.asked.filter(isWanted), expected, `${this.where}: types`);
    this.later = wanted.filter((pattern) => !expected.includes(pattern));
    for (const pattern of subscribe.filter(isWanted)) assert.ok(this.later.includes(pattern), this.where);
    this.unsynced = this.socket;
  }
}

const list = (types) => types.split(",").filter(Boolean);
const isAuth = ({ send }) => send?.type === "auth";

function jwt(world) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.round(world.wall / 1000);
  return `${part({ alg: "HS256" })}.${part({ iat: now, exp: now + 40 })}.${part(world.now)}`;
}
