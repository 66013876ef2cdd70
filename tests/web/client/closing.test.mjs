// The end of a client: final, whatever comes afterwards; and nothing is left behind, however long it lived.

import assert from "node:assert/strict";

import { GATEWAY, inWorld, iso } from "./world.mjs";

inWorld("close() is final: nothing that the browser tells brings it back", async (world) => {
  world.isBrowser();
  world.gateway.starts();
  const client = world.connect({ closeWhenHiddenS: 30 });
  client.on("a", () => {});
  await world.settles();
  client.close();
  const [socket] = world.sockets;
  assert.ok(socket.closedWith);
  assert.equal(client.status.state, "closed");
  assert.ok(socket.handlers === 0 || socket.readyState === 2);
  for (const name of ["online", "offline", "pageshow", "resume", "pagehide"]) await world.tells(name, { persisted: true });
  await world.shows("hidden");
  await world.shows("visible");
  client.reconnect();
  client.close();
  socket.ends(1000);
  await world.passes(600_000);
  assert.equal(world.sockets.length, 1);
  assert.equal(client.status.state, "closed");
  assert.deepEqual(world.timers, []);
});

for (const when of ["before it opened", "while it waits", "while it asks for the session"]) {
  inWorld(`close() ${when}`, async (world) => {
    const client = world.connect();
    const socket = await world.opening();
    if (when !== "before it opened") {
      world.session = when === "while it waits" ? "away" : "silent";
      socket.ends(1006);
      await world.settles();
    }
    client.close();
    assert.equal(await world.untilNextAttempt(600_000), null);
    assert.equal(client.status.state, "closed");
  });
}

inWorld("closed, its values are not vouched for, and its listeners hear nothing", async (world) => {
  world.gateway.starts({ values: [{ type: "a", source: "e", stale: false, as_of: iso(world.wall), data: 1 }] });
  const client = world.connect();
  const heard = [];
  client.on("a", ({ data }) => heard.push(data));
  await world.settles();
  client.close();
  await world.passes(3_000);
  assert.notEqual(client.store.get("a")?.state, "fresh");
  world.gateway.publishes({ type: "a", data: 2 });
  await world.settles();
  assert.deepEqual(heard, [1]);
});

inWorld("its signal closes it; one that was aborted before opens nothing", async (world) => {
  const control = new AbortController();
  const client = world.connect({ signal: control.signal });
  const socket = await world.opening();
  control.abort();
  await world.settles();
  assert.equal(client.status.state, "closed");
  assert.ok(socket.closedWith);
  const never = world.connect({ signal: AbortSignal.abort() });
  await world.passes(1_000);
  assert.equal(never.status.state, "closed");
  assert.equal(world.sockets.length, 1);
});

inWorld("what on, onGap and onStatus gave back may be called after the end, and twice", async (world) => {
  const client = world.connect();
  const offs = [client.on("a", () => {}), client.onGap(() => {}), client.onStatus(() => {}), client.onFresh("a", () => {})];
  client.close();
  for (const off of [...offs, ...offs]) off();
});

inWorld("the address may not be one of another kind", async (world) => {
  for (const url of ["ftp://gw.example/", "javascript:alert(1)", "not a url"]) {
    assert.throws(() => world.connect({}, url), Error, url);
  }
});

inWorld("ws:// and wss:// are addresses too", async (world) => {
  world.connect({}, GATEWAY.replace("http", "ws"));
  assert.equal((await world.opening()).url.protocol, "ws:");
});

inWorld("1,000 reconnects leave no timer, no listener and no socket behind", async (world) => {
  world.isBrowser();
  world.gateway.starts({ values: [{ type: "a", source: "e", stale: false, as_of: iso(world.wall), data: 1 }] });
  const client = world.connect();
  client.on("a", () => {});
  client.onStatus(() => {});
  client.store.subscribe("*", () => {});
  await world.passes(1_000);
  const [timers, listeners, handlers] = [world.timers.length, world.listeners, world.sockets[0].handlers];
  for (let n = 0; n < 1000; n++) {
    world.gateway.cuts();
    await world.passes(6_100);
    assert.equal(client.status.state, "live");
  }
  assert.ok(world.sockets.length > 900);
  assert.equal(world.timers.length, timers);
  assert.equal(world.listeners, listeners);
  assert.equal(world.sockets.at(-1).handlers, handlers);
  for (const socket of world.sockets.slice(0, -1)) assert.equal(socket.handlers, 0);
  assert.deepEqual(client.store.list("a").map(({ state }) => state), ["fresh"]); // prettier-ignore
});

inWorld("1,000 listeners that come and go leave nothing behind", async (world) => {
  world.gateway.starts({ values: [{ type: "a", data: 1 }] });
  const client = world.connect();
  await world.settles();
  const signal = new AbortController().signal;
  let count = 0;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...given) => (add(...given), (count += 1));
  signal.removeEventListener = (...given) => (remove(...given), (count -= 1));
  for (let n = 0; n < 1000; n++) {
    client.on("a", () => {}, { signal })();
    const iterator = client.events("a", { signal })[Symbol.asyncIterator]();
    await iterator.next();
    await iterator.return();
  }
  await world.settles();
  assert.equal(count, 0, "listeners of an abort signal");
  assert.equal(client.store.get("a"), undefined);
});

inWorld("two clients of one module know nothing of each other", async (world) => {
  world.gateway.starts({ values: [{ type: "a", data: 1 }] });
  const [first, second] = [world.connect(), world.connect()];
  first.on("a", () => {});
  await world.settles();
  assert.equal(first.store.get("a").data, 1);
  assert.equal(second.store.get("a"), undefined);
  first.close();
  await world.settles();
  assert.equal(second.status.state, "live");
});
