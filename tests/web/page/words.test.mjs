// Words for states and codes, and names from outside made visible.

import assert from "node:assert/strict";
import { test } from "node:test";

import { codeInWords, reasonInWords, stateInWords, visible, was } from "../../../src/tidegate/web/words.js";

const value = (more) => ({ state: "fresh", stale: false, as_of: "2026-11-29T00:00:00.000Z", data: 1, since: 0, ...more });

test("control and format characters are shown as escapes, and all others as they are", () => {
  assert.equal(visible("a\u202eb\u0007\u2028é😀\u{e0041}"), "a\\u202eb\\u0007\\u2028é😀\\u{e0041}");
  assert.equal(visible(12), "12");
});

test("every state has words of its own", () => {
  const of = (more) => stateInWords(value(more), 200_000);
  assert.equal(of({}), "fresh");
  assert.equal(of({ state: "stale", stale: true }), "stale for 3 min");
  assert.equal(of({ state: "expired", stale: true, data: null }), "expired");
  assert.equal(of({ state: "never", stale: true, as_of: null, data: null }), "never answered");
  assert.equal(of({ state: "published", stale: null }), "published");
});

test("what nobody vouches for says what it was, and never that it is", () => {
  const of = (more) => stateInWords(value({ state: "unvouched", ...more }), 0);
  assert.equal(of({}), "was fresh");
  assert.equal(of({ stale: true }), "was stale");
  assert.equal(of({ stale: true, data: null }), "was expired");
  assert.equal(of({ stale: true, as_of: null, data: null }), "had no answer");
  assert.equal(of({ stale: null, as_of: null }), "was published");
});

test("what a value was does not depend on whether it is vouched for", () => {
  for (const more of [{}, { stale: true }, { stale: null }, { stale: true, as_of: null }]) {
    assert.equal(was(value({ ...more, state: "unvouched" })), was(value(more)));
  }
});

test("codes are told in words, and unknown ones as they are", () => {
  assert.equal(codeInWords("RPC_DISCONNECT"), "cannot be reached");
  assert.equal(codeInWords("RPC_NEW"), "RPC_NEW");
});

test("behind an open breaker the reason is how often and why its backend failed", () => {
  const reason = { error_code: "CIRCUIT_BREAKER_OPEN", cause: "RPC_DISCONNECT" };
  assert.equal(reasonInWords(reason, 5), "not asked, because it failed 5 times: cannot be reached");
  assert.equal(reasonInWords({ ...reason, cause: null }), "not asked, because it failed");
  assert.equal(reasonInWords({ error_code: "OVERDUE", cause: null }), "overdue");
  assert.equal(reasonInWords({ error_code: null, cause: null }), "");
});
