// Whether the connection is alive: silence, what the browser tells, and the clock of the gateway.

import assert from "node:assert/strict";

import { inWorld, iso } from "./world.mjs";

async function live(world, options = {}, fields = {}) {
  const client = world.connect(options);
  client.on("a", () => {});
  const socket = await world.opening();
  const data = { type: "a", seq: 390, source: "engine", stale: false, as_of: iso(world.serverTime), data: 1 };
  socket.admits({ values: [data], ...fields });
  await world.settles();
  assert.equal(client.status.state, "live");
  assert.equal(client.store.get("a").state, "fresh");
  return { client, socket };
}

for (const [heartbeatS, quietMs] of [
  [10, 25_000],
  [2, 5_000],
  [0.2, 500],
]) {
  inWorld(`silent for 2.5 heartbeats of ${heartbeatS} s: quiet, a ping, and nothing is vouched for`, async (world) => {
    const { client, socket } = await live(world, {}, { heartbeatS });
    const told = [];
    client.onStale("a", (value, reason) => told.push([value.state, reason]));
    const pings = socket.of("ping").length;
    socket.answersPings = false;
    await world.passes(quietMs - 5);
    assert.equal(client.status.state, "live");
    assert.equal(client.store.get("a").state, "fresh");
    await world.passes(10);
    assert.equal(client.status.state, "quiet");
    assert.equal(client.store.get("a").state, "unvouched");
    assert.deepEqual(told, [["unvouched", "DISCONNECTED"]]);
    assert.equal(socket.of("ping").length, pings + 1);
  });
}

inWorld("the answer to a ping ends the silence, and the values are vouched for again", async (world) => {
  const { client, socket } = await live(world);
  const told = [];
  client.onFresh("a", ({ state }) => told.push(state));
  socket.answersPings = false;
  await world.passes(25_100);
  socket.says({ type: "heartbeat", data: { epoch: "k3f9", seq: 400, uptime_s: 1, clients: 1 } });
  await world.settles();
  assert.equal(client.status.state, "quiet", "it may have sat in a buffer since before the silence");
  assert.equal(client.store.get("a").state, "unvouched");
  socket.pongs(socket.of("ping").at(-1));
  await world.settles();
  assert.equal(client.status.state, "live");
  assert.equal(client.store.get("a").state, "fresh");
  assert.deepEqual(told, ["fresh"]);
  assert.equal(world.sockets.length, 1);
});

inWorld("a quiet connection whose ping is answered is live at once", async (world) => {
  const { client } = await live(world);
  await world.passes(25_100);
  assert.equal(client.status.state, "live");
  await world.passes(60_000);
  assert.equal(world.sockets.length, 1);
});

inWorld("every frame moves the moment at which it is quiet", async (world) => {
  const { client, socket } = await live(world);
  socket.answersPings = false;
  for (let n = 0; n < 5; n++) {
    await world.passes(20_000);
    socket.says({ type: "heartbeat", data: { epoch: "k3f9", seq: 400, uptime_s: 1, clients: 1 } });
  }
  await world.passes(24_900);
  assert.equal(client.status.state, "live");
  await world.passes(200);
  assert.equal(client.status.state, "quiet");
});

inWorld("quiet for 10 s more: abandoned without waiting for the browser, and tried soon", async (world) => {
  const { client, socket } = await live(world);
  socket.answersPings = false;
  await world.passes(34_900);
  assert.equal(world.sockets.length, 1);
  assert.equal(socket.closedWith, null);
  await world.passes(200);
  assert.ok(socket.closedWith);
  assert.equal(socket.handlers, 0);
  await world.passes(1_000);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.sockets[1].since, "k3f9:400");
  assert.equal(client.store.get("a").state, "unvouched");
  socket.readyState = 1;
  socket.says({ type: "a", seq: 401, data: 2, source: "engine", stale: false, as_of: iso(0) });
  assert.equal(client.store.get("a").data, 1, "what it still says is ignored");
});

inWorld("state changes are told once each", async (world) => {
  const { client, socket } = await live(world);
  const seen = [];
  client.onStatus(({ state }) => seen.push(state));
  socket.answersPings = false;
  await world.passes(36_100);
  world.sockets[1].admits({ resumed: true });
  await world.settles();
  const changes = seen.filter((state, index) => state !== seen[index - 1]);
  assert.deepEqual(changes.filter((state) => state !== "waiting"), ["quiet", "connecting", "live"]); // prettier-ignore
});

// Lost, and the next attempts failed too, so that it waits for up to 8 s.
async function waiting(world, options) {
  const { client } = await live(world, options);
  world.session = "away";
  for (let n = 0; n < 5; n++) {
    if (world.sockets.at(-1).readyState <= 1) world.sockets.at(-1).ends();
    if (n < 4) await world.untilNextAttempt();
  }
  await world.settles();
  assert.equal(client.status.state, "waiting");
  return client;
}

const VISIBLE = (world) => world.shows("visible");
for (const [name, tells] of [
  ["visible", VISIBLE],
  ...["pageshow", "resume", "online"].map((name) => [name, (world) => world.tells(name, { persisted: false })]),
]) {
  inWorld(`while it waits, ${name} brings an attempt soon`, async (world) => {
    world.isBrowser();
    await waiting(world);
    const attempts = () => world.sockets.length + world.requests.length;
    const before = attempts();
    await tells(world);
    await world.passes(name === "online" ? 2000 : 260);
    assert.ok(attempts() > before);
    if (world.sockets.at(-1).readyState === 0) world.sockets.at(-1).ends();
    const tried = attempts();
    await tells(world);
    await world.passes(2_500);
    assert.equal(attempts(), tried, "at most once in 5 s");
    assert.ok((await world.untilNextAttempt()) > 5_000, "and what comes then waits as long as before");
  });
}

inWorld("nothing that the browser tells brings an attempt before the time that the gateway named", async (world) => {
  world.isBrowser();
  const { socket } = await live(world);
  const data = { level: "warning", message: "draining", code: "DRAINING", retry_after_ms: 30_000 };
  socket.says({ type: "notification", data });
  socket.ends(1012);
  await world.settles();
  await world.shows("visible");
  await world.tells("online");
  assert.ok((await world.untilNextAttempt()) >= 30_000);
});

inWorld("hidden and waiting: it goes on, since a hidden page may be there to raise an alarm", async (world) => {
  world.isBrowser();
  await waiting(world);
  await world.shows("hidden");
  assert.equal(await world.untilNextAttempt(), 8000);
});

inWorld("hidden and live: it stays connected", async (world) => {
  world.isBrowser();
  world.gateway.starts();
  const client = world.connect();
  await world.settles();
  await world.shows("hidden");
  await world.passes(3_600_000);
  assert.equal(client.status.state, "live");
  assert.equal(world.sockets.length, 1);
});

inWorld("closeWhenHiddenS: hidden for so long it is paused, and back with its position when seen", async (world) => {
  world.isBrowser();
  world.gateway.starts({ values: [{ type: "a", source: "engine", stale: false, as_of: iso(world.serverTime), data: 1 }] });
  const client = world.connect({ closeWhenHiddenS: 30 });
  client.on("a", () => {});
  await world.settles();
  await world.shows("hidden");
  await world.passes(29_000);
  await world.shows("visible");
  await world.passes(60_000);
  assert.equal(client.status.state, "live");
  await world.shows("hidden");
  await world.passes(30_100);
  assert.equal(client.status.state, "paused");
  assert.ok(world.sockets[0].closedWith);
  await world.passes(3_000);
  assert.equal(client.store.get("a").state, "unvouched");
  assert.equal(await world.untilNextAttempt(600_000), null);
  await world.shows("visible");
  await world.passes(300);
  assert.equal(client.status.state, "live");
  assert.equal(world.sockets[1].since, "k3f9:401");
  assert.equal(client.store.get("a").state, "fresh");
});

inWorld("seen again after a silence of 1.5 heartbeats: a ping, and abandoned after 3 s", async (world) => {
  world.isBrowser();
  const { socket } = await live(world);
  socket.answersPings = false;
  const pings = socket.of("ping").length;
  await world.shows("hidden");
  await world.passes(14_000);
  await world.shows("visible");
  assert.equal(socket.of("ping").length, pings, "not yet");
  await world.passes(2_000);
  await world.shows("hidden");
  await world.shows("visible");
  assert.equal(socket.of("ping").length, pings + 1);
  await world.passes(2_900);
  assert.equal(socket.closedWith, null);
  await world.passes(400);
  assert.ok(socket.closedWith);
  await world.passes(1_000);
  assert.equal(world.sockets.length, 2);
});

inWorld("a ping that goes unanswered ends all trust at once, without a grace", async (world) => {
  world.isBrowser();
  const { client, socket } = await live(world);
  socket.answersPings = false;
  await world.passes(16_000);
  await world.shows("visible");
  await world.passes(3_001);
  assert.ok(socket.closedWith);
  assert.equal(client.store.get("a").state, "unvouched");
});

inWorld("seen again after a silence, and the ping is answered: it stays", async (world) => {
  world.isBrowser();
  const { client, socket } = await live(world);
  await world.passes(20_000);
  await world.shows("visible");
  await world.passes(4_000);
  assert.equal(client.status.state, "live");
  assert.equal(socket.closedWith, null);
});

inWorld("offline is believed only when a ping goes unanswered", async (world) => {
  world.isBrowser();
  const { client, socket } = await live(world);
  await world.tells("offline");
  await world.passes(4_000);
  assert.equal(client.status.state, "live", "loopback needs no network");
  await world.tells("online");
  socket.answersPings = false;
  await world.tells("offline");
  assert.equal(client.status.state, "live");
  await world.passes(3_100);
  assert.equal(client.status.state, "offline");
  await world.passes(2_000);
  assert.equal(client.store.get("a").state, "unvouched");
  world.sockets.at(-1).answersPings = true;
  await world.tells("online");
  await world.passes(2_100);
  await world.opening();
});

inWorld("a page that goes into the back-forward cache closes, and resumes when it is shown", async (world) => {
  world.isBrowser();
  world.gateway.starts();
  const client = world.connect();
  client.on("a", () => {});
  await world.settles();
  await world.tells("pagehide", { persisted: true });
  assert.ok(world.sockets[0].closedWith);
  assert.notEqual(client.status.state, "live");
  assert.equal(await world.untilNextAttempt(600_000), null);
  await world.tells("pageshow", { persisted: true });
  await world.passes(300);
  assert.equal(client.status.state, "live");
  assert.equal(world.sockets[1].since, "k3f9:400");
});

inWorld("reconnect() on a live connection opens another one, with its position", async (world) => {
  const { client, socket } = await live(world);
  client.reconnect();
  await world.settles();
  assert.ok(socket.closedWith);
  const next = await world.opening();
  assert.equal(next.since, "k3f9:400");
});

// A pong that took `roundTripMs`, of a gateway whose clock seems to be `offsetMs` ahead. A new pattern brings the ping.
async function measured(world, { client, socket }, roundTripMs, offsetMs) {
  client.on(`clock.${world.sockets.length}.m${socket.sent.length}`, () => {});
  await world.settles();
  const { id, data } = socket.of("subscribe").at(-1);
  const types = [...socket.subscriptions, ...data.types];
  socket.subscriptions = new Set(types);
  socket.says({ type: "subscribed", id, data: { types, added: data.types, epoch: "k3f9", seq: 400 } });
  await world.settles();
  const ping = socket.of("ping").at(-1);
  const sentAt = world.wall;
  socket.syncs(400);
  await world.passes(roundTripMs);
  socket.pongs(ping, iso(sentAt + roundTripMs / 2 + offsetMs));
  await world.settles();
}

inWorld("the welcome gives a first idea of the gateway's clock", async (world) => {
  world.serverAheadMs = 90_000;
  const { client } = await live(world);
  assert.ok(Math.abs(client.status.clockOffsetMs - 90_000) <= 1);
  assert.ok(Math.abs(client.now() - world.serverTime) <= 1);
});

inWorld("of the last 8 pongs the one with the shortest round trip gives the clock", async (world) => {
  const client = world.connect();
  const socket = await world.opening();
  socket.answersPings = false;
  await world.passes(2_000);
  socket.admits();
  const at = { client, socket };
  await measured(world, at, 400, 1200);
  assert.ok(Math.abs(client.status.clockOffsetMs - 1200) <= 1, `${client.status.clockOffsetMs}`);
  await measured(world, at, 20, 1000);
  await measured(world, at, 900, 700);
  assert.ok(Math.abs(client.status.clockOffsetMs - 1000) <= 1, `${client.status.clockOffsetMs}`);
  assert.ok(Math.abs(client.now() - (world.wall + 1000)) <= 1);
  for (let n = 0; n < 6; n++) await measured(world, at, 100, 1500);
  assert.ok(Math.abs(client.status.clockOffsetMs - 1000) <= 1, "it is the eighth of the last");
  await measured(world, at, 100, 1500);
  assert.ok(Math.abs(client.status.clockOffsetMs - 1500) <= 1, "it is none of the last 8");
});

inWorld("the round trip is told", async (world) => {
  const client = world.connect();
  const socket = await world.opening();
  socket.answersPings = false;
  socket.admits();
  assert.equal(client.status.roundTripMs, null);
  await measured(world, { client, socket }, 40, 0);
  assert.equal(Math.round(client.status.roundTripMs), 40);
});

inWorld("now() does not follow a clock that somebody sets", async (world) => {
  const { client } = await live(world);
  const before = client.now();
  world.sleeps(3_600_000);
  assert.ok(Math.abs(client.now() - before) <= 1);
  await world.passes(1_000);
  assert.ok(Math.abs(client.now() - before - 1_000) <= 1);
});

inWorld("after a sleep that no event of the browser tells, nothing is vouched for within 2 s", async (world) => {
  world.isBrowser();
  const { client, socket } = await live(world);
  socket.answersPings = false;
  await world.passes(1_000);
  world.sleeps(3_600_000);
  await world.passes(2_000);
  assert.equal(client.status.state, "quiet");
});

inWorld("now() is right again after a sleep, once the page is seen", async (world) => {
  world.isBrowser();
  const { client } = await live(world);
  await world.shows("hidden");
  world.sleeps(3_600_000);
  await world.shows("visible");
  assert.ok(Math.abs(client.now() - world.serverTime) <= 50, `${client.now() - world.serverTime}`);
});

inWorld("a machine that slept: nothing is vouched for when the page is seen, until a ping is answered", async (world) => {
  world.isBrowser();
  const { client, socket } = await live(world);
  socket.answersPings = false;
  world.sleeps(3_600_000);
  await world.shows("visible");
  assert.equal(client.status.state, "quiet");
  assert.equal(client.store.get("a").state, "unvouched");
  socket.pongs(socket.of("ping").at(-1));
  assert.equal(client.store.get("a").state, "fresh");
});

for (const [tellsAt, isReplaced] of [
  [1_900, false],
  [2_100, true],
]) {
  inWorld(`an attempt of ${tellsAt} ms is ${isReplaced ? "" : "not "}replaced when the page is seen`, async (world) => {
    world.isBrowser();
    world.connect();
    const first = await world.opening();
    await world.passes(tellsAt);
    await world.shows("visible");
    await world.passes(300);
    assert.equal(world.sockets.length + world.requests.length > 1, isReplaced);
    assert.equal(first.closedWith !== null, isReplaced);
  });
}

inWorld("age() is in seconds of the gateway's clock, never below 0, and null without as_of", async (world) => {
  world.serverAheadMs = -500_000;
  const { client, socket } = await live(world);
  await world.passes(1_500);
  assert.ok(Math.abs(client.age(client.store.get("a")) - 1.5) < 0.01);
  const future = iso(world.serverTime + 5_000);
  socket.says({ type: "a", seq: 401, source: "engine", stale: false, as_of: future, data: 1 });
  assert.equal(client.age(client.store.get("a")), 0);
  socket.says({ type: "a", seq: 402, key: "published", data: 1 });
  assert.equal(client.age(client.store.get("a", "published")), null);
});
