// Random schedules of everything that may happen to a client, one for each seed. After each step: no value is fresh
// that the gateway does not vouch for, nothing was lost without a gap, nothing came twice, and no attempt came in a hurry.
// In the end the gateway is there, and the client must be back by itself. MODEL_SEEDS says how many; MODEL_SEED runs one.

import assert from "node:assert/strict";
import test from "node:test";

import { World, iso } from "./world.mjs";

const { MODEL_SEEDS = "40", MODEL_SEED } = process.env;
const STEPS = 60;
const GRACE_MS = 2000;
const SILENT_MS = 25_000;
const PATTERNS = ["a", "b", "a.*", "c", "*"];
const TYPES = ["a", "a.x", "b", "c"];
const STATES = { true: "stale", false: "fresh", undefined: "published" };

function chance(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Model {
  steps = [];
  offs = new Map(); // by pattern, of those that are followed
  logged = 0; // how many events of the type `log` were published
  got = [];
  excused = 0; // up to this one they may be missing
  mayMiss = true; // it was told of a gap, or was never live
  lostAt = null; // when it ceased to be live
  frozenAt = null;
  epochs = 0;
  whims = 0;
  isEnding = false;
  held = []; // what happens as soon as the gateway is not frozen any more

  constructor(seed) {
    this.random = chance(seed);
    this.world = new World();
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }

  start() {
    const { world } = this;
    world.install();
    world.isBrowser();
    world.gateway.starts();
    this.slows(this.pick([0, 0, 30, 400]));
    const transport = this.pick(["auto", "auto", "sse"]);
    const closeWhenHiddenS = this.pick([null, 5]);
    this.client = world.connect({ transport, closeWhenHiddenS });
    this.client.on("log", (event) => this.got.push(event.data));
    this.client.onGap(() => (this.mayMiss = true));
    for (const name of ["onStatus", "onGap"]) this.client[name](() => this.hasAWhim());
    for (const name of ["onStale", "onFresh"]) this.client[name]("log", () => this.hasAWhim());
    this.client.onStatus(({ state }) => {
      if (state === "live") this.lostAt = null;
      else this.lostAt ??= world.now;
    });
  }

  // A listener calls the client.
  hasAWhim() {
    if (this.random() > 0.02 || this.isEnding) return;
    this.whims += 1;
    this.pick([() => this.client.reconnect(), () => this.leaves(), () => this.follows()])();
  }

  // What a client sends takes a while.
  slows(ms) {
    const { gateway } = this.world;
    for (const name of ms ? ["attach", "take"] : []) {
      const does = gateway[name].bind(gateway);
      gateway[name] = (...given) => this.world.later(ms, () => this.soon(() => gateway.isUp && does(...given)));
    }
  }

  // Those that the gateway keeps too.
  get values() {
    return this.client.store.list("*").filter(({ type }) => type !== "log");
  }

  get isServed() {
    return this.world.gateway.isUp;
  }

  // What may happen, by its weight.
  get happenings() {
    const { world, client } = this;
    const { gateway } = world;
    return {
      publishes: [6, () => this.publishes()],
      logs: [6, () => this.soon(() => gateway.publishes({ type: "log", retain: false, data: (this.logged += 1) }))],
      follows: [4, () => this.follows()],
      leaves: [3, () => this.leaves()],
      "leaves and follows": [5, () => this.leavesAndFollows()],
      cuts: [3, () => gateway.cuts(this.pick([1006, 1001, 1012, 4408]))],
      stops: [1, () => this.stops()],
      starts: [2, () => this.starts()],
      restarts: [1, () => this.restarts()],
      freezes: [1, () => this.freezes()],
      garbles: [1, () => this.garbles()],
      refuses: [1, () => world.sockets.at(-1)?.readyState === 0 && world.sockets.at(-1).ends()],
      reconnects: [1, () => client.reconnect()],
      hides: [1, () => world.shows("hidden")],
      shows: [2, () => world.shows("visible")],
      "goes offline": [1, () => world.tells("offline")],
      "goes online": [2, () => world.tells("online")],
      "is put away": [1, () => world.tells("pagehide", { persisted: true })],
      "is taken out": [2, () => world.tells("pageshow", { persisted: true })],
      sleeps: [1, () => world.sleeps(this.pick([1_000, 60_000, 3_600_000, -60_000]))],
      "waits a little": [6, () => this.waits(this.random() * 300)],
      waits: [6, () => this.waits(this.random() * 4_000)],
      "waits long": [2, () => this.waits(this.random() * 40_000)],
    };
  }

  soon(call) {
    if (this.frozenAt === null) call();
    else this.held.push(call);
  }

  publishes() {
    const type = this.pick(TYPES);
    const key = this.pick(["k", "l"]);
    const stale = this.pick([true, false, false, undefined]);
    const told = stale === undefined ? {} : { source: "e", stale, as_of: iso(this.world.serverTime) };
    const gone = this.random() < 0.2 ? { gone: true } : {};
    this.soon(() => this.world.gateway.publishes({ type, key, data: this.random(), ...told, ...gone }));
  }

  follows(pattern = this.pick(PATTERNS)) {
    if (!this.offs.has(pattern)) this.offs.set(pattern, this.client.on(pattern, () => {}));
  }

  leaves(pattern = this.pick([...this.offs.keys()])) {
    this.offs.get(pattern)?.();
    this.offs.delete(pattern);
  }

  // Within one round trip: the answer to the unsubscribe is still under way, and the world goes on.
  async leavesAndFollows() {
    const pattern = this.pick([...this.offs.keys()]);
    if (!pattern) return;
    const { gateway } = this.world;
    const take = gateway.take.bind(gateway);
    const late = [];
    gateway.take = (...given) => void late.push(given);
    this.leaves(pattern);
    await this.world.settles();
    for (let n = 0; n < 3; n++) this.publishes();
    this.follows(pattern);
    await this.world.settles();
    gateway.take = take;
    for (const given of late) if (gateway.isUp) take(...given);
  }

  stops() {
    this.thaws();
    if (this.isServed) this.world.gateway.stops(this.pick([1006, 1001]));
    this.world.session = "away";
  }

  starts() {
    this.thaws();
    if (!this.isServed) this.world.gateway.starts();
    this.world.session = { status: 200, body: {} };
  }

  // Another process: it has kept some of what was published.
  restarts() {
    this.stops();
    const { gateway } = this.world;
    const kept = [...gateway.retained.values()].filter(() => this.random() < 0.5);
    gateway.starts({ epoch: `e${(this.epochs += 1)}`, values: kept.map(({ seq, timestamp, ...event }) => event) });
    this.world.session = { status: 200, body: {} };
  }

  freezes() {
    if (!this.isServed) return;
    this.world.gateway.freezes();
    this.frozenAt = this.world.now;
    this.world.session = "silent";
    for (const socket of this.world.sockets.filter(({ readyState }) => readyState === 1)) {
      socket.send = (text) => this.held.push(() => this.world.gateway.take(socket, JSON.parse(text)));
    }
  }

  thaws() {
    if (this.frozenAt === null) return;
    this.frozenAt = null;
    this.world.gateway.starts();
    for (const socket of this.world.sockets) delete socket.send;
    for (const call of this.held.splice(0)) call();
  }

  garbles() {
    const text = this.pick(["null", "<html>", "5", '{"type":"synced"}']);
    this.world.sockets.at(-1)?.onmessage?.({ data: text });
    this.world.streams.at(-1)?.writes(`data: ${text}\n\n`);
  }

  // Without anybody's doing there are few attempts.
  async waits(ms) {
    let attempts = 0;
    this.whims = 0;
    this.world.onattempt = () => (attempts += 1);
    await this.world.passes(ms);
    this.world.onattempt = null;
    assert.ok(attempts <= 6 + ms / 200 + 3 * this.whims, `${attempts} attempts in ${ms} ms`);
  }

  async step() {
    const { happenings } = this;
    const names = Object.keys(happenings).flatMap((name) => Array(happenings[name][0]).fill(name));
    const name = this.pick(names);
    this.steps.push(name);
    this.world.random = this.random();
    await happenings[name][1]();
    if (this.random() < 0.7) await this.world.settles();
    else return; // the next comes within the same turn
    this.check();
  }

  check() {
    const { client, world } = this;
    const { state } = client.status;
    const isLive = state === "live";
    for (const value of this.values) {
      if (value.state !== "fresh" && value.state !== "published") continue;
      const what = `${value.type}/${value.key} is ${value.state} while ${state}`;
      if (!isLive) {
        assert.ok(["connecting", "waiting", "offline"].includes(state), what);
        assert.ok(world.now - this.lostAt <= GRACE_MS, `${what}, ${world.now - this.lostAt} ms after the loss`);
      } else if (this.frozenAt !== null) {
        assert.ok(world.now - this.frozenAt <= SILENT_MS, `${what}, ${world.now - this.frozenAt} ms after a silence began`);
      } else {
        this.checkAgainst(world.gateway.retained.get(`${value.type} ${value.key ?? ""}`), value, what);
      }
    }
    if (isLive && this.frozenAt === null) this.checkLog();
    assert.equal(new Set(this.got).size, this.got.length, "none twice");
  }

  checkAgainst(event, value, what) {
    assert.ok(event, `${what}, and has gone`);
    assert.deepEqual([value.seq, value.data, value.state], [event.seq, event.data, STATES[event.stale]], what);
  }

  checkLog() {
    if (this.mayMiss) this.excused = this.logged;
    this.mayMiss = false;
    const got = new Set(this.got);
    for (let n = this.excused + 1; n <= this.logged; n++) assert.ok(got.has(n), `log ${n} of ${this.logged} was lost in silence`);
  }

  async end() {
    const { world, client } = this;
    this.isEnding = true;
    this.starts();
    await world.tells("online");
    await world.tells("pageshow", { persisted: true });
    await world.shows("visible");
    await this.waits(40_000);
    assert.equal(client.status.state, "live", `in the end it is ${client.status.state}: ${client.status.reason}`);
    this.check();
    const isWanted = ({ type }) => [...this.offs.keys()].some((pattern) => matches(pattern, type));
    const wanted = [...world.gateway.retained.values()].filter(isWanted);
    const names = (list) => list.map(({ type, key, seq }) => `${type} ${key} ${seq}`).sort();
    assert.deepEqual(names(this.values), names(wanted), "in the end the store has everything, and nothing else");
    assert.deepEqual(world.errors, []);
    client.close();
    await world.settles();
    assert.deepEqual(world.timers, [], "timers that are left");
    assert.equal(await world.untilNextAttempt(), null);
  }
}

const matches = (pattern, type) => pattern === "*" || pattern === type || (pattern === "a.*" && type.startsWith("a."));

async function runs(seed) {
  const model = new Model(seed);
  model.start();
  try {
    for (let n = 0; n < STEPS; n++) await model.step();
    await model.end();
  } catch (error) {
    error.message = `seed ${seed}: ${error.message}\nafter: ${model.steps.join(", ")}`;
    throw error;
  } finally {
    model.world.remove();
  }
}

test("whatever happens, nothing is vouched for wrongly, lost in silence or hot, and it recovers", async () => {
  const first = Number(MODEL_SEED ?? 1);
  const last = MODEL_SEED ? first : Number(MODEL_SEEDS);
  for (let seed = first; seed <= last; seed++) await runs(seed);
});
