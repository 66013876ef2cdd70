// What the page counts: values by state, sources that are current, backends that are down.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  breakerOf, causeOf, count, downBackends, isTrouble, messageOf, values, worstAlone,
} from "../../../src/tidegate/web/counts.js";

const BASE = { key: null, stale: false, as_of: "2026-11-29T00:00:00.000Z", data: 1, since: 0, source: "nas", cause: null };
const fresh = (type, key = null) => ({ ...BASE, type, key, state: "fresh" });
const stale = (type, more = {}) => ({ ...BASE, type, state: "stale", stale: true, ...more });
const never = (type) => ({ ...stale(type), state: "never", as_of: null, data: null, source: null });
const published = (type) => ({ ...BASE, type, state: "published", stale: null, as_of: null });
const unvouched = (value) => ({ ...value, state: "unvouched" });

function pageOf(all, breakers = {}, status = null) {
  const get = (type, key) => (type === "circuit_breaker.state" && breakers[key] ? { data: { breaker: key, ...breakers[key] } } : undefined);
  return { client: { store: { list: () => all, get } }, status, errors: new Map() };
}

test("what the gateway says of itself is no value", () => {
  const all = [fresh("a"), fresh("circuit_breaker.state", "nas"), fresh("source.freshness", "a")];
  assert.deepEqual(values(pageOf(all).client), [all[0]]);
});

test("every value is counted once", () => {
  const counts = count([fresh("a"), stale("b"), never("c"), published("d"), unvouched(fresh("e"))], null);
  assert.equal(counts.all, 5);
  assert.equal(counts.trouble + counts.fresh + counts.published, 5);
  assert.deepEqual([counts.trouble, counts.fresh, counts.published, counts.unvouched], [3, 1, 1, 1]);
});

test("a source of many keys is current only if all of them are", () => {
  const counts = count([fresh("rack", "1"), { ...stale("rack"), key: "2" }, fresh("rack", "3"), fresh("b"), published("c")], null);
  assert.deepEqual([counts.sources, counts.notCurrent], [2, 1]);
});

test("a source that has sent nothing is known from the status", () => {
  const status = { sources: [{ type: "a", stale: false }, { type: "silent", stale: true }, { type: "empty", stale: false }] };
  const counts = count([fresh("a")], status);
  assert.deepEqual([counts.sources, counts.notCurrent], [3, 1]);
});

test("cut off, nothing is current, whatever the last status said", () => {
  const status = { sources: [{ type: "a", stale: false }] };
  const counts = count([unvouched(fresh("a")), unvouched(published("b"))], status);
  assert.deepEqual([counts.fresh, counts.published, counts.trouble], [0, 0, 2]);
  assert.deepEqual([counts.sources, counts.notCurrent], [1, 1]);
  assert.ok(isTrouble(unvouched(published("b"))));
});

test("a source of its own breaker is judged by that, and what never answered by its backend of the status", () => {
  const breakers = { nas: { state: "closed" }, "nas/a": { state: "open" }, dead: { state: "open" } };
  const page = pageOf([], breakers, { sources: [{ type: "c", backend: "dead" }], breakers: [] });
  assert.equal(breakerOf(page, stale("a")).breaker, "nas/a");
  assert.equal(breakerOf(page, stale("b")).breaker, "nas");
  assert.equal(breakerOf(page, never("c")).breaker, "dead");
  assert.equal(breakerOf(page, never("unknown")), undefined);
});

test("the backend that is down for longest is first, since its first value was lost, with its cause", () => {
  const breakers = { nas: { state: "open" }, new: { state: "half_open" }, fine: { state: "closed" } };
  const all = [
    stale("x", { source: "new", since: 900 }), stale("a", { since: 500 }), stale("b", { since: 300, cause: "RPC_TIMEOUT" }),
    stale("c", { source: "fine" }), fresh("d"),
  ];
  const status = { sources: [], breakers: [{ name: "new", last_error: { code: "RPC_DISCONNECT" } }, { name: "nas", last_error: null }] };
  const down = downBackends(pageOf(all, breakers, status), all).map(({ breaker, since, cause }) => [breaker.breaker, since, cause]);
  assert.deepEqual(down, [["nas", 300, "RPC_TIMEOUT"], ["new", 900, "RPC_DISCONNECT"]]);
  assert.equal(causeOf(null, "nas"), null);
});

test("the words of an error are shown only beside the source that it is of", () => {
  const status = {
    sources: [{ type: "a", backend: "nas", error_code: "RPC_APPLICATION_ERROR" }, { type: "b", backend: "nas", error_code: null }],
    breakers: [{ name: "nas", last_error: { code: "RPC_APPLICATION_ERROR", message: "no disk" } }],
  };
  const page = pageOf([], {}, status);
  assert.equal(messageOf(page, never("a"), "RPC_APPLICATION_ERROR"), "no disk");
  assert.equal(messageOf(page, never("a"), "OVERDUE"), "", "it is another error");
  status.sources[1].error_code = "RPC_APPLICATION_ERROR";
  assert.equal(messageOf(page, never("a"), "RPC_APPLICATION_ERROR"), "", "either may have said it");
  assert.equal(messageOf(pageOf([]), never("a"), undefined) || "", "", "nothing is known yet");
  page.errors.set("a", { code: "RPC_APPLICATION_ERROR", message: "no fan" });
  assert.equal(messageOf(page, never("a"), "RPC_APPLICATION_ERROR"), "no fan");
  assert.equal(messageOf(page, never("a"), "RPC_TIMEOUT"), "", "the newest error was another");
});

test("where no breaker is open, the source that is not current for longest is named", () => {
  const breakers = { dead: { state: "open" }, nas: { state: "closed" } };
  const all = [fresh("a"), stale("b", { source: "dead", since: 1 }), stale("c", { since: 9 }), stale("d", { since: 5 }), published("e")];
  assert.equal(worstAlone(pageOf(all, breakers), all).type, "d");
  assert.equal(worstAlone(pageOf([], breakers), [fresh("a"), published("e")]), undefined);
});

test("a source that has answered with no items has a row, and its own state", () => {
  const told = (stale, state) => ({
    ...published("source.freshness"), key: "rack", state, timestamp: "2026-11-29T00:00:00.000Z",
    data: { type: "rack", stale, error_code: stale ? "RPC_TIMEOUT" : null, as_of: "2026-11-29T00:00:00.000Z" },
  });
  const at = Date.parse("2026-11-29T00:00:00.000Z");
  const seen = (all, now = at + 5000) => values({ ...pageOf(all).client, now: () => now, position: "e:1" });
  const row = (all, now) => seen(all, now).map(({ type, state, data }) => [type, state, data]);
  assert.deepEqual(row([told(false, "published")]), [["rack", "fresh", []]]);
  assert.deepEqual(row([told(true, "published")]), [["rack", "stale", []]]);
  assert.deepEqual(row([told(false, "unvouched")]), [["rack", "unvouched", []]]);
  assert.deepEqual(row([told(false, "published")], at + 1000), []);
  const all = [fresh("rack", "1"), told(false, "published")];
  assert.deepEqual(seen(all), [all[0]]);
});

test("cut off, a source that only the status knows of is not current either", () => {
  const status = { sources: [{ type: "a", stale: false }, { type: "empty", stale: false }] };
  const counts = count([unvouched(fresh("a"))], status);
  assert.deepEqual([counts.sources, counts.notCurrent], [2, 2]);
});
