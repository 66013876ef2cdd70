// What an operator may do with a breaker: three buttons, each behind a dialog that says in plain words what will happen.

import { refusalText } from "./refusal.js";
import { make, visible, write } from "./words.js";

const COMMANDS = {
  "force-open": {
    label: "Force open",
    title: (/** @type {string} */ name) => `Stop asking ${name}?`,
    text: "From now on nothing is asked of it, until somebody resets the breaker. Its values stay on the screen and become"
      + " stale. The gateway goes on with everything else.",
  },
  "force-closed": {
    label: "Force closed",
    title: (/** @type {string} */ name) => `Always ask ${name}?`,
    text: "From now on every call goes through, however many fail, until somebody resets the breaker. If it is down or"
      + " overloaded, nothing protects it from our calls. A pause that it asked for ends, too.",
  },
  reset: {
    label: "Reset",
    title: (/** @type {string} */ name) => `Reset the breaker of ${name}?`,
    text: "The breaker closes, its failures count from zero, and its sources are asked again now. What an operator has"
      + " forced, and a pause that the backend asked for, end.",
  },
};

/** @typedef {keyof typeof COMMANDS} Command */

/**
 * @param {import("./app.js").Page} page
 * @param {(name: string, status: any) => void} done told what the gateway answered
 */
export function commands(page, done) {
  const title = make("h2", { id: "command-title" }, "");
  const text = make("p", {}, "");
  const error = make("p", { className: "error" }, "");
  error.setAttribute("role", "alert");
  const cancel = make("button", { type: "button" }, "Cancel");
  const go = make("button", { type: "submit", className: "first" }, "");
  const form = make("form", {}, title, text, error, make("div", { className: "row" }, cancel, go));
  const dialog = make("dialog", {}, form);
  dialog.setAttribute("aria-labelledby", "command-title");
  /** @type {{ name: string, command: Command, opener: HTMLElement } | null} */
  let asked = null;

  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => asked?.opener.focus());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!asked) return;
    const { name, command } = asked;
    go.disabled = true;
    write(error, "");
    try {
      done(name, await page.api(`/api/v1/circuit-breaker/${name.split("/").map(encodeURIComponent).join("/")}/${command}`, { method: "POST" }));
      page.announce(`${COMMANDS[command].label} of ${visible(name)}: done`);
      dialog.close();
      page.refresh();
    } catch (refused) {
      write(error, refusalText(refused));
    } finally {
      go.disabled = false;
    }
  });

  /** @param {string} name @param {Command} command @param {HTMLElement} opener */
  function open(name, command, opener) {
    asked = { name, command, opener };
    const of = COMMANDS[command];
    write(title, of.title(visible(name)));
    write(text, of.text);
    write(error, "");
    write(go, of.label);
    dialog.showModal();
  }

  /** @param {{ name: string }} breaker */
  function buttons({ name }) {
    const row = make("div", { className: "row commands" });
    for (const command of /** @type {Command[]} */ (Object.keys(COMMANDS))) {
      const button = make("button", { type: "button" }, `${COMMANDS[command].label}…`);
      button.setAttribute("aria-label", `${COMMANDS[command].label}… ${visible(name)}`);
      button.addEventListener("click", () => open(name, command, button));
      row.append(button);
    }
    return row;
  }

  return { element: dialog, buttons };
}
