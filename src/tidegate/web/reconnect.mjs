// When a lost gateway is tried again: the back-off of docs/protocol.md. Needs no browser: times are milliseconds of one
// clock that never goes back, and `random` is a number in [0, 1).

const FIRST_MS = 1000;
const LONGEST_MS = 8000;
const HEALED_MS = 5000; // a connection that lived this long makes the next wait short again

// What the browser tells that is worth an attempt before the wait is over: within how many ms. When a network returns,
// all pages of a building hear it at the same moment.
const EARLY_WITHIN_MS = { shown: 0, online: 2000 };
const EARLY_APART_MS = 5000; // between two such attempts for the same cause

// An attempt that is older than this when something is told may hang on a network that is gone, and is given up.
const STUCK_MS = 2000;

export class Reconnect {
  // When to try next; null while there is nothing to wait for: trying, connected, or stopped.
  dueAt = null;

  #failures = 0;
  #notBefore = 0; // what the gateway has asked for
  #triedAt = null; // when the attempt under way began; null without one, and once it has succeeded
  #welcomedAt = null;
  #earlyAt = { shown: -Infinity, online: -Infinity };

  // An attempt begins.
  tries(now) {
    this.dueAt = null;
    this.#triedAt = now;
    this.#welcomedAt = null;
  }

  // The gateway has admitted us.
  welcomed(now) {
    this.dueAt = null;
    this.#triedAt = null;
    this.#welcomedAt = now;
    this.#notBefore = 0;
  }

  // The gateway has said that it wants no attempt in the next `ms`. An attempt that is due after them stays as it is.
  notWithin(ms, now) {
    this.#notBefore = Math.max(this.#notBefore, now + ms);
  }

  // The attempt failed, or the connection ended. Waits for what `notWithin` was told, and then for the back-off.
  lost(now, random) {
    const lived = this.#welcomedAt !== null && now - this.#welcomedAt >= HEALED_MS;
    this.#failures = lived ? 1 : this.#failures + 1;
    this.#triedAt = this.#welcomedAt = null;
    // An attempt that was found stuck may have been replaced by one that is due already: unless it has brought a floor.
    const dueAt = Math.min(Math.max(now, this.#notBefore) + this.#delay(random), this.dueAt ?? Infinity);
    this.dueAt = Math.max(dueAt, this.#notBefore);
  }

  // The gateway has said, after `lost`, that it wants no attempt in the next `ms`.
  putOff(ms, now, random) {
    this.notWithin(ms, now);
    if (this.dueAt !== null) this.dueAt = Math.max(this.dueAt, this.#notBefore + this.#delay(random));
  }

  // No attempt, whatever happens, until the next `tries`: the gateway has refused us for good, or wants a token.
  stop() {
    this.dueAt = this.#triedAt = this.#welcomedAt = null;
    this.#failures = 0;
  }

  // The browser told "shown" or "online": try sooner.
  hears(told, now, random) {
    const isStuck = this.#triedAt !== null && now - this.#triedAt >= STUCK_MS;
    if (this.dueAt === null && !isStuck) return;
    if (now - this.#earlyAt[told] < EARLY_APART_MS) return;
    const at = Math.max(this.#notBefore, now + EARLY_WITHIN_MS[told] * random);
    if (this.dueAt !== null && this.dueAt <= at) return;
    this.#earlyAt[told] = now;
    this.dueAt = at;
  }

  #delay(random) {
    return Math.min(FIRST_MS * 2 ** (this.#failures - 1), LONGEST_MS) * (0.5 + random / 2);
  }
}
