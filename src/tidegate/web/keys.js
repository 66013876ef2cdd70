// What keys do, and the dialog that says so. No key does anything while a field has the focus or a dialog is open.

import { byId, make } from "./words.js";

const OFF = "tidegate.keys-off";
const ROUTES = { 1: "#/values", 2: "#/breakers", 3: "#/log", 4: "#/clients" };
const TEXTS = [
  ["/", "filter"], ["j k ↓ ↑", "next and previous row"], ["Enter", "details of a row"], ["Esc", "back"],
  ["1 2 3 4", "values, breakers, log, clients"], ["f", "only what is not current"], ["p", "pause, and go on"],
  ["t", "times of day instead of ages"], ["n", "publish an event"], ["?", "this list"],
];

/** @param {import("./app.js").Page} page @param {() => any} shown The section that is shown. */
export function keys(page, shown) {
  const dialog = byId("keys");
  const isOn = () => localStorage.getItem(OFF) === null;

  /** @type {Record<string, () => void>} */
  const actions = {
    p: () => page.pause(!page.paused),
    t: () => { page.showsAbsolute = !page.showsAbsolute; page.paint(); },
    n: () => { if (page.has("publisher")) page.publish(); },
    "?": () => dialog.showModal(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]") || !isOn()) return;
    if (isField(event.target)) {
      if (event.key === "Escape") /** @type {HTMLElement} */ (event.target).blur();
      return;
    }
    if (document.body.classList.contains("signed-out")) return;
    const hash = ROUTES[/** @type {keyof typeof ROUTES} */ (/** @type {unknown} */ (event.key))];
    if (hash) page.go(hash);
    else if (shown()?.key?.(event)) event.preventDefault();
    else if (event.key in actions) {
      event.preventDefault();
      actions[event.key]();
    }
  });

  byId("help").addEventListener("click", () => dialog.showModal());
  dialog.append(...content(dialog, isOn));
}

/** @param {EventTarget | null} target */
function isField(target) {
  return target instanceof Element && target.matches("input, textarea, select, [contenteditable]");
}

/** @param {HTMLDialogElement} dialog @param {() => boolean} isOn */
function content(dialog, isOn) {
  const list = make("dl", { className: "facts" });
  for (const [names, text] of TEXTS) {
    list.append(make("dt", {}, ...names.split(" ").flatMap((name) => [make("kbd", {}, name), " "])), make("dd", {}, text));
  }
  const box = make("input", { type: "checkbox", checked: isOn() });
  box.addEventListener("change", () => {
    if (box.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "1");
  });
  const close = make("button", { type: "button", className: "first", onclick: () => dialog.close() }, "Close");
  return [
    make("h2", { id: "keys-title" }, "Keys"),
    list,
    make("p", { className: "row" }, make("label", { className: "row" }, box, "Use these keys")),
    make("div", { className: "row" }, close),
  ];
}
