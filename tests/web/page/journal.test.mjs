// What the log keeps, shows and says.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Journal, connectionText, eventText, firstPatterns, gapTexts, patternsIn } from "../../../src/tidegate/web/journal.js";

const AT = "2026-11-22T21:40:03.123Z";
const NOW = Date.parse(AT);

function event(n, more = {}) {
  return { type: "rack.node", key: `n${n}`, timestamp: AT, seq: n, data: { n }, ...more };
}

function filled(count) {
  const journal = new Journal();
  for (let n = 1; n <= count; n += 1) journal.event(event(n), NOW);
  return journal;
}

const seqs = (journal) => journal.shown.map((line) => line.event.seq);

test("the newest 2,000 are kept, and how many came is known", () => {
  const journal = filled(2005);
  assert.deepEqual([journal.kept, journal.count, seqs(journal)[0], seqs(journal).at(-1)], [2000, 2005, 6, 2005]);
});

test("a filter finds words anywhere in an event, and leaves out those with a minus", () => {
  const journal = new Journal();
  journal.event(event(1, { data: { state: "Idle" } }), NOW);
  journal.event(event(2, { data: { state: "busy" } }), NOW);
  journal.gap({ reason: "epoch_changed" }, NOW);
  journal.filter("RACK idle");
  assert.deepEqual(seqs(journal), [1]);
  journal.filter("rack -idle");
  assert.deepEqual(seqs(journal), [2]);
  journal.filter("restarted");
  assert.equal(journal.shown[0].kind, "gap");
  journal.filter(" - ");
  assert.equal(journal.shown.length, 3);
});

test("what comes later is filtered too, and what is dropped no longer matches", () => {
  const journal = new Journal();
  journal.filter("n7");
  for (let n = 1; n <= 8; n += 1) journal.event(event(n), NOW);
  assert.deepEqual(seqs(journal), [7]);
  for (let n = 10; n < 2010; n += 1) journal.event(event(n, { key: "other", data: {} }), NOW);
  assert.deepEqual(seqs(journal), []);
});

test("a pause freezes what is shown and counts what comes", () => {
  const journal = filled(3);
  journal.pause(true);
  for (let n = 4; n <= 3000; n += 1) journal.event(event(n), NOW);
  assert.deepEqual(seqs(journal), [1, 2, 3]);
  assert.equal(journal.waiting, 2997);
  journal.pause(false);
  assert.equal(journal.waiting, 0);
  assert.equal(seqs(journal).at(-1), 3000);
});

test("a filter during a pause shows nothing that came since", () => {
  const journal = filled(3);
  journal.pause(true);
  journal.event(event(4), NOW);
  journal.filter("rack");
  assert.deepEqual(seqs(journal), [1, 2, 3]);
});

test("a download has what is shown: events as they came, and what was lost", () => {
  const journal = new Journal();
  journal.event(event(1, { data: { big: "x\ny" } }), NOW);
  journal.gap({ type: "gap", reason: "slow_consumer", skipped: { "system.status": 12 } }, NOW);
  journal.connection("The connection was lost.", NOW);
  const lines = journal.download().trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ type }) => type), ["rack.node", "gap", "page.connection"]);
  assert.deepEqual(lines[0], event(1, { data: { big: "x\ny" } }));
  assert.deepEqual(lines[2], { type: "page.connection", timestamp: AT, data: { message: "The connection was lost." } });
});

test("a gap says how much of what is missing", () => {
  assert.deepEqual(gapTexts({ reason: "slow_consumer", skipped: { "system.status": 12, "*": 1 } }), [
    "12 events of system.status were skipped for this page, which read too slowly.",
    "1 event of other types was skipped for this page, which read too slowly.",
  ]);
  assert.deepEqual(gapTexts({ reason: "slow_consumer", skipped: {} }), [
    "Events were skipped for this page, which read too slowly.",
  ]);
  assert.match(gapTexts({ reason: "epoch_changed" })[0], /restarted: events are missing here/);
  assert.match(gapTexts({ reason: "history_truncated" })[0], /away for too long/);
  assert.match(gapTexts({ reason: "new\u202eone" })[0], /new\\u202eone/);
});

const status = (state, more = {}) => ({ state, since: NOW, reason: null, resumed: false, ...more });

test("a loss of the connection is one line, and its end another", () => {
  assert.equal(connectionText(status("live"), status("live")), null);
  const lost = status("waiting", { reason: "close code 1006" });
  assert.equal(connectionText(status("live"), lost), "The connection was lost: close code 1006.");
  assert.equal(connectionText(lost, status("connecting")), null);
  assert.equal(connectionText(status("connecting"), status("live")), "Connected.");
  const back = status("live", { since: NOW + 12_000, resumed: true });
  assert.equal(connectionText(lost, back), "Connected again after 12 s: what was missed follows.");
  assert.match(connectionText(lost, { ...back, resumed: false }), /the newest values follow/);
});

test("silence is told, and that it is over, or has become a loss", () => {
  assert.equal(connectionText(status("live"), status("quiet")), "Nothing is heard from the gateway.");
  assert.match(connectionText(status("quiet"), status("live")), /heard again: nothing is missing/);
  assert.equal(connectionText(status("quiet"), status("waiting")), "The connection was lost.");
});

test("a stale event says why in words, and the gateway's own events say what they mean", () => {
  const stale = event(1, { stale: true, error_code: "RPC_TIMEOUT", data: { cpu_percent: 12.5 } });
  assert.equal(eventText(stale, "values"), "stale: no answer in time · cpu 12.5 %");
  assert.equal(eventText(stale, "names"), "stale: no answer in time");
  assert.equal(eventText(stale, "JSON"), 'stale · {"cpu_percent":12.5}');
  assert.equal(eventText(event(1, { gone: true }), "values"), "gone");
  const moved = { state: "half_open", from: "open", reason: "retry_due", forced: false };
  assert.equal(eventText({ type: "circuit_breaker.state", data: moved }, "values"), "half-open after open: time for the next try");
  const failed = { source: "a.b", error_code: "RPC_DISCONNECT", message: "refused", consecutive_failures: 3 };
  assert.equal(eventText({ type: "rpc_error", data: failed }, "values"), "a.b: cannot be reached, 3 times in a row: refused");
});

test("patterns may stand between commas or spaces, and a wrong one is named", () => {
  assert.deepEqual(patternsIn(" system.*, rack.node  rack.node"), ["system.*", "rack.node"]);
  assert.deepEqual(patternsIn(""), []);
  for (const wrong of ["System", "a..b", "*.a", "a.", "a*"]) {
    assert.throws(() => patternsIn(`ok.type, ${wrong}`), new RegExp(wrong.replace(/[.*]/g, "\\$&")));
  }
});

test("a token of few types follows those and what the gateway tells of them", () => {
  assert.deepEqual(firstPatterns(null), ["*"]);
  assert.deepEqual(firstPatterns(["*"]), ["*"]);
  assert.deepEqual(firstPatterns(["nas.*"]), [
    "nas.*", "circuit_breaker.state", "notification", "rpc_error", "source.freshness",
  ]);
});

test("a type may be named like something that every object has", () => {
  for (const type of ["constructor", "__proto__"]) assert.equal(eventText({ type, data: { n: 1 } }, "values"), "n 1");
});
