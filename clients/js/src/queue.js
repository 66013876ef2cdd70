// What waits for a reader of `events`.
export class Queue {
  /** @type {any[]} */
  #items = [];
  /** @type {Map<string, number>} */
  #skipped = new Map();
  #isOver = false;
  /** @type {((result: IteratorResult<any>) => void)[]} */
  #readers = [];
  #most;
  #isLatest;

  /** @param {number} most @param {boolean} isLatest */
  constructor(most, isLatest) {
    this.#most = Math.max(1, most);
    this.#isLatest = isLatest;
  }

  /** @param {any} item */
  push(item) {
    const reader = this.#readers.shift();
    if (reader) return reader({ done: false, value: item });
    if (this.#items.length >= this.#most) {
      const isOlder = (/** @type {any} */ other) => other.type === item.type && other.key === item.key;
      const older = this.#isLatest ? this.#items.findIndex(isOlder) : 0;
      const [dropped] = this.#items.splice(Math.max(0, older), 1);
      this.#skipped.set(dropped.type, (this.#skipped.get(dropped.type) ?? 0) + 1);
    }
    this.#items.push(item);
  }

  /** @returns {Promise<IteratorResult<any>>} */
  async next() {
    if (this.#skipped.size) {
      const skipped = Object.fromEntries(this.#skipped);
      this.#skipped.clear();
      return { done: false, value: { type: "gap", reason: "local", requested: null, skipped, valuesComplete: true } };
    }
    if (this.#items.length) return { done: false, value: this.#items.shift() };
    if (this.#isOver) return { done: true, value: undefined };
    return new Promise((resolve) => void this.#readers.push(resolve));
  }

  end() {
    this.#isOver = true;
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined });
  }
}
