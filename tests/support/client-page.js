// A page of other people that follows the gateway in its query: `?gateway=URL`. `follow(name, options)` begins a client;
// `facts(name)` is what became of it, for tests that ask from outside.

const gateway = new URL(location.href).searchParams.get("gateway");
const { connect } = await import(`${gateway}/client.js`);
const followers = new Map();

globalThis.follow = (name, options) => {
  const client = connect(gateway, options);
  const follower = { client, counted: [], twice: 0, holes: 0, gaps: [], states: [], wasFresh: false };
  const seen = new Set();
  let isHoleKnown = false;
  client.on("plant.*", (event) => {
    if (event.type !== "plant.count" || event.snapshot) return;
    follower.twice += seen.has(event.data);
    seen.add(event.data);
    const newest = follower.counted.at(-1);
    follower.holes += newest !== undefined && event.data !== newest + 1 && !isHoleKnown;
    isHoleKnown = false;
    follower.counted.push(event.data);
  });
  client.onGap(({ reason }) => {
    isHoleKnown = true;
    follower.gaps.push(reason);
  });
  client.onStatus(({ state }) => state !== follower.states.at(-1) && follower.states.push(state));
  followers.set(name, follower);
  return true;
};

globalThis.facts = (name) => {
  const { client, counted, twice, holes, gaps, states } = followers.get(name);
  const { state, transport, reason } = client.status;
  const values = client.store.list("plant.*").map((value) => value.state);
  return { state, transport, reason, values: [...new Set(values)].sort(), newest: counted.at(-1) ?? 0, twice, holes, gaps, states };
};

globalThis.isReady = true;
