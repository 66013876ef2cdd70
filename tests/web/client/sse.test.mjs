// The event stream read with `fetch`: how it is parsed, when it is used, and how it survives.

import assert from "node:assert/strict";

import { ADDED, inWorld, iso } from "./world.mjs";

const names = (events) => events.map(({ type, data }) => `${type}=${data}`);

async function streaming(world, options = {}) {
  const client = world.connect({ transport: "sse", ...options });
  const heard = [];
  client.on("a", (event) => heard.push(event));
  await world.settles();
  const [stream] = world.streams;
  stream.admits();
  await world.settles();
  assert.equal(client.status.state, "live");
  assert.equal(client.status.transport, "sse");
  return { client, stream, heard };
}

// Nothing but the socket fails: the session is answered.
async function failsTwice(world) {
  for (let n = 0; n < 2; n++) {
    (await world.opening()).ends(1006);
    await world.untilNextAttempt();
    await world.settles();
  }
}

inWorld("it asks for its patterns, at the same paths", async (world) => {
  const client = world.connect({ transport: "sse" }, "https://gw.example/below/");
  client.on("b", () => {});
  await world.settles();
  const { url } = world.streams[0];
  assert.equal(url.origin + url.pathname, "https://gw.example/below/api/v1/events");
  assert.deepEqual([...world.streams[0].types].sort(), ["b", ...ADDED].sort());
  assert.equal(world.sockets.length, 0);
});

inWorld("the token goes in a header", async (world) => {
  await streaming(world, { token: "se/cret" });
  assert.equal(world.streams[0].headers.get("Authorization"), "Bearer se/cret");
  assert.ok(!world.streams[0].url.href.includes("cret"));
});

inWorld("frames may come in any pieces", async (world) => {
  const { stream, heard } = await streaming(world);
  const event = { type: "a", timestamp: iso(world.wall), seq: 401, data: "grün 🌊" };
  const text = `: a comment\r\nevent: a\r\nid: k3f9:401\r\ndata: ${JSON.stringify(event)}\r\n\r\n`;
  for (const byte of new TextEncoder().encode(text)) stream.writes(new Uint8Array([byte]));
  await world.settles();
  assert.deepEqual(names(heard), ["a=grün 🌊"]);
});

inWorld("several frames may come in one piece, and a part of one", async (world) => {
  const { client, stream, heard } = await streaming(world);
  const json = (seq) => `{"type":"a","timestamp":"2026-11-22T21:40:00.000Z","seq":${seq},"data":${seq}}`;
  const frame = (seq) => `event: a\nid: k3f9:${seq}\ndata: ${json(seq)}\n\n`;
  stream.writes(`${frame(401)}${frame(402)}retry: 500\n\n\n:\n${frame(403).slice(0, -4)}`);
  await world.settles();
  assert.deepEqual(names(heard), ["a=401", "a=402"]);
  stream.writes(frame(403).slice(-4));
  await world.settles();
  assert.deepEqual(names(heard), ["a=401", "a=402", "a=403"]);
  assert.equal(client.position, "k3f9:403");
});

inWorld("lost, it resumes", async (world) => {
  const { stream } = await streaming(world);
  stream.says({ type: "a", seq: 401, data: 1 });
  await world.settles();
  stream.breaks();
  assert.equal(await world.untilNextAttempt(), 1000);
  await world.settles();
  assert.equal(world.streams[1].since, "k3f9:401");
});

inWorld("a reconnect that is refused is no end, however often", async (world) => {
  const { client, stream } = await streaming(world);
  world.events = "away";
  world.session = "away";
  stream.ends();
  for (const wait of [1000, 2000, 4000, 8000, 8000]) assert.equal(await world.untilNextAttempt(), wait);
  world.events = 200;
  world.session = { status: 200, body: {} };
  await world.passes(8_100);
  world.streams[1].admits({ resumed: true });
  await world.settles();
  assert.equal(client.status.state, "live");
});

inWorld("a drain names its time; the end of the stream is no error", async (world) => {
  const { client, stream } = await streaming(world);
  const data = { level: "warning", message: "draining", code: "DRAINING", retry_after_ms: 3120 };
  stream.says({ type: "notification", data });
  stream.ends();
  assert.equal(await world.untilNextAttempt(), 4120);
  assert.notEqual(client.status.state, "refused");
});

inWorld("the gateway's words at the end of a stream are told", async (world) => {
  const { client, stream } = await streaming(world);
  stream.says({ type: "connection_error", data: { code: 1011, message: "a bug, see the log", retryable: true } });
  stream.ends();
  await world.settles();
  assert.match(client.status.reason, /a bug, see the log/);
});

inWorld("connection_error 4401: another token", async (world) => {
  const tokens = ["first", "second"];
  const { stream } = await streaming(world, { token: () => tokens.shift() ?? "second" });
  stream.says({ type: "connection_error", data: { code: 4401, message: "expired", retryable: true } });
  stream.ends();
  await world.passes(1_000);
  assert.equal(world.streams[1].headers.get("Authorization"), "Bearer second");
});

for (const status of [400, 403, 421]) {
  inWorld(`${status}: refused, with the detail`, async (world) => {
    world.events = { status, body: { detail: "pattern secret is not covered" } };
    const client = world.connect({ transport: "sse" });
    await world.settles();
    assert.equal(client.status.state, "refused");
    assert.match(client.status.reason, /secret is not covered/);
    assert.equal(await world.untilNextAttempt(600_000), null);
  });
}

inWorld("401: another token is asked for; without one refused", async (world) => {
  world.events = { status: 401, body: { detail: "expected a token" } };
  world.session = { status: 200, body: { auth: "token", authenticated: false, roles: [], types: [] } };
  const client = world.connect({ transport: "sse" });
  await world.settles();
  assert.equal(client.status.state, "refused");
});

inWorld("503: not before its Retry-After", async (world) => {
  world.events = { status: 503, headers: { "Retry-After": "6" }, body: { detail: "no room" } };
  const client = world.connect({ transport: "sse" });
  const wait = await world.untilNextAttempt();
  assert.ok(wait >= 6000 && wait <= 7000, `${wait}`);
  assert.notEqual(client.status.state, "refused");
});

inWorld("502 and 404 in the middle of a deployment: back-off", async (world) => {
  const { client, stream } = await streaming(world);
  world.events = 502;
  stream.ends();
  assert.equal(await world.untilNextAttempt(), 1000);
  world.events = 404;
  assert.equal(await world.untilNextAttempt(), 2000);
  assert.notEqual(client.status.state, "refused");
});

inWorld("an answer that is no event stream is none, as of a login page", async (world) => {
  world.connect({ transport: "sse" });
  await world.settles();
  world.streams[0].writes("<!doctype html>\n\n<p>data: {}</p>\n\n");
  await world.passes(10_500);
  assert.ok(!world.streams[0].isOpen, "no welcome within 10 s");
});

inWorld("a stream that stays without an answer is given up", async (world) => {
  world.events = "silent";
  const client = world.connect({ transport: "sse" });
  await world.passes(10_100);
  assert.equal(client.status.state, "waiting");
  assert.ok(world.requests.filter(({ path }) => path.endsWith("/events"))[0].signal.aborted);
});

inWorld("comments are signs of life; without any it is quiet, then abandoned", async (world) => {
  const { client, stream } = await streaming(world);
  for (let n = 0; n < 5; n++) {
    await world.passes(20_000);
    stream.writes(": \n\n");
  }
  await world.passes(24_900);
  assert.equal(client.status.state, "live");
  await world.passes(200);
  assert.equal(client.status.state, "quiet");
  await world.passes(10_000);
  assert.ok(stream.signal.aborted);
  await world.passes(1_000);
  assert.equal(world.streams.length, 2);
});

inWorld("new patterns reopen it after 200 ms, once, and bring their values", async (world) => {
  world.gateway.starts({ values: [{ type: "b", data: 1 }, { type: "c", data: 2 }] });
  const client = world.connect({ transport: "sse" });
  const heard = [];
  client.on("a", ({ data }) => heard.push(data));
  await world.settles();
  client.on("b", ({ data }) => heard.push(`b${data}`));
  await world.passes(100);
  client.on("c", ({ data }) => heard.push(`c${data}`));
  await world.passes(1_000);
  assert.equal(world.streams.length, 2);
  assert.deepEqual(world.streams[1].asked, ["a", "b", "c"]);
  assert.ok(!world.streams[0].isOpen);
  assert.deepEqual(heard.sort(), ["b1", "c2"]);
  world.gateway.publishes({ type: "a", data: 3 });
  await world.settles();
  assert.equal(heard.at(-1), 3);
  assert.equal(client.status.state, "live");
});

inWorld("what is published while it reopens is missed by nobody without a word", async (world) => {
  world.gateway.starts({ values: [{ type: "b", data: 1 }] });
  const client = world.connect({ transport: "sse" });
  const heard = [];
  let gaps = 0;
  client.onGap(() => (gaps += 1));
  client.on("log", ({ data }) => heard.push(data));
  await world.settles();
  world.gateway.publishes({ type: "log", retain: false, data: 1 });
  await world.settles();
  world.gateway.isUp = false; // its answer to the next stream takes a while
  client.on("b", () => {});
  await world.passes(1_000);
  world.gateway.publishes({ type: "log", retain: false, data: 2 });
  world.gateway.isUp = true;
  const next = world.streams.at(-1);
  if (next.isOpen) world.gateway.attach(next);
  await world.passes(3_000);
  world.gateway.publishes({ type: "log", retain: false, data: 3 });
  await world.settles();
  assert.equal(new Set(heard).size, heard.length, "none twice");
  assert.ok(gaps > 0 || heard.includes(2), `${heard}, ${gaps} gaps`);
  assert.equal(client.store.get("b").data, 1);
});

inWorld("fewer patterns reopen it with its position", async (world) => {
  world.gateway.starts({ values: [{ type: "a", data: 1 }, { type: "b", data: 2 }] });
  const client = world.connect({ transport: "sse" });
  client.on("a", () => {});
  const off = client.on("b", () => {});
  await world.settles();
  off();
  await world.passes(1_000);
  const stream = world.streams.at(-1);
  if (world.streams.length > 1) {
    assert.deepEqual(stream.asked, ["a"]);
    assert.equal(stream.since, "k3f9:402");
  }
  assert.equal(client.store.get("a").data, 1);
});

inWorld("a reopening for patterns changes no value's state", async (world) => {
  world.gateway.starts({ values: [{ type: "a", source: "e", stale: false, as_of: iso(world.wall), data: 1 }] });
  const client = world.connect({ transport: "sse" });
  client.on("a", () => {});
  await world.settles();
  const told = [];
  client.onStale("*", () => told.push("stale"));
  client.on("b", () => {});
  await world.passes(3_000);
  assert.deepEqual(told, []);
  assert.equal(client.store.get("a").state, "fresh");
});

inWorld("WebSocket fails twice while the gateway answers: SSE", async (world) => {
  const client = world.connect();
  client.on("a", () => {});
  await failsTwice(world);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.streams.length, 1);
  world.streams[0].admits();
  await world.settles();
  assert.deepEqual([client.status.state, client.status.transport], ["live", "sse"]);
});

inWorld("two failures that are not in a row are none of WebSocket's", async (world) => {
  world.connect();
  (await world.opening()).ends(1006);
  await world.untilNextAttempt();
  const socket = await world.opening();
  socket.admits();
  await world.passes(6_000);
  socket.ends(1006);
  await world.untilNextAttempt();
  (await world.opening()).ends(1006);
  await world.passes(4_000);
  assert.equal(world.streams.length, 0);
});

inWorld("transport websocket never falls to SSE, and sse never dials a WebSocket", async (world) => {
  world.connect({ transport: "websocket" });
  for (let n = 0; n < 4; n++) {
    await world.settles();
    if (world.sockets.at(-1).readyState === 0) world.sockets.at(-1).ends(1006);
    await world.passes(8_100);
  }
  assert.equal(world.streams.length, 0);
});

inWorld("after SSE is lost, WebSocket is tried again", async (world) => {
  world.connect();
  await failsTwice(world);
  world.streams[0].admits();
  await world.passes(6_000);
  world.streams[0].ends();
  await world.passes(1_100);
  assert.equal(world.sockets.length, 3);
});

inWorld("where there is no WebSocket at all, it is SSE", async (world) => {
  const client = world.connect({ WebSocket: undefined });
  client.on("a", () => {});
  await world.settles();
  world.streams[0].admits();
  await world.settles();
  assert.equal(client.status.transport, "sse");
});

inWorld("close() in the middle of a piece: what else is in it is not handed out", async (world) => {
  const { client, stream, heard } = await streaming(world);
  client.on("a", () => client.close());
  const frame = (seq) => `data: {"type":"a","timestamp":"2026-11-22T21:40:00.000Z","seq":${seq},"data":${seq}}\n\n`;
  stream.writes(frame(401) + frame(402));
  await world.settles();
  assert.deepEqual(names(heard), ["a=401"]);
  assert.equal(client.status.state, "closed");
});

inWorld("close() aborts the stream", async (world) => {
  const { client, stream } = await streaming(world);
  client.close();
  await world.settles();
  assert.ok(!stream.isOpen);
  assert.equal(client.status.state, "closed");
});
