const QUIET_HEARTBEATS = 2.5;
const GIVE_UP_MS = 10_000;
const AWAKE_MS = 2000;
// Between two heartbeats, whatever a gateway says.
const SHORTEST_MS = 200;
const USUAL_MS = 10_000;
const LONGEST_MS = 3_600_000;

// Whether the other side is still there: it is asked when it has been silent, and given up if it stays so.
export class Life {
  #events;
  #timer = /** @type {any} */ (0);
  #armedAt = 0;
  #heardAt = 0;
  #heardWall = 0;
  #heartbeatMs = 0; // 0: not welcomed yet
  #deadline = Infinity; // when it is given up unless something is heard
  #isQuiet = false;

  /** @param {{ quiet: () => void, ping: () => void, dead: () => void }} events */
  constructor(events) {
    this.#events = events;
  }

  // A machine's sleep shows in one clock or the other.
  get silentMs() {
    return Math.max(0, performance.now() - this.#heardAt, Date.now() - this.#heardWall);
  }

  get silentHeartbeats() {
    return this.#heartbeatMs ? this.silentMs / this.#heartbeatMs : 0;
  }

  /** An attempt begins. @param {number} withinMs */
  opens(withinMs) {
    this.#hear();
    this.#heartbeatMs = 0;
    this.#deadline = performance.now() + withinMs;
    this.#arm();
  }

  /** @param {number} heartbeatMs */
  welcomed(heartbeatMs) {
    this.#heartbeatMs = Math.min(Math.max(SHORTEST_MS, heartbeatMs || USUAL_MS), LONGEST_MS);
    this.heard();
    this.#arm();
  }

  // Any frame counts. Set here, the timer is not held back in hidden tabs as one that sets itself again is.
  heard() {
    if (this.silentHeartbeats >= QUIET_HEARTBEATS) this.check(); // the machine may have slept
    this.#hear();
    if (!this.#heartbeatMs) return;
    const isDue = this.#deadline < Infinity || performance.now() - this.#armedAt > this.#heartbeatMs / 20;
    this.#isQuiet = false;
    this.#deadline = Infinity;
    if (isDue) this.#arm();
  }

  /** Something must be heard within `ms`. @param {number} ms */
  probe(ms) {
    if (!this.#heartbeatMs) return;
    this.#deadline = Math.min(this.#deadline, performance.now() + ms);
    this.#events.ping();
    this.#arm();
  }

  check() {
    if (performance.now() >= this.#deadline) {
      this.#events.dead();
    } else if (this.silentHeartbeats >= QUIET_HEARTBEATS && !this.#isQuiet) {
      this.#isQuiet = true;
      this.#events.quiet();
      this.probe(GIVE_UP_MS);
    } else this.#arm();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#deadline = Infinity;
    this.#heartbeatMs = 0;
    this.#isQuiet = false;
  }

  #hear() {
    this.#heardAt = performance.now();
    this.#heardWall = Date.now();
  }

  #arm() {
    clearTimeout(this.#timer);
    const now = (this.#armedAt = performance.now());
    const isWatched = this.#heartbeatMs && !this.#isQuiet;
    const quietAt = isWatched ? this.#heardAt + QUIET_HEARTBEATS * this.#heartbeatMs : Infinity;
    // Timers stand still while a machine sleeps. In a hidden tab nobody is misled, and a long one is held back less.
    const awakeAt = isWatched && !globalThis.document?.hidden ? now + AWAKE_MS : Infinity;
    const at = Math.min(this.#deadline, quietAt, awakeAt);
    if (at < Infinity) this.#timer = setTimeout(() => this.check(), Math.ceil(at - now));
  }
}
