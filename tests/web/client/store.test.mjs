// What the store says of each value, and when it says so: a value is fresh only while its newest event says so and the
// connection that brought it is live.

import assert from "node:assert/strict";

import { inWorld, iso } from "./world.mjs";

const GRACE_MS = 2000;

// An answer of the backend `engine`.
function polled(world, type, data, more = {}) {
  const as_of = iso(world.serverTime);
  return world.gateway.publishes({ type, source: "engine", stale: false, as_of, data, ...more });
}

const failed = (world, type, error_code, more = {}) =>
  polled(world, type, { n: 1 }, { stale: true, error_code, as_of: iso(world.serverTime - 4000), ...more });

const freshness = (world, type, data) =>
  world.gateway.publishes({ type: "source.freshness", key: type, data: { type, ...data } });

function breaker(world, name, state, retry_at = null) {
  const data = { breaker: name, state, from: "closed", reason: "failure_threshold", forced: false };
  const counts = { failure_count: 5, open_count: 1, opened_at: null, retry_at };
  return world.gateway.publishes({ type: "circuit_breaker.state", key: name, data: { ...data, ...counts } });
}

// A live client that follows everything.
async function following(world, options = {}) {
  if (!world.gateway.isUp) world.gateway.starts();
  const client = world.connect(options);
  client.on("*", () => {});
  await world.settles();
  assert.equal(client.status.state, "live");
  return client;
}

const states = (client, pattern = "*") =>
  Object.fromEntries(
    client.store
      .list(pattern)
      .filter(({ type }) => !["circuit_breaker.state", "source.freshness", "heartbeat"].includes(type))
      .map(({ type, key, state }) => [key ? `${type}/${key}` : type, state]),
  );

inWorld("fresh, stale, expired, published, never, and gone", async (world) => {
  world.gateway.starts();
  polled(world, "a", 1);
  failed(world, "b", "RPC_TIMEOUT");
  polled(world, "c", null, { stale: true, expired: true, error_code: "RPC_TIMEOUT" });
  world.gateway.publishes({ type: "d", key: "k", data: "hello" });
  freshness(world, "e", { stale: true, error_code: "RPC_DISCONNECT", as_of: null });
  polled(world, "f", 1, { key: "x" });
  polled(world, "f", null, { key: "x", gone: true });
  const client = await following(world);
  const expected = { a: "fresh", b: "stale", c: "expired", "d/k": "published", e: "never" };
  assert.deepEqual(states(client), expected);
  assert.equal(client.store.get("f", "x"), undefined);
});

inWorld("a value has all that its event said", async (world) => {
  world.gateway.starts();
  const { seq, timestamp, as_of } = polled(world, "a", { cpu: 1.5 }, { key: "k" });
  const client = await following(world);
  const value = client.store.get("a", "k");
  const { type, key, data, state, stale, source } = value;
  assert.deepEqual({ type, key, data, state, stale, source }, {
    type: "a", key: "k", data: { cpu: 1.5 }, state: "fresh", stale: false, source: "engine", // prettier-ignore
  });
  assert.deepEqual([value.seq, value.timestamp, value.as_of], [seq, timestamp, as_of]);
  assert.ok(!value.error_code && !value.cause && !value.retry_at);
});

inWorld("a source that was never answered has a value that says why, until its first answer", async (world) => {
  const client = await following(world);
  freshness(world, "a", { stale: true, error_code: "RPC_HTTP_STATUS", as_of: null });
  assert.deepEqual(
    [client.store.get("a").state, client.store.get("a").error_code, client.store.get("a").as_of ?? null],
    ["never", "RPC_HTTP_STATUS", null],
  );
  polled(world, "a", 1, { key: "k1" });
  freshness(world, "a", { stale: false, error_code: null, as_of: iso(world.serverTime) });
  assert.deepEqual(states(client), { "a/k1": "fresh" });
});

inWorld("a source that was never answered is seen only by those who follow it", async (world) => {
  world.gateway.starts();
  freshness(world, "a", { stale: true, error_code: "RPC_TIMEOUT", as_of: null });
  freshness(world, "b", { stale: true, error_code: "RPC_TIMEOUT", as_of: null });
  const client = world.connect();
  client.on("a", () => {});
  await world.settles();
  assert.deepEqual(states(client), { a: "never" });
});

inWorld("who comes late to a source that was never answered sees it too", async (world) => {
  world.gateway.starts();
  freshness(world, "a", { stale: true, error_code: "RPC_TIMEOUT", as_of: null });
  const client = world.connect();
  await world.settles();
  client.on("a", () => {});
  await world.settles();
  assert.deepEqual(states(client), { a: "never" });
});

inWorld("late listeners of the client's own patterns get what is known", async (world) => {
  world.gateway.starts();
  breaker(world, "engine", "closed");
  freshness(world, "a", { stale: false, error_code: null, as_of: iso(world.serverTime) });
  const client = world.connect();
  await world.settles();
  const heard = [];
  client.on("circuit_breaker.state", ({ key, snapshot }) => heard.push([key, snapshot]));
  client.on("source.freshness", ({ key, snapshot }) => heard.push([key, snapshot]));
  await world.settles();
  assert.deepEqual(heard, [["engine", true], ["a", true]]); // prettier-ignore
});

inWorld("while a breaker is open or half-open all that is stale behind it tells one story", async (world) => {
  const client = await following(world);
  const retry_at = iso(world.serverTime + 12_000);
  polled(world, "a", 1);
  failed(world, "b", "RPC_DISCONNECT");
  failed(world, "c", "RPC_TIMEOUT", { source: "other" });
  for (const state of ["open", "half_open"]) {
    breaker(world, "engine", state, retry_at);
    const { error_code, cause, state: own } = client.store.get("b");
    assert.deepEqual([own, error_code, cause], ["stale", "CIRCUIT_BREAKER_OPEN", "RPC_DISCONNECT"], state);
    assert.equal(client.store.get("b").retry_at, retry_at);
    assert.equal(client.store.get("c").error_code, "RPC_TIMEOUT", "another backend");
    assert.equal(client.store.get("a").state, "fresh");
    assert.ok(!client.store.get("a").error_code);
  }
  breaker(world, "engine", "closed");
  polled(world, "b", 2);
  assert.ok(!client.store.get("b").error_code && !client.store.get("b").retry_at);
});

inWorld("a source with a breaker of its own has the reason of that one", async (world) => {
  const client = await following(world);
  breaker(world, "engine/a", "closed");
  breaker(world, "engine", "open", iso(world.serverTime + 9_000));
  failed(world, "a", "RPC_TIMEOUT");
  assert.equal(client.store.get("a").error_code, "RPC_TIMEOUT");
  breaker(world, "engine/a", "open", iso(world.serverTime + 5_000));
  assert.equal(client.store.get("a").error_code, "CIRCUIT_BREAKER_OPEN");
  assert.equal(client.store.get("a").retry_at, iso(world.serverTime + 5_000));
});

inWorld("a newer source.freshness gives the reason", async (world) => {
  const client = await following(world);
  failed(world, "a", "RPC_TIMEOUT");
  freshness(world, "a", { stale: true, error_code: "RPC_DISCONNECT", as_of: iso(world.serverTime - 4000) });
  assert.equal(client.store.get("a").error_code, "RPC_DISCONNECT");
});

inWorld("onStale and onFresh tell of transitions, and only of those", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  const told = [];
  client.onStale("a", (value, reason) => told.push([value.state, reason]));
  client.onFresh("a", (value) => told.push([value.state]));
  await world.settles();
  assert.deepEqual(told, []);
  polled(world, "a", 2);
  failed(world, "a", "RPC_TIMEOUT");
  failed(world, "a", "RPC_DISCONNECT");
  polled(world, "b", 1);
  polled(world, "a", 3);
  polled(world, "a", 4);
  await world.settles();
  assert.deepEqual(told, [["stale", "RPC_TIMEOUT"], ["fresh"]]);
});

inWorld("what onStale and onFresh gave back ends them", async (world) => {
  const client = await following(world);
  const told = [];
  client.onStale("a", () => told.push("stale"))();
  client.onFresh("a", () => told.push("fresh"))();
  polled(world, "a", 1);
  failed(world, "a", "RPC_TIMEOUT");
  polled(world, "a", 2);
  await world.settles();
  assert.deepEqual(told, []);
});

inWorld("cut off for longer than the grace: all is unvouched, told once each; and back", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  polled(world, "b", 1, { key: "k" });
  failed(world, "c", "RPC_TIMEOUT");
  world.gateway.publishes({ type: "d", data: 1 });
  const told = [];
  client.onStale("*", ({ type, key }, reason) => ["a", "b"].includes(type) && told.push(`${type}/${key ?? ""} ${reason}`));
  client.onFresh("*", ({ type }) => ["a", "b", "c"].includes(type) && told.push(`${type} fresh`));
  world.gateway.stops();
  world.session = "away";
  await world.passes(GRACE_MS - 10);
  assert.deepEqual(states(client), { a: "fresh", "b/k": "fresh", c: "stale", d: "published" });
  await world.passes(20);
  assert.deepEqual(states(client), { a: "unvouched", "b/k": "unvouched", c: "unvouched", d: "unvouched" });
  const { stale, error_code, data } = client.store.get("c");
  assert.deepEqual([stale, error_code, data], [true, "RPC_TIMEOUT", { n: 1 }], "what it hides stays");
  assert.equal(client.store.get("a").stale, false);
  await world.passes(60_000);
  assert.deepEqual(told.sort(), ["a/ DISCONNECTED", "b/k DISCONNECTED"]);
  told.length = 0;
  world.session = { status: 200, body: {} };
  world.gateway.starts();
  await world.passes(10_000);
  assert.deepEqual(states(client), { a: "fresh", "b/k": "fresh", c: "stale", d: "published" });
  assert.deepEqual(told.sort(), ["a fresh", "b fresh"]);
});

inWorld("a reconnect within the grace changes no state, and is no event for who watches", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  const before = client.store.get("a");
  const told = [];
  client.onStale("*", () => told.push("stale"));
  client.onFresh("*", () => told.push("fresh"));
  world.gateway.cuts();
  await world.passes(5_000);
  assert.equal(world.sockets.length, 2);
  assert.equal(client.status.state, "live");
  assert.equal(client.store.get("a"), before);
  assert.deepEqual(told, []);
});

inWorld("the grace can be set", async (world) => {
  const client = await following(world, { graceMs: 0 });
  polled(world, "a", 1);
  world.gateway.stops();
  await world.passes(1);
  assert.equal(client.store.get("a").state, "unvouched");
});

inWorld("the grace is for the whole loss, however often it is tried meanwhile", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  world.gateway.isUp = false;
  world.gateway.cuts();
  await world.passes(1_000);
  world.sockets.at(-1).accepts();
  world.sockets.at(-1).ends(1006);
  await world.passes(1_100);
  assert.equal(client.store.get("a").state, "unvouched");
});

inWorld("a resumed connection vouches for nothing before its replay is through", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  world.gateway.isUp = false;
  world.gateway.cuts();
  await world.passes(3_500);
  const socket = world.sockets.at(-1);
  assert.equal(client.store.get("a").state, "unvouched");
  socket.accepts();
  socket.welcomes({ resumed: true, seq: 401 });
  await world.settles();
  assert.equal(client.store.get("a").state, "unvouched");
  const stale = { stale: true, error_code: "RPC_TIMEOUT", source: "engine", as_of: null };
  socket.says({ type: "a", seq: 402, data: 1, ...stale });
  socket.syncs(402);
  await world.settles();
  assert.equal(client.store.get("a").state, "stale");
});

inWorld("a connection that is let in and not brought up to date is no end of the grace", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  world.gateway.isUp = false;
  world.gateway.cuts();
  await world.passes(1_000);
  const socket = world.sockets.at(-1);
  socket.accepts();
  socket.welcomes({ resumed: true, seq: 401 });
  await world.passes(1_100);
  assert.equal(client.store.get("a").state, "unvouched");
  socket.syncs(401);
  assert.equal(client.store.get("a").state, "fresh");
});

inWorld("a value that is stale when it comes back is not told as fresh", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  const told = [];
  client.onFresh("*", () => told.push("fresh"));
  world.gateway.isUp = false;
  world.gateway.cuts();
  world.session = "away";
  await world.passes(3_000);
  failed(world, "a", "RPC_DISCONNECT");
  world.session = { status: 200, body: {} };
  world.gateway.starts();
  await world.passes(20_000);
  assert.equal(client.store.get("a").state, "stale");
  assert.deepEqual(told, []);
});

inWorld("a new epoch: nothing flickers, old values are unvouched until their snapshot, the rest is swept", async (world) => {
  const client = await following(world, { graceMs: 0 });
  polled(world, "a", 1);
  polled(world, "b", 2);
  const gaps = [];
  client.onGap((gap) => gaps.push(gap));
  world.gateway.isUp = false;
  world.gateway.cuts();
  await world.passes(1_000);
  const socket = world.sockets.at(-1);
  socket.accepts();
  socket.welcomes({ epoch: "m0p2", seq: 3 });
  socket.says({ type: "gap", data: { reason: "epoch_changed", requested: "k3f9:402", skipped: {} } });
  await world.settles();
  assert.deepEqual(states(client), { a: "unvouched", b: "unvouched" });
  assert.equal(client.store.get("a").data, 1);
  const told = { source: "engine", stale: false, as_of: iso(world.serverTime) };
  socket.says({ type: "a", seq: 2, data: 10, snapshot: true, ...told });
  assert.equal(client.store.get("a").data, 10, "a smaller seq of a newer epoch is newer");
  assert.equal(client.store.get("b").state, "unvouched");
  socket.syncs(3, "m0p2");
  await world.settles();
  assert.deepEqual(states(client), { a: "fresh" });
  assert.equal(gaps.length, 1);
  assert.deepEqual([gaps[0].reason, gaps[0].valuesComplete], ["epoch_changed", true]);
});

inWorld("breakers and freshness of an epoch that is over are swept too", async (world) => {
  const client = await following(world);
  breaker(world, "engine", "open", iso(world.serverTime + 9_000));
  freshness(world, "b", { stale: true, error_code: "RPC_TIMEOUT", as_of: null });
  world.gateway.stops();
  await world.passes(1);
  world.gateway.starts({ epoch: "m0p2" });
  failed(world, "a", "RESTORED");
  await world.passes(10_000);
  assert.equal(client.store.get("a").error_code, "RESTORED");
  assert.deepEqual(states(client), { a: "stale" });
});

inWorld("a connection that could not be resumed sweeps what was deleted meanwhile", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  polled(world, "b", 1);
  world.gateway.isUp = false;
  world.gateway.cuts();
  await world.passes(1_000);
  const socket = world.sockets.at(-1);
  socket.accepts();
  socket.welcomes({ seq: 90_000 });
  socket.says({ type: "gap", data: { reason: "history_truncated", requested: "k3f9:402", skipped: {} } });
  socket.says({ type: "a", seq: 89_000, data: 2, snapshot: true, source: "engine", stale: false, as_of: iso(0) });
  socket.syncs(90_000);
  await world.settles();
  assert.deepEqual(states(client), { a: "fresh" });
});

inWorld("cut in the middle of the snapshots of a new epoch: what was not handed over is not vouched for", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  world.gateway.isUp = false;
  world.gateway.cuts();
  await world.passes(1_000);
  const [, socket] = world.sockets;
  socket.accepts();
  socket.welcomes({ epoch: "m0p2", seq: 3 });
  socket.says({ type: "gap", data: { reason: "epoch_changed", requested: "k3f9:401", skipped: {} } });
  socket.ends();
  await world.untilNextAttempt();
  const next = await world.opening();
  assert.equal(next.since, null);
  assert.equal(client.store.get("a").state, "unvouched");
  next.admits({ epoch: "m0p2", seq: 3 });
  await world.settles();
  assert.equal(client.store.get("a"), undefined);
});

inWorld("what a slow reader missed is told, with counts; the values that follow count", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  const gaps = [];
  client.onGap((gap) => gaps.push(gap));
  const [socket] = world.sockets;
  socket.says({ type: "gap", data: { reason: "slow_consumer", requested: null, skipped: { a: 12 } } });
  socket.says({ type: "a", seq: 450, data: 5, source: "engine", stale: false, as_of: iso(world.serverTime) });
  await world.settles();
  assert.equal(gaps[0].reason, "slow_consumer");
  assert.deepEqual(gaps[0].skipped, { a: 12 });
  assert.deepEqual([client.store.get("a").data, client.store.get("a").state], [5, "fresh"]);
});

inWorld("a replayed event never puts an older value over a newer one", async (world) => {
  const client = await following(world);
  polled(world, "a", 1);
  const [socket] = world.sockets;
  socket.says({ type: "a", seq: 399, data: 0, snapshot: true, source: "engine", stale: false, as_of: iso(0) });
  assert.equal(client.store.get("a").data, 1);
});

inWorld("a list is the same array until something in it changes", async (world) => {
  const client = await following(world);
  polled(world, "a.x", 1);
  polled(world, "b", 1);
  const list = client.store.list("a.*");
  const value = client.store.get("a.x");
  assert.ok(Object.isFrozen(value));
  polled(world, "b", 2);
  assert.equal(client.store.list("a.*"), list);
  assert.equal(client.store.get("a.x"), value);
  polled(world, "a.x", 2);
  assert.notEqual(client.store.list("a.*"), list);
  assert.deepEqual(list.map(({ data }) => data), [1]); // prettier-ignore
  assert.deepEqual(client.store.list("a.*").map(({ data }) => data), [2]); // prettier-ignore
  const again = client.store.list("a.*");
  world.gateway.stops();
  await world.passes(3_000);
  assert.notEqual(client.store.list("a.*"), again, "a change of state is a change");
  assert.equal(value.state, "fresh", "what was handed out stays as it was");
});

inWorld("an empty list is the same array too", async (world) => {
  const client = await following(world);
  assert.equal(client.store.list("nothing.*"), client.store.list("nothing.*"));
  assert.deepEqual([...client.store.list("nothing.*")], []);
});

inWorld("subscribers of the store are told at most once in a frame, and only of their pattern", async (world) => {
  const client = await following(world);
  const told = { a: 0, b: 0, off: 0 };
  client.store.subscribe("a.*", () => (told.a += 1));
  client.store.subscribe("b", () => (told.b += 1));
  client.store.subscribe("a.*", () => (told.off += 1))();
  for (let n = 0; n < 10; n++) polled(world, "a.x", n);
  assert.equal(told.a, 0);
  await world.draws();
  assert.deepEqual(told, { a: 1, b: 0, off: 0 });
  await world.draws();
  assert.equal(told.a, 1);
  world.gateway.stops();
  await world.passes(3_000);
  await world.draws();
  assert.equal(told.a, 2, "a change of state is told too");
});

inWorld("a subscriber of the store that throws stops nobody", async (world) => {
  const client = await following(world);
  let told = 0;
  client.store.subscribe("a", () => {
    throw new Error("of a subscriber");
  });
  client.store.subscribe("a", () => (told += 1));
  polled(world, "a", 1);
  await world.draws();
  assert.equal(told, 1);
  assert.equal(world.errors.splice(0).length, 1);
});

inWorld("`since` is of the state, `changedAt` of the data", async (world) => {
  const client = await following(world);
  polled(world, "a", { n: 1 });
  const first = client.store.get("a");
  await world.passes(1_000);
  polled(world, "a", { n: 1 });
  const same = client.store.get("a");
  assert.deepEqual([same.since, same.changedAt], [first.since, first.changedAt]);
  await world.passes(1_000);
  polled(world, "a", { n: 2 });
  const other = client.store.get("a");
  assert.equal(other.since, first.since);
  assert.notEqual(other.changedAt, first.changedAt);
  await world.passes(1_000);
  failed(world, "a", "RPC_TIMEOUT", { data: { n: 2 } });
  assert.notEqual(client.store.get("a").since, first.since);
  assert.equal(client.store.get("a").changedAt, other.changedAt);
});

inWorld("ready() waits for the first values", async (world) => {
  const client = world.connect();
  client.on("a", () => {});
  let isReady = false;
  client.ready().then(() => (isReady = true));
  const socket = await world.opening();
  socket.accepts();
  socket.welcomes();
  await world.settles();
  assert.equal(isReady, false);
  socket.syncs(400);
  await world.settles();
  assert.equal(isReady, true);
  await client.ready();
});

inWorld("ready() ends with its signal, and with the client", async (world) => {
  const client = world.connect();
  const control = new AbortController();
  const aborted = assert.rejects(client.ready({ signal: control.signal }));
  control.abort(new Error("no longer"));
  await aborted;
  await assert.rejects(client.ready({ signal: AbortSignal.abort() }));
  const closed = assert.rejects(client.ready());
  client.close();
  await closed;
});

inWorld("a list of the client's own patterns that was asked for too early is right once somebody follows them", async (world) => {
  world.gateway.starts();
  breaker(world, "engine", "closed");
  const client = world.connect();
  await world.settles();
  assert.deepEqual([...client.store.list("circuit_breaker.state")], []);
  let told = 0;
  client.store.subscribe("circuit_breaker.state", () => (told += 1));
  await world.settles();
  assert.deepEqual(client.store.list("circuit_breaker.state").map(({ key }) => key), ["engine"]); // prettier-ignore
  await world.draws();
  assert.equal(told, 1);
});
