// The pictures of trends, without a page: what is drawn, and above all what is not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Samples, hatch, sparkPaths, spans, timelinePaths } from "../../../src/tidegate/web/spark.js";

const T = 1_700_000_000_000;
const S = 1000;
const MIN = 60 * S;

/** The x and y of every point of a path. */
function points(path) {
  return [...path.matchAll(/(-?[\d.]+) (-?[\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
}

function kept(...numbers) {
  const samples = new Samples();
  numbers.forEach((number, n) => samples.add(T + 5 * S * n, number));
  return { samples, now: T + 5 * S * (numbers.length - 1) };
}

test("a line goes from the oldest number to the newest, which has the dot", () => {
  const { samples, now } = kept(0, 10, 5);
  const { line, dot, hatched } = sparkPaths(samples, now, 96, 20);
  assert.deepEqual(points(line).map(([, y]) => y), [18, 2, 10]);
  assert.deepEqual(points(dot), [[94, 10]]);
  assert.equal(hatched, "");
});

test("a stretch that was not vouched for is hatched, and no line crosses it", () => {
  const samples = new Samples();
  samples.add(T, 1);
  samples.add(T + 1 * MIN, NaN, false);
  samples.add(T + 3 * MIN, 2);
  const { line, hatched } = sparkPaths(samples, T + 4 * MIN, 124, 20);
  const ends = line.split("M").slice(1).map((part) => points(`M${part}`).map(([x]) => x));
  assert.equal(ends.length, 2, "two lines");
  const [from, to] = [Math.max(...ends[0]), Math.min(...ends[1])];
  assert.ok(to - from > 20, `2 of 10 minutes are not drawn: ${from} to ${to}`);
  const xs = points(hatched).map(([x]) => x);
  assert.deepEqual([Math.min(...xs), Math.max(...xs)], [from, to], "and are hatched");
});

test("a number that is no longer vouched for has no dot, and is hatched until now", () => {
  const { samples } = kept(1, 2, 3);
  samples.add(T + 60 * S, NaN, false);
  const now = T + 5 * MIN;
  const { dot, hatched } = sparkPaths(samples, now, 96, 20);
  assert.equal(dot, "");
  assert.equal(Math.max(...points(hatched).map(([x]) => x)), 94);
  assert.match(samples.text(now), /^last 3, .*, not current now$/);
});

test("a stretch of less than a slot is hatched all the same", () => {
  const samples = new Samples();
  samples.add(T, 1);
  samples.add(T + 100, NaN, false);
  samples.add(T + 200, 2);
  samples.add(T + 10 * S, 3);
  const { hatched, line } = sparkPaths(samples, T + 10 * S, 240, 20);
  assert.notEqual(hatched, "");
  assert.ok(!points(line).some(([x, y]) => Number.isNaN(x + y)));
});

test("a constant series is a level line in the middle", () => {
  const { samples, now } = kept(7, 7, 7);
  const { line } = sparkPaths(samples, now, 96, 20);
  assert.deepEqual(new Set(points(line).map(([, y]) => y)), new Set([10]));
  assert.equal(samples.text(now + 10 * S), "7, unchanged in less than a minute");
});

test("one number is a dot, and a line once time has passed", () => {
  const { samples, now } = kept(7);
  assert.equal(points(sparkPaths(samples, now, 96, 20).dot).length, 1);
  assert.equal(points(sparkPaths(samples, now + 5 * MIN, 96, 20).line).length, 2);
});

test("no number is no picture, and the words say so", () => {
  const samples = new Samples();
  assert.deepEqual(sparkPaths(samples, T, 96, 20), { line: "", hatched: "", dot: "" });
  assert.equal(samples.text(T), "no number yet");
});

test("what is not a finite number is left out", () => {
  const samples = new Samples();
  for (const number of [NaN, Infinity, -Infinity]) samples.add(T, number);
  assert.equal(samples.version, 0);
});

test("numbers of any size stay within the picture", () => {
  const { samples, now } = kept(-Number.MAX_VALUE, 0, Number.MAX_VALUE, 1e-300);
  for (const [x, y] of points(sparkPaths(samples, now, 96, 20).line)) {
    assert.ok(x >= 2 && x <= 94 && y >= 2 && y <= 18, `${x} ${y}`);
  }
});

test("a number holds until just before the next: a change after a minute is not a slope of a minute", () => {
  const samples = new Samples();
  samples.add(T, 0);
  samples.add(T + 1 * MIN, 10);
  const ys = points(sparkPaths(samples, T + 1 * MIN, 96, 20).line).map(([, y]) => y);
  assert.deepEqual(ys, [18, 18, 2]);
});

test("what is older than 10 minutes is forgotten, and the last word still holds", () => {
  const { samples } = kept(3, 40, 12.5);
  const now = T + 11 * MIN;
  assert.equal(samples.range(now), null);
  assert.equal(samples.text(now), "12.5, unchanged for 10 minutes");
  assert.deepEqual(points(sparkPaths(samples, now, 96, 20).line), [[2, 10], [94, 10]]);
  samples.add(now, NaN, false);
  assert.equal(sparkPaths(samples, now + 11 * MIN, 96, 20).line, "");
  assert.notEqual(sparkPaths(samples, now + 11 * MIN, 96, 20).hatched, "");
});

test("the ring goes round: 10 minutes after 30 are those 10", () => {
  const samples = new Samples();
  for (let n = 0; n < 360; n += 1) samples.add(T + 5 * S * n, n);
  assert.deepEqual(samples.range(T + 5 * S * 359), { least: 240, most: 359, sinceMs: T + 5 * S * 240 });
});

test("the newest number in a slot counts, with every digit", () => {
  const samples = new Samples();
  samples.add(T, 1);
  samples.add(T + 1, 16_777_217.123);
  assert.equal(samples.newest, 16_777_217.123);
  assert.deepEqual([...samples.slots(T)].length, 1);
});

test("a clock that is set back starts anew, one that is adjusted does not", () => {
  const { samples, now } = kept(1, 2, 3);
  samples.add(now - 1 * S, 4);
  assert.equal([...samples.slots(now)].length, 3);
  samples.add(now - 3600 * S, 5);
  assert.deepEqual([...samples.slots(now - 3600 * S)].map(({ number }) => number), [5]);
});

test("the words give the newest, the least and the most", () => {
  const samples = new Samples();
  [3, 40, 12.5].forEach((number, n) => samples.add(T + n * 200 * S, number));
  assert.equal(samples.text(T + 10 * MIN - 5 * S, (number) => `${number} °C`), "12.5 °C, between 3 °C and 40 °C in 10 minutes");
});

test("2,000 rings take about 2 MB", () => {
  const before = process.memoryUsage();
  const rings = Array.from({ length: 2000 }, () => new Samples());
  const after = process.memoryUsage();
  const bytes = after.heapUsed - before.heapUsed + after.arrayBuffers - before.arrayBuffers;
  assert.ok(rings.length === 2000 && bytes < 3e6, `${bytes} bytes`);
});

test("a hatching stays within its box", () => {
  for (const [left, right] of [[10, 11], [3.3, 90], [0, 600]]) {
    const all = points(hatch(left, right, 20));
    assert.ok(all.length > 0);
    for (const [x, y] of all) assert.ok(x >= left && x <= right && y >= 0 && y <= 20, `${x} ${y}`);
  }
});

test("a timeline has no holes: before the first move, and after the page was cut off, nothing is known", () => {
  const moves = [{ at: T - 20 * MIN, to: "closed" }, { at: T - 10 * MIN, to: "open" }];
  assert.deepEqual(
    spans(moves, T, T - 2 * MIN).map(({ from, to, state }) => [(from - T) / MIN, (to - T) / MIN, state]),
    [[-30, -20, "unknown"], [-20, -10, "closed"], [-10, -2, "open"], [-2, 0, "unknown"]],
  );
});

test("a move of more than 30 minutes ago says what the state was since", () => {
  const found = spans([{ at: T - 50 * MIN, to: "closed" }, { at: T - 40 * MIN, to: "open" }], T);
  assert.deepEqual(found, [{ from: T - 30 * MIN, to: T, state: "open" }]);
});

test("a timeline without moves is unknown all over, and drawn dotted", () => {
  const found = spans([], T);
  assert.deepEqual(found, [{ from: T - 30 * MIN, to: T, state: "unknown" }]);
  const { unknown, closed, open } = timelinePaths(found, T, 600, 22);
  assert.deepEqual([unknown, closed, open], ["M0 11H600", "", ""]);
});

test("an outage of a moment can still be seen", () => {
  const moves = [{ at: T - 10 * MIN, to: "closed" }, { at: T - 20, to: "open" }, { at: T - 10, to: "half_open" }];
  const { open, half_open: halfOpen } = timelinePaths(spans(moves, T), T, 600, 22);
  assert.equal(open, "M597 1H600V21H597Z");
  assert.equal(halfOpen, "M600 1V21", "a try that short is a stroke");
});
