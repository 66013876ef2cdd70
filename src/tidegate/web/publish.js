// The dialog that publishes an event. What was typed stays until somebody changes it, whatever the gateway answers.

import { jsonError } from "./json-position.js";
import { refusalText } from "./refusal.js";
import { make, visible, write } from "./words.js";

const OWN = new Set(["circuit_breaker.state", "source.freshness"]); // of the gateway: nobody else may publish them
const TYPES = 50;

/** @type {Publish | null} */
let only = null;

/** @param {import("./app.js").Page} page */
export default function publish(page) {
  only ??= new Publish(page);
  return only;
}

class Publish {
  /** @param {import("./app.js").Page} page */
  constructor(page) {
    this.page = page;
    this.types = make("datalist", { id: "publish-types" });
    const field = { spellcheck: false, autocapitalize: "off", autocomplete: "off" };
    this.type = make("input", { id: "publish-type", required: true, placeholder: "backup.done", ...field });
    this.type.pattern = "[a-z0-9_\\-]+(\\.[a-z0-9_\\-]+)*";
    this.type.title = "Words of a-z, 0-9, _ and -, separated by dots";
    this.type.setAttribute("list", "publish-types");
    this.key = make("input", { id: "publish-key", maxLength: 256, ...field });
    this.data = make("textarea", { id: "publish-data", rows: 6, placeholder: '{"ok": true}', ...field });
    this.wrong = make("p", { id: "publish-wrong", className: "error" }, "");
    this.data.setAttribute("aria-describedby", "publish-wrong");
    this.retain = make("input", { id: "publish-retain", type: "checkbox" });
    this.ttl = make("input", { id: "publish-ttl", type: "number", min: "0.001", step: "any", placeholder: "for ever" });
    this.error = said("error", "alert", "");
    this.position = make("span", {}, "");
    this.link = make("a", { hidden: true }, "Show the value");
    this.answer = said("answer", "status", this.position, " ", this.link);
    this.go = make("button", { type: "submit", className: "first" }, "Publish");
    this.close = make("button", { type: "button" }, "Close");
    this.form = make("form", {}, ...this.parts());
    this.form.noValidate = true;
    this.dialog = make("dialog", { className: "publish" }, this.form);
    this.dialog.setAttribute("aria-labelledby", "publish-title");
    document.body.append(this.dialog);
    this.listen();
  }

  parts() {
    const keep = make("label", { className: "row" }, this.retain, "Keep it for new clients");
    const ttl = make("label", { className: "row ttl" }, "for", this.ttl, "seconds");
    return [
      make("h2", { id: "publish-title" }, "Publish an event"),
      labelled("Type", this.type), this.types,
      labelled("Key", this.key, "only if the type describes many things"),
      labelled("Data", this.data, "JSON"), this.wrong,
      make("div", { className: "row retain" }, keep, ttl),
      this.error, this.answer,
      make("div", { className: "row" }, this.close, this.go),
    ];
  }

  listen() {
    this.close.addEventListener("click", () => this.dialog.close());
    this.data.addEventListener("input", () => { if (this.data.getAttribute("aria-invalid")) this.check(); });
    this.data.addEventListener("blur", () => { if (this.data.value) this.check(); });
    this.retain.addEventListener("change", () => this.paintTtl());
    this.link.addEventListener("click", () => this.dialog.close());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
  }

  open() {
    /** @type {{ type: string, stale: boolean | null }[]} */
    const values = this.page.client.store.list("*");
    const known = new Set(values.filter(({ type, stale }) => stale === null && !OWN.has(type)).map(({ type }) => type));
    this.types.replaceChildren(...[...known].slice(0, TYPES).map((value) => make("option", { value })));
    this.paintTtl();
    this.say("", "");
    this.dialog.showModal();
    this.type.focus();
  }

  paintTtl() {
    this.ttl.disabled = !this.retain.checked;
  }

  /** @param {string} error @param {string} answer */
  say(error, answer) {
    write(this.error, error);
    write(this.position, answer);
    this.link.hidden = true;
  }

  /** Whether the data is JSON; says where it is not. */
  check() {
    const wrong = jsonError(this.data.value);
    const where = wrong && `line ${wrong.line}, column ${wrong.column}`;
    write(this.wrong, wrong ? `Not JSON at ${where}: expected ${wrong.expected}.` : "");
    if (wrong) this.data.setAttribute("aria-invalid", "true");
    else this.data.removeAttribute("aria-invalid");
    return wrong;
  }

  /** The first field that cannot be sent, with the cursor where the trouble is. */
  isComplete() {
    if (!this.type.reportValidity()) return false;
    const wrong = this.check();
    if (wrong) {
      this.data.focus();
      this.data.setSelectionRange(wrong.at, wrong.at);
      return false;
    }
    return this.ttl.disabled || this.ttl.reportValidity();
  }

  /** The request's body. The data goes as it was typed, so that a long number keeps its digits. */
  body() {
    const key = this.key.value ? `,"key":${JSON.stringify(this.key.value)}` : "";
    const ttl = this.retain.checked && this.ttl.value ? `,"ttl_s":${Number(this.ttl.value)}` : "";
    const retain = this.retain.checked ? `,"retain":true${ttl}` : "";
    return `{"type":${JSON.stringify(this.type.value)}${key}${retain},"data":${this.data.value}}`;
  }

  async send() {
    this.say("", "");
    if (!this.isComplete()) return;
    this.go.disabled = true;
    const [type, key, isKept] = [this.type.value, this.key.value, this.retain.checked];
    try {
      const { epoch, seq } = await this.page.api("/api/v1/events", { method: "POST", json: this.body() });
      this.say("", `Published at position ${visible(epoch)}:${seq}.`);
      this.link.href = `#/value/${encodeURIComponent(type)}${key && `/${encodeURIComponent(key)}`}`;
      this.link.hidden = !isKept;
    } catch (refused) {
      this.say(refusalText(refused), "");
    } finally {
      this.go.disabled = false;
    }
  }
}

/** @param {string} kind @param {string} role @param {...(Node | string)} children */
function said(kind, role, ...children) {
  const element = make("p", { className: kind }, ...children);
  element.setAttribute("role", role);
  return element;
}

/** @param {string} text @param {HTMLElement} field @param {string} [hint] */
function labelled(text, field, hint = "") {
  const label = make("label", { htmlFor: field.id }, text);
  if (hint) label.append(" ", make("span", { className: "hint" }, hint));
  return make("div", { className: "labelled" }, label, field);
}
