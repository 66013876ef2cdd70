// Where tokens come from, how they travel, and how they are renewed.

import assert from "node:assert/strict";

import { inWorld } from "./world.mjs";

const DENIED = { status: 200, body: { auth: "token", authenticated: false, roles: [], types: [] } };

function jwt(world, lifeS, more = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.round(world.serverTime / 1000);
  return `${part({ alg: "HS256" })}.${part({ iat: now, exp: now + lifeS, ...more })}.c2ln`;
}

// A provider that gives these tokens one after the other, then the last one for ever; `asked` are its reasons.
function provider(...tokens) {
  const asked = [];
  const give = ({ reason, signal }) => {
    assert.ok(signal instanceof AbortSignal);
    asked.push(reason);
    const token = tokens.length > 1 ? tokens.shift() : tokens[0];
    return typeof token === "function" ? token() : token;
  };
  return { give, asked };
}

const offered = (socket) => {
  const found = socket.protocols.find((name) => name.startsWith("tidegate.token."));
  return found && Buffer.from(found.slice("tidegate.token.".length), "base64url").toString();
};

inWorld("a token travels as a subprotocol, never in the URL", async (world) => {
  world.connect({ token: "a>b?c~d" });
  const socket = await world.opening();
  assert.ok(socket.protocols.includes("tidegate.v1"));
  assert.equal(offered(socket), "a>b?c~d");
  assert.match(socket.protocols.join(), /^[\w.,-]+$/, "base64url without padding");
  assert.ok(!socket.url.searchParams.has("token"));
});

inWorld("tokenIn: query", async (world) => {
  world.connect({ token: "a&b", tokenIn: "query" });
  const socket = await world.opening();
  assert.equal(socket.url.searchParams.get("token"), "a&b");
  assert.equal(offered(socket), undefined);
});

inWorld("without a token none is offered", async (world) => {
  world.connect();
  const socket = await world.opening();
  assert.equal(offered(socket), undefined);
  assert.ok(!socket.url.searchParams.has("token"));
});

inWorld("a provider is asked at each attempt; null is no token", async (world) => {
  const { give, asked } = provider(null, () => Promise.resolve("second"));
  world.connect({ token: give });
  const first = await world.opening();
  assert.equal(offered(first), undefined);
  first.admits();
  first.ends();
  await world.untilNextAttempt();
  assert.equal(offered(await world.opening()), "second");
  assert.deepEqual(asked.filter((reason) => reason !== "connect"), []); // prettier-ignore
  assert.ok(asked.length >= 2);
});

inWorld("a provider that fails is asked again after the back-off", async (world) => {
  const fails = () => Promise.reject(new Error("no network"));
  const throws = () => {
    throw new Error("a bug");
  };
  const { give, asked } = provider(fails, throws, "third");
  const client = world.connect({ token: give });
  await world.settles();
  assert.equal(world.sockets.length, 0);
  assert.equal(client.status.state, "waiting");
  await world.passes(4_000);
  assert.equal(asked.length, 3);
  assert.equal(offered(await world.opening()), "third");
  world.errors.length = 0;
});

inWorld("close() aborts a provider that still thinks, and its token opens nothing", async (world) => {
  let answer;
  let given;
  const client = world.connect({
    token: ({ signal }) => {
      given = signal;
      return new Promise((done) => (answer = done));
    },
  });
  await world.settles();
  client.close();
  assert.ok(given.aborted);
  answer("late");
  await world.settles();
  assert.equal(world.sockets.length, 0);
});

inWorld("4401: the provider is asked for another one, and it is used at once", async (world) => {
  const [first, second] = [jwt(world, 600, { n: 1 }), jwt(world, 600, { n: 2 })];
  const { give, asked } = provider(first, second);
  world.connect({ token: give });
  const socket = await world.opening();
  socket.admits();
  socket.ends(4401, "the token has expired");
  await world.settles();
  assert.ok(asked.includes("expired"));
  await world.passes(1);
  const next = await world.opening();
  assert.equal(offered(next), second);
  assert.equal(next.since, "k3f9:400");
});

for (const [first, second] of [
  ["one", "another"],
  [{ types: ["a"] }, { types: ["a", "b"] }],
]) {
  inWorld(`a token that may cover more (${JSON.stringify(second)}) begins anew, and tells a gap`, async (world) => {
    const token = (given) => (typeof given === "string" ? given : jwt(world, 600, given));
    const { give } = provider(() => token(first), () => token(second));
    const client = world.connect({ token: give });
    const gaps = [];
    client.onGap((gap) => gaps.push(gap));
    const socket = await world.opening();
    socket.admits();
    socket.ends(4401, "the token has expired");
    await world.passes(1);
    const next = await world.opening();
    assert.equal(next.since, null);
    assert.deepEqual(gaps.map(({ reason }) => reason), ["token_changed"]); // prettier-ignore
  });
}

inWorld("4401 and the same token again: refused", async (world) => {
  const { give, asked } = provider("same");
  const client = world.connect({ token: give });
  const socket = await world.opening();
  socket.admits();
  socket.ends(4401, "the token has expired");
  await world.settles();
  assert.deepEqual(asked, ["connect", "expired"]);
  assert.equal(client.status.state, "refused");
  assert.equal(client.status.code, 4401);
  assert.match(client.status.reason, /has expired/);
  assert.equal(await world.untilNextAttempt(600_000), null);
});

for (const options of [{}, { token: "text" }, { token: () => null }]) {
  inWorld(`4401 with ${JSON.stringify(String(options.token))}: refused`, async (world) => {
    const client = world.connect(options);
    const socket = await world.opening();
    socket.admits();
    socket.ends(4401, "a token is missing");
    await world.settles();
    assert.equal(client.status.state, "refused");
  });
}

inWorld("4401 for each of many new tokens does not become a hot loop", async (world) => {
  let n = 0;
  world.connect({ token: () => `token-${n++}` });
  for (let round = 0; round < 30; round++) {
    await world.settles();
    const socket = world.sockets.at(-1);
    if (socket?.readyState === 0) {
      socket.accepts();
      socket.ends(4401, "not valid");
    }
    await world.passes(100);
  }
  assert.ok(world.sockets.length <= 12, `${world.sockets.length} connections in 3 s`);
});

inWorld("a handshake that fails for want of a token asks the provider", async (world) => {
  const { give, asked } = provider("first", "second");
  const client = world.connect({ token: give });
  const socket = await world.opening();
  world.session = ({ headers }) => (headers.get("Authorization") === "Bearer second" ? { status: 200, body: {} } : DENIED);
  socket.ends(1006);
  await world.passes(1_100);
  assert.ok(asked.includes("expired"));
  assert.equal(offered(await world.opening()), "second");
  assert.notEqual(client.status.state, "refused");
});

inWorld("reconnect() after a refusal asks for a token anew", async (world) => {
  let token = "wrong";
  const client = world.connect({ token: () => token });
  const socket = await world.opening();
  world.session = DENIED;
  socket.ends(1006);
  await world.settles();
  assert.equal(client.status.state, "refused");
  token = "right";
  world.session = { status: 200, body: {} };
  client.reconnect();
  assert.equal(offered(await world.opening()), "right");
});

for (const [lifeS, dueS] of [
  [600, 540],
  [100, 70],
  [40, 10],
  [20, 10],
]) {
  inWorld(`a JWT that lives ${lifeS} s is renewed after ${dueS} s`, async (world) => {
    world.gateway.starts();
    const { give, asked } = provider(() => jwt(world, lifeS), () => jwt(world, 7200, { n: 2 }));
    const client = world.connect({ token: give });
    await world.settles();
    const [socket] = world.sockets;
    await world.passes(dueS * 1000 - 1_100);
    assert.deepEqual(socket.of("auth"), []);
    await world.passes(2_200);
    assert.deepEqual(asked, ["connect", "expiring"]);
    assert.equal(socket.of("auth").length, 1);
    assert.equal(JSON.parse(Buffer.from(socket.of("auth")[0].data.token.split(".")[1], "base64url")).n, 2);
    await world.passes(120_000);
    assert.equal(client.status.state, "live");
    assert.equal(world.sockets.length, 1);
    assert.equal(asked.length, 2);
  });
}

inWorld("when a JWT is due is told by the gateway's clock", async (world) => {
  world.serverAheadMs = 3_600_000;
  world.gateway.starts();
  const { give, asked } = provider(() => jwt(world, 600), () => jwt(world, 7200));
  world.connect({ token: give });
  await world.passes(538_000);
  assert.deepEqual(asked, ["connect"]);
  await world.passes(3_000);
  assert.deepEqual(asked, ["connect", "expiring"]);
});

inWorld("a renewed token is the one of the next attempt's session, and is renewed in its turn", async (world) => {
  world.gateway.starts();
  const { give, asked } = provider(() => jwt(world, 100), () => jwt(world, 100, { n: 2 }), () => jwt(world, 100, { n: 3 }));
  world.connect({ token: give });
  await world.passes(145_000);
  assert.deepEqual(asked, ["connect", "expiring", "expiring"]);
  assert.equal(world.sockets[0].of("auth").length, 2);
});

inWorld("a renewal that is refused is told; the connection goes on", async (world) => {
  const { give } = provider(() => jwt(world, 40), "no-jwt");
  const client = world.connect({ token: give });
  const socket = await world.opening();
  socket.admits();
  await world.passes(21_000);
  const seen = [];
  client.onStatus((status) => seen.push(status));
  const data = { code: "UNAUTHENTICATED", message: "the token is not valid: bad signature", retryable: false };
  socket.says({ type: "error", id: socket.of("auth")[0].id, data });
  await world.settles();
  assert.equal(client.status.state, "live");
  assert.ok(seen.some(({ reason }) => reason?.includes("bad signature")), JSON.stringify(seen));
});

for (const renewed of [null, "same"]) {
  inWorld(`a provider that has nothing newer (${renewed}) is left alone`, async (world) => {
    world.gateway.starts();
    let first;
    const asked = [];
    world.connect({
      token: ({ reason }) => {
        asked.push(reason);
        first ??= jwt(world, 600);
        return reason === "expiring" && renewed === null ? null : first;
      },
    });
    await world.passes(599_000);
    assert.ok(asked.length <= 10, `asked ${asked.length} times`);
    assert.deepEqual(world.sockets[0].of("auth"), []);
    assert.equal(world.sockets.length, 1);
  });
}

for (const token of ["a.b.c", "..", "x.eyJleHAiOiJzb29uIn0.y", "x.bnVsbA.y", "плохо".normalize() && "x.W10.y"]) {
  inWorld(`${token} looks like a JWT and is none`, async (world) => {
    world.gateway.starts();
    const client = world.connect({ token });
    await world.passes(60_000);
    assert.equal(client.status.state, "live");
  });
}

inWorld("a JWT that lives for a year needs no timer that a browser fires at once", async (world) => {
  world.gateway.starts();
  const { give, asked } = provider(() => jwt(world, 31_536_000));
  world.connect({ token: give });
  await world.passes(60_000);
  assert.deepEqual(asked, ["connect"]);
});

// A provider as people write it: it keeps its token as long as that is good for more than half a minute.
function keeping(world, lifeS) {
  let [token, until] = [null, 0];
  return () => {
    if (until - world.serverTime < 31_000) [token, until] = [jwt(world, lifeS, { at: world.now }), world.serverTime + 1000 * lifeS];
    return token;
  };
}

inWorld("over SSE a token cannot be renewed: when it has expired, the stream begins anew with the kept one", async (world) => {
  const client = world.connect({ transport: "sse", token: keeping(world, 100) });
  client.on("a", () => {});
  await world.settles();
  const [stream] = world.streams;
  stream.admits();
  for (let n = 0; n < 10; n++) {
    await world.passes(10_000);
    stream.writes(": \n\n");
  }
  stream.says({ type: "connection_error", data: { code: 4401, message: "the token has expired", retryable: true } });
  stream.ends();
  await world.passes(1_000);
  assert.notEqual(client.status.state, "refused");
  const { length } = world.streams;
  assert.notEqual(world.streams.at(-1).headers.get("Authorization"), stream.headers.get("Authorization"));
  assert.equal(length, 2);
});

inWorld("a WebSocket with a provider that keeps its token lives on", async (world) => {
  world.gateway.starts();
  const client = world.connect({ token: keeping(world, 100) });
  await world.passes(1_000_000);
  assert.equal(client.status.state, "live");
  assert.equal(world.sockets.length, 1);
  assert.ok(world.sockets[0].of("auth").length >= 8);
});
