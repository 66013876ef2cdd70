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
