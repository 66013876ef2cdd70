// The server's clock, from the round trips of pings.
export class Clock {
  #base = Date.now() - performance.now(); // what to add to performance.now()
  /** @type {{ roundTripMs: number, base: number }[]} */
  #samples = [];
  offsetMs = 0;

  now() {
    return performance.now() + this.#base;
  }

  /** A first idea, of a connection that begins. @param {string} timestamp */
  begins(timestamp) {
    this.#samples = [];
    this.#set(Date.parse(timestamp) - performance.now());
  }

  /** An answer with that `timestamp` has come. @param {string} timestamp @param {number} sentAt */
  sample(timestamp, sentAt) {
    const receivedAt = performance.now();
    const sample = { roundTripMs: receivedAt - sentAt, base: Date.parse(timestamp) - (sentAt + receivedAt) / 2 };
    const wasSet = Math.abs(sample.base - this.#base) > sample.roundTripMs + 1000;
    this.#samples = wasSet ? [sample] : [...this.#samples, sample].slice(-8);
    this.#set(this.#samples.reduce((best, one) => (one.roundTripMs < best.roundTripMs ? one : best)).base);
    return sample.roundTripMs;
  }

  // performance.now() may have stood still while the machine slept.
  woke() {
    this.#samples = [];
    this.#set(Date.now() + this.offsetMs - performance.now());
  }

  /** @param {number} base */
  #set(base) {
    this.#base = base || this.#base; // NaN if the gateway gave no time
    this.offsetMs = Math.round(this.now() - Date.now());
  }
}
