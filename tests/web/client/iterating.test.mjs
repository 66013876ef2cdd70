// Events as an async iterator: what happens to those who read too slowly, and how it ends.

import assert from "node:assert/strict";

import { inWorld } from "./world.mjs";

const isGap = (item) => item.skipped !== undefined && item.reason !== undefined;
const count = ({ skipped }) => Object.values(skipped).reduce((sum, n) => sum + n, 0);

// An iterator that has had one event, so that it surely listens; and then those that came while nobody read.
async function unread(world, options, events) {
  world.gateway.starts();
  const client = world.connect();
  const iterator = client.events("a", options)[Symbol.asyncIterator]();
  const first = iterator.next();
  await world.settles();
  world.gateway.publishes({ type: "a", data: "first" });
  assert.equal((await first).value.data, "first");
  for (const event of events) world.gateway.publishes({ type: "a", ...event });
  await world.settles();
  return { client, iterator };
}

async function take(world, iterator, total) {
  const items = [];
  let seen = 0;
  while (seen < total) {
    const { value, done } = await iterator.next();
    assert.ok(!done);
    items.push(value);
    seen += isGap(value) ? count(value) : 1;
  }
  return items;
}

const numbered = (n) => Array.from({ length: n }, (_, data) => ({ data }));

inWorld("an iterator gives snapshots, then events, in order", async (world) => {
  world.gateway.starts({ values: [{ type: "a", data: "snapshot" }] });
  const client = world.connect();
  const iterator = client.events("a")[Symbol.asyncIterator]();
  const first = iterator.next();
  await world.settles();
  world.gateway.publishes({ type: "a", data: 1 });
  world.gateway.publishes({ type: "a", data: 2 });
  assert.deepEqual([(await first).value.data, (await first).value.snapshot], ["snapshot", true]);
  assert.equal((await iterator.next()).value.data, 1);
  assert.equal((await iterator.next()).value.data, 2);
});

inWorld("what fits is kept", async (world) => {
  const { iterator } = await unread(world, { buffer: 5, overflow: "drop-oldest" }, numbered(5));
  const items = await take(world, iterator, 5);
  assert.deepEqual(items.map(({ data }) => data), [0, 1, 2, 3, 4]); // prettier-ignore
});

inWorld("drop-oldest: the newest are kept, behind a gap that counts the others", async (world) => {
  const { iterator } = await unread(world, { buffer: 3, overflow: "drop-oldest" }, numbered(8));
  const items = await take(world, iterator, 8);
  assert.ok(isGap(items[0]), "the gap stands where the hole is");
  assert.deepEqual(items[0].skipped, { a: 5 });
  assert.deepEqual(items.slice(1).map(({ data }) => data), [5, 6, 7]); // prettier-ignore
});

inWorld("latest: the newest of each key is kept, and a gap counts the others", async (world) => {
  const events = [1, 2, 3].flatMap((data) => [{ key: "k1", data }, { key: "k2", data: 10 * data }]); // prettier-ignore
  const { iterator } = await unread(world, { buffer: 2, overflow: "latest" }, [...events, { key: "k1", data: 4 }]);
  const items = await take(world, iterator, 7);
  const kept = items.filter((item) => !isGap(item));
  const newest = Object.fromEntries(kept.map(({ key, data }) => [key, data]));
  assert.deepEqual(newest, { k1: 4, k2: 30 });
  assert.ok(items.some(isGap));
  for (const key of ["k1", "k2"]) {
    const seqs = kept.filter((item) => item.key === key).map(({ seq }) => seq);
    assert.deepEqual(seqs, [...seqs].sort((a, b) => a - b), "never an older one behind a newer one"); // prettier-ignore
  }
});

inWorld("latest: a key that changes all the time does not push out one that is at rest", async (world) => {
  const events = [{ key: "rest", data: 0 }, ...[1, 2, 3, 4].map((data) => ({ key: "busy", data }))];
  const { iterator } = await unread(world, { buffer: 2, overflow: "latest" }, events);
  const kept = (await take(world, iterator, 5)).filter((item) => !isGap(item));
  assert.deepEqual(kept.map(({ data }) => data), [0, 4]); // prettier-ignore
});

inWorld("latest with more keys than room is bounded too, and tells it", async (world) => {
  const events = Array.from({ length: 50 }, (_, n) => ({ key: `k${n}`, data: n }));
  const { iterator } = await unread(world, { buffer: 4, overflow: "latest" }, events);
  const items = await take(world, iterator, 50);
  assert.ok(items.length <= 6, `${items.length} items kept`);
  assert.equal(items.at(-1).data, 49);
});

inWorld("a gap of the gateway is an item, where it stands", async (world) => {
  const { iterator } = await unread(world, {}, [{ data: 1 }]);
  const [socket] = world.sockets;
  socket.says({ type: "gap", data: { reason: "slow_consumer", requested: null, skipped: { a: 12 } } });
  world.gateway.publishes({ type: "a", data: 2 });
  await world.settles();
  const items = [(await iterator.next()).value, (await iterator.next()).value, (await iterator.next()).value];
  assert.deepEqual(items.map((item) => (isGap(item) ? item.skipped : item.data)), [1, { a: 12 }, 2]); // prettier-ignore
});

inWorld("several that wait are served in turn", async (world) => {
  const { iterator } = await unread(world, {}, []);
  const waiting = [iterator.next(), iterator.next()];
  world.gateway.publishes({ type: "a", data: 1 });
  world.gateway.publishes({ type: "a", data: 2 });
  assert.deepEqual((await Promise.all(waiting)).map(({ value }) => value.data), [1, 2]); // prettier-ignore
});

inWorld("a loop that is left unsubscribes", async (world) => {
  world.gateway.starts({ values: [{ type: "a", data: 1 }] });
  const client = world.connect();
  for await (const event of client.events("a")) {
    assert.equal(event.data, 1);
    break;
  }
  await world.settles();
  assert.deepEqual(world.sockets[0].newest("unsubscribe"), ["a"]);
});

inWorld("an abort signal ends a loop and its subscription", async (world) => {
  const control = new AbortController();
  const { iterator } = await unread(world, { signal: control.signal }, []);
  const next = iterator.next();
  control.abort();
  const ended = await next.then(({ done }) => done, () => true); // prettier-ignore
  assert.equal(ended, true);
  await world.settles();
  assert.deepEqual(world.sockets[0].newest("unsubscribe"), ["a"]);
});

inWorld("close() ends a loop that waits, and every later one", async (world) => {
  const { client, iterator } = await unread(world, {}, []);
  const next = iterator.next();
  client.close();
  assert.equal((await next).done, true);
  assert.equal((await iterator.next()).done, true);
});
