// One value in full: its JSON with what has changed, the trends of its numbers, its newest events, how to follow it
// from elsewhere, and what a publisher may do with it.

import { isPolled, sourceOf, valueOf } from "./counts.js";
import { number, numbers, scalar, span } from "./format.js";
import { Json } from "./json.js";
import { snippets } from "./snippets.js";
import { sparkline } from "./spark.js";
import { ageInWords, whyParts } from "./value-row.js";
import { make, setShape, shape, stateInWords, visible, was, write } from "./words.js";

const EVENTS = 20;
const TREND = /** @type {const} */ ([280, 36]);

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
    /** @type {Map<string, ReturnType<typeof trendLine>>} */
    this.trends = new Map();
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
    this.numbers = make("div", { className: "numbers" });
    this.noNumbers = make("p", { className: "quiet" });
    this.noEvents = make("p", { className: "quiet" }, "None since this page was opened.");
    this.follow = make("div");
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
    const data = card("Data", [copy], this.json.element, this.facts);
    const numbers = card("Numbers, last 10 minutes", [], this.numbers, this.noNumbers);
    return make("div", { className: "columns" },
      make("div", { className: "column" }, data, card("Newest events", [], events, this.noEvents)),
      make("div", { className: "column" }, numbers, card("Follow just this", [], this.follow)));
  }

  /** @param {string[]} rest */
  open([type = "", ...rest]) {
    const key = rest.join("/") || undefined; // so that an address written by hand works, too
    this.type = type;
    this.keyName = key;
    this.kept = null;
    this.trends.clear();
    this.numbers.replaceChildren();
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
    this.paintNumbers(value, now);
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

  /** @param {any} value @param {number} now */
  paintNumbers(value, now) {
    const { numbers: followed } = this.page.history.of(value);
    const hasMore = numbers(value.data, followed.size + 1).length > followed.size;
    const none = was(value) === "never" ? "None yet." : "There are no numbers outside of lists and deep nesting.";
    this.noNumbers.hidden = followed.size > 0 && !hasMore;
    write(this.noNumbers, followed.size ? `Only these ${followed.size} are followed; the others are in the data.` : none);
    for (const [path, samples] of followed) {
      let trend = this.trends.get(path);
      if (!trend) {
        trend = trendLine(path);
        this.trends.set(path, trend);
        this.numbers.append(trend.element);
      }
      trend.paint(samples, now);
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
function trendLine(path) {
  const text = make("span", { className: "number" });
  const range = make("span", { className: "range quiet small" });
  const spark = sparkline(...TREND);
  const shownText = (/** @type {number} */ n) => number(path, n);
  return {
    element: make("div", { className: "trend-line" }, make("bdi", { className: "path" }, visible(path || "value")), text, spark.element, range),
    /** @param {any} samples @param {number} now */
    paint(samples, now) {
      spark.draw(samples, now);
      const newest = Number.isNaN(samples.newest) ? "" : shownText(samples.newest);
      write(text, newest);
      const found = samples.range(now);
      const isSame = found && found.least === found.most;
      const words = isSame ? "unchanged" : found ? `${shownText(found.least)} to ${shownText(found.most)}` : "";
      write(range, [words, samples.vouched ? "" : "not current now"].filter(Boolean).join(", "));
    },
  };
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
      write(state, event.stale ? event.error_code ?? "stale" : event.stale === false ? "fresh" : "published");
      write(text, visible(difference(event.data, before?.data)));
    },
  };
}

/** What is different from the event before, in a few words. @param {any} data @param {any} before */
function difference(data, before) {
  if (before === undefined) return brief(data);
  if (typeof data !== "object" || data === null || Array.isArray(data)) {
    return JSON.stringify(data) === JSON.stringify(before) ? "unchanged" : brief(data);
  }
  const changed = Object.keys(data).filter((name) => JSON.stringify(data[name]) !== JSON.stringify(before?.[name]));
  if (!changed.length) return "unchanged";
  const told = changed.slice(0, 4).map((name) => `${name} ${scalar(name, data[name]) ?? brief(data[name])}`);
  return `${told.join(", ")}${changed.length > 4 ? ` and ${changed.length - 4} more` : ""}`;
}

/** @param {any} data */
function brief(data) {
  const text = JSON.stringify(data) ?? "";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
