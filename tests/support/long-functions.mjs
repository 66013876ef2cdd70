// Prints the functions of JavaScript files that have more than LINES lines, as JSON: node long-functions.mjs LINES FILE…
// A function counts from its first line to its last, with those inside it.

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { parse } from "acorn";

const [lines, ...files] = process.argv.slice(2);
const found = [];

/** Visits all nodes of a syntax tree. `name` is what a function would be called. */
function visit(node, name, file) {
  if (typeof node?.type !== "string") return;
  const own = node.id?.name ?? node.key?.name ?? node.left?.property?.name ?? name;
  const { start, end } = node.loc;
  if (/Function/.test(node.type) && end.line - start.line + 1 > Number(lines)) {
    found.push(`${file}: ${own}`);
  }
  for (const child of Object.values(node)) [child].flat().forEach((one) => visit(one, own, file));
}

for (const file of files) {
  const text = readFileSync(file, "utf-8");
  visit(parse(text, { ecmaVersion: "latest", sourceType: "module", locations: true }), "(module)", basename(file));
}
console.log(JSON.stringify(found));
