// How numbers, times and objects are shown.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  bytes, clock, counted, duration, fields, label, number, numbers, plain, relative, scalar, span,
} from "../../../src/tidegate/web/format.js";

test("a number has few digits, groups of three, and a true minus", () => {
  const shown = [0, 1.5, 12.3456, 123.456, 1234.56, 12345.6, 1234567, -4.25, 1e18, 0.0001, 0.1 + 0.2].map(plain);
  const expected = [
    "0", "1.5", "12.346", "123.46", "1234.6", "12\u202f345.6", "1\u202f234\u202f567", "\u22124.25",
    "≈ 1000000000000000000", "0.0001", "0.3",
  ];
  assert.deepEqual(shown, expected);
});

test("the end of a name is the unit of its number", () => {
  const shown = {
    memory_bytes: 4123456789, rx_bytes_per_s: 1234567, cpu_percent: 12.5, requests_per_s: 3, uptime_s: 7500,
    latency_ms: 12.25, temperature_c: 38, power_w: 1500, flow_l_per_min: 38.2, plain: 7,
  };
  const texts = Object.entries(shown).map(([name, n]) => `${label(name, n)} ${number(name, n)}`);
  assert.deepEqual(texts, [
    "memory 4.12 GB", "rx 1.23 MB/s", "cpu 12.5 %", "requests 3/s", "uptime 2 h 5 min",
    "latency 12.25 ms", "temperature 38 °C", "power 1.50 kW", "flow 38.2 L/min", "plain 7",
  ]);
});

test("a unit is cut from a name only where its number says it", () => {
  assert.equal(label("state_s", "ok"), "state s");
  assert.equal(label("_bytes", 3), " bytes");
});

test("bytes change their unit before they have four digits", () => {
  assert.deepEqual([0, 999, 1000, 999_499, 999_500, 1e12, 5e17].map(bytes), [
    "0 B", "999 B", "1.00 kB", "999 kB", "1.00 MB", "1.00 TB", "500 PB",
  ]);
});

test("ages are whole and never run backwards", () => {
  assert.deepEqual([-3, 0, 0.9, 59.9, 99, 100, 3599, 3600, 7500, 86399, 86400, 100_000, 1e6].map(span), [
    "0 s", "0 s", "0 s", "59 s", "99 s", "1 min", "59 min", "1 h", "2 h 5 min", "23 h", "1 d", "1 d 3 h", "11 d",
  ]);
  assert.deepEqual([0.25, 2.34, 59].map(duration), ["250 ms", "2.3 s", "59 s"]);
});

test("a moment is relative, or the time of day with the date of another day", () => {
  const now = new Date(2026, 10, 29, 6, 12, 3).getTime();
  assert.deepEqual([now, now - 3400, now + 12_000].map((at) => relative(at, now)), ["now", "3 s ago", "in 12 s"]);
  assert.equal(clock(now, now), "06:12:03");
  assert.equal(clock(now - 86_400_000, now), "2026-11-28 06:12:03");
});

test("an object is its first scalar fields; what is left out is counted", () => {
  const data = { state: "idle", pid: 8749, tags: ["a"], cpu_percent: 12.5, nothing: null, isOn: true };
  assert.deepEqual(fields("agent.status", data), {
    fields: [{ name: "state", text: "idle" }, { name: "pid", text: "8749" }, { name: "cpu", text: "12.5 %" }, { name: "isOn", text: "yes" }],
    more: 2,
  });
});

test("what has no scalar fields says how much there is", () => {
  assert.deepEqual(fields("queue", Array(300)).fields, [{ name: "", text: "300 items" }]);
  assert.deepEqual(fields("pools", { a: [1], b: { c: 1, d: 2 } }).fields, [
    { name: "a", text: "1 item" }, { name: "b", text: "2 fields" },
  ]);
  assert.deepEqual(fields("room.temperature_c", 21).fields, [{ name: "", text: "21 °C" }]);
});

test("a time in a text is a time of day, and other texts are as they are", () => {
  assert.equal(scalar("at", new Date(2001, 1, 2, 3, 4, 5).toISOString()), "2001-02-02 03:04:05");
  assert.equal(scalar("at", "2001-02-02"), "2001-02-02");
  assert.equal(scalar("none", null), "null");
  assert.equal(scalar("list", []), null);
});

test("numbers are found in depth, but not in lists, and not more than asked for", () => {
  const data = { a: 1, b: { c: 2, list: [3] }, d: "4", e: 5 };
  assert.deepEqual(numbers(data, 9), [["a", 1], ["b.c", 2], ["e", 5]]);
  assert.deepEqual(numbers(data, 2), [["a", 1], ["b.c", 2]]);
  assert.deepEqual(numbers(7, 9), [["", 7]]);
  assert.equal(counted(1, "item"), "1 item");
});

test("nothing is left out in silence, and what is empty is seen", () => {
  const nulls = { a: null, b: null, c: null, d: null, e: null, f: null };
  assert.equal(fields("x", nulls).more, 2);
  const shown = ["", " \n", {}, [], { name: "" }].map((data) => fields("x", data).fields.map(({ text }) => text).join());
  assert.deepEqual(shown, ['""', '" \\n"', "0 fields", "0 items", '""']);
});
