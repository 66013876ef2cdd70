// What is known of a breaker, and what is said of it while the gateway vouches for it, and while it does not.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Breaker, breakerNameOf, failuresText, nextText, outageText, reasonText, stateText,
} from "../../../src/tidegate/web/breaker.js";
import { spans } from "../../../src/tidegate/web/spark.js";

const T = Date.parse("2026-11-22T21:40:00.000Z");
const S = 1000;
const MIN = 60 * S;
const iso = (ms) => new Date(ms).toISOString();

function moved(state, { at = T, from = "closed", reason = "failure_threshold", retryAt = null, ...more } = {}) {
  const data = {
    breaker: "engine", state, from, reason, forced: false, failure_count: 5, open_count: 1,
    opened_at: state === "open" ? iso(at) : null, retry_at: retryAt && iso(retryAt), ...more,
  };
  return { type: "circuit_breaker.state", key: "engine", timestamp: iso(at), data };
}

function told(more = {}) {
  return {
    name: "engine", state: "closed", forced: false, since: iso(T), failure_count: 0, failure_threshold: 5,
    retry_at: null, last_error: null, history: [], ...more,
  };
}

function breaker(...events) {
  const made = new Breaker("engine");
  for (const event of events) made.moved(event, T);
  return made;
}

const open = (more = {}) => breaker(moved("open", { retryAt: T + 12 * S, ...more }));

test("an open breaker counts down to the next try at the latest", () => {
  const it = open();
  assert.equal(stateText(it, T + 3 * MIN, true), "open for 3 min");
  assert.equal(nextText(it, T, true), "Next try at the latest in 12 s.");
});

test("a backend that cannot be reached may be tried sooner", () => {
  const it = open();
  it.told(told({ last_error: { code: "RPC_DISCONNECT", message: "refused", at: iso(T) } }), T);
  assert.equal(nextText(it, T, true), "Next try at the latest in 12 s, sooner if it can be reached.");
});

test("a countdown that is over shows no negative number", () => {
  for (const after of [12 * S, 13 * S, 10 * MIN]) {
    assert.equal(nextText(open(), T + after, true), "The next try is due now.");
    assert.doesNotMatch(nextText(open(), T + after, false), /[-\u2212]\d/);
  }
});

test("cut off, nothing claims to be current, and the countdown goes on", () => {
  const it = open();
  assert.equal(stateText(it, T + MIN, false), "was open");
  assert.match(nextText(it, T, false), /was planned within 12 s; whether it comes is not known/);
  assert.match(nextText(it, T + 5 * S, false), /within 7 s/);
  assert.match(nextText(it, T + 20 * S, false), /was planned for 8 s ago; what became of it is not known/);
  assert.equal(failuresText(it, false), "5 failures in a row, when it was last heard of");
  assert.equal(it.shape(false), "unvouched");
  assert.equal(nextText(breaker(moved("closed")), T, false), "What it does now is not known.");
});

test("forced is said in words and has a shape of its own", () => {
  const it = open({ forced: true, reason: "force_open", retryAt: null });
  assert.equal(stateText(it, T + S, true), "forced open for 1 s");
  assert.equal(it.shape(true), "forced");
  assert.match(nextText(it, T, true), /Nothing is asked until an operator resets it/);
  const closed = breaker(moved("closed", { forced: true, reason: "force_closed" }));
  assert.match(nextText(closed, T, true), /goes through, however many fail/);
});

test("failures in a row come from the newest answer, with the threshold while it is closed", () => {
  const it = breaker(moved("closed", { failure_count: 0 }));
  it.told(told({ failure_count: 3 }), T + S);
  assert.equal(failuresText(it, true), "3 of 5 failures in a row");
  it.moved(moved("open", { at: T + 2 * S, failure_count: 5 }), T + 2 * S);
  assert.equal(failuresText(it, true), "5 failures in a row");
  assert.equal(failuresText(new Breaker("x"), true), "Failures: not known yet");
});

test("its state comes from events: an answer that was overtaken by one does not set it back", () => {
  const it = open();
  it.told(told({ state: "closed" }), T + S);
  assert.equal(it.state, "open");
});

test("before the first event, the answer counts", () => {
  const it = new Breaker("engine");
  it.told(told({ state: "open", retry_at: iso(T + 5 * S) }), T);
  assert.equal(nextText(it, T, true), "Next try at the latest in 5 s.");
});

test("a move that is in the history too is one move", () => {
  const it = breaker(moved("open", { at: T + 10 }));
  it.told(told({ history: [
    { at: iso(T - MIN), from: null, to: "closed", reason: "start" },
    { at: iso(T), from: "closed", to: "open", reason: "failure_threshold" },
  ] }), T + S);
  it.told(told({ history: [{ at: iso(T), from: "closed", to: "open", reason: "failure_threshold" }] }), T + S);
  assert.deepEqual(it.moves.map(({ to }) => to), ["closed", "open"]);
});

test("its moves are kept for longer than the gateway's history, newest first", () => {
  const it = new Breaker("engine");
  for (let n = 0; n < 300; n += 1) it.moved(moved(n % 2 ? "open" : "half_open", { at: T + n * 2 * S, reason: `r${n % 2}` }), T);
  const recent = it.recent(T + 300 * 2 * S);
  assert.equal(recent.length, 200);
  assert.ok(recent[0].at > recent[1].at);
});

test("while the gateway was away nothing is known, not even after its restart", () => {
  const it = breaker(moved("closed", { from: null, reason: "start", at: T }));
  it.lost(T + 10 * MIN);
  it.moved(moved("closed", { from: null, reason: "start", at: T + 15 * MIN }), T + 15 * MIN);
  const found = spans(it.moves, T + 20 * MIN).map(({ from, to, state }) => [(to - from) / MIN, state]);
  assert.deepEqual(found, [[10, "unknown"], [10, "closed"], [5, "unknown"], [5, "closed"]]);
  assert.deepEqual(it.recent(T + 20 * MIN).map(({ to }) => to), ["closed", "closed"], "the list has only moves");
});

test("the timeline in words", () => {
  const span = (from, to, state) => ({ from: from * MIN, to: to * MIN, state });
  assert.equal(outageText([span(0, 30, "closed")]), "closed for all of the last 30 min");
  assert.equal(outageText([span(0, 30, "unknown")]), "nothing is known of the last 30 min");
  assert.equal(outageText([span(0, 26, "closed"), span(26, 30, "open")]), "not closed for 4 min of the last 30 min");
  assert.equal(outageText([span(0, 28, "unknown"), span(28, 30, "closed")]), "closed for all of the last 2 min (not known before)");
});

test("what needs attention comes first", () => {
  const ranks = [
    breaker(moved("open")), breaker(moved("half_open")),
    breaker(moved("closed", { forced: true })), breaker(moved("closed")),
  ].map(({ rank }) => rank);
  assert.deepEqual(ranks, [...ranks].sort());
  assert.equal(new Set(ranks).size, 4);
});

test("a reason or state that is new is shown as it is", () => {
  assert.equal(reasonText("cosmic_ray"), "cosmic_ray");
  assert.equal(breaker(moved("melted")).shape(true), "published");
  assert.equal(stateText(breaker(moved("melted")), T + S, true), "melted for 1 s");
});

test("a source is judged by its own breaker, or by that of its backend", () => {
  const names = new Set(["disks", "disks/storage.update"]);
  assert.equal(breakerNameOf({ type: "storage.update", backend: "disks" }, names), "disks/storage.update");
  assert.equal(breakerNameOf({ type: "storage.list", backend: "disks" }, names), "disks");
});

test("an answer from before a breaker opened does not say that it has no failures", () => {
  const it = open();
  it.told(told(), T + S);
  assert.equal(failuresText(it, false), "5 failures in a row, when it was last heard of");
});
