// Gateways, proxies and listeners that do what they should not: the client recovers by itself, vouches for nothing that
// it does not know, and never becomes a hot loop.

import assert from "node:assert/strict";

import { inWorld, iso } from "./world.mjs";

const fresh = (seq, data, more = {}) => ({ type: "a", seq, source: "e", stale: false, as_of: iso(0), data, ...more });

// A live client that follows `a`, whose value is 1, over a socket that the test plays.
async function live(world, options = {}, fields = {}) {
  const client = world.connect(options);
  const heard = [];
  const off = client.on("a", (event) => heard.push(event.data));
  const socket = await world.opening();
  socket.admits({ values: [fresh(390, 1)], ...fields });
  await world.settles();
  assert.equal(client.status.state, "live");
  return { client, socket, heard, off };
}

const attempts = (world) => world.sockets.length + world.requests.length;

inWorld("close() from a listener of the status is final", async (world) => {
  const { client, socket } = await live(world);
  client.onStatus(({ state }) => state === "waiting" && client.close());
  socket.ends();
  await world.passes(60_000);
  assert.equal(client.status.state, "closed");
  assert.equal(attempts(world), 1);
});

inWorld("reconnect() from a listener that is told of a refusal tries again", async (world) => {
  const { client, socket } = await live(world);
  client.onStatus(({ state }) => state === "refused" && client.reconnect());
  socket.ends(4403, "lacks the role");
  await world.settles();
  (await world.opening()).admits();
  await world.settles();
  assert.equal(client.status.state, "live");
});

inWorld("reconnect() from a listener of the status while an old gateway answers is not live at once", async (world) => {
  const client = world.connect();
  client.on("a", () => {});
  const socket = await world.opening();
  socket.answersPings = false;
  socket.accepts();
  socket.welcomes();
  await world.settles();
  const off = client.onStatus(({ roundTripMs }) => {
    off();
    if (roundTripMs !== null) client.reconnect();
  });
  socket.pongs(socket.of("ping")[0]);
  assert.equal(client.status.state, "connecting");
});

inWorld("a value that went while nobody followed it does not come back", async (world) => {
  const { client, socket, off } = await live(world);
  off();
  await world.settles();
  const { id } = socket.of("unsubscribe")[0];
  client.on("a", () => {});
  socket.says({ type: "unsubscribed", id, data: { types: [], removed: ["a"] } });
  await world.settles();
  assert.equal(client.store.get("a"), undefined, "nobody tells of it any more");
  const types = ["a"];
  socket.says({ type: "subscribed", id: socket.of("subscribe")[0].id, data: { types, added: types, epoch: "k3f9", seq: 402 } });
  socket.syncs(402);
  await world.settles();
  assert.equal(client.store.get("a"), undefined, "it has gone meanwhile");
});

inWorld("a value that is wanted again while it resumes without it is not vouched for", async (world) => {
  const { client, socket, off } = await live(world);
  socket.ends();
  off();
  await world.passes(1_000);
  const next = await world.opening();
  client.on("a", () => {});
  next.accepts();
  next.welcomes({ resumed: true });
  next.syncs(400);
  assert.notEqual(client.store.get("a")?.state, "fresh");
});

inWorld("a value that a renewed token does not cover is not vouched for", async (world) => {
  const { client, socket } = await live(world);
  socket.says({ type: "authenticated", id: "auth", data: { types: ["heartbeat"] } });
  socket.syncs(400);
  assert.notEqual(client.store.get("a")?.state, "fresh");
});

for (const seconds of ["31536000", "Infinity", "1e30"]) {
  inWorld(`Retry-After: ${seconds} is no reason to hurry`, async (world) => {
    const client = world.connect();
    world.session = { status: 503, headers: { "Retry-After": seconds }, body: {} };
    (await world.opening()).ends();
    await world.passes(60_000);
    assert.equal(client.status.state, "waiting");
    assert.equal(attempts(world), 2);
  });
}

inWorld("a retry_after_s that is no number is ignored", async (world) => {
  const client = world.connect();
  world.session = { status: 200, body: { retry_after_s: "soon" } };
  (await world.opening()).ends();
  assert.equal(await world.untilNextAttempt(), 1000);
  assert.ok(client.status.retryAt === null || client.status.retryAt > 0);
});

for (const [what, ends] of [
  ["paused", (world) => world.tells("pagehide", { persisted: true })],
  ["refused", (world, stream) => stream.says({ type: "connection_error", data: { code: 4403, message: "no" } }) ?? stream.ends()],
]) {
  inWorld(`new patterns of an event stream that is ${what} open none`, async (world) => {
    world.isBrowser();
    const client = world.connect({ transport: "sse" });
    await world.settles();
    world.streams[0].admits();
    await world.settles();
    client.on("b", () => {});
    await world.settles();
    await ends(world, world.streams[0]);
    await world.passes(10_000);
    assert.equal(client.status.state, what);
    assert.equal(world.streams.length, 1);
  });
}

inWorld("new patterns of an event stream that was lost do not come before the time that the gateway named", async (world) => {
  const client = world.connect({ transport: "sse" });
  await world.settles();
  world.streams[0].admits();
  await world.settles();
  client.on("b", () => {});
  await world.settles();
  world.streams[0].says({ type: "notification", data: { message: "draining", retry_after_ms: 30_000 } });
  world.streams[0].ends();
  await world.passes(29_000);
  assert.equal(world.streams.length, 1);
});

inWorld("a tab that is paused while hidden is left alone by `online`", async (world) => {
  world.isBrowser();
  world.gateway.starts();
  const client = world.connect({ closeWhenHiddenS: 30 });
  await world.shows("hidden");
  await world.passes(31_000);
  await world.tells("online");
  await world.passes(31_000);
  assert.equal(client.status.state, "paused");
  await world.shows("visible");
  await world.settles();
  assert.equal(client.status.state, "live");
});

const GARBAGE = [
  ["null", null],
  ["a number", 5],
  ["a list", []],
  ["an event of a type that is no text", { type: 5, seq: 401, data: 2 }],
  ["a source.freshness without data", { type: "source.freshness", key: "a", seq: 401 }],
  ["a source.freshness without a key", { type: "source.freshness", seq: 401, data: { stale: true, as_of: null } }],
  ["a breaker without data", { type: "circuit_breaker.state", key: "e", seq: 401, data: null }],
  ["a breaker whose key is a number", { type: "circuit_breaker.state", key: 5, seq: 401, data: {} }],
  ["a gap without data", { type: "gap" }],
  ["a welcome without data", { type: "welcome" }],
  ["a welcome with no patterns", { type: "welcome", data: { epoch: "x", seq: 1, resumed: false } }],
  ["subscribed without patterns", { type: "subscribed", data: { seq: 1 } }],
  ["unsubscribed with a number", { type: "unsubscribed", data: { types: 5 } }],
  ["synced without data", { type: "synced" }],
  ["an event at no position", { type: "a", seq: "soon", data: 2 }],
];
for (const [what, message] of GARBAGE) {
  inWorld(`${what}: it recovers, and what is stale is never shown as fresh`, async (world) => {
    const { client, socket } = await live(world);
    const say = (text) => socket.onmessage?.({ data: text });
    assert.doesNotThrow(() => say(JSON.stringify(message)));
    await world.settles();
    assert.doesNotThrow(() => say(JSON.stringify(fresh(402, 3, { stale: true, error_code: "RPC_TIMEOUT" }))));
    await world.settles();
    if (client.status.state === "live") assert.equal(client.store.get("a").state, "stale");
    await world.passes(2_100);
    const next = world.sockets.at(-1);
    if (next !== socket) {
      assert.doesNotMatch(next.since ?? "", /NaN|soon|undefined/);
      next.admits({ resumed: next.since !== null, values: [fresh(403, 4)] });
    } else {
      socket.says(fresh(403, 4));
      assert.doesNotMatch(client.position, /NaN|soon|undefined/);
    }
    await world.settles();
    assert.equal(client.status.state, "live");
    assert.equal(client.store.get("a").data, 4);
  });
}

inWorld("binary frames are none of the gateway's: it begins anew, not at once", async (world) => {
  const { client, socket } = await live(world);
  for (const data of [new Blob(["x"]), new ArrayBuffer(3), undefined]) {
    assert.doesNotThrow(() => socket.onmessage?.({ data }));
  }
  await world.settles();
  assert.equal(client.status.state, "waiting");
  assert.equal(await world.untilNextAttempt(), 1000);
});

inWorld("an answer that cannot be understood is no end", async (world) => {
  const client = world.connect();
  world.session = { status: 200, body: { types: 5 } };
  (await world.opening()).ends();
  await world.passes(1_000);
  (await world.opening()).admits();
  assert.equal(client.status.state, "live");
});

inWorld("where `new WebSocket` throws, it is SSE", async (world) => {
  class Forbidden {
    constructor() {
      throw new DOMException("mixed content", "SecurityError");
    }
  }
  const client = world.connect({ WebSocket: Forbidden });
  client.on("a", () => {});
  await world.passes(10_000);
  assert.equal(world.streams.length, 1);
  world.streams[0].admits();
  await world.settles();
  assert.equal(client.status.transport, "sse");
});

for (const heartbeatS of [0, undefined, null, -1, 1e-9, 1e12, "often"]) {
  inWorld(`heartbeat_interval_s ${heartbeatS}: it lives, and does not run hot`, async (world) => {
    const client = world.connect();
    const socket = await world.opening();
    socket.accepts();
    const welcome = { epoch: "k3f9", seq: 400, resumed: false, subscriptions: socket.types };
    socket.says({ type: "welcome", data: { ...welcome, heartbeat_interval_s: heartbeatS } });
    socket.syncs(400);
    await world.settles();
    const timer = globalThis.setTimeout;
    let timers = 0;
    globalThis.setTimeout = (...given) => ((timers += 1) > 2000 ? assert.fail("a hot loop") : timer(...given));
    await world.passes(60_000);
    assert.ok(timers < 2000);
    assert.equal(world.sockets.length, 1);
    assert.equal(client.status.state, "live");
    assert.ok(socket.of("ping").length < 300, `${socket.of("ping").length} pings in a minute`);
  });
}

inWorld("4401 right behind each welcome does not become a hot loop", async (world) => {
  let n = 0;
  world.connect({ token: () => `token-${n++}` });
  for (let round = 0; round < 100; round++) {
    await world.settles();
    const socket = world.sockets.at(-1);
    if (socket?.readyState === 0) {
      socket.admits();
      socket.ends(4401, "the token has expired");
    }
    await world.passes(100);
  }
  assert.ok(world.sockets.length <= 8, `${world.sockets.length} connections in 10 s`);
});

inWorld("what changes just before a tab is hidden is told all the same, and what comes then", async (world) => {
  world.isBrowser();
  const frames = [];
  globalThis.requestAnimationFrame = (f) => frames.push(f); // a hidden tab paints none
  const { client, socket } = await live(world);
  let told = 0;
  client.store.subscribe("a", () => (told += 1));
  socket.says(fresh(401, 2));
  await world.shows("hidden");
  await world.draws();
  assert.equal(told, 1);
  socket.says(fresh(402, 3));
  await world.draws();
  assert.equal(told, 2);
});

inWorld("an answer to a ping from before the silence does not end it", async (world) => {
  const { client, socket } = await live(world);
  socket.answersPings = false;
  await world.passes(24_000);
  for (let at = 24_000; at <= 31_000; at += 1_000) {
    socket.says({ type: "heartbeat", data: { epoch: "k3f9", seq: 400 } });
    await world.passes(1_000);
  }
  const early = socket.of("ping").at(-1);
  await world.passes(25_000);
  assert.equal(client.status.state, "quiet");
  assert.notEqual(socket.of("ping").at(-1).id, early.id);
  socket.pongs(early);
  assert.equal(client.status.state, "quiet", "it sat in a buffer");
  assert.equal(client.store.get("a").state, "unvouched");
});

inWorld("a frame after a sleep vouches for nothing before a ping is answered", async (world) => {
  const { client, socket } = await live(world);
  socket.answersPings = false;
  await world.passes(1_000);
  world.sleeps(3_600_000);
  socket.says({ type: "heartbeat", data: { epoch: "k3f9", seq: 400 } });
  assert.equal(client.store.get("a").state, "unvouched");
  socket.pongs(socket.of("ping").at(-1));
  assert.equal(client.store.get("a").state, "fresh");
});

inWorld("a `fetch` of the page is called as one, and follows no redirect", async (world) => {
  const seen = [];
  function fetch(_, { redirect }) {
    assert.ok(this === undefined || this === globalThis, "Illegal invocation");
    seen.push(redirect);
    return Promise.resolve(new Response('{"epoch":"k3f9","seq":1}'));
  }
  const client = world.connect({ fetch, transport: "sse" });
  assert.equal(await client.publish("a", 1), "k3f9:1");
  await world.passes(3_000);
  assert.ok(seen.length >= 3);
  assert.deepEqual(new Set(seen), new Set(["error"]));
});

inWorld("types that are names of JavaScript are counted like others", async (world) => {
  world.gateway.starts();
  const client = world.connect();
  const iterator = client.events("*", { buffer: 1 });
  await world.settles();
  for (const type of ["__proto__", "constructor", "__proto__", "a"]) world.gateway.publishes({ type, data: 1 });
  await world.settles();
  const { value } = await iterator.next();
  assert.deepEqual(Object.entries(value.skipped).sort(), [["__proto__", 2], ["constructor", 1]]); // prettier-ignore
  assert.equal((await iterator.next()).value.type, "a");
});

inWorld("a buffer of nothing loses nothing in silence", async (world) => {
  world.gateway.starts();
  const client = world.connect();
  const iterator = client.events("a", { buffer: 0 });
  await world.settles();
  for (const data of [1, 2, 3]) world.gateway.publishes({ type: "a", data });
  const items = [(await iterator.next()).value, (await iterator.next()).value];
  assert.deepEqual([items[0].skipped, items[1].data], [{ a: 2 }, 3]);
});

for (const welcome of [{}, { timestamp: "soon" }]) {
  inWorld(`tokens that have expired when they come are renewed calmly (${JSON.stringify(welcome)})`, async (world) => {
    let n = 0;
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const token = () => `${part({})}.${part({ exp: Math.round(world.serverTime / 1000) - 10, n: (n += 1) })}.c2ln`;
    world.connect({ token });
    const socket = await world.opening();
    socket.accepts();
    const data = { epoch: "k3f9", seq: 400, resumed: false, subscriptions: socket.types, heartbeat_interval_s: 10 };
    socket.says({ type: "welcome", data, ...welcome });
    socket.syncs(400);
    const timer = globalThis.setTimeout;
    let timers = 0;
    globalThis.setTimeout = (...given) => ((timers += 1) > 200 ? assert.fail("a hot loop") : timer(...given));
    await world.passes(20_000);
    assert.ok(n < 10, `${n} tokens`);
  });
}

inWorld("a subscribe that came too often leaves no timer behind", async (world) => {
  const { client, socket } = await live(world);
  client.on("b", () => {});
  await world.settles();
  const data = { code: "RATE_LIMITED", message: "too many messages", retryable: true };
  socket.says({ type: "error", id: socket.of("subscribe")[0].id, data });
});

inWorld("a gateway whose event stream has other patterns is not asked without end", async (world) => {
  const client = world.connect({ transport: "sse" });
  client.on("b", () => {});
  for (let n = 0; n < 100; n++) {
    await world.passes(100);
    if (!world.streams.at(-1).subscriptions.size) world.streams.at(-1).admits({ subscriptions: ["a"] });
  }
  assert.ok(world.streams.length < 8, `${world.streams.length} streams in 10 s`);
});

inWorld("over SSE, patterns that the token does not cover are left out", async (world) => {
  world.session = { status: 200, body: { types: ["a"] } };
  const denied = { status: 403, body: { detail: "secret is not covered" } };
  Object.defineProperty(world, "events", { get: () => (world.requests.at(-1).url.search.includes("secret") ? denied : 200) });
  const client = world.connect({ transport: "sse", token: "t" });
  client.on("a", () => {});
  client.on("secret", () => {});
  await world.settles();
  assert.deepEqual(world.streams.at(-1)?.asked, ["a"]);
  world.streams[0].admits();
  await world.settles();
  assert.equal(client.status.state, "live");
});

inWorld("close() from a listener that is told of a silence is final", async (world) => {
  world.isBrowser();
  const { client, socket } = await live(world);
  client.onStale("a", () => client.close());
  socket.answersPings = false;
  await world.tells("offline");
  await world.passes(60_000);
  assert.equal(client.status.state, "closed");
  assert.equal(attempts(world), 1);
});

inWorld("close() from a listener of gaps is final", async (world) => {
  const client = world.connect({ transport: "sse" });
  await world.settles();
  world.streams[0].admits();
  await world.settles();
  client.onGap(() => client.close());
  client.on("b", () => {});
  await world.passes(60_000);
  assert.equal(client.status.state, "closed");
  assert.equal(world.streams.length, 1);
});

inWorld("an event at no position does not hide those that follow it", async (world) => {
  const client = world.connect();
  client.on("a", () => {});
  const socket = await world.opening();
  socket.admits({ values: [fresh("soon", 1)] });
  socket.says(fresh(401, 2, { stale: true }));
  await world.settles();
  assert.equal(client.store.get("a").state, "stale");
});

inWorld("a connection that ends before the gateway says why it does not resume is a gap all the same", async (world) => {
  const { client, socket } = await live(world);
  const gaps = [];
  client.onGap(({ reason }) => gaps.push(reason));
  socket.ends();
  await world.passes(1_000);
  const next = await world.opening();
  next.accepts();
  next.welcomes({ epoch: "m0p2", seq: 7 });
  next.ends();
  await world.passes(2_000);
  (await world.opening()).admits({ epoch: "m0p2", seq: 9 });
  assert.deepEqual(gaps, ["interrupted"]);
});
