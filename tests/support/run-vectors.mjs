// Runs the test vectors of a client's position on the dashboard's implementation: node run-vectors.mjs DIRECTORY.
// Prints what it made of each as a line of JSON: the file's name, then for each step the position, or how it connects
// next: the URL, and what it then subscribes to.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { Progress, address } from "../../src/tidegate/web/position.mjs";

const directory = process.argv[2];
for (const name of readdirSync(directory).filter((file) => file.endsWith(".json"))) {
  const { url, steps } = JSON.parse(readFileSync(join(directory, name), "utf8"));
  const query = new URL(url, "ws://gateway").searchParams;
  const types = query.get("types")?.split(",").filter(Boolean) ?? null;
  const progress = new Progress({ types, since: query.get("since") });
  const made = steps.map(({ receive, cut }) => {
    const opening = progress.opening();
    if (cut) return [address(new URL("ws://gateway/ws"), opening).href, opening.later];
    if (receive) progress.take(receive);
    return progress.position;
  });
  console.log(JSON.stringify([name, made]));
}
