// Where a text stops being JSON: the same place in every browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { jsonError } from "../../../src/tidegate/web/json-position.js";

const GOOD = [
  "{}", "[]", "[1, 2]", '{"a": {"b": [true, false, null]}}', '"\\u00e9 \\n"', "-0.5e+10", " 1 ", "[[[]]]", '{"": ""}',
  "12345678901234567890", '{"a":[{},{}]}',
];

for (const text of GOOD) {
  test(`${text} is JSON`, () => {
    JSON.parse(text);
    assert.equal(jsonError(text), null);
  });
}

const BAD = [
  ["", 1, 1, "a value"],
  ["  ", 1, 3, "a value"],
  ["tru", 1, 1, "a value"],
  ["'a'", 1, 1, "a value"],
  ["1 2", 1, 3, "the end"],
  ["01", 1, 2, "the end"],
  ['{"a": }', 1, 7, "a value"],
  ['{"a" 1}', 1, 6, ":"],
  ["[1 2]", 1, 4, ", or ]"],
  ['{"a": 1 "b": 2}', 1, 9, ", or }"],
  ["{a: 1}", 1, 2, "a name in quotes or }"],
  ['{"ok": true,\n "n": 1,}', 2, 9, "a name in quotes"],
  ["[1,\n 2,\n ]", 3, 2, "a value"],
  ["[[1, 2]", 1, 8, ", or ]"],
  ['{"a": "x\ny"}', 1, 9, "the rest of the text, up to its closing quote"],
  ['"a\\q"', 1, 3, "the rest of the text, up to its closing quote"],
  ['{"a', 1, 4, "the rest of the text, up to its closing quote"],
];

for (const [text, line, column, expected] of BAD) {
  test(`${JSON.stringify(text)} is no JSON from line ${line}, column ${column}`, () => {
    assert.throws(() => JSON.parse(text));
    const wrong = jsonError(text);
    assert.deepEqual([wrong.line, wrong.column, wrong.expected], [line, column, expected]);
  });
}

test("it agrees with the browser on texts that were broken anywhere", () => {
  const whole = '{"a":[1,-2.5e3,{"b":"x\\u0041\\n"}],"c":null,"d":[true,false]}';
  for (let at = 0; at < whole.length; at += 1) {
    for (const broken of [whole.slice(0, at), whole.slice(0, at) + whole.slice(at + 1), `${whole.slice(0, at)},${whole.slice(at)}`]) {
      let isJson = true;
      try {
        JSON.parse(broken);
      } catch {
        isJson = false;
      }
      assert.equal(jsonError(broken) === null, isJson, broken);
    }
  }
});

test("nesting of any depth is read without an end of the stack", () => {
  assert.equal(jsonError("[".repeat(100_000) + "]".repeat(100_000)), null);
});
