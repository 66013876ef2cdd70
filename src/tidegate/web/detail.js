// One value in full: its fields, with the trends of those that are numbers, its newest events, its JSON with what has
// changed, how to follow it from elsewhere, and what a publisher may do with it.

import { isPolled, sourceOf, valueOf } from "./counts.js";
import { inLine, label, leaves, number, span } from "./format.js";
import { Json } from "./json.js";
import { snippets } from "./snippets.js";
import { sparkline } from "./spark.js";
import { ageInWords, whyParts } from "./value-row.js";
import { codeInWords, make, setShape, shape, stateInWords, visible, was, write } from "./words.js";

const EVENTS = 20;
const FIELDS = 60;
const TREND = /** @type {const} */ ([200, 32]);

/** @param {import("./app.js").Page} page */
export default function section(page) {
  return new Detail(page);
}

class Detail {
  /** @param {import("./app.js").Page} page */
  constructor(page) {
    this.page = page;
    this.type = "";
    /** @type {string | undefined} */
    this.keyName = undefined;
    /** @type {any} */
    this.kept = null; // what is shown
    this.json = new Json();
    /** @type {Map<string, ReturnType<typeof fieldLine>>} */
    this.lines = new Map();
    this.events = Array.from({ length: EVENTS }, eventLine);
    this.back = make("a", { className: "back" }, "← Values");
    this.title = make("bdi");
    this.titleKey = make("bdi", { className: "key" });
    this.mark = shape("fresh");
    this.word = make("span", { className: "word" });
    this.age = make("span", { className: "quiet age" });
    this.state = make("p", { className: "state" }, this.mark, this.word, this.age);
    this.reason = make("span");
    this.code = make("span", { className: "code" });
    this.why = make("p", { className: "why" }, this.reason, " ", this.code);
    this.poll = button("Poll now", "", () => this.pollNow());
    this.forget = button("Forget…", "", () => this.askToForget());
    this.answer = make("span", { className: "small quiet", role: "status" });
    this.facts = make("p", { className: "quiet small" });
    this.fields = make("div", { className: "field-list" });
    this.noFields = make("p", { className: "quiet" });
    this.noEvents = make("p", { className: "quiet" }, "None since this page was opened.");
    this.follow = make("div", { className: "follow" });
    this.element = make("section", { className: "detail" }, this.top(), this.columns());
  }

  top() {
    const embed = button("Embed…", "", () => this.showEmbed());
    return make("div", { className: "top" }, this.back, make("h2", {}, this.title, " ", this.titleKey), this.state, this.why,
      make("div", { className: "row" }, this.poll, this.forget, embed, this.answer));
  }

  columns() {
    const copy = copyButton(() => this.json.text);
    const events = make("ol", { className: "events" }, ...this.events.map(({ element }) => element));
    const card = (/** @type {string} */ text, /** @type {Node[]} */ beside, /** @type {Node[]} */ ...more) =>
      make("div", { className: "card" }, make("div", { className: "titled" }, make("h3", {}, text), ...beside), ...more);
    const fields = card("Fields", [make("span", { className: "quiet small" }, "last 10 min")], this.fields, this.noFields, this.facts);
    return make("div", { className: "columns" },
      make("div", { className: "column" }, fields, card("Newest events", [], events, this.noEvents)),
      make("div", { className: "column" }, card("JSON", [copy], this.json.element), card("Follow just this", [], this.follow)));
  }

  /** @param {string[]} rest */
  open([type = "", ...rest]) {
    const key = rest.join("/") || undefined; // so that an address written by hand works, too
    this.type = type;
    this.keyName = key;
    this.kept = null;
    this.lines.clear();
    this.fields.replaceChildren();
    this.json.clear();
    this.back.href = this.page.valuesAddress;
    write(this.title, visible(type));
    write(this.titleKey, visible(key ?? ""));
    write(this.answer, "");
    this.element.ariaLabel = `Value ${visible(type)} ${visible(key ?? "")}`.trim();
    const { curl, script } = snippets(type, key, Boolean(this.page.token()));
    this.follow.replaceChildren(snippet("Shell", curl), snippet("JavaScript", script));
    scrollTo(0, 0);
  }

  close() {}

  value() {
    return valueOf(this.page.client, this.type, this.keyName);
  }

  paint() {
    const { page } = this;
    const isKept = page.paused && this.kept;
    const value = isKept ? this.kept : this.value();
    const now = page.client.now();
    const isMissing = !value;
    this.element.classList.toggle("missing", isMissing);
    if (isMissing) {
      setShape(this.mark, "unvouched");
      write(this.word, page.client.status.state === "live" ? "there is no such value, or not yet" : "not known while cut off");
      write(this.age, " ");
      this.why.hidden = true; // it is that of the value before
      return;
    }
    page.history.judge(value, now);
    if (!isKept) this.paintAll(value, now);
    this.kept = value;
    const shown = page.paused || this.json.isHeld ? { ...value, state: "unvouched" } : value;
    this.state.dataset.state = this.element.dataset.state = shown.state;
    setShape(this.mark, shown.state);
    write(this.word, stateInWords(shown, now));
    write(this.age, ageInWords(shown, this.source(), now, page.showsAbsolute));
    this.paintWhy(shown, now);
  }

  /** @param {any} value @param {number} now */
  paintAll(value, now) {
    this.json.paint(was(value) === "never" ? undefined : value.data);
    this.paintFacts(value, this.source());
    this.paintFields(value, now);
    this.paintEvents(value);
  }

  /** What the status says of its source, if it has one. */
  source() {
    return sourceOf(this.page, this);
  }

  /** @param {any} value @param {number} now */
  paintWhy(value, now) {
    const why = whyParts(value, this.page, now);
    this.why.hidden = !why;
    write(this.reason, why ? [why.reason, why.message].filter(Boolean).join(" · ") : "");
    write(this.code, why?.code ?? "");
  }

  /** @param {any} value @param {any} source */
  paintFacts(value, source) {
    this.poll.hidden = !(source && this.page.has("publisher"));
    this.forget.hidden = isPolled(value) || !this.page.has("publisher");
    const parts = source
      ? [`backend ${visible(source.backend)}`, `asked every ${span(source.interval_s)}`, source.on_change ? "told when it changes" : "",
        `current for ${span(source.max_age_s)} at most`]
      : ["published"];
    if (value.seq !== null) parts.push(`position ${value.seq}`);
    write(this.facts, parts.filter(Boolean).join(" · "));
  }

  /** Of a value that is gone, what is left is the trends of its numbers. @param {any} value @param {number} now */
  paintFields(value, now) {
    const { numbers } = this.page.history.of(value);
    const isNothing = value.data === null && value.stale && value.state !== "stale"; // a backend may answer null
    const found = isNothing ? [] : leaves(value.data, FIELDS + 1);
    const all = new Map(found.slice(0, FIELDS));
    const paths = new Set([...all.keys(), ...numbers.keys()]);
    const none = was(value) === "never" ? "No answer yet." : isNothing ? "No value any more." : "There are none.";
    this.noFields.hidden = paths.size > 0 && found.length <= FIELDS;
    write(this.noFields, paths.size ? `Only the first ${FIELDS} are listed; the others are in the data.` : none);
    for (const [path, { element }] of this.lines) {
      if (paths.has(path)) continue;
      element.remove();
      this.lines.delete(path);
    }
    for (const path of paths) {
      let line = this.lines.get(path);
      if (!line) {
        line = fieldLine(path);
        this.lines.set(path, line);
        this.fields.append(line.element);
      }
      line.paint(all.get(path), numbers.get(path), now);
    }
  }

  /** @param {any} value */
  paintEvents(value) {
    const { events } = this.page.history.of(value);
    this.noEvents.hidden = events.length > 0;
    this.events.forEach((line, at) => {
      const event = events[events.length - 1 - at];
      line.paint(event, events[events.length - 2 - at]);
    });
  }

  async pollNow() {
    await this.ask("Asked.", `/api/v1/backends/${encodeURIComponent(this.source().backend)}/poll`, "POST");
  }

  askToForget() {
    const name = visible(`${this.type} ${this.keyName ?? ""}`.trim());
    const key = this.keyName ? `?key=${encodeURIComponent(this.keyName)}` : "";
    const path = `/api/v1/snapshot/${encodeURIComponent(this.type)}${key}`;
    const text = "The gateway drops this value, and every subscriber is told that it is gone.";
    openDialog(this.element, `Forget ${name}?`, [make("p", {}, text)], "Forget", () => this.ask("Forgotten.", path, "DELETE"));
  }

  /** @param {string} done @param {string} path @param {string} method */
  async ask(done, path, method) {
    write(this.answer, "…");
    try {
      await this.page.api(path, { method });
      write(this.answer, done);
    } catch (error) {
      write(this.answer, visible(/** @type {any} */ (error).detail ?? "no answer from the gateway"));
    }
  }

  showEmbed() {
    const { element, frame } = snippets(this.type, this.keyName, false, this.json.firstNumber);
    const text = "The gateway must list that page’s origin: server.allowed_origins for the element, "
      + "server.frame_ancestors for the frame.";
    openDialog(this.element, "Show this on another page",
      [make("p", { className: "quiet" }, text), snippet("As an element", element), snippet("As a frame", frame)], "Close");
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key !== "Escape") return false;
    this.page.go(this.page.valuesAddress);
    return true;
  }
}

/**
 * A dialog that is there until it is closed. @param {HTMLElement} parent @param {string} title @param {Node[]} content
 * @param {string} word On the button that closes it. @param {() => void} [act] What that does; then it can be cancelled.
 */
function openDialog(parent, title, content, word, act) {
  const close = () => dialog.close();
  const cancel = act ? [button("Cancel", "", close)] : [];
  const go = button(word, "first", () => {
    close();
    act?.();
  });
  const dialog = make("dialog", { ariaLabel: title }, make("h2", {}, title), ...content, make("div", { className: "row" }, ...cancel, go));
  dialog.addEventListener("close", () => dialog.remove());
  parent.append(dialog);
  dialog.showModal();
}

/** @param {string} text @param {string} className @param {() => void} act */
function button(text, className, act) {
  const element = make("button", { type: "button", className }, text);
  element.addEventListener("click", act);
  return element;
}

/** @param {() => string} textOf */
function copyButton(textOf) {
  const copy = button("Copy", "bare copy", async () => {
    const done = await navigator.clipboard?.writeText(textOf()).then(() => true, () => false);
    write(copy, done ? "Copied" : "Not allowed here: select it");
    setTimeout(() => write(copy, "Copy"), 2000);
  });
  return copy;
}

/** @param {string} name @param {string} text */
function snippet(name, text) {
  return make("div", { className: "snippet" },
    make("div", { className: "titled" }, make("span", { className: "quiet" }, name), copyButton(() => text)), make("pre", {}, text));
}

/** @param {string} path */
function fieldLine(path) {
  const name = make("bdi", { className: "path", title: visible(path) });
  const text = make("bdi", { className: "number" });
  const range = make("span", { className: "range quiet small" });
  const spark = sparkline(...TREND);
  const element = make("div", { className: "trend-line" }, name, text, spark.element, range);
  return {
    element,
    /** @param {unknown} value Undefined if only the past is known. @param {any} samples Undefined for what is no number. @param {number} now */
    paint(value, samples, now) {
      element.classList.toggle("no-trend", !samples);
      write(name, path ? visible(label(path, value ?? samples?.newest).replaceAll(".", " \u203a ")) : "value");
      write(text, value === undefined ? "\u2013" : visible(inLine(path, value)));
      if (!samples) return;
      spark.draw(samples, now);
      const words = value === undefined ? "" : rangeText(samples.range(now), (n) => number(path, n));
      write(range, samples.vouched ? words : [words, "not current now"].filter(Boolean).join(", "));
    },
  };
}

/** @param {{ least: number, most: number } | null} found @param {(n: number) => string} shown */
function rangeText(found, shown) {
  if (!found) return "";
  if (found.least === found.most) return "unchanged";
  const [least, most] = [shown(found.least), shown(found.most)];
  return least === most ? "" : `${least} to ${most}`;
}

function eventLine() {
  const time = make("time", {});
  const state = make("span", { className: "quiet" });
  const text = make("bdi", { className: "text" });
  const element = make("li", { hidden: true }, time, state, text);
  /** @type {any} */
  let shown = null;
  return {
    element,
    /** @param {any} event @param {any} before */
    paint(event, before) {
      element.hidden = !event;
      if (!event || event === shown) return;
      shown = event;
      time.dateTime = event.timestamp;
      time.dataset.live = "true";
      write(state, event.expired ? "expired" : event.stale ? "stale" : event.stale === false ? "fresh" : "published");
      write(text, visible(told(event, before)));
    },
  };
}

/** What is different from the event before, or what went wrong, in a few words. @param {any} event @param {any} before */
function told({ data, stale, error_code: code }, before) {
  if (before && JSON.stringify(data) === JSON.stringify(before.data)) return stale && code ? codeInWords(code) : "unchanged";
  if (data === null) return stale ? "no value" : "null";
  const names = Object.keys(Array.isArray(data) || typeof data !== "object" ? {} : data);
  if (!names.length) return inLine("", data);
  const changed = names.filter((name) => JSON.stringify(data[name]) !== JSON.stringify(before?.data?.[name]));
  if (!changed.length) return "fewer fields";
  const texts = changed.slice(0, 4).map((name) => `${label(name, data[name])} ${inLine(name, data[name])}`);
  return `${texts.join(", ")}${changed.length > 4 ? ` and ${changed.length - 4} more` : ""}`;
}
