// Up to where a client has everything, and how it comes back to there: the rule of docs/protocol.md. Needs no browser;
// the test vectors in docs/vectors are run on it under Node.

// `url`, a URL, with what `opening` asks for.
export function address(url, { types, since }) {
  if (types !== null) url.searchParams.set("types", types.join(","));
  if (since !== null) url.searchParams.set("since", since);
  return url;
}

export class Progress {
  // The position as "EPOCH:SEQ", and the patterns that it stands for; null while there is none.
  position = null;
  patterns;

  #wanted;
  #subscribed = [];
  #epoch = null;
  #seen = 0; // the largest seq of what may move a position, whether or not there is one yet
  #promised = 0; // what a gateway that says no "synced" will have handed over when its "pong" comes
  #awaitsSynced = false;

  // `types`: the patterns that are wanted, null for the gateway's defaults. `since`: a position from before.
  constructor({ types = null, since = null } = {}) {
    this.#wanted = types;
    this.position = since;
    this.patterns = types;
  }

  // How to connect: with which patterns, null for the gateway's defaults, and from where to resume, null for anew.
  // `later` is what to subscribe to once that connection has been synced.
  opening() {
    if (this.position === null) return { types: this.#wanted, since: null, later: [] };
    const missing = (type) => !this.patterns.includes(type);
    const later = this.#wanted && this.patterns ? this.#wanted.filter(missing) : [];
    return { types: this.patterns, since: this.position, later };
  }

  // Give it every message of the gateway, in order.
  take({ type, seq, snapshot, data }) {
    switch (type) {
      case "welcome":
        this.#welcomed(data);
        break;
      case "synced":
        this.#synced(data);
        break;
      case "pong":
        if (this.#awaitsSynced) this.#synced({ epoch: this.#epoch, seq: this.#promised });
        break;
      case "gap":
        // What a slow reader missed is lost: only after another gap do values follow.
        if (data.reason === "slow_consumer") break;
        this.position = null;
        this.#awaitsSynced = true;
        break;
      case "subscribed":
        this.#promised = data.seq;
        this.#wanted = [...new Set([...(this.#wanted ?? []), ...data.types])];
        this.#subscribed = data.types;
        this.#awaitsSynced = true;
        break;
      case "unsubscribed":
        this.#end(data.types);
        break;
      case "authenticated":
        this.#end(data.types);
        this.#awaitsSynced = true;
        break;
      case "heartbeat":
        if (data.epoch === this.#epoch) this.#reached(data.seq);
        break;
      default:
        if (seq !== undefined && !snapshot) this.#reached(seq);
    }
  }

  #welcomed({ epoch, seq, resumed, subscriptions }) {
    this.#epoch = epoch;
    this.#promised = seq;
    this.#seen = 0;
    this.#subscribed = subscriptions;
    this.#awaitsSynced = true;
    this.position = null;
    if (resumed) this.#isAt(seq);
  }

  #synced({ epoch, seq }) {
    if (epoch !== this.#epoch) this.#seen = 0;
    this.#epoch = epoch;
    this.#awaitsSynced = false;
    this.#isAt(seq);
  }

  #isAt(seq) {
    this.#seen = Math.max(this.#seen, seq);
    this.position = `${this.#epoch}:${this.#seen}`;
    this.patterns = this.#subscribed;
  }

  #reached(seq) {
    this.#seen = Math.max(this.#seen, seq);
    if (this.position !== null) this.position = `${this.#epoch}:${this.#seen}`;
  }

  // Of what was subscribed to only `left` is left.
  #end(left) {
    const ended = this.#subscribed.filter((type) => !left.includes(type));
    const stays = (type) => !ended.includes(type);
    if (ended.length) {
      this.#wanted = (this.#wanted ?? this.#subscribed).filter(stays);
      this.patterns = this.patterns?.filter(stays) ?? null;
    }
    this.#subscribed = left;
  }
}
