// The texts to copy that follow one value from elsewhere.

import assert from "node:assert/strict";
import { test } from "node:test";

import { snippets } from "../../../src/tidegate/web/snippets.js";

globalThis.document = { baseURI: "https://nas.local/gw/index.html?kiosk#/value/a" };

test("addresses are those of this gateway, behind any prefix", () => {
  const { curl, script } = snippets("system.status", undefined, false);
  assert.equal(curl, "curl -N 'https://nas.local/gw/api/v1/events?types=system.status'");
  assert.match(script, /^import \{ connect \} from "https:\/\/nas\.local\/gw\/client\.js";/);
});

test("a token is named and never written out", () => {
  assert.match(snippets("a", undefined, true).curl, /^curl -N -H "Authorization: Bearer \$TOKEN" /);
});

test("of many keys one is picked out", () => {
  assert.match(snippets("rack.node", "node-1", false).script, /if \(event\.key !== "node-1"\) return;/);
});

test("a key cannot end an attribute", () => {
  const { element, frame } = snippets("a", '"><script>', false, "cpu_percent");
  assert.match(element, /<tidegate-value type="a" key="&quot;>&lt;script>" field="cpu_percent"><\/tidegate-value>$/);
  assert.match(frame, /embed\?type=a&key=%22%3E%3Cscript%3E&field=cpu_percent"/);
});
