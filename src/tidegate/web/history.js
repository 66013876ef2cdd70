// What the page remembers of each value: the trends of its numbers, and its newest events. In memory only.

import { Samples } from "./spark.js";
import { numbers } from "./format.js";

const NUMBERS = 12; // of one value that are followed
const TRENDS = 4000; // of all values together: 2 MB
const EVENTS = 20; // of one value
const KEPT_EVENTS = 4000; // of all values together

/** @typedef {{ numbers: Map<string, Samples>, events: any[], doubted: boolean }} Past */

export class History {
  /** @type {Map<string, Past>} */
  #pasts = new Map();
  #trends = 0;
  #events = 0;

  /** Take an event that has just come. @param {any} event @param {number} now */
  add(event, now) {
    if (event.gone) {
      this.#forget(event);
      return;
    }
    const past = this.of(event);
    this.#remember(past, event);
    const isVouched = !event.stale;
    past.doubted = !isVouched;
    if (!isVouched) {
      for (const samples of past.numbers.values()) samples.add(now, NaN, false);
      return;
    }
    const found = new Map(numbers(event.data, NUMBERS));
    for (const [path, samples] of past.numbers) if (samples.vouched && !found.has(path)) samples.add(now, NaN, false);
    for (const [path, number] of found) this.#samples(past, path)?.add(now, number);
  }

  /** Where the trend of a number is kept; undefined if there is no room for it. @param {Past} past @param {string} path */
  #samples({ numbers: known }, path) {
    if (!known.has(path) && (this.#trends < TRENDS || !known.size)) {
      known.set(path, new Samples());
      this.#trends += 1;
    }
    return known.get(path);
  }

  /** The newest of each value is kept in any case. @param {Past} past @param {any} event */
  #remember({ events }, event) {
    if (events.length === EVENTS || (events.length && this.#events >= KEPT_EVENTS)) events.shift();
    else this.#events += 1;
    events.push(event);
  }

  /** From now on nobody vouches for it, or somebody does again. @param {any} value A `Value` of the client. @param {number} now */
  judge(value, now) {
    const past = this.#pasts.get(nameOf(value));
    if (!past) return;
    const doubted = value.state !== "fresh" && value.state !== "published";
    if (doubted === past.doubted) return;
    past.doubted = doubted;
    if (doubted) for (const samples of past.numbers.values()) samples.add(now, NaN, false);
    else for (const [path, number] of numbers(value.data, NUMBERS)) past.numbers.get(path)?.add(now, number);
  }

  /** @param {{ type: string, key?: string | null }} of @returns {Past} */
  of(of) {
    const name = nameOf(of);
    let past = this.#pasts.get(name);
    if (!past) {
      past = { numbers: new Map(), events: [], doubted: false };
      this.#pasts.set(name, past);
    }
    return past;
  }

  /** @param {any} event */
  #forget(event) {
    const past = this.#pasts.get(nameOf(event));
    if (!past) return;
    this.#trends -= past.numbers.size;
    this.#events -= past.events.length;
    this.#pasts.delete(nameOf(event));
  }
}

/** One text for a type and a key. Types have no blanks. @param {{ type: string, key?: string | null }} of */
export function nameOf({ type, key }) {
  return key ? `${type} ${key}` : type;
}
