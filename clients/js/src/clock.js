// The server's clock, from the round trips of pings.
export class Clock {
  #base = Date.now() - performance.now(); // what to add to performance.now()
  /** @type {{ roundTripMs: number, base: number }[]} */
  #samples = [];
  offsetMs = 0;

  now() {
    return performance.now() + this.#base;
  }

  /** An answer with that `timestamp` has come. @param {string} timestamp @param {number} sentAt */
  sample(timestamp, sentAt) {
    const receivedAt = performance.now();
    const sample = { roundTripMs: receivedAt - sentAt, base: Date.parse(timestamp) - (sentAt + receivedAt) / 2 };
    const wasSet = Math.abs(sample.base - this.#base) > sample.roundTripMs + 1000;
    this.#samples = wasSet ? [sample] : [...this.#samples, sample].slice(-8);
    this.#base = this.#samples.reduce((best, one) => (one.roundTripMs < best.roundTripMs ? one : best)).base;
    this.offsetMs = Math.round(this.now() - Date.now());
    return sample.roundTripMs;
  }

  // performance.now() may have stood still while the machine slept.
  woke() {
    this.#base = Date.now() + this.offsetMs - performance.now();
    this.#samples = [];
  }
}
