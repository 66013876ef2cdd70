// Runs calls of the dashboard's `Reconnect`: node run-reconnect.mjs CALLS, with a JSON list of [name, argument, …].
// Prints, as a JSON list, when the next attempt is due after each.

import { Reconnect } from "../../src/tidegate/web/reconnect.mjs";

const reconnect = new Reconnect();
const due = JSON.parse(process.argv[2]).map(([name, ...given]) => {
  reconnect[name](...given);
  return reconnect.dueAt;
});
console.log(JSON.stringify(due));
