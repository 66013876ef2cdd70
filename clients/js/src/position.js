// Up to where a client has everything, and for which patterns: the rule of docs/protocol.md.
export class Position {
  /** @type {string | null} */
  text = null;
  /** @type {string[] | null} */
  patterns = null; // not known yet
  /** @type {string[]} */
  subscribed = [];
  awaitsSynced = false;
  owesGap = false; // what comes until the next `synced` is no more than a part, if the connection ends before
  #epoch = "";
  #seen = 0; // the largest seq of what may move a position, whether or not there is one yet
  #promised = 0; // what a gateway that says no "synced" will have handed over when its "pong" comes

  /** Give it every message of the gateway, in order. @param {any} message */
  take({ type, seq, snapshot, data }) {
    if (type === "welcome") this.#welcomed(data);
    else if (type === "synced") this.#synced(data);
    else if (type === "pong") {
      if (this.awaitsSynced) this.#synced({ epoch: this.#epoch, seq: this.#promised });
    } else if (type === "gap") {
      // What a slow reader missed is lost: only after another gap do values follow.
      if (data.reason !== "slow_consumer") this.forget();
    } else if (type === "subscribed") {
      this.#promised = data.seq;
      this.subscribed = [...data.types];
      this.awaitsSynced = true;
    } else if (type === "unsubscribed") this.#end(data.types);
    else if (type === "authenticated") {
      this.#end(data.types);
      this.awaitsSynced = true;
    } else if (type === "heartbeat") {
      if (data.epoch === this.#epoch) this.#reached(data.seq);
    } else if (seq !== undefined && !snapshot) this.#reached(seq);
  }

  forget() {
    this.text = null;
    this.awaitsSynced = this.owesGap = true;
  }

  /** @param {{ epoch: string, seq: number, resumed: boolean, subscriptions: string[] }} welcome */
  #welcomed({ epoch, seq, resumed, subscriptions }) {
    this.forget();
    this.#epoch = epoch;
    this.#promised = seq;
    this.#seen = 0;
    this.subscribed = [...subscriptions];
    if (resumed) this.#isAt(seq);
  }

  /** @param {{ epoch: string, seq: number }} data */
  #synced({ epoch, seq }) {
    if (epoch !== this.#epoch) this.#seen = 0;
    this.#epoch = epoch;
    this.awaitsSynced = false;
    this.#isAt(seq);
  }

  /** @param {number} seq */
  #isAt(seq) {
    this.patterns = this.subscribed;
    this.text = "";
    this.owesGap = false;
    this.#reached(seq);
  }

  /** @param {number} seq */
  #reached(seq) {
    if (seq > this.#seen) this.#seen = seq;
    if (this.text !== null) this.text = `${this.#epoch}:${this.#seen}`;
  }

  /** Of what was subscribed to only `left` is left. @param {string[]} left */
  #end(left) {
    this.patterns = (this.patterns ?? []).filter((type) => left.includes(type) || !this.subscribed.includes(type));
    this.subscribed = [...left];
  }
}
