// What an operator may do with a breaker: three buttons, each behind a dialog that says in plain words what happens.

import { refusalText } from "./refusal.js";
import { make, visible, write } from "./words.js";

const COMMANDS = {
  "force-open": {
    label: "Force open",
    title: (/** @type {string} */ name) => `Stop asking ${name}?`,
    text: "From now on nothing is asked of it, until somebody resets the breaker. Its values stay on the screen and"
      + " become stale. The gateway goes on with everything else.",
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

/** The buttons of all breakers, and the one dialog behind them. */
export class Commands {
  /** @type {{ name: string, command: Command } | null} */
  #asked = null;
  #page;
  #done;

  /**
   * @param {import("./app.js").Page} page
   * @param {(name: string, status: any) => void} done told what the gateway answered
   */
  constructor(page, done) {
    this.#page = page;
    this.#done = done;
    this.title = make("h2", { id: "command-title" }, "");
    this.text = make("p", {}, "");
    this.error = make("p", { className: "error" }, "");
    this.error.setAttribute("role", "alert");
    this.go = make("button", { type: "submit", className: "first" }, "");
    const cancel = make("button", { type: "button" }, "Cancel");
    const row = make("div", { className: "row" }, cancel, this.go);
    const form = make("form", {}, this.title, this.text, this.error, row);
    this.element = make("dialog", {}, form);
    this.element.setAttribute("aria-labelledby", "command-title");
    cancel.addEventListener("click", () => this.element.close());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  /** The buttons for one breaker. @param {string} name */
  buttons(name) {
    const row = make("div", { className: "row commands" });
    for (const command of /** @type {Command[]} */ (Object.keys(COMMANDS))) {
      const { label } = COMMANDS[command];
      const button = make("button", { type: "button" }, `${label}…`);
      button.setAttribute("aria-label", `${label}… ${visible(name)}`);
      button.addEventListener("click", () => this.#ask(name, command));
      row.append(button);
    }
    return row;
  }

  /** @param {string} name @param {Command} command */
  #ask(name, command) {
    this.#asked = { name, command };
    const { title, text, label } = COMMANDS[command];
    write(this.title, title(visible(name)));
    write(this.text, text);
    write(this.error, "");
    write(this.go, label);
    this.element.showModal(); // which gives the focus back to the button when it closes
  }

  async #send() {
    if (!this.#asked) return;
    const { name, command } = this.#asked;
    const path = name.split("/").map(encodeURIComponent).join("/");
    this.go.disabled = true;
    write(this.error, "");
    try {
      this.#done(name, await this.#page.api(`/api/v1/circuit-breaker/${path}/${command}`, { method: "POST" }));
      this.#page.announce(`${COMMANDS[command].label} of ${visible(name)}: done`);
      this.element.close();
    } catch (refused) {
      write(this.error, refusalText(refused));
    } finally {
      this.go.disabled = false;
    }
  }
}
