// The server's clock, from the round trips of pings.
export class Clock {
  #base = Date.now() - performance.now(); // what to add to performance.now()
  /** @type {{ roundTripMs: number, base: number }[]} */
  #samples = [];
  #wallAt = Date.now();
  #monoAt = performance.now();
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
    this.#anchor();
    return sample.roundTripMs;
  }

  // performance.now() may stand still while the machine sleeps.
  woke() {
    const sleptMs = Date.now() - this.#wallAt - (performance.now() - this.#monoAt);
    if (sleptMs > 1000) {
      this.#base += sleptMs;
      this.#samples = [];
    }
    this.#anchor();
  }

  #anchor() {
    this.#wallAt = Date.now();
    this.#monoAt = performance.now();
    this.offsetMs = Math.round(this.now() - this.#wallAt);
  }
}
