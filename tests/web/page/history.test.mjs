// What the page remembers of each value.

import assert from "node:assert/strict";
import { test } from "node:test";

import { History } from "../../../src/tidegate/web/history.js";

const event = (data, more = {}) => ({ type: "a", key: "k", stale: false, data, ...more });
const NOW = 1_000_000_000;

test("the numbers of a value are followed, and its newest 20 events", () => {
  const history = new History();
  for (let n = 0; n < 25; n += 1) history.add(event({ cpu: n, deep: { x: 1 }, text: "no" }), NOW + n);
  const { numbers, events } = history.of({ type: "a", key: "k" });
  assert.deepEqual([...numbers.keys()], ["cpu", "deep.x"]);
  assert.equal(numbers.get("cpu").newest, 24);
  assert.deepEqual([events.length, events.at(-1).data.cpu], [20, 24]);
});

test("a stale event is no sample: the trend is not vouched for until the next good one", () => {
  const history = new History();
  history.add(event(1), NOW);
  history.add(event(1, { stale: true }), NOW + 5000);
  const samples = history.of(event(1)).numbers.get("");
  assert.equal(samples.vouched, false);
  history.add(event(2), NOW + 10_000);
  assert.deepEqual([samples.vouched, samples.newest], [true, 2]);
});

test("while cut off nobody vouches for a trend, and an unchanged value goes on where it is vouched for again", () => {
  const history = new History();
  history.add(event(3), NOW);
  const samples = history.of(event(3)).numbers.get("");
  const value = { type: "a", key: "k", data: 3 };
  history.judge({ ...value, state: "unvouched" }, NOW + 5000);
  assert.equal(samples.vouched, false);
  history.judge({ ...value, state: "fresh" }, NOW + 10_000);
  assert.deepEqual([samples.vouched, samples.newest], [true, 3]);
});

test("what is gone is forgotten", () => {
  const history = new History();
  history.add(event(3), NOW);
  history.add(event(null, { gone: true }), NOW);
  assert.equal(history.of(event(3)).events.length, 0);
  assert.equal(history.of(event(3)).numbers.size, 0);
});

test("of very many values only the first number is followed, and memory stays bounded", () => {
  const history = new History();
  for (let n = 0; n < 4000; n += 1) history.add(event({ x: 1, y: 2 }, { key: String(n) }), NOW);
  const sizes = [0, 1999, 2000, 3999].map((n) => history.of({ type: "a", key: String(n) }).numbers.size);
  assert.deepEqual(sizes, [2, 2, 1, 1]);
  history.add(event({ x: 1 }, { key: "one more" }), NOW);
  assert.equal(history.of({ type: "a", key: "one more" }).events.length, 1);
  history.add(event({ x: 5, y: 7 }, { key: "0" }), NOW);
  const { numbers, events } = history.of({ type: "a", key: "0" });
  assert.deepEqual([numbers.get("x").newest, numbers.get("y").newest], [5, 7]);
  assert.deepEqual(events.map(({ data }) => data.x), [5]);
});

test("a number that an event does not have any more is not current", () => {
  const history = new History();
  history.add(event({ cpu: 5, load: 1 }), NOW);
  history.add(event({ cpu: null, load: 2 }), NOW + 5000);
  const { numbers } = history.of(event(0));
  assert.deepEqual([numbers.get("cpu").vouched, numbers.get("load").vouched], [false, true]);
  history.add(event({ cpu: 6, load: 2 }), NOW + 10_000);
  assert.deepEqual([numbers.get("cpu").vouched, numbers.get("cpu").newest], [true, 6]);
});
