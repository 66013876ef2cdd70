// A gateway in memory that keeps the order of docs/protocol.md: retained values, a history, subscriptions. It is away
// until `starts()`; then it lets in every socket and stream, and sends heartbeats.

export class FakeGateway {
  isUp = false;
  isOld = false; // knows no `synced`
  epoch = "k3f9";
  seq = 400;
  heartbeatS = 10;
  retained = new Map();
  published = []; // since the start of the epoch
  forbidden = []; // patterns that no token covers
  #world;
  #links = new Set();
  #stop = () => {};

  constructor(world) {
    this.#world = world;
  }

  starts({ epoch, values = [] } = {}) {
    this.isUp = true;
    if (epoch) {
      this.epoch = epoch;
      this.seq = 0;
      this.published = [];
      this.retained.clear();
    }
    for (const value of values) this.publishes(value);
    this.#beats();
  }

  // It goes away, and its connections end with it.
  stops(code = 1006) {
    this.isUp = false;
    this.#stop();
    for (const link of this.#links) link.ends(code);
    this.#links.clear();
  }

  // All connections end; the gateway stays.
  cuts(code = 1006) {
    for (const link of [...this.#links]) link.ends(code);
    this.#links.clear();
  }

  // It lives, but nothing passes between it and its clients.
  freezes() {
    this.isUp = false;
    this.#stop();
    for (const link of this.#links) link.answersPings = false;
  }

  publishes({ retain = true, ...event }) {
    this.seq += 1;
    const whole = { timestamp: new Date(this.#world.serverTime).toISOString(), seq: this.seq, ...event };
    this.published.push(whole);
    const name = `${event.type} ${event.key ?? ""}`;
    if (event.gone) this.retained.delete(name);
    else if (retain) this.retained.set(name, whole);
    for (const link of this.#links) if (covers(link.subscriptions, event.type)) link.says(whole);
    return whole;
  }

  attach(link) {
    if (!this.isUp) return;
    link.accepts();
    this.#links.add(link);
    const [epoch, seq] = link.since?.split(":") ?? [];
    const resumed = epoch === this.epoch;
    link.welcomes({ epoch: this.epoch, seq: resumed ? Number(seq) : this.seq, resumed, heartbeatS: this.heartbeatS });
    if (resumed) this.#replay(link, Number(seq));
    else {
      const gap = { reason: "epoch_changed", requested: link.since, skipped: {} };
      if (link.since) link.says({ type: "gap", data: gap });
      this.#hand(link, (type) => covers(link.subscriptions, type));
    }
    this.#synced(link);
  }

  take(link, { type, id, data, types }) {
    if (!this.#links.has(link)) return;
    const patterns = data?.types ?? types ?? [];
    if (type === "ping") link.says({ type: "pong", id, data: {} });
    if (type === "subscribe") this.#subscribe(link, id, patterns);
    if (type === "unsubscribe") {
      const removed = patterns.filter((pattern) => link.subscriptions.delete(pattern));
      link.says({ type: "unsubscribed", id, data: { types: [...link.subscriptions].sort(), removed } });
    }
    if (type === "auth") {
      link.says({ type: "authenticated", id, data: { types: [...link.subscriptions].sort() } });
      this.#synced(link);
    }
  }

  #subscribe(link, id, patterns) {
    if (patterns.some((pattern) => this.forbidden.includes(pattern))) {
      link.says({ type: "error", id, data: { code: "FORBIDDEN", message: "not covered", retryable: false } });
      return;
    }
    const before = new Set(link.subscriptions);
    const added = patterns.filter((pattern) => !before.has(pattern));
    for (const pattern of added) link.subscriptions.add(pattern);
    const data = { types: [...link.subscriptions].sort(), added, epoch: this.epoch, seq: this.seq };
    link.says({ type: "subscribed", id, data });
    this.#hand(link, (type) => covers(new Set(added), type) && !covers(before, type));
    this.#synced(link);
  }

  #replay(link, seq) {
    for (const event of this.published) {
      if (event.seq > seq && covers(link.subscriptions, event.type)) link.says(event);
    }
  }

  #hand(link, isWanted) {
    for (const event of this.retained.values()) if (isWanted(event.type)) link.says({ ...event, snapshot: true });
  }

  #synced(link) {
    if (!this.isOld) link.syncs(this.seq, this.epoch);
  }

  #beats() {
    this.#stop = this.#world.later(1000 * this.heartbeatS, () => {
      const data = { epoch: this.epoch, seq: this.seq, uptime_s: 1, clients: this.#links.size };
      for (const link of this.#links) link.says({ type: "heartbeat", data });
      this.#beats();
    });
  }
}

export function covers(patterns, type) {
  const matches = (pattern) =>
    pattern === "*" || pattern === type || (pattern.endsWith(".*") && type.startsWith(pattern.slice(0, -1)));
  return [...patterns].some(matches);
}
