// Publishing over HTTP.

import assert from "node:assert/strict";

import { inWorld } from "./world.mjs";

const taken = () => ({ status: 202, body: { epoch: "k3f9", seq: 407 } });

inWorld("an event is posted, with the token in a header, and its position comes back", async (world) => {
  world.answer = taken;
  const client = world.connect({ token: "t" });
  const position = await client.publish("ci.build", { ok: true }, { key: "main", retain: true, ttlS: 60 });
  assert.equal(position, "k3f9:407");
  const { path, method, headers, body } = world.requests.find((request) => request.method === "POST");
  assert.deepEqual([path, method], ["/api/v1/events", "POST"]);
  assert.equal(headers.get("Authorization"), "Bearer t");
  assert.match(headers.get("Content-Type"), /^application\/json/);
  assert.deepEqual(body, { type: "ci.build", data: { ok: true }, key: "main", retain: true, ttl_s: 60 });
});

inWorld("what was not said is not sent; data may be null", async (world) => {
  world.answer = taken;
  await world.connect().publish("ci.build", null);
  assert.deepEqual(world.requests.find((request) => request.method === "POST").body, { type: "ci.build", data: null });
});

inWorld("a refusal is an error with its status and words", async (world) => {
  world.answer = () => ({ status: 403, body: { status: 403, detail: "the token lacks the role publisher" } });
  await assert.rejects(world.connect().publish("ci.build", 1), (error) => {
    assert.ok(error instanceof Error);
    assert.match(error.message, /lacks the role publisher/);
    assert.equal(error.status, 403);
    return true;
  });
});

inWorld("a refusal without words is an error too, and so is a gateway that is away", async (world) => {
  const client = world.connect();
  world.answer = () => ({ status: 502 });
  await assert.rejects(client.publish("ci.build", 1), /502/);
  world.answer = () => "away";
  await assert.rejects(client.publish("ci.build", 1), Error);
});
