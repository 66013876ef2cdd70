// The page that others put into a frame: `/embed?type=…&key=…&field=…&format=…&label=…` shows one value. With
// `&scheme=dark` or `light` it does not go by the visitor's preference.
// It takes a token from the page around it, and only by `postMessage({ token }, ORIGIN)`: one in the address would stand
// in histories and logs. Which pages may be around it is the setting `server.frame_ancestors`.

import { configure } from "./value.js";

const wishes = new URLSearchParams(location.search);
const element = /** @type {import("./value.js").TidegateValue} */ (document.querySelector("tidegate-value"));
/** @type {string | null} */
let token = null;

for (const name of ["type", "key", "field", "format", "label"]) {
  const wish = wishes.get(name);
  if (wish !== null) element.setAttribute(name, wish);
}
document.documentElement.dataset.scheme = wishes.get("scheme") ?? "";
document.title = wishes.get("label") || wishes.get("type") || "Tidegate";

addEventListener("message", ({ source, data }) => {
  if (parent === window || source !== parent || typeof data?.token !== "string") return;
  const isFirst = token === null;
  token = data.token;
  // Later ones are for when the connection asks for another; one that has been refused asks for none.
  if (isFirst || element.client?.status.state === "refused") configure({ token: () => token });
});
