const LONGEST_MS = 10 ** 9; // eleven days: browsers fire a timer of more than 24 days at once
const EARLY_APART_MS = 5000; // between two attempts for the same thing that the browser told

// How long to wait until the next attempt. Times are those of performance.now().
export class Backoff {
  failures = 0;
  #notBefore = 0; // what the gateway has asked for
  /** @type {Record<string, number>} */
  #earlyAt = {};
  #rules;

  /** @param {{ firstS?: number, maxS?: number, healS?: number }} [rules] */
  constructor(rules = {}) {
    this.#rules = rules;
  }

  /** The gateway wants no attempt in the next `ms`. @param {number} ms */
  notWithin(ms) {
    if (ms > 0) this.#notBefore = Math.max(this.#notBefore, performance.now() + Math.min(ms, LONGEST_MS));
  }

  // The gateway has admitted us.
  admitted() {
    this.#notBefore = 0;
  }

  /** When to try again after an attempt, or a connection that lived so long. @param {number} livedMs */
  next(livedMs) {
    const { firstS = 1, maxS = 8, healS = 5 } = this.#rules;
    this.failures = livedMs >= 1000 * healS ? 1 : this.failures + 1;
    const delayS = Math.min(maxS, firstS * 2 ** (this.failures - 1)) * (0.5 + Math.random() / 2);
    return Math.max(performance.now(), this.#notBefore) + 1000 * delayS;
  }

  /**
   * When to try, since the browser has told something; null if that was tried a moment ago.
   * @param {string} cause @param {number} withinMs
   */
  early(cause, withinMs) {
    const now = performance.now();
    if (now - (this.#earlyAt[cause] ?? -Infinity) < EARLY_APART_MS) return null;
    this.#earlyAt[cause] = now;
    return Math.max(this.#notBefore, now + withinMs * Math.random());
  }
}
