// When and how a client comes back: the back-off, the table of close codes, and what the session says after a handshake
// that failed.

import assert from "node:assert/strict";

import { inWorld } from "./world.mjs";

async function live(world, options = {}) {
  const client = world.connect(options);
  client.on("a", () => {});
  const socket = await world.opening();
  socket.admits();
  assert.equal(client.status.state, "live");
  return { client, socket };
}

// Each attempt fails, and the gateway cannot be reached otherwise either.
async function waits(world, count) {
  world.session = "away";
  const found = [];
  for (let n = 0; n < count; n++) {
    const socket = world.sockets.at(-1);
    if (socket.readyState <= 1) socket.ends();
    found.push(await world.untilNextAttempt());
  }
  return found;
}

for (const [random, expected] of [
  [1 - 2 ** -53, [1000, 2000, 4000, 8000, 8000, 8000]],
  [0, [500, 1000, 2000, 4000, 4000, 4000]],
]) {
  inWorld(`waits grow up to 8 s, with chance ${random.toFixed(1)} in their upper half`, async (world) => {
    world.random = random;
    world.connect();
    await world.opening();
    assert.deepEqual(await waits(world, 6), expected);
  });
}

inWorld("back-off can be set", async (world) => {
  world.connect({ backoff: { firstS: 3, maxS: 5 } });
  await world.opening();
  assert.deepEqual(await waits(world, 3), [3000, 5000, 5000]);
});

for (const [lived, expected] of [
  [4_900, 4000],
  [5_000, 1000],
]) {
  inWorld(`after a life of ${lived} ms it waits ${expected} ms`, async (world) => {
    world.connect();
    await world.opening();
    assert.deepEqual(await waits(world, 2), [1000, 2000]);
    world.session = { status: 200, body: {} };
    await world.passes(8_000);
    const socket = await world.opening();
    socket.admits();
    await world.passes(lived);
    socket.ends(1006);
    assert.equal(await world.untilNextAttempt(), lived < 5_000 ? 8000 : expected);
  });
}

inWorld("while it waits, the status says how long, which attempt and why", async (world) => {
  const { client, socket } = await live(world);
  const seen = [];
  client.onStatus((status) => seen.push(status));
  socket.ends(1011, "failed on this connection");
  await world.settles();
  const { status } = client;
  assert.equal(status.state, "waiting");
  assert.equal(status.code, 1011);
  assert.match(status.reason, /failed on this connection/);
  assert.equal(Math.round(status.retryAt - Date.now()), 1000);
  assert.equal(status.since, Date.now());
  assert.ok(status.attempt >= 1, `attempt ${status.attempt}`);
  assert.equal(seen.at(-1), status);
  assert.ok(Object.isFrozen(status));
  await world.passes(1000);
  assert.equal(client.status.state, "connecting");
  assert.equal(client.status.retryAt, null);
  assert.equal(status.state, "waiting", "what was handed out stays as it was");
});

inWorld("reconnect() tries now", async (world) => {
  const { client, socket } = await live(world);
  socket.ends();
  await world.settles();
  client.reconnect();
  await world.opening();
});

for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1014, 4000, 4999]) {
  inWorld(`${code}: back-off, and it resumes`, async (world) => {
    const { socket } = await live(world);
    socket.ends(code);
    assert.equal(await world.untilNextAttempt(), 1000);
    assert.equal((await world.opening()).since, "k3f9:400");
  });
}

for (const code of [1012, 1001, 1006]) {
  inWorld(`${code} after the notification of a drain: not before retry_after_ms`, async (world) => {
    const { client, socket } = await live(world);
    const data = { level: "warning", message: "draining", code: "DRAINING", retry_after_ms: 3120 };
    socket.says({ type: "notification", data });
    socket.ends(code);
    assert.equal(await world.untilNextAttempt(), 4120);
    assert.equal((await world.opening()).since, "k3f9:400");
    assert.equal(client.status.state, "connecting");
  });
}

inWorld("what a drain asked for counts once", async (world) => {
  const { socket } = await live(world);
  socket.says({ type: "notification", data: { level: "warning", message: "", code: "DRAINING", retry_after_ms: 3000 } });
  socket.ends(1012);
  assert.equal(await world.untilNextAttempt(), 4000);
  const next = await world.opening();
  next.admits({ resumed: true });
  await world.passes(6_000);
  next.ends(1006);
  assert.equal(await world.untilNextAttempt(), 1000);
});

inWorld("what a drain asked for is over once somebody was let in all the same", async (world) => {
  const { client, socket } = await live(world);
  const data = { level: "warning", message: "", code: "DRAINING", retry_after_ms: 60_000 };
  socket.says({ type: "notification", data });
  socket.ends(1012);
  await world.settles();
  client.reconnect();
  const next = await world.opening();
  next.admits({ resumed: true });
  next.ends(1006);
  assert.equal(await world.untilNextAttempt(), 1000);
});

for (const code of [1013, 4429]) {
  inWorld(`${code}: not within 5 s`, async (world) => {
    const { socket } = await live(world);
    socket.ends(code);
    assert.equal(await world.untilNextAttempt(), 6000);
  });
}

inWorld("4408: not within a second, it resumes; the third warns, once, with the patterns", async (world) => {
  let { socket } = await live(world);
  for (let n = 1; n <= 4; n++) {
    await world.passes(6_000);
    socket.ends(4408, "the client reads too slowly");
    assert.equal(await world.untilNextAttempt(), 2000);
    socket = await world.opening();
    assert.equal(socket.since, "k3f9:400");
    socket.admits({ resumed: true });
    assert.equal(world.warnings.length, n < 3 ? 0 : 1);
  }
  assert.match(world.warnings.splice(0)[0], /\ba\b/);
});

for (const code of [4403, 1002, 1003, 1007, 1009, 1010]) {
  inWorld(`${code}: refused, in the server's words, for good`, async (world) => {
    const { client, socket } = await live(world);
    socket.ends(code, "not like this");
    await world.settles();
    assert.equal(client.status.state, "refused");
    assert.equal(client.status.code, code);
    assert.match(client.status.reason, /not like this/);
    assert.equal(await world.untilNextAttempt(600_000), null);
    client.reconnect();
    await world.opening();
  });
}

inWorld("the server's words may come as connection_error before the close", async (world) => {
  const { client, socket } = await live(world);
  const data = { code: 4403, message: "the token lacks the role subscriber", retryable: false };
  socket.says({ type: "connection_error", data });
  socket.ends(4403, "");
  await world.settles();
  assert.match(client.status.reason, /lacks the role/);
});

inWorld("nothing listens: back-off, and no other transport", async (world) => {
  const client = world.connect();
  await world.opening();
  assert.deepEqual(await waits(world, 3), [1000, 2000, 4000]);
  assert.equal(world.streams.length, 0);
  assert.ok(["waiting", "connecting"].includes(client.status.state));
});

inWorld("the session says when to come back: not before", async (world) => {
  world.connect();
  const socket = await world.opening();
  world.session = { status: 200, body: { retry_after_s: 7, status: "draining" } };
  socket.ends(1006);
  assert.equal(await world.untilNextAttempt(), 8000);
});

inWorld("the session cannot be answered yet: not before its Retry-After", async (world) => {
  world.connect();
  const socket = await world.opening();
  world.session = { status: 503, headers: { "Retry-After": "9" }, body: { detail: "draining" } };
  socket.ends(1006);
  assert.equal(await world.untilNextAttempt(), 10_000);
});

for (const [status, detail] of [
  [403, "origin http://evil.example is not allowed: see server.allowed_origins"],
  [421, "host gw.example is not allowed: see server.allowed_hosts"],
]) {
  inWorld(`the session is answered with ${status}: refused, in its words`, async (world) => {
    const client = world.connect();
    const socket = await world.opening();
    world.session = { status, body: { title: "no", status, detail } };
    socket.ends(1006);
    await world.settles();
    assert.equal(client.status.state, "refused");
    assert.ok(client.status.reason.includes(detail), client.status.reason);
    assert.equal(await world.untilNextAttempt(600_000), null);
  });
}

inWorld("the session says that a token is needed, and there is none: refused", async (world) => {
  const client = world.connect();
  const socket = await world.opening();
  world.session = { status: 200, body: { auth: "token", authenticated: false, roles: [], types: [] } };
  socket.ends(1006);
  await world.settles();
  assert.equal(client.status.state, "refused");
  assert.equal(client.session.authenticated, false);
  assert.equal(await world.untilNextAttempt(600_000), null);
});

inWorld("the session says that the token lacks the role: refused", async (world) => {
  const client = world.connect({ token: "publishes-only" });
  const socket = await world.opening();
  world.session = { status: 200, body: { auth: "token", authenticated: true, roles: ["publisher"] } };
  socket.ends(1006);
  await world.settles();
  assert.equal(client.status.state, "refused");
  assert.match(client.status.reason, /subscriber/);
});

inWorld("whether the token is valid cannot be told yet: it waits", async (world) => {
  const client = world.connect({ token: "t" });
  const socket = await world.opening();
  world.session = { status: 200, body: { auth: "jwt", authenticated: null, roles: [], types: [], retry_after_s: 2 } };
  socket.ends(1006);
  assert.equal(await world.untilNextAttempt(), 3000);
  assert.notEqual(client.status.state, "refused");
});

for (const [answer, state] of [
  [{ status: 401, body: { detail: "expected a token" } }, "refused"],
  [{ status: 403, body: { detail: "lacks the role subscriber" } }, "refused"],
  [{ status: 200, body: { sources: [] } }, "waiting"],
]) {
  inWorld(`a gateway that has no session: its status says ${answer.status}`, async (world) => {
    const client = world.connect();
    const socket = await world.opening();
    world.session = { status: 404, body: { detail: "no such path" } };
    world.answer = ({ path }) => (path.endsWith("/api/v1/status") ? answer : { status: 404 });
    socket.ends(1006);
    await world.settles();
    assert.equal(client.status.state, state);
  });
}

inWorld("the session is asked with the token in a header, never in a URL", async (world) => {
  world.connect({ token: "se/cret" });
  const socket = await world.opening();
  socket.ends(1006);
  await world.settles();
  const { url, headers } = world.requests.find(({ path }) => path.endsWith("/session"));
  assert.equal(headers.get("Authorization"), "Bearer se/cret");
  assert.ok(!url.href.includes("cret"));
});

inWorld("a session that never answers keeps nothing waiting", async (world) => {
  world.connect();
  const socket = await world.opening();
  world.session = "silent";
  socket.ends(1006);
  const wait = await world.untilNextAttempt(30_000);
  assert.ok(wait !== null && wait <= 16_000, `${wait}`);
});

inWorld("a socket that stays in CONNECTING is given up after connectTimeoutS", async (world) => {
  const client = world.connect({ connectTimeoutS: 3 });
  const socket = await world.opening();
  await world.passes(2_900);
  assert.equal(client.status.state, "connecting");
  await world.passes(200);
  assert.equal(client.status.state, "waiting");
  assert.ok(socket.closedWith);
  assert.equal(socket.handlers, 0);
});

inWorld("a socket that opens and brings no welcome is given up after 10 s", async (world) => {
  const client = world.connect();
  const socket = await world.opening();
  await world.passes(8_000);
  socket.accepts();
  await world.passes(2_100);
  assert.equal(client.status.state, "waiting");
  assert.ok(socket.closedWith);
});

inWorld("what an abandoned socket still says is ignored", async (world) => {
  const client = world.connect();
  const heard = [];
  client.on("a", (event) => heard.push(event));
  const socket = await world.opening();
  await world.passes(10_100);
  socket.readyState = 1;
  socket.welcomes();
  socket.says({ type: "a", seq: 401, data: 1 });
  socket.ends(4403);
  await world.settles();
  assert.deepEqual(heard, []);
  assert.notEqual(client.status.state, "refused");
});
