// Who listens, and what is asked for on the wire: patterns are counted, late listeners get what is known, and a resumed
// connection asks for new patterns only behind its `synced`.

import assert from "node:assert/strict";

import { ADDED, inWorld } from "./world.mjs";

const names = (events) => events.map(({ type, key, data }) => `${type}${key ? `/${key}` : ""}=${data}`);

inWorld("listeners of the first turn stand in the URL, with the client's own patterns", async (world) => {
  const client = world.connect();
  client.on("b", () => {});
  client.on("a.*", () => {});
  client.on("b", () => {});
  const socket = await world.opening();
  assert.equal(socket.url.href.split("?")[0], "ws://gw.example:12080/ws");
  assert.deepEqual([...socket.types].sort(), ["a.*", "b", ...ADDED].sort());
});

for (const [given, opened] of [
  ["https://gw.example/below/", "wss://gw.example/below/ws"],
  ["http://gw.example", "ws://gw.example/ws"],
  [new URL("http://gw.example:8080/"), "ws://gw.example:8080/ws"],
]) {
  inWorld(`${given} is asked at ${opened}`, async (world) => {
    world.connect({}, given);
    const socket = await world.opening();
    assert.equal(socket.url.href.split("?")[0], opened);
  });
}

inWorld("several listeners of one turn become one subscribe", async (world) => {
  const client = world.connect();
  const socket = await world.opening();
  socket.admits();
  client.on("a", () => {});
  client.on("b", () => {});
  client.on("a", () => {});
  assert.deepEqual(socket.of("subscribe"), []);
  await world.settles();
  assert.equal(socket.of("subscribe").length, 1);
  assert.deepEqual(socket.newest("subscribe"), ["a", "b"]);
});

inWorld("a listener that comes and goes in one turn asks for nothing", async (world) => {
  const client = world.connect();
  const socket = await world.opening();
  socket.admits();
  const off = client.on("a", () => {});
  off();
  await world.settles();
  assert.deepEqual([socket.of("subscribe"), socket.of("unsubscribe")], [[], []]);
});

inWorld("only the last of a pattern's listeners unsubscribes", async (world) => {
  const client = world.connect();
  const first = client.on("a", () => {});
  const second = client.on("a", () => {});
  const socket = await world.opening();
  socket.admits();
  first();
  first();
  await world.settles();
  assert.deepEqual(socket.of("unsubscribe"), []);
  second();
  await world.settles();
  assert.deepEqual(socket.newest("unsubscribe"), ["a"]);
});

inWorld("the client's own patterns are never unsubscribed", async (world) => {
  world.gateway.starts();
  const client = world.connect();
  const off = client.on("source.freshness", () => {});
  await world.settles();
  off();
  await world.settles();
  assert.ok(!world.sockets[0].of("unsubscribe").some(({ data }) => data.types.includes("source.freshness")));
});

inWorld("everyone gets the events of his pattern, each once and in order", async (world) => {
  world.gateway.starts();
  const client = world.connect();
  const heard = { all: [], below: [], one: [], other: [] };
  client.on("*", ({ type, data }) => type.startsWith("a") && heard.all.push(data));
  client.on("a.*", ({ data }) => heard.below.push(data));
  client.on("a.b", ({ data }) => heard.one.push(data));
  client.on("a", ({ data }) => heard.other.push(data));
  await world.settles();
  world.gateway.publishes({ type: "a.b", data: 1 });
  world.gateway.publishes({ type: "a.b.c", data: 2 });
  world.gateway.publishes({ type: "ab", data: 3 });
  assert.deepEqual(heard, { all: [1, 2, 3], below: [1, 2], one: [1], other: [] });
});

inWorld("events of the client's own patterns go only to those who asked for them", async (world) => {
  world.gateway.starts();
  const client = world.connect();
  const heard = [];
  client.on("a", ({ type }) => heard.push(type));
  await world.settles();
  world.gateway.publishes({ type: "source.freshness", key: "a", data: { type: "a", stale: false, as_of: null } });
  world.gateway.publishes({ type: "a", data: 1 });
  assert.deepEqual(heard, ["a"]);
});

inWorld("a late listener gets what the store has, as snapshots in a microtask", async (world) => {
  world.gateway.starts({ values: [{ type: "a", key: "k", data: 1 }, { type: "b", data: 2 }] });
  const client = world.connect();
  client.on("*", () => {});
  await world.settles();
  world.gateway.publishes({ type: "a", key: "k", data: 3 });
  const heard = [];
  client.on("a", (event) => heard.push(event));
  assert.deepEqual(heard, []);
  await Promise.resolve();
  await Promise.resolve();
  assert.deepEqual(names(heard), ["a/k=3"]);
  assert.equal(heard[0].snapshot, true, "although it was none when it came");
  assert.equal(heard[0].seq, 403);
});

inWorld("a late listener that is gone before the microtask hears nothing", async (world) => {
  world.gateway.starts({ values: [{ type: "a", data: 1 }] });
  const client = world.connect();
  client.on("*", () => {});
  await world.settles();
  const heard = [];
  client.on("a", (event) => heard.push(event))();
  await world.settles();
  assert.deepEqual(heard, []);
});

inWorld("a late listener gets each value once, whatever the gateway sends for new patterns", async (world) => {
  world.gateway.starts({ values: [{ type: "a.x", data: 1 }, { type: "a.y", data: 2 }] });
  const client = world.connect();
  client.on("a.x", () => {});
  await world.settles();
  const heard = [];
  client.on("a.*", (event) => heard.push(event));
  await world.settles();
  assert.deepEqual(names(heard).sort(), ["a.x=1", "a.y=2"]);
});

inWorld("a late listener of a type that is not retained gets nothing old", async (world) => {
  world.gateway.starts();
  const client = world.connect();
  client.on("rpc_error", () => {});
  await world.settles();
  world.gateway.publishes({ type: "rpc_error", retain: false, data: { backend: "engine" } });
  const heard = [];
  client.on("rpc_error", (event) => heard.push(event));
  await world.settles();
  assert.deepEqual(heard, []);
});

inWorld("a narrower listener stays when the wider one ends, and loses nothing", async (world) => {
  world.gateway.starts({ values: [{ type: "a.x", data: 0 }] });
  const client = world.connect();
  const off = client.on("a.*", () => {});
  const heard = [];
  client.on("a.x", ({ data }) => heard.push(data));
  await world.settles();
  off();
  await world.settles();
  world.gateway.publishes({ type: "a.x", data: 1 });
  world.gateway.publishes({ type: "a.y", data: 2 });
  assert.deepEqual(heard, [0, 1]);
  assert.equal(client.store.get("a.y"), undefined);
  assert.equal(client.store.get("a.x").data, 1);
});

inWorld("values that no pattern covers any longer leave the store", async (world) => {
  world.gateway.starts({ values: [{ type: "a", data: 1 }, { type: "b", data: 2 }] });
  const client = world.connect();
  const off = client.on("a", () => {});
  client.on("b", () => {});
  await world.settles();
  assert.equal(client.store.get("a").data, 1);
  off();
  await world.settles();
  assert.equal(client.store.get("a"), undefined);
  assert.equal(client.store.get("b").data, 2);
});

inWorld("one that ends while cut off is not asked for again, and one that comes is", async (world) => {
  world.gateway.starts({ values: [{ type: "a", data: 1 }, { type: "b", data: 2 }] });
  const client = world.connect();
  const off = client.on("a", () => {});
  await world.settles();
  world.gateway.cuts();
  off();
  const heard = [];
  client.on("b", (event) => heard.push(event));
  await world.passes(1_100);
  const socket = world.sockets[1];
  assert.ok(!socket.asked.includes("b"), "a resumed connection would bring no value of it");
  assert.equal(socket.since, "k3f9:402");
  assert.deepEqual(socket.newest("subscribe"), ["b"]);
  assert.ok(!socket.subscriptions.has("a"));
  assert.equal(client.store.get("a"), undefined);
  assert.deepEqual(names(heard), ["b=2"]);
  assert.equal(heard[0].snapshot, true);
});

inWorld("the trap: it resumes with the old patterns, and asks for the new ones behind the synced", async (world) => {
  const client = world.connect();
  client.on("a", () => {});
  const first = await world.opening();
  first.admits();
  first.ends();
  client.on("b", () => {});
  await world.untilNextAttempt();
  const socket = await world.opening();
  assert.deepEqual([socket.asked, socket.since], [["a"], "k3f9:400"]);
  socket.accepts();
  socket.welcomes({ resumed: true });
  await world.settles();
  assert.deepEqual(socket.of("subscribe"), []);
  socket.syncs(404);
  await world.settles();
  assert.deepEqual(socket.newest("subscribe"), ["b"]);
});

inWorld("a listener that comes in the middle of a replay is asked for behind it", async (world) => {
  const client = world.connect();
  client.on("a", () => {});
  (await world.opening()).admits();
  world.sockets[0].ends();
  await world.untilNextAttempt();
  const socket = await world.opening();
  socket.accepts();
  socket.welcomes({ resumed: true });
  client.on("b", () => {});
  await world.settles();
  socket.syncs(404);
  await world.settles();
  assert.deepEqual(socket.newest("subscribe"), ["b"]);
  assert.equal(socket.of("subscribe").length, 1);
});

inWorld("a subscribe that is refused is told, and the rest goes on", async (world) => {
  const client = world.connect();
  const heard = [];
  client.on("a", ({ data }) => heard.push(data));
  const socket = await world.opening();
  socket.admits();
  const seen = [];
  client.onStatus(({ reason }) => seen.push(reason));
  client.on("secret", () => {});
  await world.settles();
  const data = { code: "FORBIDDEN", message: "the token does not cover secret", retryable: false };
  socket.says({ type: "error", id: socket.of("subscribe")[0].id, data });
  socket.says({ type: "a", seq: 401, data: 1 });
  await world.settles();
  assert.equal(client.status.state, "live");
  assert.deepEqual(heard, [1]);
  const told = [...seen, ...world.errors.splice(0).map(String), ...world.warnings.splice(0)].join(" ");
  assert.match(told, /secret/);
});

inWorld("a subscribe that came too often is asked again", async (world) => {
  const client = world.connect();
  const socket = await world.opening();
  socket.admits();
  client.on("a", () => {});
  await world.settles();
  const data = { code: "RATE_LIMITED", message: "too many messages", retryable: true };
  socket.says({ type: "error", id: socket.of("subscribe")[0].id, data });
  await world.passes(10_000);
  assert.equal(socket.of("subscribe").length, 2);
  assert.deepEqual(socket.newest("subscribe"), ["a"]);
});

inWorld("an old gateway is asked with a ping, and a new pattern with another", async (world) => {
  const client = world.connect();
  client.on("a", () => {});
  const socket = await world.opening();
  socket.answersPings = false;
  socket.accepts();
  socket.welcomes();
  await world.settles();
  assert.equal(socket.of("ping").length, 1);
  socket.says({ type: "a", seq: 12, data: 12, snapshot: true });
  assert.equal(client.position, null);
  socket.pongs(socket.of("ping")[0]);
  assert.equal(client.position, "k3f9:400");
  client.on("b", () => {});
  await world.settles();
  const { id } = socket.of("subscribe")[0];
  socket.says({ type: "subscribed", id, data: { types: ["a", "b", ...ADDED], added: ["b"], epoch: "k3f9", seq: 405 } });
  await world.settles();
  assert.equal(socket.of("ping").length, 2);
  assert.equal(client.position, "k3f9:400");
  socket.pongs(socket.of("ping")[1]);
  assert.equal(client.position, "k3f9:405");
});

inWorld("neither a snapshot nor another epoch's heartbeat moves the position", async (world) => {
  const client = world.connect();
  client.on("a", () => {});
  const socket = await world.opening();
  socket.admits();
  client.on("b", () => {});
  await world.settles();
  const { id } = socket.of("subscribe")[0];
  socket.says({ type: "subscribed", id, data: { types: ["a", "b", ...ADDED], added: ["b"], epoch: "k3f9", seq: 405 } });
  socket.says({ type: "b", seq: 404, data: 1, snapshot: true });
  socket.says({ type: "heartbeat", data: { epoch: "m0p2", seq: 900, uptime_s: 1, clients: 1 } });
  assert.equal(client.position, "k3f9:400");
});

inWorld("`since` of before is where it begins", async (world) => {
  const client = world.connect({ since: "k3f9:300" });
  client.on("a", () => {});
  const socket = await world.opening();
  assert.equal(socket.since, "k3f9:300");
});

inWorld("a pattern that is none is refused where it is given", async (world) => {
  const client = world.connect();
  for (const pattern of ["", "a..b", "a.*.b", "A b", ".*"]) {
    assert.throws(() => client.on(pattern, () => {}), Error, JSON.stringify(pattern));
  }
});

inWorld("a listener that throws stops nobody", async (world) => {
  world.gateway.starts();
  const client = world.connect();
  const heard = [];
  client.on("a", () => {
    throw new Error("of the first listener");
  });
  client.on("a", ({ data }) => heard.push(data));
  client.onStatus(() => {
    throw new Error("of a status listener");
  });
  await world.settles();
  world.gateway.publishes({ type: "a", data: 1 });
  world.gateway.publishes({ type: "a", data: 2 });
  assert.deepEqual(heard, [1, 2]);
  const messages = world.errors.splice(0).map(({ message }) => message);
  assert.equal(messages.filter((message) => message === "of the first listener").length, 2);
});

inWorld("a listener may end itself and others, and add some, while an event is handed out", async (world) => {
  world.gateway.starts();
  const client = world.connect();
  const heard = [];
  const offs = [];
  offs[0] = client.on("a", () => {
    heard.push("first");
    offs[0]();
    offs[1]();
    client.on("a", ({ snapshot }) => heard.push(snapshot ? "snapshot" : "third"));
  });
  offs[1] = client.on("a", () => heard.push("second"));
  await world.settles();
  world.gateway.publishes({ type: "a", data: 1 });
  await world.settles();
  assert.ok(!heard.includes("second"));
  assert.equal(heard.filter((it) => it === "first").length, 1);
  assert.equal(heard.filter((it) => it !== "first").length, 1, `once, by whichever way: ${heard}`);
});

inWorld("an abort signal ends a listener, and one that was aborted before begins none", async (world) => {
  world.gateway.starts();
  const client = world.connect();
  const control = new AbortController();
  const heard = [];
  client.on("a", ({ data }) => heard.push(data), { signal: control.signal });
  client.on("b", ({ data }) => heard.push(data), { signal: AbortSignal.abort() });
  await world.settles();
  world.gateway.publishes({ type: "a", data: 1 });
  world.gateway.publishes({ type: "b", data: 2 });
  control.abort();
  await world.settles();
  world.gateway.publishes({ type: "a", data: 3 });
  assert.deepEqual(heard, [1]);
  assert.deepEqual(world.sockets[0].newest("unsubscribe"), ["a"]);
  assert.ok(!world.sockets[0].types.includes("b"));
});

inWorld("patterns that the token does not cover any more are given up, with their values", async (world) => {
  world.gateway.starts({ values: [{ type: "a", data: 1 }, { type: "b", data: 2 }] });
  const client = world.connect();
  client.on("a", () => {});
  client.on("b", () => {});
  await world.settles();
  const [socket] = world.sockets;
  const types = [...socket.types].filter((pattern) => pattern !== "b");
  world.gateway.forbidden = ["b"];
  socket.subscriptions.delete("b");
  socket.says({ type: "unsubscribed", data: { types, removed: ["b"] } });
  await world.settles();
  assert.deepEqual([client.store.get("a")?.data, client.store.get("b")], [1, undefined]);
  assert.deepEqual([client.status.state, client.status.reason], ["live", "FORBIDDEN: not covered"]);
  assert.equal(socket.of("subscribe").length, 1, "it does not ask again and again");
});

inWorld("an end that nobody asked for takes no value that is still to come, and answers nothing", async (world) => {
  const client = world.connect();
  client.on("a", () => {});
  client.on("b", () => {});
  const socket = await world.opening();
  socket.admits();
  await world.settles();
  socket.says({ type: "a", timestamp: "2026-11-22T21:40:00.000Z", seq: 403, data: 1 });
  socket.ends();
  await world.passes(1_000);
  const next = await world.opening();
  next.accepts();
  next.welcomes({ resumed: false });
  next.says({ type: "unsubscribed", data: { types: ["a", ...ADDED], removed: ["b"] } });
  await world.settles();
  assert.equal(client.store.get("a")?.data, 1, "its snapshot is under way");
});
